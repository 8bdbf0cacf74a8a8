package pooler

import (
	"bytes"
	"errors"
	"time"
)

// retireEvery is the time between two conclusions from what a server keeps saying: it
// isn't to be dialed all the time. Up to that the pauses double from BackoffMin on, since
// the name of a server that has become a replica may lead elsewhere a moment later.
const retireEvery = time.Second

var errChanged = errors.New("everpool: the server says that it can't serve these requests any more")

// changes are the consequences that the pool has drawn from what its server says of itself.
// Guarded by Pool.mu.
type changes struct {
	at        time.Duration // of the last ones, 0: there were none
	pause     time.Duration // until there may be some again
	retiredTo uint64        // connections up to this number are retired
}

// due reports whether there may be some again, and notes that there are. The pauses
// are between least and most.
func (t *changes) due(now, least, most time.Duration) bool {
	switch ago := now - t.at; {
	case t.at == 0 || ago > 2*most:
		t.pause = min(least, most)
	case ago < t.pause:
		return false
	default:
		t.pause = min(2*t.pause, most)
	}
	t.at = max(now, 1)
	return true
}

// saysChanged reports whether an error reply says that the address now means another
// server, or one that can't serve: a primary that has become a replica, one that
// loads its data or has lost its own primary, a node that points to its own
// address.
func (p *Pool) saysChanged(reply []byte, s *Session) bool {
	word, rest, _ := bytes.Cut(bytes.TrimRight(reply, "\r\n"), []byte(" "))
	switch string(word) {
	case "-READONLY":
		return !s.readOnly()
	case "-LOADING", "-MASTERDOWN":
		return true
	case "-ERR": // older servers have what a script has met inside its own error
		return bytes.Contains(rest, []byte("-READONLY ")) && !s.readOnly()
	case "-MOVED":
		_, to, _ := bytes.Cut(rest, []byte(" "))
		return string(to) == p.node.Addr
	}
	return false
}

// readOnly reports whether the session asked for a replica.
func (s *Session) readOnly() bool {
	for _, st := range s.steps {
		if bytes.Contains(bytes.ToUpper(st.Request[:min(len(st.Request), 32)]), []byte("READONLY")) {
			return true
		}
	}
	return false
}

// nodeChanged draws the conclusion from what a connection has said: it opens a new one, which
// asks the name service anew. If the server answers there that it serves, the older
// ones are retired. If it says the same, they serve as well as any. Where there is no
// room to ask, they are retired at once.
func (p *Pool) nodeChanged(c *Conn) {
	c.changed = false
	p.mu.Lock()
	defer p.unlock()
	now, last := p.now(), p.conns.lastID
	if p.closed || !p.changes.due(now, p.cfg.BackoffMin, max(retireEvery, p.cfg.BackoffMax)) {
		return
	}
	if p.fullLocked() && !p.evictLocked(nil) {
		p.retireNodeLocked(last)
		return
	}
	l := p.probeLotLocked()
	p.beginDialLocked(l)
	p.wg.Go(func() {
		c, err := p.open(l.session, true)
		p.settleDial(l, c, err, now, func() {
			if err == nil {
				p.retireNodeLocked(last)
			}
		})
	})
}

// retireNodeLocked retires the node's connections together, up to the one of that
// number: idle ones are closed, lanes are drained, leases go when they come back.
func (p *Pool) retireNodeLocked(last uint64) {
	p.changes.retiredTo = last
	p.note(Event{Kind: EventRetire, Err: errChanged})
	for _, l := range p.lots {
		p.closeIdleLocked(l, CloseRetired, errChanged)
		p.retireAllLocked(l)
	}
	p.later.grow = true
}
