package main

import (
	"fmt"
	"net/http"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/everpool/everpool/debugpage"
	"github.com/everpool/everpool/hotkey"
)

// handler serves the page, what it is told, its buttons, the metrics, and the windows into
// the pools of the sides that have everpool's.
func handler(p page, j *journal, in *injector, registry *prometheus.Registry, sides []*side) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Content-Security-Policy", contentPolicy)
		_ = p.write(w, nil) // an error is the browser's that has gone
	})
	mux.HandleFunc("GET /events", func(w http.ResponseWriter, r *http.Request) { serveEvents(w, r, j) })
	mux.HandleFunc("POST /faults/{kind}", func(w http.ResponseWriter, r *http.Request) {
		if err := in.ask(faultKind(r.PathValue("kind"))); err != nil {
			http.Error(w, err.Error(), http.StatusConflict)
			return
		}
		w.WriteHeader(http.StatusAccepted)
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{EnableOpenMetrics: true}))
	var sources []debugpage.Source
	for _, s := range sides {
		if s.drv != nil {
			sources = append(sources, debugpage.Source{Name: s.name, Nodes: s.drv, HotKeys: debugpage.TopKeys(s.keys.Top, hotKeyOf, hotkey.Reads)})
		}
	}
	if len(sources) > 0 {
		mux.Handle("GET /debug/everpool", debugpage.Handler(sources...))
	}
	// Pages of other sites can't press the buttons.
	return http.NewCrossOriginProtection().Handler(mux)
}

func hotKeyOf(c hotkey.Count) debugpage.HotKey {
	return debugpage.HotKey{Key: c.Key, PerSecond: c.Rate, Share: c.Share}
}

// contentPolicy has the page load nothing from anywhere.
const contentPolicy = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; img-src data:"

// serveEvents sends the journal's entries as they come, those that there are first. A
// browser that has lost its connection says what it had last.
func serveEvents(w http.ResponseWriter, r *http.Request, j *journal) {
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	out := http.NewResponseController(w)
	next := 0
	if last, err := strconv.Atoi(r.Header.Get("Last-Event-ID")); err == nil {
		next = last + 1
	}
	for {
		entries, after, more := j.from(next)
		for i, entry := range entries {
			if _, err := fmt.Fprintf(w, "id: %d\ndata: %s\n\n", after-len(entries)+i, entry); err != nil {
				return
			}
		}
		next = after
		if err := out.Flush(); err != nil || more == nil {
			return
		}
		select {
		case <-more:
		case <-r.Context().Done():
			return
		}
	}
}
