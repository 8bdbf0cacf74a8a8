package pooler

// Ticking reports whether the pool has a timer for its idle connections: from
// outside, a timer that does nothing can't be seen.
func (p *Pool) Ticking() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.use.tick.at != 0
}

// NewConn makes a connection that is in no pool.
var NewConn = newConn

// Owed is the number of replies that are still to be received.
func (c *Conn) Owed() int { return int(c.owed.Load()) }

// Steps returns the session's commands.
func (s *Session) Steps() []Step { return s.steps }
