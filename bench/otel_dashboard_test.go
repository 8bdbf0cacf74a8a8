package bench

import (
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/redis/go-redis/v9"
	otelprometheus "go.opentelemetry.io/otel/exporters/prometheus"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/internal/testkit/promcheck"
	"github.com/everpool/everpool/otelhooks"
	"github.com/everpool/everpool/pooler"
)

// A real Prometheus scrapes OpenTelemetry's own exporter for it, by whose names the twin of
// the dashboard asks, and has an answer to every query. The test is in this module since
// the exporter is, which the library doesn't need.
func TestPrometheusAnswersEveryPanelOfOpenTelemetry(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: it takes seconds")
	}
	s := testkit.Start(t, testkit.Redis)
	proxy := testkit.NewProxy(t, s.Addr)
	stock := redis.NewClient(&redis.Options{Addr: s.Addr, MaxIdleConns: 1}) // tells bounds of idle connections
	t.Cleanup(func() { stock.Close() })

	forms := make(map[string]*promcheck.Server)
	config := driver.WithConfig(driver.Config{Pool: pooler.Config{
		MaxOpenConns: 3, SharedConns: 1, WaitTimeout: 20 * time.Millisecond, BackoffMax: 20 * time.Millisecond,
	}})
	var watched []driver.Option
	for form, views := range map[string][]sdkmetric.Option{
		"classic": nil,
		"native": {sdkmetric.WithView(sdkmetric.NewView(sdkmetric.Instrument{Kind: sdkmetric.InstrumentKindHistogram}, sdkmetric.Stream{
			Aggregation: sdkmetric.AggregationBase2ExponentialHistogram{MaxSize: 160, MaxScale: 20},
		}))},
	} {
		registry := prometheus.NewRegistry()
		exporter, err := otelprometheus.New(otelprometheus.WithRegisterer(registry))
		if err != nil {
			t.Fatal(err)
		}
		provider := otelhooks.WithMeterProvider(sdkmetric.NewMeterProvider(append(views, sdkmetric.WithReader(exporter))...))
		pool, err := otelhooks.NewStockPool("stock", stock, provider)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { pool.Close() })
		watched = append(watched, otelhooks.Option(provider))
		scraped := httptest.NewServer(promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
		t.Cleanup(scraped.Close)
		forms[form] = promcheck.Start(t, strings.TrimPrefix(scraped.URL, "http://"), "--enable-feature=native-histograms")
	}
	db, err := driver.Open("redis://"+proxy.Addr()+"?max_retries=-1", append(watched, config)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	misled := testkit.MisledCluster(t, "MOVED")
	end, err := db.Driver.Watch(misled, watched...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = end() })
	x := &promcheck.Traffic{Client: db, Nodes: db.Driver.Nodes, Proxy: proxy, Misled: misled}
	defer x.Keep(t)()

	if n := promcheck.Answers(t, "everpool-otel.json", forms); n < 40 {
		t.Errorf("only %d queries", n)
	}
	for form, want := range map[string]bool{"classic": true, "native": false} {
		if is, answer := forms[form].HasData(t, `db_client_operation_duration_seconds_bucket`); is != want {
			t.Errorf("%s: classic buckets are there: %t: %s", form, is, answer)
		}
	}
}
