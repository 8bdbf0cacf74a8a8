package driver_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel/metric/noop"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/hooks"
	"github.com/everpool/everpool/hotkey"
	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/otelhooks"
	"github.com/everpool/everpool/pooler"
	"github.com/everpool/everpool/promhooks"
)

// watching is all that can watch a client, and where it tells.
type watching struct {
	*testing.T
	server   *testkit.Fake
	spans    *tracetest.InMemoryExporter
	tracers  *sdktrace.TracerProvider
	reader   *sdkmetric.ManualReader
	registry *prometheus.Registry
	trackers []*hotkey.Tracker

	otel, prom, keys driver.Option
}

func newWatching(t *testing.T) *watching {
	w := &watching{T: t, server: testkit.NewFake(), spans: tracetest.NewInMemoryExporter(), reader: sdkmetric.NewManualReader(), registry: prometheus.NewRegistry()}
	t.Cleanup(w.server.Close)
	w.tracers = sdktrace.NewTracerProvider(sdktrace.WithSyncer(w.spans))
	w.otel = otelhooks.Option(otelhooks.WithTracerProvider(w.tracers), otelhooks.WithSpanFilter(func(op *hooks.Operation) bool { return op.Name != "DEL" }),
		otelhooks.WithMeterProvider(sdkmetric.NewMeterProvider(sdkmetric.WithReader(w.reader))))
	w.prom = promhooks.Option(w.registry, "orders", promhooks.WithExemplars(true))
	w.keys = hotkey.Option(hotkey.Config{ReadSampleRate: 1}, func(k *hotkey.Tracker) { w.trackers = append(w.trackers, k) })
	return w
}

// config has the server dialed.
func (w *watching) config() driver.Option {
	return driver.WithConfig(driver.Config{Dial: w.server.Dial})
}

// otelCounts are the values of a metric by the sum over all its attributes, -1: it isn't there.
func (w *watching) otelCount(name string) int64 {
	w.Helper()
	var all metricdata.ResourceMetrics
	if err := w.reader.Collect(context.Background(), &all); err != nil {
		w.Fatal(err)
	}
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			if m.Name != name {
				continue
			}
			n := int64(0)
			switch d := m.Data.(type) {
			case metricdata.Sum[int64]:
				for _, p := range d.DataPoints {
					n += p.Value
				}
			case metricdata.Histogram[float64]:
				for _, p := range d.DataPoints {
					n += int64(p.Count)
				}
			}
			return n
		}
	}
	return -1
}

// promCount is the sum of a family, -1: it isn't there.
func (w *watching) promCount(name string) (n float64, exemplars int) {
	w.Helper()
	families, err := w.registry.Gather()
	if err != nil {
		w.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			n += m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
			for _, b := range m.GetHistogram().GetBucket() {
				if b.GetExemplar() != nil {
					exemplars++
				}
			}
		}
		return n, exemplars
	}
	return -1, 0
}

// Each option says all of its own in one call, in whatever order they come: an operation
// has one span, which exemplars find, and is counted once; pools are told of, events too.
func TestOpenHasAClientWatchedInAnyOrder(t *testing.T) {
	for order := range 6 {
		t.Run(fmt.Sprint(order), func(t *testing.T) {
			w := newWatching(t)
			opts := []driver.Option{w.otel, w.prom, w.keys}
			opts[0], opts[order%3] = opts[order%3], opts[0]
			if order >= 3 {
				opts[1], opts[2] = opts[2], opts[1]
			}
			db, err := driver.Open("redis://"+labAddr, append(opts, w.config())...)
			if err != nil {
				t.Fatal(err)
			}
			if err := db.Set(t.Context(), "k", "v", 0).Err(); err != nil {
				t.Fatal(err)
			}
			db.Get(t.Context(), "k")
			db.Del(t.Context(), "k") // has no span
			if n := len(w.spans.GetSpans()); n != 2 {
				t.Errorf("%d spans", n)
			}
			if n, exemplars := w.promCount("redis_client_command_duration_seconds"); n != 3 || exemplars == 0 {
				t.Errorf("Prometheus has counted %v operations, with %d exemplars", n, exemplars)
			}
			if n := w.otelCount("db.client.operation.duration"); n != 3 {
				t.Errorf("OpenTelemetry has counted %d operations", n)
			}
			if n, _ := w.promCount("redis_client_pool_requests_total"); n < 2 || int64(n) != w.otelCount("everpool.requests") {
				t.Errorf("Prometheus has %v requests, OpenTelemetry %d", n, w.otelCount("everpool.requests"))
			}
			testkit.Await(t, "the dial is told of", func() bool {
				n, _ := w.promCount("redis_client_dial_duration_seconds")
				return n == 1 && w.otelCount("db.client.connection.create_time") == 1
			})
			if top := w.trackers[0].Top(hotkey.Reads, 1); w.trackers[0].Stats().Reads.Samples != 1 {
				t.Errorf("hot keys %v, %+v", top, w.trackers[0].Stats())
			}

			if err := db.Close(); err != nil {
				t.Error(err)
			}
			for _, name := range []string{"everpool.commands", "everpool.requests"} {
				if n := w.otelCount(name); n != -1 {
					t.Errorf("%s after Close: %d", name, n)
				}
			}
			if all, err := w.registry.Gather(); err != nil || len(all) != 0 {
				t.Errorf("%d families after Close, %v", len(all), err)
			}
		})
	}
}

