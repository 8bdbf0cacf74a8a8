// Command promcheck parses the queries of Grafana dashboards and Prometheus rules
// with Prometheus's own parser, without a Grafana or a Prometheus:
//
//	cd tools && go run ./promcheck ../docs/dashboards
//
// It prints what each query asks for, metrics and labels, as JSON, for tests that
// know which ones there are. It fails for a query that doesn't parse, and for a
// variable of Grafana that it doesn't know.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Query is one of a dashboard or a rule, taken apart.
type Query struct {
	Where     string     `json:"where"` // file, and panel or alert
	Expr      string     `json:"expr"`
	Selectors []Selector `json:"selectors"`
	// Labels are those that results are grouped by or matched on. They belong to
	// any of the selectors.
	Labels []string `json:"labels"`
}

// Selector is a metric with the labels that are asked for.
type Selector struct {
	Metric string   `json:"metric"`
	Labels []string `json:"labels"`
}

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: promcheck DIRECTORY [FILE...]")
		os.Exit(2)
	}
	queries, err := check(os.Args[1], os.Args[2:]...)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	out := json.NewEncoder(os.Stdout)
	out.SetIndent("", "  ")
	if err := out.Encode(queries); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// check takes all queries of a directory apart, or of the files in it that are named.
func check(dir string, only ...string) ([]Query, error) {
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var queries []Query
	var errs []error
	for _, f := range files {
		if len(only) > 0 && !slices.Contains(only, f.Name()) {
			continue
		}
		read := readDashboard
		switch name := f.Name(); {
		case strings.HasSuffix(name, ".json"):
		case strings.HasSuffix(name, "_test.yml"):
			continue
		case strings.HasSuffix(name, ".yml"):
			read = readRules
		default:
			continue
		}
		data, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil {
			return nil, err
		}
		found, err := read(data)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", f.Name(), err))
		}
		for _, q := range found {
			q.Where = f.Name() + ": " + q.Where
			if err := q.parse(); err != nil {
				errs = append(errs, fmt.Errorf("%s: %s: %w", q.Where, q.Expr, err))
			}
			queries = append(queries, q)
		}
	}
	if len(queries) == 0 && len(errs) == 0 {
		errs = append(errs, fmt.Errorf("%s has no queries", dir))
	}
	return queries, errors.Join(errs...)
}
