package promhooks_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/hooks"
	"github.com/everpool/everpool/hotkey"
	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/pooler"
)

// exercised is a client that does, round after round, all that there are metrics
// for.
type exercised struct {
	*watched
	proxy   *testkit.Proxy
	refused *redis.Client // on the stock pool, with a password that isn't taken
}

func exercise(tb testing.TB, reg *prometheus.Registry) *exercised {
	tb.Helper()
	s := testkit.Start(tb, testkit.Redis)
	x := &exercised{proxy: testkit.NewProxy(tb, s.Addr)}
	tracker := must(hotkey.New(hotkey.Config{ReadSampleRate: 1, WriteSampleRate: 1, Window: 100 * time.Millisecond}))(tb)
	tb.Cleanup(func() { tracker.Close() })
	if err := reg.Register(must(tracker.Collector(hotkey.CollectorConfig{Client: "test", Salt: "of the test"}))(tb)); err != nil {
		tb.Fatal(err)
	}
	x.watched = watchWith(tb, "test", "redis://"+x.proxy.Addr()+"?max_retries=-1", reg, driver.Config{Pool: pooler.Config{
		MaxOpenConns: 3, SharedConns: 1, WaitTimeout: 20 * time.Millisecond, BackoffMax: 20 * time.Millisecond,
	}}, nil, tracker)
	x.refused = redis.NewClient(&redis.Options{Addr: s.Addr, Password: "not needed", MaxRetries: -1})
	tb.Cleanup(func() { x.refused.Close() })
	must(must(hooks.New(x.metrics))(tb).Attach(x.refused))(tb)
	return x
}

// round fails if what has to succeed doesn't within a minute.
func (x *exercised) round(ctx context.Context) error {
	x.commands(ctx)
	x.wait(ctx)
	x.refused.Ping(ctx)

	// An outage, during which an INCR is under way.
	x.proxy.Silence(true)
	lost := make(chan error, 1)
	go func() { lost <- x.Incr(ctx, "n").Err() }()
	err := testkit.AwaitErr("the INCR is under way", func() bool { return ctx.Err() != nil || x.Driver.Nodes()[0].Stats.InFlight > 0 || len(lost) > 0 })
	x.proxy.Refuse(true)
	x.proxy.Reset()
	if e := <-lost; e == nil {
		err = errors.Join(err, errors.New("an INCR has succeeded without a server"))
	}
	x.Ping(ctx)
	x.proxy.Silence(false)
	x.proxy.Refuse(false)
	back := testkit.AwaitErr("the server answers again", func() bool { return ctx.Err() != nil || x.Ping(ctx).Err() == nil })
	return errors.Join(err, back)
}

func (x *exercised) commands(ctx context.Context) {
	x.Set(ctx, "k", "v", 0)
	x.Get(ctx, "k")
	x.Get(ctx, "nothing")
	x.LPush(ctx, "k", "x")
	x.Do(ctx, "no-such-command")
	_, _ = x.Pipelined(ctx, func(p redis.Pipeliner) error {
		p.Get(ctx, "k")
		p.LPush(ctx, "k", "x")
		return nil
	})
	_ = x.Watch(ctx, func(tx *redis.Tx) error {
		_, err := tx.TxPipelined(ctx, func(p redis.Pipeliner) error { return p.Incr(ctx, "n").Err() })
		return err
	}, "k")
}

// wait has more requests block than there are connections.
func (x *exercised) wait(ctx context.Context) {
	done := make(chan struct{})
	const callers = 6
	for range callers {
		go func() {
			x.Do(ctx, "blpop", "nothing", "0.05")
			done <- struct{}{}
		}()
	}
	for range callers {
		<-done
	}
}
