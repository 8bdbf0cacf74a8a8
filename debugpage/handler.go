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

	"github.com/everpool/everpool/internal/webpage"
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
	w.Header().Set("Cache-Control", "no-store") // of refusals, too
	if !webpage.ReadOnly(w, r) {
		return
	}
	asked, err := parse(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	v := gather(h.sources, &h.history)
	webpage.Write(w, r, asked.json, v, func(b *bytes.Buffer) { writePage(b, v, asked) })
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
	switch value := query.Get("format"); value {
	case "json":
		a.json = true
	case "html":
	case "":
		a.json = webpage.WantsJSON(r)
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
