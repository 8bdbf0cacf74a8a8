package otelhooks_test

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/everpool/everpool/internal/testkit/promcheck"
	"github.com/everpool/everpool/pooler"
)

// prometheusNames are the names that a metric has in Prometheus, by OpenTelemetry's
// rules for it: those of a histogram in both of its forms.
func prometheusNames(m metricdata.Metrics) []string {
	name := underscored(m.Name)
	if m.Unit == "s" {
		name += "_seconds"
	}
	switch d := m.Data.(type) {
	case metricdata.Sum[int64]:
		if d.IsMonotonic {
			name += "_total"
		}
	case metricdata.Histogram[float64]:
		return []string{name, name + "_bucket", name + "_count", name + "_sum"}
	}
	return []string{name}
}

func underscored(name string) string { return strings.ReplaceAll(name, ".", "_") }

// labels are those of all points of a metric.
func labels(m metricdata.Metrics) []string {
	all := make(map[string]bool)
	add := func(s attribute.Set) {
		for _, kv := range s.ToSlice() {
			all[underscored(string(kv.Key))] = true
		}
	}
	switch d := m.Data.(type) {
	case metricdata.Sum[int64]:
		for _, p := range d.DataPoints {
			add(p.Attributes)
		}
	case metricdata.Gauge[float64]:
		for _, p := range d.DataPoints {
			add(p.Attributes)
		}
	case metricdata.Histogram[float64]:
		for _, p := range d.DataPoints {
			add(p.Attributes)
		}
	}
	return slices.Collect(maps.Keys(all))
}

// everything is a collection in which every metric and attribute is.
func (t *tester) everything() map[string]metricdata.Metrics {
	t.Helper()
	p := t.pools()
	t.watch(p, &nodes{[]pooler.NodeStatus{full()}})
	p.OnWait("h:1", 1, nil)
	p.OnWait("h:1", 1, pooler.ErrWaitTimeout)
	p.OnEvent(pooler.Event{Kind: pooler.EventDial, Duration: time.Millisecond})
	p.OnEvent(pooler.Event{Kind: pooler.EventState, State: pooler.StateUp, Duration: time.Second})
	c, _ := t.client(t.metrics())
	c.Set(t.ctx, "k", "v", 0)
	c.LPush(t.ctx, "k", "v")
	c.BLPop(t.ctx, time.Millisecond, "k")
	t.misled("MOVED", t.metrics()).Get(t.ctx, "k")
	stock := redis.NewClient(&redis.Options{MaxIdleConns: 1})
	t.Cleanup(func() { stock.Close() })
	t.stock(stock, "stock")
	return t.collect()
}

// Prometheus's own parser takes every query of OpenTelemetry's dashboard, each asks for
// metrics and labels that there are, and every metric is asked for.
func TestTheDashboardAsksForWhatThereIs(tt *testing.T) {
	t := newTester(tt)
	known := make(map[string][]string)
	all := t.everything()
	for _, m := range all {
		for _, name := range prometheusNames(m) {
			known[name] = labels(m)
		}
	}
	asked := promcheck.Compare(tt, promcheck.Queries(tt, "everpool-otel.json"), known)
	for _, m := range all {
		if !slices.ContainsFunc(prometheusNames(m), func(name string) bool { return asked[name] }) {
			t.Errorf("no query asks for %s", m.Name)
		}
	}
}
