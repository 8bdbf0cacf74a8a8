package promhooks_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/hooks"
	"github.com/everpool/everpool/pooler"
	"github.com/everpool/everpool/promhooks"
)

// watched is a client on everpool with all its metrics.
type watched struct {
	*driver.DB
	metrics *promhooks.Metrics
	pool    *promhooks.Pool
	reg     *prometheus.Registry
}

// watch opens a client whose metrics are in a registry, with further observers
// before them.
func watch(tb testing.TB, name, url string, reg *prometheus.Registry, opts []promhooks.Setting, before ...hooks.Observer) *watched {
	tb.Helper()
	return watchWith(tb, name, url, reg, driver.Config{}, opts, before...)
}

func watchWith(tb testing.TB, name, url string, reg *prometheus.Registry, cfg driver.Config, opts []promhooks.Setting, before ...hooks.Observer) *watched {
	tb.Helper()
	w := &watched{reg: reg, metrics: must(promhooks.NewMetrics(name, opts...))(tb), pool: must(promhooks.NewPool(name, opts...))(tb)}
	for _, c := range []prometheus.Collector{w.metrics, w.pool} {
		if err := reg.Register(c); err != nil {
			tb.Fatal(err)
		}
	}
	hook := must(hooks.New(append(before, w.metrics)...))(tb)
	cfg.Logger = slog.New(slog.DiscardHandler)
	cfg.Pool.OnEvent = w.pool.OnEvent
	w.DB = must(driver.Open(url, driver.WithConfig(cfg), driver.WithHooks(hook)))(tb)
	tb.Cleanup(func() { w.Close() })
	see(tb, w.pool, w.Driver)
	return w
}

// see has the pool's metrics tell of nodes until stop is called.
func see(tb testing.TB, p *promhooks.Pool, nodes promhooks.Nodes) (stop func()) {
	tb.Helper()
	return must(p.Watch(nodes))(tb)
}

// must fails the test for an error.
func must[T any](v T, err error) func(testing.TB) T {
	return func(tb testing.TB) T {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
		return v
	}
}

// hooked is what a hook makes of operations that do what next says, without a
// network.
func hooked(tb testing.TB, m *promhooks.Metrics, next func(context.Context, redis.Cmder) error) redis.ProcessHook {
	tb.Helper()
	return must(hooks.New(m))(tb).ProcessHook(next)
}

// samples are the values of a gather by name and labels, as in "up{a="b"}"; of a
// histogram there are _count and _sum. The label client isn't shown if it is the
// one of the test.
type samples map[string]float64

func gather(tb testing.TB, g prometheus.Gatherer) samples {
	tb.Helper()
	all := make(samples)
	for _, f := range families(tb, g) {
		for _, m := range f.GetMetric() {
			labels := labelsOf(m)
			switch f.GetType() {
			case dto.MetricType_COUNTER:
				all[f.GetName()+labels] = m.GetCounter().GetValue()
			case dto.MetricType_GAUGE:
				all[f.GetName()+labels] = m.GetGauge().GetValue()
			case dto.MetricType_HISTOGRAM:
				all[f.GetName()+"_count"+labels] = float64(m.GetHistogram().GetSampleCount())
				all[f.GetName()+"_sum"+labels] = m.GetHistogram().GetSampleSum()
			default:
				tb.Fatalf("%s is a %s", f.GetName(), f.GetType())
			}
		}
	}
	return all
}

func families(tb testing.TB, g prometheus.Gatherer) []*dto.MetricFamily {
	tb.Helper()
	return must(g.Gather())(tb)
}

func labelsOf(m *dto.Metric) string {
	var pairs []string
	for _, l := range m.GetLabel() {
		if l.GetName() != "client" || l.GetValue() != "test" {
			pairs = append(pairs, fmt.Sprintf("%s=%q", l.GetName(), l.GetValue()))
		}
	}
	slices.Sort(pairs)
	if len(pairs) == 0 {
		return ""
	}
	return "{" + strings.Join(pairs, ",") + "}"
}

// want compares some samples; NaN stands for one that must not be there.
func (s samples) want(tb testing.TB, want samples) {
	tb.Helper()
	for name, v := range want {
		got, ok := s[name]
		if absent := v != v; absent && ok || !absent && (!ok || got != v) {
			tb.Errorf("%s is %v (there: %t), want %v", name, got, ok, v)
		}
	}
}

// starting returns the names that begin so, in order.
func (s samples) starting(prefix string) []string {
	var names []string
	for name := range s {
		if strings.HasPrefix(name, prefix) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// nodes is a source of statistics that a test sets.
type nodes []pooler.NodeStatus

func (n *nodes) Nodes() []pooler.NodeStatus { return *n }
