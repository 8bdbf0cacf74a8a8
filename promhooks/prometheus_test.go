package promhooks_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
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
	forms := map[string]*promServer{
		"classic": startPrometheus(t, target),
		"native":  startPrometheus(t, target, "--enable-feature=native-histograms"),
	}

	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		for ctx.Err() == nil {
			if err := x.round(ctx); err != nil {
				t.Error(err)
				return
			}
		}
	})
	defer wg.Wait()
	defer stop()

	variables := strings.NewReplacer("$__rate_interval", "30s", "$job", ".*", "$instance", ".*", "$client", ".*", "$node", ".*")
	panels := 0
	for _, panel := range readBoard(t).Panels {
		for _, q := range panel.Targets {
			panels++
			expr := variables.Replace(q.Expr)
			for form, p := range forms {
				var answer string
				if err := testkit.AwaitErr("there is an answer", func() (ok bool) {
					ok, answer = p.hasData(t, expr)
					return ok || strings.Contains(answer, `"status":"error"`)
				}); err != nil || !strings.Contains(answer, `"status":"success"`) {
					t.Fatalf("%s has no data from %s histograms (%v): %s: %s", panel.Title, form, err, expr, answer)
				}
			}
		}
	}
	if panels < 25 {
		t.Errorf("only %d queries", panels)
	}
	for form, want := range map[string]bool{"classic": true, "native": false} {
		if is, answer := forms[form].hasData(t, `redis_client_command_duration_seconds_bucket`); is != want {
			t.Errorf("%s: classic buckets are there: %t: %s", form, is, answer)
		}
	}
}

// promServer is a Prometheus of the test's own.
type promServer struct {
	url    string
	client *http.Client
	log    bytes.Buffer
}

// startPrometheus starts one that scrapes the target every quarter of a second,
// with our alerts.
func startPrometheus(tb testing.TB, target string, flags ...string) *promServer {
	tb.Helper()
	if _, err := exec.LookPath("prometheus"); err != nil {
		promcheck.SkipUnlessCI(tb, "no prometheus: %v", err)
	}
	alerts := must(filepath.Abs(filepath.Join(dashboards, "alerts.yml")))(tb)
	config := filepath.Join(tb.TempDir(), "prometheus.yml")
	if err := os.WriteFile(config, fmt.Appendf(nil, `
global: {scrape_interval: 250ms, scrape_timeout: 250ms, evaluation_interval: 1s}
rule_files: [%q]
scrape_configs: [{job_name: test, static_configs: [{targets: [%q]}]}]
`, alerts, target), 0o600); err != nil {
		tb.Fatal(err)
	}
	// A port may be taken between its choice and its use: then another one is tried.
	for range 5 {
		if p := launchPrometheus(tb, config, flags); p != nil {
			return p
		}
	}
	tb.Fatal("no prometheus on five ports")
	return nil
}

// launchPrometheus returns nil if the process has ended by itself.
func launchPrometheus(tb testing.TB, config string, flags []string) *promServer {
	tb.Helper()
	addr := closedAddr(tb)
	p := &promServer{url: "http://" + addr, client: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}}
	cmd := exec.Command("prometheus", append([]string{
		"--config.file=" + config, "--web.listen-address=" + addr, "--storage.tsdb.path=" + tb.TempDir(), "--log.level=warn",
	}, flags...)...)
	cmd.Stdout, cmd.Stderr = &p.log, &p.log
	cmd.SysProcAttr = dieWithParent()
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	exited := make(chan struct{})
	go func() {
		defer close(exited)
		_ = cmd.Wait() // killed, as a rule
	}()
	tb.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-exited
		if tb.Failed() {
			tb.Logf("prometheus: %s", &p.log)
		}
	})
	ended := false
	testkit.Await(tb, "Prometheus is ready, or has ended", func() bool {
		select {
		case <-exited:
			ended = true
			return true
		default:
		}
		return p.ready(tb)
	})
	if ended {
		tb.Logf("prometheus has ended: %s", &p.log)
		return nil
	}
	return p
}

func (p *promServer) ready(tb testing.TB) bool {
	request := must(http.NewRequestWithContext(tb.Context(), http.MethodGet, p.url+"/-/ready", nil))(tb)
	response, err := p.client.Do(request)
	if err != nil {
		return false
	}
	defer response.Body.Close()
	return response.StatusCode == http.StatusOK
}

// hasData asks a query, and says whether there is a sample that is a number.
func (p *promServer) hasData(tb testing.TB, expr string) (ok bool, answer string) {
	tb.Helper()
	request := must(http.NewRequestWithContext(tb.Context(), http.MethodGet, p.url+"/api/v1/query?query="+url.QueryEscape(expr), nil))(tb)
	response := must(p.client.Do(request))(tb)
	defer response.Body.Close()
	var body bytes.Buffer
	if _, err := body.ReadFrom(response.Body); err != nil {
		tb.Fatal(err)
	}
	var found struct {
		Data struct {
			Result []struct{ Value [2]any }
		}
	}
	if err := json.Unmarshal(body.Bytes(), &found); err != nil {
		tb.Fatalf("%v: %s", err, &body)
	}
	for _, r := range found.Data.Result {
		if v, _ := r.Value[1].(string); v != "NaN" && v != "" {
			return true, body.String()
		}
	}
	return false, body.String()
}
