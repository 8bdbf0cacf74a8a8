package promhooks_test

import (
	"context"
	"testing"

	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel/trace"

	"github.com/everpool/everpool/hooks"
	"github.com/everpool/everpool/promhooks"
)

// BenchmarkMetrics is what metrics cost an operation: metrics=none is the hook
// alone, whose observer does nothing.
func BenchmarkMetrics(b *testing.B) {
	sampled := trace.ContextWithSpanContext(context.Background(), trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: trace.TraceID{1}, SpanID: trace.SpanID{1}, TraceFlags: trace.FlagsSampled,
	}))
	for _, c := range []struct {
		name string
		ctx  context.Context
		o    hooks.Observer
	}{
		{"none", context.Background(), hooks.Func{}},
		{"default", context.Background(), must(promhooks.NewMetrics("bench"))(b)},
		{"classic", context.Background(), must(promhooks.NewMetrics("bench", promhooks.WithNativeHistograms(-1)))(b)},
		{"exemplars-unsampled", context.Background(), must(promhooks.NewMetrics("bench", promhooks.WithExemplars(true)))(b)},
		{"exemplars-sampled", sampled, must(promhooks.NewMetrics("bench", promhooks.WithExemplars(true)))(b)},
		{"baseplate", context.Background(), must(promhooks.NewMetrics("bench", promhooks.WithBaseplateNames()))(b)},
	} {
		hook := must(hooks.New(c.o))(b)
		get := redis.NewStringCmd(c.ctx, "get", "k")
		b.Run("metrics="+c.name+"/command", func(b *testing.B) {
			process := hook.ProcessHook(func(context.Context, redis.Cmder) error { return nil })
			b.ReportAllocs()
			for b.Loop() {
				_ = process(c.ctx, get)
			}
		})
		b.Run("metrics="+c.name+"/parallel", func(b *testing.B) {
			process := hook.ProcessHook(func(context.Context, redis.Cmder) error { return nil })
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					_ = process(c.ctx, get)
				}
			})
		})
		b.Run("metrics="+c.name+"/pipeline=100", func(b *testing.B) {
			process := hook.ProcessPipelineHook(func(context.Context, []redis.Cmder) error { return nil })
			cmds := make([]redis.Cmder, 100)
			for i := range cmds {
				cmds[i] = get
			}
			b.ReportAllocs()
			for b.Loop() {
				_ = process(c.ctx, cmds)
			}
		})
	}
}
