package poolview_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/everpool/everpool/internal/poolview"
)

var update = flag.Bool("update", false, "write the table of docs/metrics.md")

// Names are used once, and say of a metric what it is.
func TestNamesAreOnceAndSayTheKind(t *testing.T) {
	seen := make(map[string]bool)
	for _, m := range poolview.Table() {
		for _, name := range []string{m.OTel, m.Prometheus} {
			if name != "" && seen[name] {
				t.Errorf("%s is there twice", name)
			}
			seen[name] = true
		}
		if m.OTel+m.Prometheus == "" || m.Help == "" || !strings.HasSuffix(m.Help, ".") {
			t.Errorf("%+v has no name, or its help is no sentence", m)
		}
		if total := strings.HasSuffix(m.Prometheus, "_total"); m.Prometheus != "" && total != (m.Kind == poolview.Counter) {
			t.Errorf("%s: kind %d", m.Prometheus, m.Kind)
		}
		if seconds := strings.Contains(m.Prometheus, "_seconds"); m.Prometheus != "" && seconds != (m.Unit == "s") {
			t.Errorf("%s: unit %q", m.Prometheus, m.Unit)
		}
		if m.OTel != "" && m.Unit == "" {
			t.Errorf("%s has no unit", m.OTel)
		}
		if m.Values != "" && (m.OTel == "" || m.Attribute == "") && (m.Prometheus == "" || m.Label == "") {
			t.Errorf("%s %s: values of what?", m.OTel, m.Prometheus)
		}
	}
}

const (
	docs  = "../../docs/metrics.md"
	begin = "<!-- pools: written by go test ./internal/poolview -update -->\n"
	end   = "<!-- end -->\n"
)

// The table in docs/metrics.md is this one.
func TestTheDocsHaveTheTable(t *testing.T) {
	page, err := os.ReadFile(docs)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := bytes.Cut(page, []byte(begin))
	written, after, ok2 := bytes.Cut(rest, []byte(end))
	if !ok || !ok2 {
		t.Fatalf("%s has no %s", docs, begin)
	}
	want := rows()
	if *update {
		page = bytes.Join([][]byte{before, []byte(begin), []byte(want), []byte(end), after}, nil)
		if err := os.WriteFile(docs, page, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(want, string(written)); diff != "" {
		t.Errorf("%s is behind; run go test ./internal/poolview -update (-want +got):\n%s", docs, diff)
	}
}

// rows are the table as it is written.
func rows() string {
	var b strings.Builder
	b.WriteString("| OpenTelemetry | Prometheus | type | unit | attribute, label: values | what it says |\n|---|---|---|---|---|---|\n")
	for _, m := range poolview.Table() {
		kind := m.OTelType()
		if m.OTel == "" {
			kind = [...]string{"counter", "gauge", "histogram"}[m.Kind]
		}
		stock := ""
		if m.Stock != nil {
			stock = " *Stock*"
			if m.Stock[0] != "" {
				stock += ": " + strings.Join(m.Stock, ", ")
			}
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s%s |\n", code(m.OTel), code(m.Prometheus), kind, m.Unit, values(&m), m.Text(), stock)
	}
	return b.String()
}

func code(name string) string {
	if name == "" {
		return ""
	}
	return "`" + name + "`"
}

func values(m *poolview.Metric) string {
	var names []string
	for _, name := range []string{m.Attribute, m.Label} {
		if name != "" {
			names = append(names, code(name))
		}
	}
	if names == nil {
		return ""
	}
	return strings.Join(names, ", ") + ": " + m.Values
}
