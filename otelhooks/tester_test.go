package otelhooks_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel/attribute"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.uber.org/goleak"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/hooks"
	"github.com/everpool/everpool/otelhooks"
	"github.com/everpool/everpool/pooler"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// tester has an SDK that keeps in memory what is exported.
type tester struct {
	*testing.T
	ctx     context.Context
	spans   *tracetest.InMemoryExporter
	tracers *sdktrace.TracerProvider
	reader  *sdkmetric.ManualReader
	meters  *sdkmetric.MeterProvider
}

func newTester(t *testing.T) *tester {
	spans, reader := tracetest.NewInMemoryExporter(), sdkmetric.NewManualReader()
	return &tester{
		T: t, ctx: t.Context(), spans: spans, reader: reader,
		tracers: sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans)),
		meters:  sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)),
	}
}

func (t *tester) must(err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (t *tester) tracing(opts ...otelhooks.Setting) *otelhooks.Tracing {
	t.Helper()
	tr, err := otelhooks.NewTracing(append([]otelhooks.Setting{otelhooks.WithTracerProvider(t.tracers)}, opts...)...)
	t.must(err)
	return tr
}

func (t *tester) metrics(opts ...otelhooks.Setting) *otelhooks.Metrics {
	t.Helper()
	m, err := otelhooks.NewMetrics(append([]otelhooks.Setting{otelhooks.WithMeterProvider(t.meters)}, opts...)...)
	t.must(err)
	return m
}

func (t *tester) pools(opts ...otelhooks.Setting) *otelhooks.Pool {
	t.Helper()
	p, err := otelhooks.NewPool(append([]otelhooks.Setting{otelhooks.WithMeterProvider(t.meters)}, opts...)...)
	t.must(err)
	t.Cleanup(func() { p.Close() })
	return p
}

// driver has pools that report to p. Events come a little after what they tell of:
// dialed waits for that of a dial that has succeeded.
func (t *tester) driver(p *otelhooks.Pool, cfg driver.Config) (d *driver.Driver, dialed func()) {
	t.Helper()
	events := make(chan struct{}, 1)
	cfg.Pool.OnEvent = func(ev pooler.Event) {
		if ev.Kind == pooler.EventDial && ev.Err == nil {
			select {
			case events <- struct{}{}:
			default:
			}
		}
	}
	cfg.Pool = p.Instrument(cfg.Pool) // which is told first
	d, err := driver.New(cfg)
	t.must(err)
	t.Cleanup(func() { d.Close() })
	t.watch(p, d)
	return d, func() { <-events }
}

// watch has the metrics tell of nodes.
func (t *tester) watch(p *otelhooks.Pool, nodes otelhooks.Nodes) (stop func()) {
	t.Helper()
	stop, err := p.Watch(nodes)
	t.must(err)
	return stop
}

// attach has observers watch a client.
func (t *tester) attach(c redis.UniversalClient, observers ...hooks.Observer) (detach func()) {
	t.Helper()
	h, err := hooks.New(observers...)
	t.must(err)
	detach, err = h.Attach(c)
	t.must(err)
	return detach
}

// client is one of a server that is in memory, watched.
func (t *tester) client(observers ...hooks.Observer) (*redis.Client, *miniredis.Miniredis) {
	t.Helper()
	server := miniredis.RunT(t)
	c := redis.NewClient(&redis.Options{Addr: server.Addr()})
	t.Cleanup(func() { c.Close() })
	t.attach(c, observers...)
	return c, server
}

// take returns the spans so far, and forgets them.
func (t *tester) take() tracetest.SpanStubs {
	defer t.spans.Reset()
	return t.spans.GetSpans()
}

// one returns the only span so far, and forgets it.
func (t *tester) one() tracetest.SpanStub {
	t.Helper()
	spans := t.take()
	if len(spans) != 1 {
		t.Fatalf("spans: %v, want one", names(spans))
	}
	return spans[0]
}

func names(spans tracetest.SpanStubs) []string {
	all := make([]string, 0, len(spans))
	for _, s := range spans {
		all = append(all, s.Name)
	}
	return all
}

func (t *tester) want(what string, got, want any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

type attrs = map[string]any

func attrsOf(kvs []attribute.KeyValue) attrs {
	m := attrs{}
	for _, kv := range kvs {
		m[string(kv.Key)] = kv.Value.AsInterface()
	}
	return m
}

// at is what every span of a client of that server has, and more.
func at(addr, operation string, more attrs) attrs {
	host, port, _ := net.SplitHostPort(addr)
	n, _ := strconv.ParseInt(port, 10, 64)
	m := attrs{
		"db.system.name": "redis", "db.operation.name": operation, "db.namespace": "0",
		"server.address": host, "server.port": n, "network.peer.address": host, "network.peer.port": n,
	}
	maps.Copy(m, more)
	return m
}

// recorded is the same for a metric.
func recorded(addr, operation string, more attrs) attrs {
	m := at(addr, operation, more)
	delete(m, "network.peer.address")
	delete(m, "network.peer.port")
	return m
}

// collect returns all metrics by their names.
func (t *tester) collect() map[string]metricdata.Metrics {
	t.Helper()
	var all metricdata.ResourceMetrics
	t.must(t.reader.Collect(context.Background(), &all))
	byName := make(map[string]metricdata.Metrics)
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			byName[m.Name] = m
		}
	}
	return byName
}

