package promhooks_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/internal/testkit/promcheck"
)

const dashboards = "../docs/dashboards"

// Prometheus's own parser takes every query of the dashboard and of the alerts,
// and each asks for metrics and labels that there are.
func TestDashboardsAskForWhatThereIs(t *testing.T) {
	reg := prometheus.NewRegistry()
	x := exercise(t, reg)
	if err := x.Round(t.Context()); err != nil {
		t.Fatal(err)
	}
	testkit.Await(t, "a window of hot keys is over", func() bool {
		x.Commands(t.Context())
		return len(gather(t, reg).starting("redis_client_hot_key_rate")) > 0
	})
	known := exposed(t, reg)
	queries := promcheck.Queries(t, "everpool.json", "alerts.yml")
	asked := promcheck.Compare(t, queries, known)
	// The other way round: every metric is in the dashboard, in one of its forms.
	for _, f := range families(t, reg) {
		if name := f.GetName(); !asked[name] {
			t.Errorf("no query asks for %s", name)
		}
	}
	if len(queries) < 30 {
		t.Errorf("only %d queries", len(queries))
	}
}

// exposed are the labels of each metric, by its names in the text form.
func exposed(tb testing.TB, g prometheus.Gatherer) map[string][]string {
	tb.Helper()
	all := make(map[string][]string)
	for _, f := range families(tb, g) {
		var labels []string
		for _, l := range f.GetMetric()[0].GetLabel() {
			labels = append(labels, l.GetName())
		}
		if f.GetType() == dto.MetricType_HISTOGRAM {
			for _, suffix := range []string{"_count", "_sum", "_bucket", ""} { // the last is the native one
				all[f.GetName()+suffix] = labels
			}
			continue
		}
		all[f.GetName()] = labels
	}
	return all
}

// board is a Grafana dashboard, as far as it is looked at here.
type board struct {
	UID, Title string
	Panels     []struct {
		ID          int
		Type, Title string
		Datasource  struct{ UID string }
		FieldConfig struct {
			Defaults struct{ Unit string }
		}
		GridPos struct{ H, W, X, Y int }
		Targets []struct {
			Exemplar     bool
			RefID, Expr  string
			LegendFormat string
			Datasource   struct{ UID string }
		}
	}
	Templating struct {
		List []struct{ Name, Type string }
	}
}

func readBoard(tb testing.TB) *board {
	tb.Helper()
	b := new(board)
	if err := json.Unmarshal(must(os.ReadFile(filepath.Join(dashboards, "everpool.json")))(tb), b); err != nil {
		tb.Fatal(err)
	}
	return b
}

