package pooler

import (
	"context"
	"sync"
	"time"
)

// Caller is a context for one caller's requests, one at a time, that is done when
// the caller has left. A [Pool] ends its wait for one without a channel of the
// context's own, which makes a wait cheaper than with other contexts. The zero
// value is ready; it must not be copied. Safe for concurrent use.
type Caller struct {
	mu   sync.Mutex // taken before Pool.mu
	left bool
	done chan struct{} // nil until somebody asks for it
	pool *Pool
	w    *waiter // what the caller waits with
}

var _ context.Context = (*Caller)(nil)

// Leave says that the caller has left. It may be called again.
func (c *Caller) Leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.left {
		return
	}
	c.left = true
	if c.done != nil {
		close(c.done)
	}
	if c.w != nil {
		c.pool.abandon(c.w, context.Canceled)
	}
}

// Done returns a channel that is closed when the caller has left.
func (c *Caller) Done() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.done == nil {
		c.done = make(chan struct{})
		if c.left {
			close(c.done)
		}
	}
	return c.done
}

// Err returns context.Canceled when the caller has left.
func (c *Caller) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.left {
		return context.Canceled
	}
	return nil
}

// Deadline says that there is none.
func (*Caller) Deadline() (time.Time, bool) { return time.Time{}, false }

// Value returns nil.
func (*Caller) Value(any) any { return nil }

// await returns when the waiter was woken, with nothing if the caller has left.
func (c *Caller) await(p *Pool, w *waiter) {
	c.setWaiter(p, w)
	<-w.ready
	c.setWaiter(nil, nil)
}

func (c *Caller) setWaiter(p *Pool, w *waiter) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pool, c.w = p, w
	if c.left && w != nil {
		p.abandon(w, context.Canceled)
	}
}
