package driver_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/pooler"
)

// counting is a pool that counts its leases, and leaves the rest as it is.
type counting struct {
	pooler.Pooler
	leases *atomic.Int64
}

func (c counting) Get(ctx context.Context, r pooler.Request) (*pooler.Conn, error) {
	c.leases.Add(1)
	return c.Pooler.Get(ctx, r)
}

// Whoever wraps a pool embeds the interface. Sharing, waiting for the node and the
// knobs must not be lost by that.
func TestAWrappedPoolDoesAllThatThePoolDoes(t *testing.T) {
	var leases atomic.Int64
	cfg := driver.Config{NewPooler: func(n pooler.Node, c pooler.Config) (pooler.Pooler, error) {
		p, err := pooler.New(n, c)
		return counting{p, &leases}, err
	}}
	inLab(t, cfg, func(t *lab) {
		rdb := t.client()
		t.f.DownRefused()
		result := make(chan error)
		go func() { result <- rdb.Ping(t.Context()).Err() }()
		synctest.Wait()
		if s := t.stats(); s.Awaiting != 1 {
			t.Errorf("%d callers await the node, want 1", s.Awaiting)
		}
		t.f.Up()
		if err := <-result; err != nil {
			t.Error(err)
		}

		var wg sync.WaitGroup
		for range 64 {
			wg.Go(func() {
				for range 20 {
					if err := rdb.Get(t.Context(), "k").Err(); err != nil && !errors.Is(err, redis.Nil) {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		if s := t.stats(); s.Shared < 64*20 || s.OpenConnections > 8 {
			t.Errorf("%d requests shared %d connections", s.Shared, s.OpenConnections)
		}
		if n := leases.Load(); n == 0 || n > 8 {
			t.Errorf("%d leases, want those of the handshake", n)
		}

		t.d.SetMaxOpenConns(7)
		if s := t.stats(); s.MaxOpenConnections != 7 {
			t.Errorf("at most %d connections, want the 7 that were asked for", s.MaxOpenConnections)
		}
	})
}

// A pool may be watched by a few lines around it.
func ExampleConfig_newPooler() {
	d, err := driver.New(driver.Config{
		NewPooler: func(node pooler.Node, cfg pooler.Config) (pooler.Pooler, error) {
			pool, err := pooler.New(node, cfg)
			return counting{pool, new(atomic.Int64)}, err
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer d.Close()
	rdb := redis.NewClient(d.Options(&redis.Options{Addr: "localhost:6379"}))
	defer rdb.Close()
	// Output:
}

// fickle sends a caller elsewhere, and is well by the time that the caller asks where.
type fickle struct {
	pooler.Pooler
	sent *atomic.Int64
}

func (f fickle) Await(ctx context.Context, r pooler.Request, limit time.Duration) error {
	if f.sent.Add(1) <= 2 { // go-redis comes twice
		return &pooler.Error{Err: pooler.ErrElsewhere}
	}
	return f.Pooler.Await(ctx, r, limit)
}

// What a node was ill for may be over when its heir is looked for: a subscription isn't told
// that it belongs elsewhere, where there is nowhere else.
func TestASubscriptionStaysWithANodeThatIsWellByThen(t *testing.T) {
	var sent atomic.Int64
	cfg := driver.Config{NewPooler: func(n pooler.Node, c pooler.Config) (pooler.Pooler, error) {
		p, err := pooler.New(n, c)
		return fickle{p, &sent}, err
	}}
	inLab(t, cfg, func(t *lab) {
		sub := t.client().Subscribe(t.Context(), "channel")
		defer sub.Close()
		if _, err := sub.Receive(t.Context()); err != nil {
			t.Error(err)
		}
		if n := sent.Load(); n != 3 {
			t.Errorf("the node was awaited %d times, want three", n)
		}
	})
}
