// Package promcheck compares the queries of dashboards and alerts with the metrics that
// there are. It is for tests only.
package promcheck

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
)

// Query is what tools/promcheck says of one.
type Query struct {
	Where, Expr string
	Selectors   []struct {
		Metric string
		Labels []string
	}
	Labels []string
}

// ownLabels are given by Prometheus itself, or belong to the text form of histograms.
var ownLabels = []string{"job", "instance", "le"}

// Queries reads those of files in docs/dashboards with Prometheus's own parser: by a
// program in a module of its own, since the library doesn't depend on Prometheus.
func Queries(tb testing.TB, files ...string) []Query {
	tb.Helper()
	program := filepath.Join(tb.TempDir(), "promcheck")
	build := exec.Command("go", "build", "-o", program, "./promcheck")
	build.Dir = filepath.Join(Dashboards(tb), "../../tools")
	if out, err := build.CombinedOutput(); err != nil {
		SkipUnlessCI(tb, "tools/promcheck can't be built (%v):\n%s", err, out)
	}
	out, err := exec.Command(program, append([]string{Dashboards(tb)}, files...)...).Output()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		tb.Fatalf("promcheck: %s", exit.Stderr)
	}
	var queries []Query
	if err := errors.Join(err, json.Unmarshal(out, &queries)); err != nil {
		tb.Fatal(err)
	}
	return queries
}

// Dashboards is where they are: in the repository that the test's directory is in.
func Dashboards(tb testing.TB) string {
	tb.Helper()
	dir, err := os.Getwd()
	if err != nil {
		tb.Fatal(err)
	}
	for ; ; dir = filepath.Dir(dir) {
		if all := filepath.Join(dir, "docs", "dashboards"); isDir(all) {
			return all
		}
		if dir == filepath.Dir(dir) {
			tb.Fatal("no docs/dashboards above the test's directory")
		}
	}
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// SkipUnlessCI skips the test for want of a program; under CI that fails it.
func SkipUnlessCI(tb testing.TB, format string, args ...any) {
	tb.Helper()
	if os.Getenv("CI") == "true" {
		tb.Fatalf(format, args...)
	}
	tb.Skipf(format, args...)
}

// Compare fails the test for a query that asks for a metric, or a label of one, that
// isn't known: labels by the names of metrics. It returns the metrics that are asked for.
func Compare(tb testing.TB, queries []Query, known map[string][]string) (asked map[string]bool) {
	tb.Helper()
	asked = make(map[string]bool)
	for _, q := range queries {
		of := slices.Clone(ownLabels)
		for _, s := range q.Selectors {
			labels, ok := known[s.Metric]
			if !ok {
				tb.Errorf("%s: %s doesn't exist: %s", q.Where, s.Metric, q.Expr)
			}
			for _, l := range s.Labels {
				if !slices.Contains(labels, l) && !slices.Contains(ownLabels, l) {
					tb.Errorf("%s: %s has no label %s: %s", q.Where, s.Metric, l, q.Expr)
				}
			}
			of = append(of, labels...)
			asked[s.Metric] = true
		}
		for _, l := range q.Labels {
			if !slices.Contains(of, l) {
				tb.Errorf("%s: nothing has the label %s: %s", q.Where, l, q.Expr)
			}
		}
	}
	return asked
}
