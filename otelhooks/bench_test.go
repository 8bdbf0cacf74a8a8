package otelhooks_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/redis/go-redis/v9"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/everpool/everpool/hooks"
	"github.com/everpool/everpool/otelhooks"
)

// discard is a span processor that drops what it gets.
type discard struct{}

func (discard) OnStart(context.Context, sdktrace.ReadWriteSpan) {}
func (discard) OnEnd(sdktrace.ReadOnlySpan)                     {}
func (discard) Shutdown(context.Context) error                  { return nil }
func (discard) ForceFlush(context.Context) error                { return nil }

// answering is a watched client whose operations end before they are sent.
func (t *tester) answering(observers ...hooks.Observer) *redis.Client {
	t.Helper()
	c := answering(t, observers...)
	t.Cleanup(func() { c.Close() })
	return c
}

func answering(tb testing.TB, observers ...hooks.Observer) *redis.Client {
	tb.Helper()
	h, err := hooks.New(observers...)
	if err != nil {
		tb.Fatal(err)
	}
	c := redis.NewClient(&redis.Options{Addr: "localhost:6379"})
	if _, err := h.Attach(c); err != nil {
		tb.Fatal(err)
	}
	c.AddHook(answered)
	return c
}

// BenchmarkOperation is what observing costs, without anything that is observed:
// nothing is sent. Subtract side=none.
func BenchmarkOperation(b *testing.B) {
	tracing := func(sampler sdktrace.Sampler, opts ...otelhooks.Setting) hooks.Observer {
		provider := sdktrace.NewTracerProvider(sdktrace.WithSampler(sampler), sdktrace.WithSpanProcessor(discard{}))
		t, err := otelhooks.NewTracing(append(opts, otelhooks.WithTracerProvider(provider))...)
		if err != nil {
			b.Fatal(err)
		}
		return t
	}
	metrics := func() hooks.Observer {
		m, err := otelhooks.NewMetrics(otelhooks.WithMeterProvider(sdkmetric.NewMeterProvider(sdkmetric.WithReader(sdkmetric.NewManualReader()))))
		if err != nil {
			b.Fatal(err)
		}
		return m
	}
	never, always := sdktrace.NeverSample(), sdktrace.AlwaysSample()
	for _, side := range []struct {
		name      string
		observers []hooks.Observer
	}{
		{"none", nil},
		{"unsampled", []hooks.Observer{tracing(never)}},
		{"sampled", []hooks.Observer{tracing(always)}},
		{"sampled-query", []hooks.Observer{tracing(always, otelhooks.WithQueryText(true))}},
		{"metrics", []hooks.Observer{metrics()}},
		{"unsampled+metrics", []hooks.Observer{tracing(never), metrics()}},
		{"sampled+metrics", []hooks.Observer{tracing(always), metrics()}},
	} {
		c := answering(b, side.observers...)
		ctx := context.Background()
		b.Run("side="+side.name+"/command", func(b *testing.B) {
			cmd := redis.NewStringCmd(ctx, "get", "key")
			b.ReportAllocs()
			for b.Loop() {
				_ = c.Process(ctx, cmd)
			}
		})
		b.Run("side="+side.name+"/pipeline=10", func(b *testing.B) {
			pipe := c.Pipeline()
			b.ReportAllocs()
			for b.Loop() {
				for range 10 {
					pipe.Get(ctx, "key")
				}
				_, _ = pipe.Exec(ctx)
			}
		})
		c.Close()
	}
}

// BenchmarkParallel has all cores record in the same series.
func BenchmarkParallel(b *testing.B) {
	m, err := otelhooks.NewMetrics(otelhooks.WithMeterProvider(sdkmetric.NewMeterProvider(sdkmetric.WithReader(sdkmetric.NewManualReader()))))
	if err != nil {
		b.Fatal(err)
	}
	c := answering(b, m)
	defer c.Close()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		cmd := redis.NewStringCmd(context.Background(), "get", "key")
		for pb.Next() {
			_ = c.Process(context.Background(), cmd)
		}
	})
}

// BenchmarkTargets has operations of many servers in turn.
func BenchmarkTargets(b *testing.B) {
	for _, n := range []int{100, 1000} {
		m, err := otelhooks.NewMetrics(otelhooks.WithMeterProvider(sdkmetric.NewMeterProvider(sdkmetric.WithReader(sdkmetric.NewManualReader()))))
		if err != nil {
			b.Fatal(err)
		}
		ops, i := manyTargets(b, n, m), 0
		b.Run(fmt.Sprintf("targets=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				ops[i%n]()
				i++
			}
		})
	}
}

// manyTargets are operations of clients of as many servers, half of which fail. Each
// has been done once.
func manyTargets(tb testing.TB, n int, observers ...hooks.Observer) []func() {
	tb.Helper()
	ops := make([]func(), n)
	for i := range ops {
		h, err := hooks.New(observers...)
		if err != nil {
			tb.Fatal(err)
		}
		c := redis.NewClient(&redis.Options{Addr: host(i) + ":1"})
		tb.Cleanup(func() { c.Close() })
		if _, err := h.Attach(c); err != nil {
			tb.Fatal(err)
		}
		var outcome error
		if i%2 == 1 {
			outcome = context.DeadlineExceeded
		}
		c.AddHook(hooks.Adapter{Process: func(redis.ProcessHook) redis.ProcessHook {
			return func(context.Context, redis.Cmder) error { return outcome }
		}})
		cmd := redis.NewStringCmd(context.Background(), "get", "k")
		ops[i] = func() { _ = c.Process(context.Background(), cmd) }
		ops[i]()
	}
	return ops
}

// host is an address, since go-redis looks names up.
func host(i int) string { return fmt.Sprintf("10.0.%d.%d", i/256, i%256) }
