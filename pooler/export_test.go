package pooler

// Ticking reports whether the pool has a timer for its idle connections: from
// outside, a timer that does nothing can't be seen.
func (p *Pool) Ticking() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ticking
}

// Counts are what the pool counts of what it has: nothing of a pool that is closed.
func (p *Pool) Counts() map[string]int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return map[string]int{
		"idle": p.idle, "dialing": p.dialing, "asking": p.asking, "pinned": p.pinned, "beyond": p.beyond, "waiting": p.waiting,
		"streams": p.streams, "lanes": p.lanes, "yielding": p.yielding, "drains": p.drains, "doubts": int(p.doubts.Load()),
	}
}

// NewConn makes a connection that is in no pool.
var NewConn = newConn

// Owed is the number of replies that are still to be received.
func (c *Conn) Owed() int { return int(c.owed.Load()) }

// Steps returns the session's commands.
func (s *Session) Steps() []Step { return s.steps }
