package otelhooks_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/everpool/everpool/hooks"
	"github.com/everpool/everpool/otelhooks"
)

func TestEveryOperationIsRecordedOnce(tt *testing.T) {
	t := newTester(tt)
	c, server := t.client(t.metrics())
	t.must(c.Set(t.ctx, "k", "v", 0).Err())
	c.Get(t.ctx, "k")
	c.Get(t.ctx, "missing")
	c.LPush(t.ctx, "k", "v")
	c.LPush(t.ctx, "k", "v")
	pipe := c.Pipeline()
	pipe.Get(t.ctx, "k")
	pipe.Get(t.ctx, "k")
	_, err := pipe.Exec(t.ctx)
	t.must(err)
	over, cancel := context.WithCancel(t.ctx)
	cancel()
	c.Get(over, "k")

	all, counts := t.durations()
	t.want("attributes", all, []attrs{
		recorded(server.Addr(), "GET", attrs{"error.type": "canceled"}),
		recorded(server.Addr(), "GET", nil),
		recorded(server.Addr(), "LPUSH", attrs{"error.type": "WRONGTYPE", "db.response.status_code": "WRONGTYPE"}),
		recorded(server.Addr(), "PIPELINE GET", nil),
		recorded(server.Addr(), "SET", nil),
	})
	t.want("counts", counts, []uint64{1, 2, 2, 1, 1})
	m := t.collect()["db.client.operation.duration"]
	t.want("unit", m.Unit, "s")
	d := m.Data.(metricdata.Histogram[float64])
	t.want("buckets", d.DataPoints[0].Bounds, []float64{.001, .005, .01, .05, .1, .5, 1, 5, 10})
	if sum := d.DataPoints[0].Sum; !(sum > 0) {
		t.Errorf("the sum is %v", sum)
	}
}

