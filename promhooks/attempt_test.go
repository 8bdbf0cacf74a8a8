package promhooks_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/hooks"
	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/promhooks"
)

// attached is what a client's metrics are gathered from.
func attached(t *testing.T, c redis.UniversalClient) *prometheus.Registry {
	t.Helper()
	m := must(promhooks.NewMetrics("test"))(t)
	must(must(hooks.New(m))(t).Attach(c))(t)
	return registry(t, m)
}

// A redirection is an attempt of the node that has sent it; the caller sees none.
func TestRedirectionsCountByNode(t *testing.T) {
	for _, kind := range []string{"MOVED", "ASK"} {
		t.Run(kind, func(t *testing.T) {
			c := testkit.MisledCluster(t, kind)
			reg := attached(t, c)
			ctx := t.Context()
			c.Set(ctx, "k", "v", 0) // go-redis lists the nodes now
			c.Set(ctx, "k", "v", 0)
			before := gather(t, reg)
			for range 2 {
				if err := c.Get(ctx, "k").Err(); !errors.Is(err, redis.Nil) {
					t.Error(err)
				}
			}
			got := gather(t, reg)
			got.want(t, samples{
				`redis_client_attempts_total{node="a:1",result="` + kind + `"}`:     2,
				`redis_client_attempts_total{node="a:1",result="ok"}`:               before[`redis_client_attempts_total{node="a:1",result="ok"}`],
				`redis_client_attempts_total{node="b:2",result="ok"}`:               2, // a miss is no error
				`redis_client_commands_total{command="GET",outcome="miss"}`:         2,
				`redis_client_commands_total{command="GET",outcome="error"}`:        math.NaN(),
				`redis_client_command_errors_total{command="GET",error_type="ASK"}`: math.NaN(),
			})
			if n := before[`redis_client_attempts_total{node="a:1",result="ok"}`]; n == 0 {
				t.Error("no SET was counted")
			}
		})
	}
}

// A batch is one attempt at each node of it, on the pools of everpool too.
func TestABatchCountsOnceAtEachNode(t *testing.T) {
	ring := testkit.StartRing(t, testkit.Redis, 2)
	reg := prometheus.NewRegistry()
	opts := &redis.RingOptions{Addrs: ring.Addrs()}
	d := must(driver.New(driver.Config{}))(t)
	t.Cleanup(func() { d.Close() })
	rdb := redis.NewRing(d.RingOptions(opts))
	t.Cleanup(func() { rdb.Close() })
	end := must(d.Watch(rdb, promhooks.Option(reg, "test")))(t)
	t.Cleanup(func() { _ = end() })
	ctx := t.Context()
	if _, err := rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i := range 64 {
			p.Set(ctx, fmt.Sprint(i), "v", 0)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	want := make(samples)
	for _, addr := range opts.Addrs {
		want[`redis_client_attempts_total{node="`+addr+`",result="ok"}`] = 1
	}
	got := gather(t, reg)
	got.want(t, want)
	if all := got.starting("redis_client_attempts_total"); len(all) != len(want) {
		t.Errorf("series: %q", all)
	}
}

// A client of one server has operations and no attempts.
func TestAClientOfOneServerHasNoAttempts(t *testing.T) {
	fake := testkit.NewFake()
	t.Cleanup(fake.Close)
	rdb := redis.NewClient(&redis.Options{Addr: "fake:6379", Dialer: fake.Dial})
	t.Cleanup(func() { rdb.Close() })
	reg := attached(t, rdb)
	rdb.Set(t.Context(), "k", "v", 0)
	rdb.LPush(t.Context(), "k", "v")
	got := gather(t, reg)
	got.want(t, samples{`redis_client_commands_total{command="SET",outcome="ok"}`: 1})
	if all := got.starting("redis_client_attempts_total"); len(all) != 0 {
		t.Errorf("series: %q", all)
	}
}

// Whatever addresses come and go, 128 of them have series, and what can't be a label's
// value spoils no scrape.
func TestNodesWithAttemptsAreBounded(t *testing.T) {
	m := must(promhooks.NewMetrics("test"))(t)
	try := func(addr string) {
		m.Attempt(t.Context(), &hooks.Attempt{Peer: &hooks.Target{Network: "tcp", Addr: addr}})
	}
	for _, addr := range []string{"", "other", "/\xff"} {
		try(addr)
	}
	for i := range 200 {
		try(fmt.Sprintf("10.0.0.%d:6379", i))
	}
	got := gather(t, registry(t, m))
	got.want(t, samples{
		`redis_client_attempts_total{node="10.0.0.127:6379",result="ok"}`: 1,
		`redis_client_attempts_total{node="10.0.0.128:6379",result="ok"}`: math.NaN(),
		`redis_client_attempts_total{node="other",result="ok"}`:           3 + 72,
	})
	if n := len(got.starting("redis_client_attempts_total")); n != 129 {
		t.Errorf("%d series", n)
	}
	if problems, err := testutil.CollectAndLint(m); len(problems) != 0 || err != nil {
		t.Errorf("%v, %v", problems, err)
	}
}

func TestAnAttemptDoesNotAllocate(t *testing.T) {
	if testkit.Race {
		t.Skip("the race detector allocates")
	}
	m := must(promhooks.NewMetrics("test"))(t)
	for _, errorType := range []string{"", "MOVED"} {
		a := &hooks.Attempt{Peer: &hooks.Target{Network: "tcp", Addr: "h:1"}, ErrorType: errorType}
		if n := testing.AllocsPerRun(100, func() { m.Attempt(context.Background(), a) }); n != 0 {
			t.Errorf("%q: %v allocations", errorType, n)
		}
	}
}
