package main

import (
	"embed"
	"encoding/json"
	"html/template"
	"io"
)

// assets are the page's parts; uPlot draws its plots.
//
//go:embed assets
var assets embed.FS

// page is the live page and, with the journal in it, the report. It is one file that
// needs no other.
type page struct {
	setup setup
	parts *template.Template
}

// setup is what the page is told about the run.
type setup struct {
	Drivers  []string     `json:"drivers"`
	Server   string       `json:"server"`
	Loads    []namedThing `json:"workloads"`
	Faults   []namedThing `json:"faults"` // of the buttons
	Schedule string       `json:"schedule"`
	Duration float64      `json:"duration"` // seconds; 0: until interrupted
	Began    string       `json:"began"`
}

type namedThing struct {
	Name  string `json:"name"`
	About string `json:"about"`
}

func newPage(s setup) (page, error) {
	parts, err := template.ParseFS(assets, "assets/page.html")
	return page{s, parts}, err
}

// write writes the page: the live one, or the report if there are entries.
func (p page) write(out io.Writer, entries []json.RawMessage) error {
	text := func(name string) string {
		b, _ := assets.ReadFile("assets/" + name) // embedded
		return string(b)
	}
	setup, err := json.Marshal(p.setup)
	if err != nil {
		return err
	}
	log, err := json.Marshal(entries) // null: the page asks for them
	if err != nil {
		return err
	}
	return p.parts.Execute(out, map[string]any{
		"Style":  template.CSS(text("uPlot.min.css") + text("page.css")),
		"Script": template.JS("/*!\n" + text("uPlot-LICENSE.txt") + "*/\n" + text("uPlot.iife.min.js") + "\n" + text("page.js")),
		"Setup":  template.JS(setup), // JSON escapes what would end a script
		"Log":    template.JS(log),
	})
}
