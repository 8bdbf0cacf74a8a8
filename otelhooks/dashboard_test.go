package otelhooks_test

import (
	"encoding/json"
	"errors"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

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
	all := map[string]bool{"job": true, "instance": true, "le": true}
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
	asked := make(map[string]bool)
	for _, q := range promcheck(tt, "everpool-otel.json") {
		of := []string{}
		for _, s := range q.Selectors {
			if _, ok := known[s.Metric]; !ok {
				t.Errorf("%s: %s doesn't exist: %s", q.Where, s.Metric, q.Expr)
			}
			for _, l := range s.Labels {
				if !slices.Contains(known[s.Metric], l) {
					t.Errorf("%s: %s has no label %s: %s", q.Where, s.Metric, l, q.Expr)
				}
			}
			of = append(of, known[s.Metric]...)
			asked[s.Metric] = true
		}
		for _, l := range q.Labels {
			if !slices.Contains(of, l) {
				t.Errorf("%s: nothing has the label %s: %s", q.Where, l, q.Expr)
			}
		}
	}
	for _, m := range all {
		if !slices.ContainsFunc(prometheusNames(m), func(name string) bool { return asked[name] }) {
			t.Errorf("no query asks for %s", m.Name)
		}
	}
}

// query is what tools/promcheck says of one.
type query struct {
	Where, Expr string
	Selectors   []struct {
		Metric string
		Labels []string
	}
	Labels []string
}

// promcheck runs the program of that name, which is in a module of its own.
func promcheck(tb testing.TB, files ...string) []query {
	tb.Helper()
	program := filepath.Join(tb.TempDir(), "promcheck")
	build := exec.Command("go", "build", "-o", program, "./promcheck")
	build.Dir = "../tools"
	if out, err := build.CombinedOutput(); err != nil {
		if os.Getenv("CI") == "true" {
			tb.Fatalf("tools/promcheck can't be built (%v):\n%s", err, out)
		}
		tb.Skipf("tools/promcheck can't be built (%v):\n%s", err, out)
	}
	out, err := exec.Command(program, append([]string{"../docs/dashboards"}, files...)...).Output()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		tb.Fatalf("promcheck: %s", exit.Stderr)
	}
	var queries []query
	if err := errors.Join(err, json.Unmarshal(out, &queries)); err != nil {
		tb.Fatal(err)
	}
	return queries
}
