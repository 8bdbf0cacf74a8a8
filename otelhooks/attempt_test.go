package otelhooks_test

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/everpool/everpool/hooks"
	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/otelhooks"
)

// attempts are what was counted, by all attributes in the order of their keys, "redis"
// being db.system.name.
func (t *tester) attempts() map[string]int64 {
	t.Helper()
	return points(t.collect()["everpool.attempts"])
}

// misled is the client of a cluster whose first node sends each GET to the second.
func (t *tester) misled(kind string, observers ...hooks.Observer) *redis.ClusterClient {
	t.Helper()
	c := testkit.MisledCluster(t.T, kind)
	c.Set(t.ctx, "k", "v", 0) // the nodes are there from now on
	t.attach(c, observers...)
	return c
}

// A redirection is an attempt of the node that has sent it; the caller sees none.
func TestAttemptsAreCountedByNode(tt *testing.T) {
	for _, kind := range []string{"MOVED", "ASK"} {
		t := newTester(tt)
		c := t.misled(kind, t.metrics())
		c.Set(t.ctx, "k", "v", 0)
		c.Get(t.ctx, "k")
		c.Get(t.ctx, "k")
		t.want(kind, t.attempts(), map[string]int64{"redis a 1": 1, "redis " + kind + " a 1": 2, "redis b 2": 2})
		m := t.collect()["everpool.attempts"]
		t.want("unit", m.Unit, "{attempt}")
		t.want("it is a counter", m.Data.(metricdata.Sum[int64]).IsMonotonic, true)
		for _, p := range m.Data.(metricdata.Sum[int64]).DataPoints {
			got := attrsOf(p.Attributes.ToSlice())
			if got["error.type"] != nil {
				t.want("attributes", got, attrs{"db.system.name": "redis", "server.address": "a", "server.port": int64(1), "error.type": kind})
			}
		}
	}
}

// A batch is one attempt at each node of it.
func TestABatchIsAnAttemptAtEachNode(tt *testing.T) {
	t := newTester(tt)
	ring, nodes := t.ring(t.metrics(otelhooks.WithMetricAttributes(attribute.String("a", "extra"), attribute.String("db.system.name", "no"))))
	_, err := ring.Pipelined(t.ctx, func(p redis.Pipeliner) error {
		for i := range 64 {
			p.Set(t.ctx, strconv.Itoa(i), i, 0)
		}
		return nil
	})
	t.must(err)
	want := make(map[string]int64)
	for addr := range nodes {
		want["extra redis "+fmt.Sprint(at(addr, "", nil)["server.address"], " ", at(addr, "", nil)["server.port"])] = 1
	}
	t.want("attempts", t.attempts(), want)
}

func TestAClientOfOneServerHasNoAttempts(tt *testing.T) {
	t := newTester(tt)
	c, _ := t.client(t.metrics())
	t.must(c.Set(t.ctx, "k", "v", 0).Err())
	t.want("attempts", t.attempts(), map[string]int64{})
}

// Attempts of an operation that the metrics leave out aren't in them, whether that is known
// when it begins or when it has ended, and those of one in the course of it are its own.
func TestFilteredOperationsHaveNoAttempts(tt *testing.T) {
	missed := func(op *hooks.Operation) bool { return op.Outcome == hooks.Miss }
	gets := func(op *hooks.Operation) bool { return op.Name == "GET" }
	for name, observers := range map[string]func(*tester) []hooks.Observer{
		"at the end": func(t *tester) []hooks.Observer {
			return []hooks.Observer{t.tracing(), t.metrics(otelhooks.WithMetricsFilter(missed))}
		},
		"at the beginning": func(t *tester) []hooks.Observer { return []hooks.Observer{hooks.Filter(t.metrics(), gets)} },
		"both": func(t *tester) []hooks.Observer {
			return []hooks.Observer{hooks.Filter(t.metrics(otelhooks.WithMetricsFilter(missed)), gets)}
		},
	} {
		tt.Run(name, func(tt *testing.T) {
			t := newTester(tt)
			all := observers(t)
			c := t.misled("MOVED", all...)
			one, _ := t.client(all...)
			c.AddHook(hooks.Adapter{Process: func(next redis.ProcessHook) redis.ProcessHook {
				return func(ctx context.Context, cmd redis.Cmder) error {
					if cmd.Name() == "get" {
						c.Set(ctx, "k", "v", 0)    // which isn't kept
						defer one.Get(ctx, "none") // which is, and has none
					}
					return next(ctx, cmd)
				}
			}})
			c.Set(t.ctx, "k", "v", 0)
			c.Get(t.ctx, "k")
			_, _ = c.Pipelined(t.ctx, func(p redis.Pipeliner) error {
				p.Set(t.ctx, "k", "v", 0)
				p.Set(t.ctx, "k", "v", 0)
				return nil
			})
			t.want("attempts", t.attempts(), map[string]int64{"redis MOVED a 1": 1, "redis b 2": 1})
		})
	}
}

