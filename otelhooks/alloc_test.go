package otelhooks_test

import (
	"context"
	"runtime"
	"testing"
	"time"
	"weak"

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
		{"filtered metrics", 0, []hooks.Observer{t.metrics(otelhooks.WithMetricsFilter(func(*hooks.Operation) bool { return true }))}},
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
	ops := manyTargets(t, 2, t.metrics()) // the second one fails
	wantAllocs(tt, "metrics", 0, ops[1])
	p := t.pools()
	wantAllocs(tt, "wait", 0, func() { p.OnWait("h:1", time.Millisecond, nil) })
	wantAllocs(tt, "wait in vain", 1, func() { p.OnWait("h:1", time.Millisecond, pooler.ErrNodeDown) })
}

// However many servers there are, an operation costs no allocation more.
func TestManyTargetsAllocateNothing(tt *testing.T) {
	t := newTester(tt)
	never := t.tracing(otelhooks.WithTracerProvider(sdktrace.NewTracerProvider(sdktrace.WithSampler(sdktrace.NeverSample()))))
	for name, test := range map[string]struct {
		most      float64
		observers []hooks.Observer
	}{
		"metrics": {0, []hooks.Observer{t.metrics()}},
		"tracing": {3, []hooks.Observer{never}},
	} {
		ops, i := manyTargets(t, 300, test.observers...), 0
		wantAllocs(tt, name, test.most, func() {
			ops[i%len(ops)]()
			i++
		})
	}
}

// What was made for a client ends with it.
func TestAClientThatIsGoneLeavesNothing(tt *testing.T) {
	t := newTester(tt)
	m, tracing := t.metrics(), t.tracing(otelhooks.WithTracerProvider(sdktrace.NewTracerProvider()))
	gone := func() weak.Pointer[redis.Client] {
		c := redis.NewClient(&redis.Options{Addr: "localhost:6379"})
		t.attach(c, tracing, m)
		c.AddHook(answered)
		t.must(c.Ping(t.ctx).Err())
		t.must(c.Close())
		return weak.Make(c)
	}()
	testkit.Await(tt, "the client is collected", func() bool {
		runtime.GC()
		return gone.Value() == nil
	})
	runtime.KeepAlive(m)
	runtime.KeepAlive(tracing)
}
