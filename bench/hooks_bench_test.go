package bench

import (
	"context"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/hooks"
	"github.com/everpool/everpool/hotkey"
	"github.com/everpool/everpool/otelhooks"
	"github.com/everpool/everpool/promhooks"
)

// BenchmarkHooks is what each of this library's observers costs a command, and
// what all four cost together, spans not being sampled, beside redisotel's pair of
// tracing and metrics. Nothing is sent.
func BenchmarkHooks(b *testing.B) {
	pair := telemetries()[3] // unsampled+metrics
	must := func(o hooks.Observer, err error) hooks.Observer {
		if err != nil {
			b.Fatal(err)
		}
		return o
	}
	tracing := must(otelhooks.NewTracing(otelhooks.WithTracerProvider(pair.tracers)))
	metrics := must(otelhooks.NewMetrics(otelhooks.WithMeterProvider(pair.meters)))
	prom := must(promhooks.NewMetrics("bench"))
	tracker, err := hotkey.New(hotkey.Config{ReadSampleRate: 0.01, WriteSampleRate: 0.01})
	if err != nil {
		b.Fatal(err)
	}
	defer tracker.Close()
	for _, side := range []struct {
		name      string
		observers []hooks.Observer
	}{
		{"none", nil},
		{"tracing", []hooks.Observer{tracing}},
		{"otel-metrics", []hooks.Observer{metrics}},
		{"prometheus", []hooks.Observer{prom}},
		{"hot-keys", []hooks.Observer{tracker}},
		{"all-four", []hooks.Observer{tracing, metrics, prom, tracker}},
	} {
		b.Run("side=everpool/what="+side.name, func(b *testing.B) {
			benchHooks(b, func(c *redis.Client) {
				h, err := hooks.New(side.observers...)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := h.Attach(c); err != nil {
					b.Fatal(err)
				}
			})
		})
	}
	b.Run("side=redisotel/what=tracing+metrics", func(b *testing.B) {
		benchHooks(b, func(c *redis.Client) { redisotelDefaults(b, c, pair) })
	})
}

func benchHooks(b *testing.B, instrument func(*redis.Client)) {
	c := redis.NewClient(&redis.Options{})
	defer c.Close()
	instrument(c)
	c.AddHook(hooks.Adapter{Process: func(redis.ProcessHook) redis.ProcessHook {
		return func(context.Context, redis.Cmder) error { return nil }
	}})
	ctx := context.Background()
	cmd := redis.NewStringCmd(ctx, "get", "key")
	b.ReportAllocs()
	for b.Loop() {
		_ = c.Process(ctx, cmd)
	}
}
