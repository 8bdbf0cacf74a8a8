package pooler

import (
	"errors"
	"sync/atomic"
	"time"
)

// A server that holds writes back (CLIENT PAUSE ... WRITE, and so each FAILOVER) answers a
// connection in order, so the reads behind such a write on its lane would wait as long. Once
// it is known to answer elsewhere, reads and writes go on different lanes, until a write is
// answered: the lanes that are silent are for writes, and what only reads leaves them. To have
// them apart always would cost a tenth of the throughput of many.

// heldAfter is how long a lane may be silent, with a write that comes next and reads behind
// it, before the server is asked on another connection. It is doubled, up to SilenceAfter, by
// each such question, which costs a dial, and back after a while without: after vainFor if
// the lane had answered before that, as where the server is far away or the processors are
// busy, and after splitFor if it was a write that was held back.
const (
	heldAfter = 25 * time.Millisecond
	vainFor   = time.Minute
	splitFor  = 5 * time.Second
)

var errHeld = errors.New("everpool: the connection waits for a write that the server holds back, and the server answers on others")

// split keeps reads and writes of a session apart.
type split struct {
	on atomic.Bool

	// Of the looks for that. Guarded by Pool.mu.
	after time.Duration // how long a lane is silent before one
	until time.Duration // when that is forgotten
}

// early is how long a lane may be silent, with a write that holds reads up.
func (s *split) early(now, silenceAfter time.Duration) time.Duration {
	if now >= s.until {
		s.after = heldAfter
	}
	return min(s.after, silenceAfter)
}

// asked notes that the server was asked.
func (s *split) asked(until time.Duration) { s.after, s.until = 2*s.after, max(s.until, until) }

// holdsReadsUp reports whether a write comes next on the lane, and what could be read elsewhere
// is behind.
func (l *lane) holdsReadsUp() bool {
	l.mu.Lock() // nobody boards meanwhile
	defer l.mu.Unlock()
	head, tail := l.head.Load(), l.tail.Load()
	if head == tail || l.slots[head%maxExchanges].reads {
		return false
	}
	for i := head + 1; i < tail; i++ {
		if s := &l.slots[i%maxExchanges]; s.reads && s.rider.Load().mayGo() {
			return true
		}
	}
	return false
}

// splitLocked has reads and writes of the session go on different lanes: the server answers,
// and not on those that have been silent since the given time, with reads behind a write. A
// connection has been opened for the reads.
func (p *Pool) splitLocked(l *lot, since, now time.Duration) {
	if l.shared == nil {
		return
	}
	var held []*lane
	for _, o := range p.openLanesLocked(l.shared) {
		silent := o.silentSince(since)
		o.writes.Store(silent)
		if silent && o.holdsReadsUp() {
			held = append(held, o)
		}
	}
	if len(held) == 0 {
		l.shared.split.asked(now + vainFor)
		return
	}
	l.shared.split.asked(now + splitFor)
	l.more = true
	l.shared.split.on.Store(true)
	p.later.work = append(p.later.work, func() {
		for _, o := range held {
			o.partReads()
		}
	})
}

// isForReads reports whether writes go elsewhere for now.
func (l *lane) isForReads() bool { return l.group.split.on.Load() && !l.writes.Load() }

// partReads has those leave the lane who only read.
func (l *lane) partReads() {
	writers := make(map[*Rider]bool)
	l.mu.Lock()
	for i, tail := l.head.Load(), l.tail.Load(); i < tail; i++ {
		if s := &l.slots[i%maxExchanges]; !s.reads {
			writers[s.rider.Load()] = true
		}
	}
	l.mu.Unlock()
	l.part(0, errHeld, func(r *Rider) bool { return r.mayGoLocked() && !writers[r] })
}

// choose returns which of the lanes what reads, or doesn't, goes to while they are apart, and
// whether there had better be one more. Where those for writes have been given up, one that
// carries nothing is the next, if it isn't the last. Where there is none any will do.
func (s *split) choose(at int, lanes []*lane, reads bool) (_ int, more bool) {
	best, idle, open := -1, -1, 0
	for i := range lanes {
		j := (at + i) % len(lanes)
		l := lanes[j]
		if l.isClosed() {
			continue
		}
		open++
		switch n := l.inFlight(); {
		case l.writes.Load() != reads:
			if best < 0 || n < lanes[best].inFlight() {
				best = j
			}
		case n == 0:
			idle = j
		}
	}
	switch {
	case best >= 0:
		return best, false
	case reads, open < 2, idle < 0:
		return at, true
	}
	lanes[idle].writes.Store(true)
	return idle, false
}