// A client that was made without Open is watched by one call too, also after it was used,
// and isn't any more after the end.
func TestWatchBeginsAndEndsAtAnyTime(t *testing.T) {
	w := newWatching(t)
	d, err := driver.New(driver.Config{Dial: w.server.Dial})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	rdb := redis.NewClient(d.Options(&redis.Options{Addr: labAddr}))
	defer rdb.Close()
	rdb.Ping(t.Context())
	end, err := d.Watch(rdb, w.prom, w.otel)
	if err != nil {
		t.Fatal(err)
	}
	rdb.Ping(t.Context())
	if n, _ := w.promCount("redis_client_commands_total"); n != 1 {
		t.Errorf("%v commands", n)
	}
	if n, _ := w.promCount("redis_client_pool_node_up"); n != 1 || len(w.spans.GetSpans()) != 1 {
		t.Errorf("%v nodes are up, %d spans", n, len(w.spans.GetSpans()))
	}
	for range 2 {
		if err := end(); err != nil {
			t.Error(err)
		}
	}
	rdb.Ping(t.Context())
	if n, _ := w.promCount("redis_client_commands_total"); n != -1 || len(w.spans.GetSpans()) != 1 {
		t.Errorf("after the end: %v commands, %d spans", n, len(w.spans.GetSpans()))
	}
	// The same option once more.
	end, err = d.Watch(rdb, w.prom, w.otel)
	if err != nil {
		t.Fatal(err)
	}
	rdb.Ping(t.Context())
	if n, _ := w.promCount("redis_client_commands_total"); n != 1 {
		t.Errorf("again: %v commands", n)
	}
	if err := end(); err != nil {
		t.Error(err)
	}
}

