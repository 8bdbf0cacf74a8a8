package otelhooks_test

import (
	"context"
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

// More clients than anything is kept for: all are recorded nevertheless.
func TestManyServersAreAllRecorded(tt *testing.T) {
	t := newTester(tt)
	m, tr := t.metrics(), t.tracing()
	const servers = 300
	for i := range servers {
		c := redis.NewClient(&redis.Options{Addr: "localhost:6379", DB: i})
		t.attach(c, tr, m)
		c.AddHook(answered)
		t.must(c.Ping(t.ctx).Err())
		t.must(c.Ping(t.ctx).Err())
		t.must(c.Close())
	}
	_, counts := t.durations()
	t.want("series", len(counts), servers)
	for _, n := range counts {
		t.want("records", n, uint64(2))
	}
	t.want("spans", len(t.take()), 2*servers)
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

// Those that nothing is kept for are recorded as all others are.
func TestManyTargetsAreRecorded(tt *testing.T) {
	t := newTester(tt)
	m, tracing := t.metrics(), t.tracing()
	ops := manyTargets(200)
	for range 60 { // what is kept is chosen anew in between
		for _, op := range ops {
			tracing.End(tracing.Begin(t.ctx, op), op)
			m.End(t.ctx, op)
		}
	}
	spans := t.take()
	t.want("spans", len(spans), 60*len(ops))
	all, counts := t.durations()
	t.want("series", len(all), len(ops))
	seen := make(map[any]bool)
	for i, a := range all {
		seen[a["server.address"]] = true
		t.want("count", counts[i], uint64(60))
		odd := strings.ContainsAny(a["server.address"].(string)[3:], "13579")
		if failed := a["error.type"] == "timeout"; failed != odd {
			t.Errorf("%v", a)
		}
	}
	t.want("servers", len(seen), len(ops))
	for i, s := range spans {
		if got, want := attrsOf(s.Attributes)["server.address"], ops[i%len(ops)].Target.Host; got != want {
			t.Errorf("span %d: server.address is %v, want %s", i, got, want)
		}
	}
}
