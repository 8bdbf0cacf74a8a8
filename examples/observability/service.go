package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/redis/go-redis/v9"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/everpool/everpool/debugpage"
	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/hooks"
	"github.com/everpool/everpool/hotkey"
	"github.com/everpool/everpool/otelhooks"
	"github.com/everpool/everpool/pooler"
	"github.com/everpool/everpool/promhooks"
)

// service is a client with everything that watches it.
type service struct {
	rdb      *redis.Client
	driver   *driver.Driver
	out      io.Writer
	registry *prometheus.Registry
	keys     *hotkey.Tracker
	reader   *sdkmetric.ManualReader
	closers  []func() error // in the opposite order
}

// newService is what an application would do at its start.
func newService(addr string, out io.Writer, spans int) (_ *service, err error) {
	s := &service{out: out, registry: prometheus.NewRegistry(), reader: sdkmetric.NewManualReader()}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	ctx := context.Background()

	// OpenTelemetry, as any application sets it up.
	tracers := sdktrace.NewTracerProvider(sdktrace.WithSyncer(&printer{out: out, left: spans, seen: make(map[string]bool)}))
	meters := sdkmetric.NewMeterProvider(sdkmetric.WithReader(s.reader))
	s.closers = append(s.closers,
		func() error { return tracers.Shutdown(ctx) }, func() error { return meters.Shutdown(ctx) })

	// What watches the pool, and what watches the commands.
	otelPool, err1 := otelhooks.NewPoolMetrics(otelhooks.WithMeterProvider(meters))
	promPool, err2 := promhooks.NewPool("shop")
	tracing, err3 := otelhooks.NewTracing(otelhooks.WithTracerProvider(tracers))
	otelMetrics, err4 := otelhooks.NewMetrics(otelhooks.WithMeterProvider(meters))
	promMetrics, err5 := promhooks.New("shop", promhooks.WithExemplars(true))
	if err := errors.Join(err1, err2, err3, err4, err5); err != nil {
		return nil, err
	}
	s.closers = append(s.closers, otelPool.Close)

	// The client, on everpool.
	d, err := driver.New(driver.Config{Pool: promPool.Instrument(otelPool.Instrument(pooler.Config{}))})
	if err != nil {
		return nil, err
	}
	s.driver = d
	s.closers = append(s.closers, d.Close)
	s.rdb = redis.NewClient(d.Options(&redis.Options{Addr: addr}))
	s.closers = append(s.closers, s.rdb.Close)
	promPool.Watch(d)

	// Hot keys: one in ten commands is looked at, and the counts are kept in Redis.
	s.keys, err = hotkey.New(hotkey.Config{
		ReadSampleRate: 0.1, WriteSampleRate: 0.1, Window: 2 * time.Second, Sink: s.rdb,
		ReadsKey: "shop:hot-reads", WritesKey: "shop:hot-writes", TTL: time.Hour, FlushInterval: time.Second,
	})
	if err != nil {
		return nil, err
	}
	s.closers = append(s.closers, s.keys.Close)

	// One hook for all of it: tracing first, so that metrics can point to spans.
	hook, err := hooks.New(tracing, otelMetrics, promMetrics, s.keys)
	if err != nil {
		return nil, err
	}
	if _, err := hook.Attach(s.rdb); err != nil {
		return nil, err
	}
	return s, errors.Join(otelPool.Register(d), s.registry.Register(promMetrics), s.registry.Register(promPool))
}

// pages are what the program serves.
func (s *service) pages() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{EnableOpenMetrics: true}))
	mux.Handle("/hotkeys", s.keys.Handler())
	mux.Handle("/debug/everpool", debugpage.Handler(debugpage.Source{Name: "shop", Nodes: s.driver, HotKeysURL: "/hotkeys"}))
	mux.HandleFunc("/{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = io.WriteString(w, `<!doctype html><title>everpool</title><p><a href="/metrics">metrics</a>, <a href="/hotkeys">hot keys</a>, <a href="/debug/everpool">pools</a>`)
	})
	return mux
}

// close ends everything in the opposite order of its making.
func (s *service) close() error {
	var errs []error
	for _, end := range slices.Backward(s.closers) {
		errs = append(errs, end())
	}
	s.closers = nil
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("closing: %w", err)
	}
	return nil
}
