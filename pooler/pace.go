package pooler

import "time"

// Who waits, and whose time is over before it could be answered, is passed over as long as
// others wait who have more time. In a steady overload whoever has waited longest has next to
// no time left: served in the order of their arrival all would be sent, run by the server, and
// answered too late, one after the other. Nothing of those who are passed over is sent. Where
// nobody who waits has time enough, the last one passed over is served, who has most of it.

// paceOf is so many exchanges, of which the shortest tells how long one takes: it is for the
// server's sake alone that anybody is passed over, and not for that of a few large requests.
const paceOf = 32

// maxPaces is of how many commands it is known what they take. Others pass nobody over.
const maxPaces = 64

// paces are those of the commands, by their names: who is quick has the time for a reply where
// others, who are slow, haven't. They are of those that had a connection while others waited.
// Guarded by Pool.mu.
type paces struct {
	of map[string]pace
	n  int // exchanges they have noted
}

// note notes what an exchange of the command has taken.
func (s *paces) note(name string, d time.Duration) {
	p, known := s.of[name]
	if !known && len(s.of) == maxPaces {
		return
	}
	if s.of == nil {
		s.of = make(map[string]pace)
	}
	p.note(d)
	s.of[name] = p
	s.n++
}

// isTooShort reports whether an exchange of the command had better not be begun with so much
// time left.
func (s *paces) isTooShort(left time.Duration, name string) bool {
	return isTooShort(left, s.of[name].took)
}

// tries reports whether one who was passed over is to be served, as one is of so many: else
// nothing that is quicker than what was measured would ever be begun, and known.
func (s *paces) tries() bool { return s.n > 0 && s.n%paceOf == 0 }

// forget forgets all of them.
func (s *paces) forget() {
	clear(s.of)
	s.n = 0
}

// pace is what an exchange of a command takes once it is on its way, by the last ones.
type pace struct {
	took  time.Duration // 0: not known
	least time.Duration // of those since
	n     int           // how many
}

// note notes what an exchange has taken.
func (p *pace) note(d time.Duration) {
	if p.least = min(p.least, d); p.n == 0 {
		p.least = d
	}
	if p.n++; p.n == paceOf {
		p.took, p.n = p.least, 0
	}
}

// isTooShort reports whether an exchange that takes so long had better not be begun with the
// given time left: a twentieth more, for those who are served in order are those whose time is
// just enough. With more to spare callers of a server far away would be turned away whose
// time is enough.
func isTooShort(left, took time.Duration) bool { return left < took+took/20 }

// notePaceLocked notes that a connection that was lent for a request is free again, if
// others wait for that. What a handle keeps it for takes its caller's time, too.
func (p *Pool) notePaceLocked(c *Conn) {
	if p.queue.waiting > 0 && !c.lease.blocking && !c.lease.noWork && !c.lease.kept {
		p.queue.paces.note(c.lease.holder, p.now()-c.lease.since)
	}
}

// passOverLocked passes over those of the lot who have come first, and have too little time.
func (p *Pool) passOverLocked(l *lot, now time.Duration) {
	for w := l.waiters.head; w != nil && w.final && p.queue.paces.isTooShort(w.ends-now, w.name); w = l.waiters.head {
		l.waiters.remove(w)
		l.late.push(w)
	}
}
