package promhooks_test

import (
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

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
