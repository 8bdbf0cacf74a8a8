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
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/everpool/everpool/debugpage"
	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/hotkey"
	"github.com/everpool/everpool/otelhooks"
	"github.com/everpool/everpool/promhooks"
)

// service is a client with everything that watches it.
type service struct {
	rdb      *driver.DB
	out      io.Writer
	registry *prometheus.Registry
	keys     *hotkey.Tracker
	reader   *sdkmetric.ManualReader
	closers  []func() error // in the opposite order
}

// newService is what an application would do at its start.
func newService(addr string, out io.Writer, spans int) (*service, error) {
	s := &service{out: out, registry: prometheus.NewRegistry(), reader: sdkmetric.NewManualReader()}
	ctx := context.Background()

	// OpenTelemetry, as any application sets it up.
	tracers := sdktrace.NewTracerProvider(sdktrace.WithSyncer(&printer{out: out, left: spans, seen: make(map[string]bool)}))
	meters := sdkmetric.NewMeterProvider(sdkmetric.WithReader(s.reader))
	s.closers = append(s.closers,
		func() error { return tracers.Shutdown(ctx) }, func() error { return meters.Shutdown(ctx) })

	// Hot keys: one in ten commands is looked at, and the counts are kept in Redis.
	keys := hotkey.Config{
		ReadSampleRate: 0.1, WriteSampleRate: 0.1, Window: 2 * time.Second, Sink: hotkey.OwnClient,
		ReadsKey: "shop:hot-reads", WritesKey: "shop:hot-writes", TTL: time.Hour, FlushInterval: time.Second,
	}

	// The client on everpool, with spans, metrics of both kinds, and hot keys.
	var err error
	s.rdb, err = driver.Open("redis://"+addr,
		otelhooks.Option(otelhooks.WithTracerProvider(tracers), otelhooks.WithMeterProvider(meters)),
		promhooks.Option(s.registry, "shop", promhooks.WithExemplars(true)),
		hotkey.Option(keys, func(t *hotkey.Tracker) { s.keys = t }))
	if err != nil {
		return nil, errors.Join(err, s.close())
	}
	s.closers = append(s.closers, s.rdb.Close)
	return s, nil
}

// pages are what the program serves.
func (s *service) pages() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{EnableOpenMetrics: true}))
	mux.Handle("/hotkeys", s.keys.Handler())
	mux.Handle("/debug/everpool", debugpage.Handler(debugpage.Source{Name: "shop", Nodes: s.rdb.Driver, HotKeysURL: "/hotkeys"}))
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
