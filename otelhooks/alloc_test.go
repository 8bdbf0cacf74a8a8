package otelhooks_test

import (
	"context"
	"runtime"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/everpool/everpool/hooks"
	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/otelhooks"
	"github.com/everpool/everpool/pooler"
)

// wantAllocs fails if f allocates more often than that.
func wantAllocs(t *testing.T, what string, most float64, f func()) {
	t.Helper()
	if testkit.Race {
		t.Skip("the race detector allocates")
	}
	if got := testing.AllocsPerRun(1000, f); got > most {
		t.Errorf("%s: %v allocations, at most %v are allowed", what, got, most)
	}
}

func TestAllocationsOfAnOperation(tt *testing.T) {
	t := newTester(tt)
	unsampled := t.tracing(otelhooks.WithTracerProvider(sdktrace.NewTracerProvider(sdktrace.WithSampler(sdktrace.NeverSample()))))
	sampled := t.tracing(otelhooks.WithTracerProvider(sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(discard{}))))
	children := t.tracing(otelhooks.WithTracerProvider(sdktrace.NewTracerProvider()), otelhooks.WithRootSpans(false))
	for _, test := range []struct {
		name      string
		most      float64
		observers []hooks.Observer
	}{
		{"nothing", 0, nil},
		{"metrics", 0, []hooks.Observer{t.metrics()}},
		{"unsampled", 3, []hooks.Observer{unsampled}},
		{"unsampled and metrics", 3, []hooks.Observer{unsampled, t.metrics()}},
		{"sampled", 6, []hooks.Observer{sampled}},
		{"no span", 1, []hooks.Observer{children}},
	} {
		c := t.answering(test.observers...)
		cmd := redis.NewStringCmd(t.ctx, "get", "k")
		wantAllocs(tt, test.name, test.most, func() { _ = c.Process(context.Background(), cmd) })
	}
}

func TestAFailureThatIsKnownDoesNotAllocate(tt *testing.T) {
	t := newTester(tt)
	m := t.metrics()
	op := &hooks.Operation{
		Name: "GET", Command: hooks.CommandOf(redis.NewStringCmd(t.ctx, "get", "k")), Target: &hooks.Target{Addr: "h:1"},
		Outcome: hooks.Error, ErrorType: "WRONGTYPE", Duration: time.Millisecond,
	}
	wantAllocs(tt, "metrics", 0, func() { m.End(context.Background(), op) })
	p := t.pools()
	wantAllocs(tt, "wait", 0, func() { p.OnWait("h:1", time.Millisecond, nil) })
	wantAllocs(tt, "wait in vain", 1, func() { p.OnWait("h:1", time.Millisecond, pooler.ErrNodeDown) })
}

// A few servers more than something is kept for don't slow down all.
func TestManyTargetsAllocateLittle(tt *testing.T) {
	if testkit.Race {
		tt.Skip("the race detector allocates")
	}
	t := newTester(tt)
	m := t.metrics()
	tracing := t.tracing(otelhooks.WithTracerProvider(sdktrace.NewTracerProvider(sdktrace.WithSampler(sdktrace.NeverSample()))))
	ops := manyTargets(140)
	round := func(ops []*hooks.Operation) {
		for _, op := range ops {
			m.End(context.Background(), op)
			tracing.Begin(context.Background(), op)
		}
	}
	round(ops)
	var before, after runtime.MemStats
	const rounds = 200
	runtime.ReadMemStats(&before)
	for range rounds {
		round(ops)
	}
	runtime.ReadMemStats(&after)
	if each := (after.TotalAlloc - before.TotalAlloc) / uint64(rounds*len(ops)); each > 2048 {
		t.Errorf("an operation allocates %d bytes", each)
	}
}
