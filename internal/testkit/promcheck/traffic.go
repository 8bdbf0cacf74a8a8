package promcheck

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/pooler"
)

// Traffic does, round after round, all that there are metrics for. Its client has three
// connections at most, one of them shared, and doesn't retry.
type Traffic struct {
	Client  redis.UniversalClient
	Nodes   func() []pooler.NodeStatus
	Proxy   *testkit.Proxy        // before the client's server
	Misled  redis.UniversalClient // of a cluster that redirects GETs
	Refused *redis.Client         // with a password that isn't taken; nil: none
}

// Keep does rounds until the test ends, or what stops it is called.
func (x *Traffic) Keep(tb testing.TB) (stop func()) {
	ctx, cancel := context.WithCancel(tb.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		for ctx.Err() == nil {
			if err := x.Round(ctx); err != nil {
				tb.Error(err)
				return
			}
		}
	})
	return func() { cancel(); wg.Wait() }
}

// Round fails if what has to succeed doesn't within a minute.
func (x *Traffic) Round(ctx context.Context) error {
	x.Commands(ctx)
	x.wait(ctx)
	if x.Refused != nil {
		x.Refused.Ping(ctx)
	}

	// An outage, during which an INCR is under way.
	x.Proxy.Silence(true)
	lost := make(chan error, 1)
	go func() { lost <- x.Client.Incr(ctx, "n").Err() }()
	err := testkit.AwaitErr("the INCR is under way", func() bool { return ctx.Err() != nil || x.Nodes()[0].Stats.InFlight > 0 || len(lost) > 0 })
	x.Proxy.Refuse(true)
	x.Proxy.Reset()
	if e := <-lost; e == nil {
		err = errors.Join(err, errors.New("an INCR has succeeded without a server"))
	}
	x.Client.Ping(ctx)
	x.Proxy.Silence(false)
	x.Proxy.Refuse(false)
	back := testkit.AwaitErr("the server answers again", func() bool { return ctx.Err() != nil || x.Client.Ping(ctx).Err() == nil })
	return errors.Join(err, back)
}

// Commands are some that succeed, some that don't, and batches.
func (x *Traffic) Commands(ctx context.Context) {
	c := x.Client
	c.Set(ctx, "k", "v", 0)
	c.Get(ctx, "k")
	c.Get(ctx, "nothing")
	c.LPush(ctx, "k", "x")
	c.Do(ctx, "no-such-command")
	x.Misled.Get(ctx, "k")
	_, _ = c.Pipelined(ctx, func(p redis.Pipeliner) error {
		p.Get(ctx, "k")
		p.LPush(ctx, "k", "x")
		return nil
	})
	_ = c.Watch(ctx, func(tx *redis.Tx) error {
		_, err := tx.TxPipelined(ctx, func(p redis.Pipeliner) error { return p.Incr(ctx, "n").Err() })
		return err
	}, "k")
}

// wait has more requests block than there are connections.
func (x *Traffic) wait(ctx context.Context) {
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() { x.Client.Do(ctx, "blpop", "nothing", "0.05") })
	}
	wg.Wait()
}
