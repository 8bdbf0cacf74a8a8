package bench

import (
	"context"
	"testing"

	"github.com/redis/go-redis/extra/redisotel/v9"
	"github.com/redis/go-redis/v9"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/everpool/everpool/hooks"
	"github.com/everpool/everpool/otelhooks"
)

// discardSpans is a span processor that drops what it gets.
type discardSpans struct{}

func (discardSpans) OnStart(context.Context, sdktrace.ReadWriteSpan) {}
func (discardSpans) OnEnd(sdktrace.ReadOnlySpan)                     {}
func (discardSpans) Shutdown(context.Context) error                  { return nil }
func (discardSpans) ForceFlush(context.Context) error                { return nil }

// telemetry is what is asked for; nil is nothing of the kind.
type telemetry struct {
	name    string
	tracers *sdktrace.TracerProvider
	meters  *sdkmetric.MeterProvider
}

func telemetries() []telemetry {
	tracers := func(s sdktrace.Sampler) *sdktrace.TracerProvider {
		return sdktrace.NewTracerProvider(sdktrace.WithSampler(s), sdktrace.WithSpanProcessor(discardSpans{}))
	}
	meters := func() *sdkmetric.MeterProvider {
		return sdkmetric.NewMeterProvider(sdkmetric.WithReader(sdkmetric.NewManualReader()))
	}
	never, always := sdktrace.NeverSample(), sdktrace.AlwaysSample()
	return []telemetry{
		{name: "unsampled", tracers: tracers(never)},
		{name: "sampled", tracers: tracers(always)},
		{name: "metrics", meters: meters()},
		{name: "unsampled+metrics", tracers: tracers(never), meters: meters()},
		{name: "sampled+metrics", tracers: tracers(always), meters: meters()},
	}
}

// redisotelHooks has go-redis's own instrumentation watch the client.
func redisotelHooks(b *testing.B, c *redis.Client, t telemetry) {
	b.Helper()
	if t.tracers != nil {
		// Without the caller's place in the source, which nobody else reports, and
		// without the statement, which has arguments in it.
		err := redisotel.InstrumentTracing(c, redisotel.WithTracerProvider(t.tracers),
			redisotel.WithCallerEnabled(false), redisotel.WithDBStatement(false))
		if err != nil {
			b.Fatal(err)
		}
	}
	if t.meters != nil {
		if err := redisotel.InstrumentMetrics(c, redisotel.WithMeterProvider(t.meters)); err != nil {
			b.Fatal(err)
		}
	}
}

// otelHooks has otelhooks watch it.
func otelHooks(b *testing.B, c *redis.Client, t telemetry) {
	b.Helper()
	var observers []hooks.Observer
	if t.tracers != nil {
		o, err := otelhooks.NewTracing(otelhooks.WithTracerProvider(t.tracers))
		if err != nil {
			b.Fatal(err)
		}
		observers = append(observers, o)
	}
	if t.meters != nil {
		o, err := otelhooks.NewMetrics(otelhooks.WithMeterProvider(t.meters))
		if err != nil {
			b.Fatal(err)
		}
		observers = append(observers, o)
	}
	h, err := hooks.New(observers...)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := h.Attach(c); err != nil {
		b.Fatal(err)
	}
}

// redisotelDefaults is redisotel as most have it: with the statement and the
// caller.
func redisotelDefaults(b *testing.B, c *redis.Client, t telemetry) {
	b.Helper()
	if t.tracers != nil {
		if err := redisotel.InstrumentTracing(c, redisotel.WithTracerProvider(t.tracers)); err != nil {
			b.Fatal(err)
		}
	}
	if t.meters != nil {
		if err := redisotel.InstrumentMetrics(c, redisotel.WithMeterProvider(t.meters)); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkOtel is what telemetry adds to a command, beside redisotel. on=hook
// sends nothing: the hooks alone. on=memory is a GET with go-redis's own work, on a
// connection that answers from memory. Subtract side=bare.
func BenchmarkOtel(b *testing.B) {
	for _, on := range []string{"hook", "memory"} {
		b.Run("on="+on, func(b *testing.B) {
			b.Run("side=bare", func(b *testing.B) { benchOtel(b, on, func(*testing.B, *redis.Client, telemetry) {}, telemetry{}) })
			for _, t := range telemetries() {
				b.Run("what="+t.name, func(b *testing.B) {
					b.Run("side=redisotel-defaults", func(b *testing.B) { benchOtel(b, on, redisotelDefaults, t) })
					b.Run("side=redisotel", func(b *testing.B) { benchOtel(b, on, redisotelHooks, t) })
					b.Run("side=otelhooks", func(b *testing.B) { benchOtel(b, on, otelHooks, t) })
				})
			}
		})
	}
}

func benchOtel(b *testing.B, on string, instrument func(*testing.B, *redis.Client, telemetry), t telemetry) {
	client, err := newFloor(Setup{ValueSize: 64, Goroutines: 1})
	if err != nil {
		b.Fatal(err)
	}
	defer client.Close()
	c := client.(*goRedis).cmd.(*redis.Client)
	instrument(b, c, t)
	if on == "hook" {
		c.AddHook(hooks.Adapter{Process: func(redis.ProcessHook) redis.ProcessHook {
			return func(context.Context, redis.Cmder) error { return nil }
		}})
	}
	ctx := context.Background()
	b.ReportAllocs()
	if on == "hook" {
		cmd := redis.NewStringCmd(ctx, "get", "key")
		for b.Loop() {
			_ = c.Process(ctx, cmd)
		}
		return
	}
	for b.Loop() {
		if err := c.Get(ctx, "key").Err(); err != nil {
			b.Fatal(err)
		}
	}
}
