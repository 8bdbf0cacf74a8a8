package driver

import (
	"context"
	"sync"
)

// tasks are goroutines of a driver's that end when it is closed.
type tasks struct {
	mu     sync.Mutex
	ctx    context.Context
	stop   context.CancelFunc
	closed bool
	wg     sync.WaitGroup
}

// start runs f on a goroutine, with a context that ends when the driver is closed. It
// reports false if it is closed already.
func (t *tasks) start(f func(context.Context)) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return false
	}
	ctx := t.lifeLocked()
	t.wg.Go(func() { f(ctx) })
	return true
}

// life is a context that ends when the driver is closed.
func (t *tasks) life() context.Context {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.lifeLocked()
}

func (t *tasks) lifeLocked() context.Context {
	if t.ctx == nil {
		t.ctx, t.stop = context.WithCancel(context.Background())
		if t.closed {
			t.stop()
		}
	}
	return t.ctx
}

// end stops them, and lets none begin any more.
func (t *tasks) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	if t.stop != nil {
		t.stop()
	}
}

// ended waits until they have ended.
func (t *tasks) ended() { t.wg.Wait() }
