package otelhooks_test

import (
	"context"
	"fmt"
	"testing"
	"time"

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
	tracing := func(sampler sdktrace.Sampler, opts ...otelhooks.TracingOption) hooks.Observer {
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

// BenchmarkTargets has operations of many servers in turn: attributes are kept for
// 128 of them.
func BenchmarkTargets(b *testing.B) {
	for _, n := range []int{100, 128, 140, 2000} {
		m, err := otelhooks.NewMetrics(otelhooks.WithMeterProvider(sdkmetric.NewMeterProvider(sdkmetric.WithReader(sdkmetric.NewManualReader()))))
		if err != nil {
			b.Fatal(err)
		}
		ops, i := manyTargets(n), 0
		for _, op := range ops {
			m.End(context.Background(), op)
		}
		b.Run(fmt.Sprintf("targets=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				m.End(context.Background(), ops[i%n])
				i++
			}
		})
	}
}

// manyTargets are operations of as many servers, half of which fail.
func manyTargets(n int) []*hooks.Operation {
	cmd := redis.NewStringCmd(context.Background(), "get", "k")
	ops := make([]*hooks.Operation, n)
	for i := range ops {
		host := fmt.Sprintf("h%03d", i)
		ops[i] = &hooks.Operation{
			Name: "GET", Command: hooks.CommandOf(cmd), Cmds: []redis.Cmder{cmd}, Duration: time.Millisecond,
			Target: &hooks.Target{Network: "tcp", Addr: host + ":1", Host: host, Port: 1},
		}
		if i%2 == 1 {
			ops[i].Outcome, ops[i].ErrorType = hooks.Error, "timeout"
		}
	}
	return ops
}
