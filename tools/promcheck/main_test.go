package main

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// write makes a directory of files.
func write(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestQueriesAreTakenApart(t *testing.T) {
	got, err := check(write(t, map[string]string{
		"board.json": `{"templating": {"list": [
				{"name": "datasource", "type": "datasource", "query": "prometheus"},
				{"name": "node", "type": "query", "query": {"query": "label_values(up{a=\"b\"}, job)"}}]},
			"panels": [{"type": "row", "panels": [{"title": "P", "targets": [
				{"expr": "sum by (x) (rate(m_total{node=~\"$node\"}[$__rate_interval])) / on (x) n"}]}]}]}`,
		"rules.yml":      "groups: [{rules: [{alert: A, expr: 'up == 0'}]}]",
		"rules_test.yml": "nothing that is a rule",
		"README":         "nothing",
	}))
	if err != nil {
		t.Fatal(err)
	}
	none := []string{}
	want := []Query{
		{"board.json: variable node", `count by (job) (up{a="b"})`, []Selector{{"up", []string{"a"}}}, []string{"job"}},
		{"board.json: P", `sum by (x) (rate(m_total{node=~".*"}[1m])) / on (x) n`, []Selector{{"m_total", []string{"node"}}, {"n", none}}, []string{"x"}},
		{"rules.yml: A", "up == 0", []Selector{{"up", none}}, none},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%+v, want\n%+v", got, want)
	}
}

func TestOnlyTheFilesThatAreNamedAreRead(t *testing.T) {
	got, err := check(write(t, map[string]string{
		"a.yml": "groups: [{rules: [{alert: A, expr: 'up == 0'}]}]", "b.yml": "groups: [{rules: [{alert: B, expr: 'sum('}]}]",
	}), "a.yml")
	if err != nil || len(got) != 1 || got[0].Where != "a.yml: A" {
		t.Errorf("%v, %v", got, err)
	}
}

func TestWhatIsWrongIsNamed(t *testing.T) {
	board := func(expr string) map[string]string {
		return map[string]string{"board.json": `{"panels": [{"title": "P", "targets": [{"expr": "` + expr + `"}]}]}`}
	}
	for want, files := range map[string]map[string]string{
		"board.json: P: sum(: 1:5":          board("sum("),
		"a variable that isn't known":       board("up[$window]"),
		"a selector without a metric":       board(`{a=\"b\"}`),
		"has the id of another":             {"board.json": `{"panels": [{"title": "P", "id": 1, "targets": [{"expr": "up"}]}, {"title": "Q", "id": 1, "targets": [{"expr": "up"}]}]}`},
		"has an empty query":                {"board.json": `{"panels": [{"title": "P", "targets": [{}]}]}`},
		"has no query":                      {"board.json": `{"panels": [{"title": "P"}]}`},
		"isn't label_values(metric, label)": {"board.json": `{"templating": {"list": [{"name": "v", "type": "query", "query": "up"}]}}`},
		"board.json: invalid character":     {"board.json": "x"},
		"rules.yml: yaml":                   {"rules.yml": "\t"},
		"has no queries":                    {"README": ""},
	} {
		if _, err := check(write(t, files)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %s", files, err, want)
		}
	}
}
