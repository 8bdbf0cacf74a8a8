package otelhooks_test

import (
	"context"
	"fmt"
	"log"

	"github.com/redis/go-redis/v9"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/hooks"
	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/otelhooks"
	"github.com/everpool/everpool/pooler"
)

// All that there is of a client and of its pools.
func ExampleOption() {
	fake := testkit.NewFake() // a server in memory
	defer fake.Close()
	spans, reader := tracetest.NewInMemoryExporter(), sdkmetric.NewManualReader()
	tracers := sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans))
	meters := sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))

	db, err := driver.Open("redis://redis:6379", driver.WithConfig(driver.Config{Dial: fake.Dial}),
		otelhooks.Option(otelhooks.WithTracerProvider(tracers), otelhooks.WithMeterProvider(meters)))
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()

	db.Set(context.Background(), "name", "value", 0)
	fmt.Println(spans.GetSpans()[0].Name)
	var all metricdata.ResourceMetrics
	if err := reader.Collect(context.Background(), &all); err != nil {
		log.Fatal(err)
	}
	for _, m := range all.ScopeMetrics[0].Metrics {
		if m.Name == "db.client.operation.duration" || m.Name == "db.client.connection.count" {
			fmt.Println(m.Name)
		}
	}
	// Unordered output:
	// SET
	// db.client.operation.duration
	// db.client.connection.count
}

// A program has an exporter of its own in the place of the one in memory.
func ExampleNewTracing() {
	fake := testkit.NewFake() // a server in memory
	defer fake.Close()
	spans := tracetest.NewInMemoryExporter()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans))

	tracing, err := otelhooks.NewTracing(otelhooks.WithTracerProvider(provider), otelhooks.WithQueryText(true))
	if err != nil {
		log.Fatal(err)
	}
	hook, err := hooks.New(tracing)
	if err != nil {
		log.Fatal(err)
	}
	client := redis.NewClient(&redis.Options{Addr: "redis:6379", Dialer: fake.Dial})
	defer client.Close()
	if _, err := hook.Attach(client); err != nil {
		log.Fatal(err)
	}

	client.Set(context.Background(), "name", "value", 0)
	for _, span := range spans.GetSpans() {
		fmt.Println(span.Name, span.SpanKind)
		for _, a := range span.Attributes {
			fmt.Printf("  %s: %v\n", a.Key, a.Value.AsInterface())
		}
	}
	// Output:
	// SET client
	//   db.system.name: redis
	//   db.operation.name: SET
	//   db.namespace: 0
	//   server.address: redis
	//   db.query.text: SET ? ?
}

// A program has a reader that exports in the place of the one that is asked.
func ExampleNewMetrics() {
	fake := testkit.NewFake() // a server in memory
	defer fake.Close()
	reader := sdkmetric.NewManualReader()
	provider := sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))

	metrics, err := otelhooks.NewMetrics(otelhooks.WithMeterProvider(provider))
	if err != nil {
		log.Fatal(err)
	}
	hook, err := hooks.New(metrics)
	if err != nil {
		log.Fatal(err)
	}
	client := redis.NewClient(&redis.Options{Addr: "redis:6379", Dialer: fake.Dial})
	defer client.Close()
	if _, err := hook.Attach(client); err != nil {
		log.Fatal(err)
	}

	client.Set(context.Background(), "name", "value", 0)
	client.Set(context.Background(), "name", "value", 0)
	var all metricdata.ResourceMetrics
	if err := reader.Collect(context.Background(), &all); err != nil {
		log.Fatal(err)
	}
	for _, m := range all.ScopeMetrics[0].Metrics {
		durations, _ := m.Data.(metricdata.Histogram[float64])
		for _, p := range durations.DataPoints {
			operation, _ := p.Attributes.Value("db.operation.name")
			fmt.Println(m.Name, operation.AsString(), p.Count)
		}
	}
	// Output:
	// db.client.operation.duration SET 2
}

// The pools of a driver by hand: told of before it is made, read when it is.
func ExampleNewPool() {
	fake := testkit.NewFake() // a server in memory
	defer fake.Close()
	provider := sdkmetric.NewMeterProvider(sdkmetric.WithReader(sdkmetric.NewManualReader()))

	pools, err := otelhooks.NewPool(otelhooks.WithMeterProvider(provider))
	if err != nil {
		log.Fatal(err)
	}
	defer pools.Close()
	d, err := driver.New(driver.Config{Dial: fake.Dial, Pool: pools.Instrument(pooler.Config{})})
	if err != nil {
		log.Fatal(err)
	}
	defer d.Close()
	if _, err := pools.Watch(d); err != nil {
		log.Fatal(err)
	}
	client := redis.NewClient(d.Options(&redis.Options{Addr: "redis:6379"}))
	defer client.Close()
	fmt.Println(client.Ping(context.Background()).Val())
	// Output:
	// PONG
}