// Each has its own: what one leaves out another may keep.
func TestTwoMetricsWithFiltersEachHaveTheirOwnAttempts(tt *testing.T) {
	t, other := newTester(tt), newTester(tt)
	all := otelhooks.WithMetricsFilter(func(*hooks.Operation) bool { return true })
	none := otelhooks.WithMetricsFilter(func(*hooks.Operation) bool { return false })
	c := t.misled("MOVED", t.metrics(all), other.metrics(none))
	c.Get(t.ctx, "k")
	t.want("of all", t.attempts(), map[string]int64{"redis MOVED a 1": 1, "redis b 2": 1})
	t.want("of none", other.attempts(), map[string]int64{})
}

// The nodes of a batch are asked at once.
func TestConcurrentAttemptsOfAFilteredOperationAllCount(tt *testing.T) {
	t := newTester(tt)
	m := t.metrics(otelhooks.WithMetricsFilter(func(*hooks.Operation) bool { return true }))
	cmd := redis.NewStringCmd(t.ctx, "get", "k")
	op := &hooks.Operation{Name: "GET", Command: hooks.CommandOf(cmd), Cmds: []redis.Cmder{cmd}, Target: &hooks.Target{Network: "tcp"}}
	ctx := m.Begin(t.ctx, op)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 100 {
				m.Attempt(ctx, &hooks.Attempt{Peer: &hooks.Target{Network: "tcp", Addr: "h:1", Host: "h", Port: 1}})
			}
		})
	}
	wg.Wait()
	t.want("before the end", t.attempts(), map[string]int64{})
	m.End(ctx, op)
	t.want("attempts", t.attempts(), map[string]int64{"redis h 1": 800})
}

// Whatever addresses come and go, 128 of them are told apart.
func TestNodesWithAttemptsAreBounded(tt *testing.T) {
	t := newTester(tt)
	m := t.metrics()
	for i := range 200 {
		host := fmt.Sprintf("h%d", i)
		m.Attempt(t.ctx, &hooks.Attempt{Peer: &hooks.Target{Network: "tcp", Addr: host + ":6379", Host: host, Port: 6379}, ErrorType: "CLUSTERDOWN"})
	}
	got := t.attempts()
	if len(got) != 129 || got["redis CLUSTERDOWN h127"] != 1 || got["redis CLUSTERDOWN other"] != 72 {
		t.Errorf("%d series: %v", len(got), got)
	}
}

func TestAnAttemptDoesNotAllocate(tt *testing.T) {
	t := newTester(tt)
	m := t.metrics()
	for _, errorType := range []string{"", "MOVED"} {
		a := &hooks.Attempt{Peer: &hooks.Target{Network: "tcp", Addr: "h:1", Host: "h", Port: 1}, ErrorType: errorType}
		wantAllocs(tt, errorType, 0, func() { m.Attempt(context.Background(), a) })
	}
}

// After Close attempts are collected no more.
func TestCloseEndsAttempts(tt *testing.T) {
	t := newTester(tt)
	m := t.metrics()
	m.Attempt(t.ctx, &hooks.Attempt{Peer: &hooks.Target{Network: "tcp", Addr: "h:1", Host: "h", Port: 1}})
	t.want("attempts", t.attempts(), map[string]int64{"redis h 1": 1})
	t.must(m.Close())
	t.want("attempts", t.attempts(), map[string]int64{})
}
