package promcheck

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/everpool/everpool/internal/testkit"
)

// Server is a Prometheus of the test's own.
type Server struct {
	url    string
	client *http.Client
	log    bytes.Buffer
}

// Start starts one that scrapes the target every second, with our alerts.
func Start(tb testing.TB, target string, flags ...string) *Server {
	tb.Helper()
	return StartWith(tb, fmt.Sprintf(`
global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}
rule_files: [%q]
scrape_configs: [{job_name: test, static_configs: [{targets: [%q]}]}]
`, filepath.Join(Dashboards(tb), "alerts.yml"), target), flags...)
}

// StartWith starts one with this configuration.
func StartWith(tb testing.TB, text string, flags ...string) *Server {
	tb.Helper()
	if _, err := exec.LookPath("prometheus"); err != nil {
		SkipUnlessCI(tb, "no prometheus: %v", err)
	}
	config := filepath.Join(tb.TempDir(), "prometheus.yml")
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		tb.Fatal(err)
	}
	// A port may be taken between its choice and its use: then another one is tried.
	for range 5 {
		if p := launch(tb, config, flags); p != nil {
			return p
		}
	}
	tb.Fatal("no prometheus on five ports")
	return nil
}

// launch returns nil if the process has ended by itself.
func launch(tb testing.TB, config string, flags []string) *Server {
	tb.Helper()
	addr := freeAddr(tb)
	p := &Server{url: "http://" + addr, client: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}}
	cmd := exec.Command("prometheus", append([]string{
		"--config.file=" + config, "--web.listen-address=" + addr, "--storage.tsdb.path=" + tb.TempDir(), "--log.level=warn",
	}, flags...)...)
	cmd.Stdout, cmd.Stderr = &p.log, &p.log
	cmd.SysProcAttr = testkit.DieWithParent()
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

// freeAddr is an address at which nobody listens just now.
func freeAddr(tb testing.TB) string {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func (p *Server) get(tb testing.TB, path string) (*http.Response, error) {
	request, err := http.NewRequestWithContext(tb.Context(), http.MethodGet, p.url+path, nil)
	if err != nil {
		tb.Fatal(err)
	}
	return p.client.Do(request)
}

func (p *Server) ready(tb testing.TB) bool {
	response, err := p.get(tb, "/-/ready")
	if err != nil {
		return false
	}
	defer response.Body.Close()
	return response.StatusCode == http.StatusOK
}

// HasData asks a query, and says whether there is a sample that is a number.
func (p *Server) HasData(tb testing.TB, expr string) (ok bool, answer string) {
	tb.Helper()
	response, err := p.get(tb, "/api/v1/query?query="+url.QueryEscape(expr))
	if err != nil {
		tb.Fatal(err)
	}
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

// Answers fails the test unless each of the servers, by what their histograms are, has data
// for every query of the dashboard of that file, with all variables open. It returns how
// many queries there are.
func Answers(tb testing.TB, file string, servers map[string]*Server) (queries int) {
	tb.Helper()
	for _, panel := range readPanels(tb, file) {
		for form, p := range servers {
			p.answer(tb, panel, form+" histograms", variables)
		}
		queries += len(panel.Targets)
	}
	return queries
}

// AnswersOf fails the test unless the server has data of that client for every query of
// the dashboard of that file, but for panels that can have none, by their titles, each with
// the reason. It returns how many queries it has asked.
func (p *Server) AnswersOf(tb testing.TB, client, file string, empty map[string]string) (queries int) {
	tb.Helper()
	left := maps.Clone(empty)
	for _, panel := range readPanels(tb, file) {
		if _, ok := empty[panel.Title]; ok {
			delete(left, panel.Title)
			continue
		}
		p.answer(tb, panel, client, strings.NewReplacer(append([]string{"$client", client}, open...)...))
		queries += len(panel.Targets)
	}
	for title := range left {
		tb.Errorf("%s has no panel %q", file, title)
	}
	return queries
}

// answer fails the test unless there comes to be data for all queries of the panel, with
// its variables replaced.
func (p *Server) answer(tb testing.TB, panel panel, from string, variables *strings.Replacer) {
	tb.Helper()
	for _, q := range panel.Targets {
		expr := variables.Replace(q.Expr)
		var answer string
		if err := testkit.AwaitErr("there is an answer", func() (ok bool) {
			ok, answer = p.HasData(tb, expr)
			return ok || strings.Contains(answer, `"status":"error"`)
		}); err != nil || !strings.Contains(answer, `"status":"success"`) {
			tb.Fatalf("%s has no data from %s (%v): %s: %s", panel.Title, from, err, expr, answer)
		}
	}
}

// open are the dashboards' variables, with nothing chosen.
var open = []string{"$__rate_interval", "30s", "$job", ".*", "$instance", ".*", "$client", ".*", "$node", ".*", "$pool", ".*"}

var variables = strings.NewReplacer(open...)

type panel struct {
	Title   string
	Targets []struct{ Expr string }
}

func readPanels(tb testing.TB, file string) []panel {
	tb.Helper()
	text, err := os.ReadFile(filepath.Join(Dashboards(tb), file))
	if err != nil {
		tb.Fatal(err)
	}
	var board struct{ Panels []panel }
	if err := json.Unmarshal(text, &board); err != nil {
		tb.Fatal(err)
	}
	return board.Panels
}
