package bench

import (
	"context"
	"errors"
	"strconv"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/hooks"
	"github.com/everpool/everpool/promhooks"
)

// labelledHook counts as hooks usually do: for each command it looks up two
// histograms, a counter and a gauge by the values of their labels, and hands the
// start on in the context. baseplate.go does so, with maps of labels, which cost
// more than the values alone.
type labelledHook struct {
	redis.Hook

	client, database, kind string
	latency, legacy        *prometheus.HistogramVec
	requests               *prometheus.CounterVec
	active                 *prometheus.GaugeVec
}

type labelledStart struct{}

func newLabelledHook() *labelledHook {
	shared := []string{"redis_command", "redis_database", "redis_client_name", "redis_type"}
	all := []string{"redis_command", "redis_database", "redis_client_name", "redis_type", "redis_success"}
	buckets := prometheus.ExponentialBuckets(.0001, 2.5, 14)
	return &labelledHook{
		Hook: hooks.Adapter{}, client: "bench", database: "0", kind: "standalone",
		latency:  prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "latency_seconds", Buckets: buckets}, all),
		legacy:   prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "legacy_seconds", Buckets: buckets}, []string{"redis_pool", "redis_command", "redis_success"}),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "requests_total"}, all),
		active:   prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "active_requests"}, shared),
	}
}

func (h *labelledHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		command := cmd.Name()
		h.active.WithLabelValues(command, h.database, h.client, h.kind).Inc()
		ctx = context.WithValue(ctx, labelledStart{}, time.Now())
		err := next(ctx, cmd)
		start, _ := ctx.Value(labelledStart{}).(time.Time)
		seconds := time.Since(start).Seconds()
		success := strconv.FormatBool(err == nil || errors.Is(err, redis.Nil))
		h.legacy.WithLabelValues(h.client, command, success).Observe(seconds)
		h.latency.WithLabelValues(command, h.database, h.client, h.kind, success).Observe(seconds)
		h.requests.WithLabelValues(command, h.database, h.client, h.kind, success).Inc()
		h.active.WithLabelValues(command, h.database, h.client, h.kind).Dec()
		return err
	}
}

// promSide has somebody count a client's commands.
type promSide struct {
	name   string
	attach func(*testing.B, *redis.Client)
}

func promSides() []promSide {
	observed := func(observers ...hooks.Observer) func(*testing.B, *redis.Client) {
		return func(b *testing.B, c *redis.Client) {
			b.Helper()
			h, err := hooks.New(observers...)
			if err != nil {
				b.Fatal(err)
			}
			if _, err := h.Attach(c); err != nil {
				b.Fatal(err)
			}
		}
	}
	metrics := func(opts ...promhooks.Setting) func(*testing.B, *redis.Client) {
		return func(b *testing.B, c *redis.Client) {
			b.Helper()
			m, err := promhooks.NewMetrics("bench", opts...)
			if err != nil {
				b.Fatal(err)
			}
			observed(m)(b, c)
		}
	}
	return []promSide{
		{"bare", func(*testing.B, *redis.Client) {}},
		{"hook", observed(hooks.Func{})},
		{"labelled", func(_ *testing.B, c *redis.Client) { c.AddHook(newLabelledHook()) }},
		{"promhooks", metrics()},
		{"promhooks+baseplate", metrics(promhooks.WithBaseplateNames())},
	}
}

// BenchmarkProm is what Prometheus metrics add to a command, beside a hook that
// looks its series up by their labels. on=hook sends nothing: the hooks alone.
// on=memory is a GET with go-redis's own work, on a connection that answers from
// memory. Subtract side=bare; side=hook is package hooks with nothing to do.
func BenchmarkProm(b *testing.B) {
	for _, on := range []string{"hook", "memory"} {
		for _, side := range promSides() {
			b.Run("on="+on+"/side="+side.name, func(b *testing.B) {
				benchOtel(b, on, func(b *testing.B, c *redis.Client, _ telemetry) {
					b.Helper()
					side.attach(b, c)
				}, telemetry{})
			})
		}
	}
}
