// Command gen writes the Grafana dashboards of the directory above, one for the
// metrics of promhooks and its twin for those of otelhooks, by the names that
// Prometheus gives them.
package main

//go:generate go run .

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

func main() {
	for name, b := range boards() {
		if err := os.WriteFile(filepath.Join("..", name), b.json(), 0o644); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}

// boards are the dashboards by their files' names.
func boards() map[string]board {
	return map[string]board{"everpool.json": prometheusBoard(), "everpool-otel.json": otelBoard()}
}

// board is a dashboard.
type board struct {
	uid, title, text string
	variables        []variable
	rows             []row
}

// variable is a choice, from the values of a label.
type variable struct{ name, label, query string }

type row struct {
	title  string
	panels []panel
}

// panel shows queries. Its style is one of the constants below.
type panel struct {
	title, text, unit, style string
	queries                  []query
}

const (
	lines   = "lines"
	stacked = "stacked"
	bars    = "bars"
	stat    = "stat"
	upDown  = "up or down"
)

// query is one expression. Its points show exemplars, if it has any.
type query struct {
	expr, legend string
	exemplars    bool
}

func one(expr, legend string) []query { return []query{{expr, legend, false}} }

// rate is what a counter grows by in a second.
func rate(series string) string { return "rate(" + series + "[$__rate_interval])" }

// increase is what it grows by from a point to the next.
func increase(series string) string { return "increase(" + series + "[$__rate_interval])" }

func sumBy(labels, expr string) string { return "sum by (" + labels + ") (" + expr + ")" }

// histogram is one that is asked for in both of its forms, since a Prometheus may have
// the classic one, the native one, or both.
type histogram struct{ name, selector string }

func (h histogram) classic(suffix string) string { return h.name + suffix + h.selector }

func (h histogram) native() string { return h.name + h.selector }

// quantile is one of all that have the same labels, of which there may be none.
func (h histogram) quantile(q, labels string) string {
	le := strings.Trim(labels+", le", ", ")
	return fmt.Sprintf("histogram_quantile(%s, %s) or histogram_quantile(%s, %s)",
		q, sumBy(le, rate(h.classic("_bucket"))), q, sumBy(labels, rate(h.native())))
}

func (h histogram) count(labels string) string {
	return sumBy(labels, rate(h.classic("_count"))) + " or " + sumBy(labels, "histogram_count("+rate(h.native())+")")
}

// counted is how many there were from a point to the next.
func (h histogram) counted(labels string) string {
	return sumBy(labels, increase(h.classic("_count"))) + " or " + sumBy(labels, "histogram_count("+increase(h.native())+")")
}

func (h histogram) mean(labels string) string {
	return sumBy(labels, rate(h.classic("_sum"))) + " / " + sumBy(labels, rate(h.classic("_count"))) + " or " +
		sumBy(labels, "histogram_sum("+rate(h.native())+")") + " / " + sumBy(labels, "histogram_count("+rate(h.native())+")")
}

// object is one of JSON.
type object = map[string]any

var source = object{"type": "prometheus", "uid": "${datasource}"}

func (b board) json() []byte {
	var panels []object
	id, y := 0, 0
	add := func(p object, x, w, h int) {
		id++
		p["id"], p["gridPos"] = id, object{"x": x, "y": y, "w": w, "h": h}
		panels = append(panels, p)
	}
	for _, r := range b.rows {
		add(object{"type": "row", "title": r.title, "collapsed": false, "panels": []any{}}, 0, 24, 1)
		y++
		width, height := 8, 8
		if r.panels[0].style == stat {
			width, height = 24/len(r.panels), 4
		}
		for i, p := range r.panels {
			x := i * width % 24
			if i > 0 && x == 0 {
				y += height
			}
			add(p.json(), x, width, height)
		}
		y += height
	}
	list := []object{{"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "current": object{"selected": false, "text": "default", "value": "default"}, "hide": 0, "includeAll": false, "multi": false, "options": []any{}, "refresh": 1, "regex": ""}}
	for _, v := range b.variables {
		list = append(list, v.json())
	}
	var text bytes.Buffer
	out := json.NewEncoder(&text)
	out.SetEscapeHTML(false)
	out.SetIndent("", "  ")
	err := out.Encode(object{
		"uid": b.uid, "title": b.title, "description": b.text, "tags": []string{"redis", "everpool"},
		"schemaVersion": 39, "version": 1, "editable": true, "graphTooltip": 1, "refresh": "30s", "timezone": "browser",
		"time": object{"from": "now-1h", "to": "now"}, "annotations": object{"list": []any{}}, "links": []any{},
		"templating": object{"list": list}, "panels": panels,
	})
	if err != nil {
		panic(err) // nothing here can't be JSON
	}
	return text.Bytes()
}

func (v variable) json() object {
	return object{
		"name": v.name, "label": v.label, "type": "query", "datasource": source, "definition": v.query,
		"query":   object{"query": v.query, "refId": "StandardVariableQuery"},
		"refresh": 2, "sort": 1, "multi": true, "includeAll": true, "allValue": ".*", "hide": 0, "options": []any{}, "regex": "",
		"current": object{"selected": true, "text": []string{"All"}, "value": []string{"$__all"}},
	}
}

func (p panel) json() object {
	var targets []object
	for i, q := range p.queries {
		targets = append(targets, object{
			"refId": string(rune('A' + i)), "datasource": source, "expr": q.expr, "legendFormat": q.legend,
			"range": true, "editorMode": "code", "exemplar": q.exemplars,
		})
	}
	defaults := object{"unit": p.unit, "min": 0}
	made := object{
		"title": p.title, "description": p.text, "datasource": source, "targets": targets,
		"fieldConfig": object{"defaults": defaults, "overrides": []any{}},
	}
	if p.style == stat || p.style == upDown {
		made["type"] = "stat"
		options := object{ // with what Grafana takes where nothing is said, since its schema wants all of it
			"reduceOptions": object{"calcs": []string{"lastNotNull"}, "fields": "", "values": false},
			"graphMode":     "area", "colorMode": "value", "justifyMode": "auto", "textMode": "auto", "orientation": "auto",
			"wideLayout": true, "showPercentChange": false, "percentChangeColorMode": "standard",
		}
		if p.style == upDown {
			options["colorMode"], options["textMode"] = "background", "value_and_name"
			state := func(text, color string, index int) object {
				return object{"text": text, "color": color, "index": index}
			}
			defaults["mappings"] = []object{{"type": "value", "options": object{"0": state("down", "red", 0), "1": state("up", "green", 1)}}}
			defaults["thresholds"] = object{"mode": "absolute", "steps": []object{{"color": "red", "value": nil}, {"color": "green", "value": 1}}}
		}
		made["options"] = options
		return made
	}
	made["type"] = "timeseries"
	custom := object{
		"drawStyle": "line", "lineWidth": 1, "fillOpacity": 10, "showPoints": "never", "spanNulls": false,
		"stacking": object{"mode": "none", "group": "A"},
	}
	switch p.style {
	case stacked:
		custom["fillOpacity"], custom["stacking"] = 40, object{"mode": "normal", "group": "A"}
	case bars:
		custom["drawStyle"], custom["fillOpacity"] = "bars", 60
	}
	defaults["custom"] = custom
	made["options"] = object{
		"legend":  object{"displayMode": "table", "placement": "bottom", "calcs": []string{"mean", "max"}, "showLegend": true},
		"tooltip": object{"mode": "multi", "sort": "desc"},
	}
	return made
}
