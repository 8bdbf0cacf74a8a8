package pooler

import (
	"bytes"
	"errors"
	"time"
)

// retireEvery is the least time between two retirements of a node's connections
// for what the server says: a server that keeps saying it isn't to be dialed all
// the time.
const retireEvery = time.Second

var errTurned = errors.New("everpool: the server says that it can't serve these requests any more")

// turned reports whether an error reply says that the address now means another
// server, or one that can't serve: a primary that has become a replica, one that
// loads its data or has lost its own primary, a node that points to its own
// address.
func (p *Pool) turned(reply []byte, s *Session) bool {
	word, rest, _ := bytes.Cut(bytes.TrimRight(reply, "\r\n"), []byte(" "))
	switch string(word) {
	case "-READONLY":
		return !s.readOnly()
	case "-LOADING", "-MASTERDOWN":
		return true
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

// turn draws the conclusion from what a connection has said.
func (p *Pool) turn(c *Conn) {
	c.turned = false
	p.mu.Lock()
	p.retireNodeLocked()
	p.unlock()
}

// retireNodeLocked retires all connections together: idle ones are closed, lanes
// are drained, leases go when they come back. New ones ask the name service anew.
func (p *Pool) retireNodeLocked() {
	now := p.now()
	if p.closed || p.retiredAt != 0 && now-p.retiredAt < max(retireEvery, p.cfg.BackoffMax) {
		return
	}
	p.retiredAt = max(now, 1)
	p.note(Event{Kind: EventRetire, Err: errTurned})
	for _, l := range p.lots {
		p.closeIdleLocked(l, CloseRetired, errTurned)
		p.retireAllLocked(l)
	}
	p.grow = true
}