// What Grafana needs, and what makes a dashboard work on another data source, at
// any resolution, for the clients that are chosen.
func TestTheDashboardIsWellMade(t *testing.T) {
	b := readBoard(t)
	var variables []string
	for _, v := range b.Templating.List {
		variables = append(variables, v.Name+" "+v.Type)
	}
	if want := []string{"datasource datasource", "job query", "instance query", "client query", "node query"}; !slices.Equal(variables, want) {
		t.Errorf("variables %q, want %q", variables, want)
	}
	if b.UID == "" || b.Title == "" {
		t.Error("the dashboard has no uid or no title")
	}
	exemplars := 0
	rows := make(map[string]bool)
	ids := make(map[int]bool)
	taken := make(map[[2]int]string)
	for _, p := range b.Panels {
		if ids[p.ID] || p.ID == 0 {
			t.Errorf("%s: id %d", p.Title, p.ID)
		}
		ids[p.ID] = true
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other, ok := taken[[2]int{x, y}]; ok || x >= 24 {
					t.Fatalf("%s is on top of %q or too far right", p.Title, other)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
		if p.Type == "row" {
			rows[p.Title] = true
			continue
		}
		if p.FieldConfig.Defaults.Unit == "" || p.Datasource.UID != "${datasource}" || len(p.Targets) == 0 {
			t.Errorf("%s: unit %q, data source %q, %d queries", p.Title, p.FieldConfig.Defaults.Unit, p.Datasource.UID, len(p.Targets))
		}
		for _, q := range p.Targets {
			if q.RefID == "" || q.LegendFormat == "" || q.Datasource.UID != "${datasource}" {
				t.Errorf("%s: %+v", p.Title, q)
			}
			if selectors := strings.Count(q.Expr, "{"); strings.Count(q.Expr, `job=~"$job",instance=~"$instance",client=~"$client"`) != selectors {
				t.Errorf("%s isn't for the clients that are chosen: %s", p.Title, q.Expr)
			}
			if strings.Contains(q.Expr, "redis_client_pool") && !strings.Contains(q.Expr, `node=~"$node"`) {
				t.Errorf("%s isn't for the nodes that are chosen: %s", p.Title, q.Expr)
			}
			if strings.Contains(q.Expr, "[") && strings.Count(q.Expr, "[") != strings.Count(q.Expr, "[$__rate_interval]") {
				t.Errorf("%s has an interval of its own: %s", p.Title, q.Expr)
			}
			if q.Exemplar {
				exemplars++
			}
			classic, native := strings.Count(q.Expr, "_seconds_bucket{")+strings.Count(q.Expr, "_seconds_count{"), strings.Count(q.Expr, "_seconds{")
			if (classic > 0) != (native > 0) && strings.Contains(q.Expr, "histogram_") {
				t.Errorf("%s is for one form of histograms only: %s", p.Title, q.Expr)
			}
		}
	}
	if exemplars == 0 || !rows["Overview"] || !rows["Hot keys"] {
		t.Errorf("%d queries show exemplars; the rows are %v", exemplars, rows)
	}
}

// The alerts' own tests, by Prometheus's tool.
func TestAlertsPassPromtool(t *testing.T) {
	if _, err := exec.LookPath("promtool"); err != nil {
		promcheck.SkipUnlessCI(t, "no promtool: %v", err)
	}
	for _, args := range [][]string{{"check", "rules", "alerts.yml"}, {"test", "rules", "alerts_test.yml"}} {
		cmd := exec.Command("promtool", args...)
		cmd.Dir = dashboards
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("promtool %q: %v\n%s", args, err, out)
		}
	}
}

// Every alert is tested.
func TestEveryAlertHasATest(t *testing.T) {
	rules := string(must(os.ReadFile(filepath.Join(dashboards, "alerts.yml")))(t))
	tests := string(must(os.ReadFile(filepath.Join(dashboards, "alerts_test.yml")))(t))
	alerts := 0
	for line := range strings.Lines(rules) {
		if _, name, ok := strings.Cut(line, "- alert: "); ok {
			alerts++
			if !strings.Contains(tests, "alertname: "+strings.TrimSpace(name)+"\n        exp_alerts:") {
				t.Errorf("%s is never expected", strings.TrimSpace(name))
			}
		}
	}
	if alerts < 6 {
		t.Errorf("only %d alerts", alerts)
	}
}

// What docs/operations.md says to alert on is in the rules, and every rule that it names.
func TestTheAlertsOfTheDocsAreRules(t *testing.T) {
	rules := string(must(os.ReadFile(filepath.Join(dashboards, "alerts.yml")))(t))
	_, section, _ := strings.Cut(string(must(os.ReadFile("../docs/operations.md"))(t)), "\n## Alerts\n")
	section, _, _ = strings.Cut(section, "\n## ")
	rows := 0
	for line := range strings.Lines(section) {
		cells := strings.Split(strings.Trim(line, "| \n"), "|")
		if len(cells) < 4 || strings.HasPrefix(cells[0], "---") || strings.HasPrefix(cells[0], "alert ") {
			continue
		}
		rows++
		for name := range strings.SplitSeq(cells[len(cells)-1], ",") {
			if name = strings.Trim(name, " `"); !strings.Contains(rules, "- alert: "+name+"\n") {
				t.Errorf("%s: there is no rule %q", cells[0], name)
			}
		}
	}
	if rows != 10 {
		t.Errorf("%d alerts", rows)
	}
}

// Who is told of an alert has to know which program it is about.
func TestAlertsKeepJobAndInstance(t *testing.T) {
	for _, q := range promcheck.Queries(t, "alerts.yml") {
		if slices.Contains(q.Labels, "client") && !(slices.Contains(q.Labels, "job") && slices.Contains(q.Labels, "instance")) {
			t.Errorf("%s loses job and instance: %s", q.Where, q.Expr)
		}
	}
}