func TestADurationIsRecordedInSeconds(tt *testing.T) {
	t := newTester(tt)
	want := 0.0
	c, _ := t.client(hooks.Func{OnEnd: func(_ context.Context, op *hooks.Operation) { want = op.Duration.Seconds() }}, t.metrics())
	c.Ping(t.ctx)
	got := t.collect()["db.client.operation.duration"].Data.(metricdata.Histogram[float64]).DataPoints[0].Sum
	if math.Abs(got-want) > 1e-12 {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestOptionsOfMetrics(tt *testing.T) {
	t := newTester(tt)
	c, server := t.client(t.metrics(
		otelhooks.WithMetricAttributes(attribute.String("client", "sessions"), attribute.String("db.system.name", "no")),
		otelhooks.WithBuckets(.1, 1),
		otelhooks.WithMetricsFilter(func(op *hooks.Operation) bool { return op.Outcome == hooks.Miss }),
	))
	c.Ping(t.ctx)
	c.Get(t.ctx, "missing")
	all, _ := t.durations()
	t.want("attributes", all, []attrs{recorded(server.Addr(), "GET", attrs{"client": "sessions"})})
	d := t.collect()["db.client.operation.duration"].Data.(metricdata.Histogram[float64])
	t.want("buckets", d.DataPoints[0].Bounds, []float64{.1, 1})
}

func TestASampledSpanIsAnExemplar(tt *testing.T) {
	t := newTester(tt)
	c, _ := t.client(t.tracing(), t.metrics())
	c.Ping(t.ctx)
	id := t.one().SpanContext.SpanID()
	d := t.collect()["db.client.operation.duration"].Data.(metricdata.Histogram[float64])
	if len(d.DataPoints[0].Exemplars) != 1 {
		t.Fatalf("exemplars: %v, want one", d.DataPoints[0].Exemplars)
	}
	t.want("span", string(d.DataPoints[0].Exemplars[0].SpanID), string(id[:]))
}

// Clients of many servers are all recorded, each with its own attributes.
func TestManyServersAreAllRecorded(tt *testing.T) {
	t := newTester(tt)
	const servers = 300
	for _, op := range manyTargets(t, servers, t.tracing(), t.metrics()) {
		op() // once more
	}
	spans := t.take()
	t.want("spans", len(spans), 2*servers)
	all, counts := t.durations()
	t.want("series", len(all), servers)
	seen := make(map[any]bool)
	for i, a := range all {
		seen[a["server.address"]] = true
		t.want("count", counts[i], uint64(2))
		address := a["server.address"].(string)
		odd := strings.ContainsAny(address[len(address)-1:], "13579")
		if failed := a["error.type"] == "timeout"; failed != odd {
			t.Errorf("%v", a)
		}
	}
	t.want("servers", len(seen), servers)
	for i, s := range spans[:servers] {
		t.want("server.address", attrsOf(s.Attributes)["server.address"], any(host(i)))
	}
}

// Operations that an observer is told of by hand are recorded too.
func TestAnOperationMadeByHandIsRecorded(tt *testing.T) {
	t := newTester(tt)
	m, tracing := t.metrics(), t.tracing()
	cmd := redis.NewStringCmd(t.ctx, "get", "k")
	op := &hooks.Operation{Name: "GET", Command: hooks.CommandOf(cmd), Cmds: []redis.Cmder{cmd}, Target: &hooks.Target{Network: "tcp", Addr: "h:1", Host: "h", Port: 1}}
	tracing.End(tracing.Begin(t.ctx, op), op)
	m.End(t.ctx, op)
	t.want("span", t.one().Name, "GET")
	all, _ := t.durations()
	t.want("attributes", all, []attrs{{"db.system.name": "redis", "db.operation.name": "GET", "db.namespace": "0", "server.address": "h", "server.port": int64(1)}})
}

// Every command counts by how it has ended, in a batch too.
func TestEveryCommandIsCounted(tt *testing.T) {
	t := newTester(tt)
	c, _ := t.client(t.metrics(otelhooks.WithMetricAttributes(attribute.String("db.system.name", "no"))), t.metrics())
	t.must(c.Set(t.ctx, "k", "v", 0).Err())
	c.Get(t.ctx, "missing")
	_, _ = c.Pipelined(t.ctx, func(p redis.Pipeliner) error {
		p.Get(t.ctx, "k")
		p.Get(t.ctx, "missing")
		p.LPush(t.ctx, "k", "x")
		return nil
	})
	over, cancel := context.WithCancel(t.ctx)
	cancel()
	c.Get(over, "k")
	err := c.Watch(t.ctx, func(tx *redis.Tx) error {
		c.Set(t.ctx, "k", "w", 0)
		_, err := tx.TxPipelined(t.ctx, func(p redis.Pipeliner) error { return p.Incr(t.ctx, "n").Err() })
		return err
	}, "k")
	t.want("the transaction", errors.Is(err, redis.TxFailedErr), true)
	t.want("commands", points(t.collect()["everpool.commands"]), map[string]int64{
		// Twice, since there are two that count the same.
		"SET redis ok": 4, "GET redis miss": 4, "GET redis ok": 2, "LPUSH redis error": 2, "GET redis canceled": 2,
		"WATCH redis ok": 2, "INCR redis tx_failed": 2,
	})
}

// What takes as long as it was told to is marked.
func TestBlockingOperationsAreMarked(tt *testing.T) {
	t := newTester(tt)
	c := t.answering(t.metrics())
	c.BLPop(t.ctx, 0, "k")
	c.XRead(t.ctx, &redis.XReadArgs{Streams: []string{"s", "0"}, Block: -1})
	c.XRead(t.ctx, &redis.XReadArgs{Streams: []string{"s", "0"}})
	_, _ = c.Pipelined(t.ctx, func(p redis.Pipeliner) error {
		p.Get(t.ctx, "k")
		p.BLPop(t.ctx, 0, "k")
		return nil
	})
	marked := make(map[string]int)
	all, _ := t.durations()
	for _, a := range all {
		marked[fmt.Sprint(a["db.operation.name"], " ", a["everpool.blocking"])]++
	}
	t.want("marked", marked, map[string]int{"BLPOP true": 1, "XREAD <nil>": 1, "XREAD true": 1, "PIPELINE true": 1})
}

// answered ends every operation where it is added.
var answered = hooks.Adapter{
	Process: func(redis.ProcessHook) redis.ProcessHook {
		return func(context.Context, redis.Cmder) error { return nil }
	},
	Pipeline: func(redis.ProcessPipelineHook) redis.ProcessPipelineHook {
		return func(context.Context, []redis.Cmder) error { return nil }
	},
}
