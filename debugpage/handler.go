package debugpage

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// Handler returns a handler that shows the sources: as a page, or as JSON with an Accept
// header that asks for JSON and not for HTML. Both have the same content. It takes, both of
// them optional:
//
//	refresh=      the page loads itself again after so many seconds, 1 to 3,600, by default 5; 0: it doesn't
//	format=html|json
//
// What isn't allowed is refused with 400. It serves GET and HEAD, and has no
// authentication. The status is 200 whatever is wrong with the nodes: for readiness probes
// there is Driver.Handler.
func Handler(sources ...Source) http.Handler { return &handler{sources: slices.Clone(sources)} }

// Var returns a variable for package expvar, whose String is the same JSON as the
// handler's, in one line:
//
//	expvar.Publish("everpool", debugpage.Var(debugpage.Source{Nodes: d}))
//
// Its rates are of the time between two calls of String. This package doesn't import
// expvar, which would serve /debug/vars on http.DefaultServeMux.
func Var(sources ...Source) fmt.Stringer { return &variable{sources: slices.Clone(sources)} }

type variable struct {
	sources []Source
	history history
}

func (v *variable) String() string {
	body, err := json.Marshal(gather(v.sources, &v.history))
	if err != nil { // which nothing in a view gives reason for
		return strconv.Quote(err.Error())
	}
	return string(body)
}

type handler struct {
	sources []Source
	history history
}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("Cache-Control", "no-store")
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		header.Set("Allow", "GET, HEAD")
		http.Error(w, "only GET and HEAD", http.StatusMethodNotAllowed)
		return
	}
	asked, err := parse(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	var body bytes.Buffer
	v := gather(h.sources, &h.history)
	if asked.json {
		header.Set("Content-Type", "application/json")
		encoder := json.NewEncoder(&body)
		encoder.SetIndent("", "  ")
		if err := encoder.Encode(v); err != nil {
			http.Error(w, "the answer couldn't be made", http.StatusInternalServerError)
			return
		}
	} else {
		header.Set("Content-Type", "text/html; charset=utf-8")
		writePage(&body, v, asked)
	}
	header.Set("Content-Length", strconv.Itoa(body.Len()))
	header.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Referrer-Policy", "no-referrer")
	header.Set("Vary", "Accept")
	if r.Method == http.MethodGet {
		_, _ = body.WriteTo(w) // or the reader has gone
	}
}

// asked is what a request asks for.
type asked struct {
	refresh int // seconds; 0: the page stays
	json    bool
}

const (
	usualRefresh = 5
	mostRefresh  = 3600
)

// parse reads a request, and returns all that is wrong with it.
func parse(r *http.Request) (asked, error) {
	a, errs := asked{refresh: usualRefresh}, []error(nil)
	query := r.URL.Query()
	if value := query.Get("refresh"); value != "" {
		n, err := strconv.Atoi(value)
		if err != nil || n < 0 || n > mostRefresh {
			errs = append(errs, fmt.Errorf("refresh is %q; allowed is 0 to %d", value, mostRefresh))
		}
		a.refresh = n
	}
	accept := strings.Join(r.Header.Values("Accept"), ",")
	switch value := query.Get("format"); value {
	case "json":
		a.json = true
	case "html":
	case "":
		a.json = strings.Contains(accept, "application/json") && !strings.Contains(accept, "text/html")
	default:
		errs = append(errs, fmt.Errorf("format is %q; allowed are html, json", value))
	}
	return a, errors.Join(errs...)
}

// query is the query of a URL that asks for the same.
func (a asked) query() string {
	values := make(url.Values)
	if a.json {
		values.Set("format", "json")
	} else {
		values.Set("refresh", strconv.Itoa(a.refresh))
	}
	return "?" + values.Encode()
}