// points are the values of a metric that isn't a histogram, or the counts of one
// that is, by "pool attribute" or by all their attributes.
func points(m metricdata.Metrics) map[string]int64 {
	values := make(map[string]int64)
	switch d := m.Data.(type) {
	case metricdata.Sum[int64]:
		for _, p := range d.DataPoints {
			values[key(p.Attributes)] = p.Value
		}
	case metricdata.Gauge[float64]:
		for _, p := range d.DataPoints {
			values[key(p.Attributes)] = int64(p.Value * 1000)
		}
	case metricdata.Histogram[float64]:
		for _, p := range d.DataPoints {
			values[key(p.Attributes)] = int64(p.Count)
		}
	}
	return values
}

// key is the attributes' values, in the order of the keys.
func key(s attribute.Set) string {
	var all []string
	for _, kv := range s.ToSlice() {
		all = append(all, kv.Value.String())
	}
	return strings.Join(all, " ")
}

// durations returns the points of db.client.operation.duration as attributes and
// counts, ordered by the operation's name.
func (t *tester) durations() ([]attrs, []uint64) {
	t.Helper()
	d, ok := t.collect()["db.client.operation.duration"].Data.(metricdata.Histogram[float64])
	if !ok {
		return nil, nil
	}
	slices.SortFunc(d.DataPoints, func(a, b metricdata.HistogramDataPoint[float64]) int {
		return strings.Compare(fmt.Sprint(attrsOf(a.Attributes.ToSlice())), fmt.Sprint(attrsOf(b.Attributes.ToSlice())))
	})
	var all []attrs
	var counts []uint64
	for _, p := range d.DataPoints {
		all, counts = append(all, attrsOf(p.Attributes.ToSlice())), append(counts, p.Count)
	}
	return all, counts
}

// dump is everything that was exported, as text.
func (t *tester) dump() string {
	t.Helper()
	var all metricdata.ResourceMetrics
	t.must(t.reader.Collect(context.Background(), &all))
	metrics, err := json.Marshal(all)
	t.must(err)
	var b strings.Builder
	b.Write(metrics)
	for _, s := range t.spans.GetSpans() {
		fmt.Fprintf(&b, "%q %v %v %q\n", s.Name, attrsOf(s.Attributes), s.Status, s.Status.Description)
		for _, e := range s.Events {
			fmt.Fprintf(&b, "%q %v\n", e.Name, attrsOf(e.Attributes))
		}
	}
	return b.String()
}
