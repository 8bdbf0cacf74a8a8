package main

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"

	"gopkg.in/yaml.v3"
)

// dashboard is what is looked at in a Grafana dashboard.
type dashboard struct {
	Panels     []panel `json:"panels"`
	Templating struct {
		List []struct {
			Name  string          `json:"name"`
			Type  string          `json:"type"`
			Query json.RawMessage `json:"query"`
		} `json:"list"`
	} `json:"templating"`
}

type panel struct {
	ID      int     `json:"id"`
	Title   string  `json:"title"`
	Type    string  `json:"type"`
	Panels  []panel `json:"panels"` // of a row that is collapsed
	Targets []struct {
		Expr string `json:"expr"`
	} `json:"targets"`
}

// labelValues is the query of a variable: of a metric and a label.
var labelValues = regexp.MustCompile(`^label_values\((.+), *([a-zA-Z_]\w*)\)$`)

// readDashboard returns the queries of panels and variables.
func readDashboard(data []byte) ([]Query, error) {
	var d dashboard
	if err := json.Unmarshal(data, &d); err != nil {
		return nil, err
	}
	var queries []Query
	known := strings.NewReplacer("$__rate_interval", "1m", "$__range", "1h", "$__interval", "1m")
	var variables []string
	for _, v := range d.Templating.List {
		variables = append(variables, "${"+v.Name+"}", ".*", "$"+v.Name, ".*")
	}
	own := strings.NewReplacer(variables...)
	substitute := func(expr string) string { return own.Replace(known.Replace(expr)) }

	for _, v := range d.Templating.List {
		if v.Type != "query" {
			continue
		}
		query, err := variableQuery(v.Query)
		if err != nil {
			return queries, fmt.Errorf("variable %s: %w", v.Name, err)
		}
		m := labelValues.FindStringSubmatch(query)
		if m == nil {
			return queries, fmt.Errorf("variable %s: %q isn't label_values(metric, label)", v.Name, query)
		}
		queries = append(queries, Query{Where: "variable " + v.Name, Expr: substitute("count by (" + m[2] + ") (" + m[1] + ")")})
	}
	ids := make(map[int]bool)
	var walk func([]panel) error
	walk = func(panels []panel) error {
		for _, p := range panels {
			if len(p.Targets) == 0 && p.Type != "row" {
				return fmt.Errorf("panel %q has no query", p.Title)
			}
			if p.ID != 0 && ids[p.ID] {
				return fmt.Errorf("panel %q has the id of another, %d", p.Title, p.ID)
			}
			ids[p.ID] = true
			for _, t := range p.Targets {
				if t.Expr == "" {
					return fmt.Errorf("panel %q has an empty query", p.Title)
				}
				queries = append(queries, Query{Where: p.Title, Expr: substitute(t.Expr)})
			}
			if err := walk(p.Panels); err != nil {
				return err
			}
		}
		return nil
	}
	return queries, walk(d.Panels)
}

// variableQuery is a string, in newer dashboards within an object.
func variableQuery(raw json.RawMessage) (string, error) {
	var s string
	if json.Unmarshal(raw, &s) == nil {
		return s, nil
	}
	var o struct {
		Query string `json:"query"`
	}
	err := json.Unmarshal(raw, &o)
	return o.Query, err
}

// readRules returns the queries of alerts and recording rules.
func readRules(data []byte) ([]Query, error) {
	var file struct {
		Groups []struct {
			Rules []struct {
				Alert  string `yaml:"alert"`
				Record string `yaml:"record"`
				Expr   string `yaml:"expr"`
			} `yaml:"rules"`
		} `yaml:"groups"`
	}
	if err := yaml.Unmarshal(data, &file); err != nil {
		return nil, err
	}
	var queries []Query
	for _, g := range file.Groups {
		for _, r := range g.Rules {
			queries = append(queries, Query{Where: r.Alert + r.Record, Expr: r.Expr})
		}
	}
	return queries, nil
}