// Options of a manager are told of all its clients together: each command and each pool
// once, and to the end of the last client.
func TestAManagersOptionsAreOfAllItsClients(t *testing.T) {
	w := newWatching(t)
	m, err := driver.NewManager(driver.Config{Dial: w.server.Dial}, w.otel, w.prom, w.keys)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	for _, name := range []string{"a", "b"} {
		c, err := m.Add(t.Context(), name, "redis://"+labAddr+"/"+map[string]string{"a": "0", "b": "1"}[name])
		if err != nil {
			t.Fatal(err)
		}
		c.Set(t.Context(), "k", "v", 0)
	}
	if n, _ := w.promCount("redis_client_pool_node_up"); n != 1 {
		t.Errorf("%v nodes", n)
	}
	nodes := m.Status()[0].Nodes
	if n, _ := w.promCount("redis_client_pool_dials_total"); int64(n) != nodes[0].Stats.Dials || n != float64(w.otelCount("everpool.dials")) {
		t.Errorf("%v dials, of %d; OpenTelemetry says %d", n, nodes[0].Stats.Dials, w.otelCount("everpool.dials"))
	}
	testkit.Await(t, "each dial is told of once", func() bool {
		n, _ := w.promCount("redis_client_dial_duration_seconds")
		return int64(n) == nodes[0].Stats.Dials
	})
	if len(w.trackers) != 2 {
		t.Errorf("%d trackers", len(w.trackers))
	}
	if err := m.Remove(t.Context(), "a"); err != nil {
		t.Error(err)
	}
	if n, _ := w.promCount("redis_client_pool_node_up"); n != 1 {
		t.Errorf("%v nodes after one client has gone", n)
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	if all, err := w.registry.Gather(); err != nil || len(all) != 0 {
		t.Errorf("%d families after Close, %v", len(all), err)
	}
}

// What is wrong fails Open, and leaves nothing behind.
func TestAnOptionThatFailsLeavesNothing(t *testing.T) {
	w := newWatching(t)
	for want, opt := range map[string]driver.Option{
		"registry is nil": promhooks.Option(nil, "orders"),
		"client is":       promhooks.Option(w.registry, ""),
		"WithBuckets":     otelhooks.Option(otelhooks.WithBuckets()),
		"ReadSampleRate":  hotkey.Option(hotkey.Config{ReadSampleRate: 2}, nil),
		"option 4 is nil": nil,
		"was given nil":   driver.WithClientOptions(nil),
	} {
		_, err := driver.Open("redis://"+labAddr, w.otel, w.prom, w.keys, w.config(), opt)
		if !errors.Is(err, pooler.ErrConfig) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v; want it to wrap ErrConfig and to have %q", err, want)
		}
		if all, err := w.registry.Gather(); err != nil || len(all) != 0 {
			t.Errorf("%s: %d families are left, %v", want, len(all), err)
		}
	}
	if n := w.otelCount("everpool.commands"); n != -1 {
		t.Errorf("OpenTelemetry still tells of %d commands", n)
	}
	d, err := driver.New(driver.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	rdb := redis.NewClient(d.Options(&redis.Options{Addr: labAddr}))
	defer rdb.Close()
	for _, opt := range []driver.Option{nil, driver.WithConfig(driver.Config{})} {
		if _, err := d.Watch(rdb, opt); !errors.Is(err, pooler.ErrConfig) {
			t.Errorf("Watch took %T: %v", opt, err)
		}
	}
	if _, err := (*driver.Driver)(nil).Watch(rdb, w.prom); err == nil {
		t.Error("a driver that is nil watches")
	}
}

// Hot keys are kept by the client itself, which is closed after the last flush.
func TestHotKeysAreKeptByTheirOwnClient(t *testing.T) {
	if _, err := hotkey.New(hotkey.Config{Sink: hotkey.OwnClient}); !errors.Is(err, hotkey.ErrConfig) {
		t.Errorf("New took OwnClient: %v", err)
	}
	server := testkit.Start(t, testkit.Redis)
	db, err := driver.Open("redis://"+server.Addr, hotkey.Option(hotkey.Config{ReadSampleRate: 1, Sink: hotkey.OwnClient}, nil))
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		db.Get(t.Context(), "hot")
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	rdb := redis.NewClient(&redis.Options{Addr: server.Addr})
	defer rdb.Close()
	if n, err := rdb.ZScore(t.Context(), hotkey.DefaultReadsKey, "hot").Result(); n != 3 || err != nil {
		t.Errorf("the key counts %v, %v", n, err)
	}
}

// A span says how long its request has waited, in vain too, and that it was sent once more:
// the waits that it says are those of the histogram.
func TestASpanHasWhatItsRequestHasGoneThrough(t *testing.T) {
	inBothLabs(t, driver.Config{Pool: pooler.Config{MaxOpenConns: 1, WaitTimeout: time.Second}}, func(t *lab) {
		t.spoiled("GET", 1, spoil["lost before the reply"])
		spans := tracetest.NewInMemoryExporter()
		tracers := sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans))
		rdb := t.client()
		end, err := t.d.Watch(rdb, otelhooks.Option(otelhooks.WithTracerProvider(tracers), otelhooks.WithMeterProvider(noop.NewMeterProvider()),
			otelhooks.WithSpanFilter(func(op *hooks.Operation) bool { return op.Name != "DEL" })))
		if err != nil {
			t.Fatal(err)
		}
		want := func(what, want string) {
			t.Helper()
			var got strings.Builder
			for _, s := range spans.GetSpans() {
				got.WriteString(s.Name + ":")
				for _, e := range s.Events {
					got.WriteString(" " + e.Name)
					for _, a := range e.Attributes {
						got.WriteString(" " + string(a.Key) + "=" + a.Value.String())
					}
				}
				got.WriteString("\n")
			}
			spans.Reset()
			if got.String() != want {
				t.Errorf("%s: %s, want %s", what, got.String(), want)
			}
		}
		ctx, users := tracers.Tracer("the user's").Start(t.Context(), "request")
		rdb.Exists(ctx, "k")
		want("nothing to tell", "EXISTS:\n")
		rdb.Get(ctx, "k")
		want("a lost connection", "GET: everpool.resent everpool.retry.count=1\n")
		t.f.ResetAll()
		rdb.Set(ctx, "k", "v", 0)
		want("a dead connection", "SET: everpool.moved everpool.retry.count=1\n")

		holder := t.handle()
		wait := func(call func() error, d time.Duration) {
			t.Helper()
			holder.do("WATCH k", "+OK")
			result := t.blocked(call)
			time.Sleep(d)
			holder.do("UNWATCH", "+OK")
			_ = result()
		}
		wait(func() error { return rdb.Set(ctx, "k", "v", 0).Err() }, 250*time.Millisecond)
		want("a wait", "SET: everpool.waited everpool.wait.duration=0.25\n")
		wait(func() error { return rdb.Set(ctx, "k", "v", 0).Err() }, 2*time.Second)
		want("a wait in vain", "SET: everpool.waited error.type=wait_timeout everpool.wait.duration=1\n")
		wait(func() error { return pipelined((*redis.Client).Pipeline, "SET", "SET")(ctx, rdb) }, 3*time.Second)
		want("a pipeline's, which Read tells of", "PIPELINE SET: everpool.waited error.type=wait_timeout everpool.wait.duration=1\n")
		wait(func() error { return rdb.Del(ctx, "k").Err() }, 250*time.Millisecond)
		users.End()
		want("a command without a span", "request:\n")
		if err := end(); err != nil {
			t.Error(err)
		}
	})
}
