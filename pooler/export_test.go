package pooler

import "github.com/everpool/everpool/internal/yielding"

// Ticking reports whether the pool has a timer for its idle connections: from
// outside, a timer that does nothing can't be seen.
func (p *Pool) Ticking() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.use.tick.at != 0
}

// Counts are what the pool counts of what it has: nothing of a pool that is closed.
func (p *Pool) Counts() map[string]int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return map[string]int{
		"idle": p.conns.idle, "dialing": p.dials.running, "asking": p.dials.asking, "pinned": p.conns.pinned, "beyond": p.conns.beyond, "waiting": p.queue.waiting,
		"streams": p.queue.streams, "lanes": p.conns.lanes, "yielding": p.conns.yielding, "drains": p.conns.drains, "doubts": int(p.doubts.running.Load()),
	}
}

// NewConn makes a connection that is in no pool.
var NewConn = newConn

// Owed is the number of replies that are still to be received.
func (c *Conn) Owed() int { return int(c.owed.Load()) }

// Steps returns the session's commands.
func (s *Session) Steps() []Step { return s.steps }

// EndWaiting is what the timer of FailFastAfter does.
func EndWaiting(p *Pool) { p.failFast() }

// YieldBy has the pool's goroutines yield by y.
func (p *Pool) YieldBy(y *yielding.Yielder) { p.yields = y }
