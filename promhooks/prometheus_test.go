package promhooks_test

import (
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/internal/testkit/promcheck"
)

// A real Prometheus scrapes a client that does everything there are metrics for,
// and has an answer to every query of the dashboard.
func TestPrometheusAnswersEveryPanel(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: it takes seconds")
	}
	reg := prometheus.NewRegistry()
	x := exercise(t, reg)
	scraped := httptest.NewServer(promhttp.HandlerFor(reg, promhttp.HandlerOpts{EnableOpenMetrics: true}))
	t.Cleanup(scraped.Close)
	target := strings.TrimPrefix(scraped.URL, "http://")
	forms := map[string]*promcheck.Server{
		"classic": promcheck.Start(t, target),
		"native":  promcheck.Start(t, target, "--enable-feature=native-histograms"),
	}
	defer x.Keep(t)()

	if n := promcheck.Answers(t, "everpool.json", forms); n < 25 {
		t.Errorf("only %d queries", n)
	}
	for form, want := range map[string]bool{"classic": true, "native": false} {
		if is, answer := forms[form].HasData(t, `redis_client_command_duration_seconds_bucket`); is != want {
			t.Errorf("%s: classic buckets are there: %t: %s", form, is, answer)
		}
	}
}

// promtool's tests, as Debian has it, know classic histograms only. Here a real
// Prometheus has classic ones and another one native ones of clients that are slow,
// fail and flap, and of some that don't.
func TestAlertsThatAskForHistogramsFireByEitherForm(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: it takes seconds")
	}
	reg := prometheus.NewRegistry()
	histogram := func(name string, labels ...string) *prometheus.HistogramVec {
		h := prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: name, Help: name, Buckets: []float64{.001, .1, 1, 10}, NativeHistogramBucketFactor: 1.1,
		}, labels)
		reg.MustRegister(h)
		return h
	}
	single := histogram("redis_client_command_duration_seconds", "client", "command", "outcome")
	batch := histogram("redis_client_batch_duration_seconds", "client", "kind", "outcome")
	heal := histogram("redis_client_pool_heal_seconds", "client", "node")
	heal.WithLabelValues("quiet", "b:6379").Observe(5)
	const fast, slow = 0.0005, 5
	use := func() {
		single.WithLabelValues("busy", "get", "ok").Observe(slow)
		single.WithLabelValues("quiet", "get", "ok").Observe(fast)
		batch.WithLabelValues("busy", "pipeline", "error").Observe(slow)
		batch.WithLabelValues("busy", "pipeline", "ok").Observe(slow)
		batch.WithLabelValues("quiet", "pipeline", "ok").Observe(fast)
		batch.WithLabelValues("quiet", "blocking_pipeline", "ok").Observe(slow)
		heal.WithLabelValues("busy", "a:6379").Observe(slow)
	}
	scraped := httptest.NewServer(promhttp.HandlerFor(reg, promhttp.HandlerOpts{EnableOpenMetrics: true}))
	t.Cleanup(scraped.Close)
	target := strings.TrimPrefix(scraped.URL, "http://")
	asked := 0
	for form, flags := range map[string][]string{"classic": nil, "native": {"--enable-feature=native-histograms"}} {
		p := promcheck.Start(t, target, flags...)
		for _, q := range promcheck.Queries(t, "alerts.yml") {
			if !strings.Contains(q.Expr, "histogram_") {
				continue
			}
			asked++
			var answer string
			testkit.Await(t, q.Where+" fires by "+form+" histograms", func() (fires bool) {
				use()
				fires, answer = p.HasData(t, q.Expr)
				return fires
			})
			if !strings.Contains(answer, `"client":"busy"`) || strings.Contains(answer, `"client":"quiet"`) {
				t.Errorf("%s by %s histograms: %s", q.Where, form, answer)
			}
		}
	}
	if asked != 2*4 {
		t.Errorf("%d alerts were asked for, want 4 for each form", asked)
	}
}
