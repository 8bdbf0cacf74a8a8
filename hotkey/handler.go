package hotkey

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/everpool/everpool/hooks"
	"github.com/everpool/everpool/internal/webpage"
)

// Handler returns a handler that shows the keys of both classes: as a page, or as
// JSON with an Accept header that asks for JSON and not for HTML. It takes, all of
// them optional:
//
//	source=local|redis                this tracker's last window, or the sets in Redis as [Tracker.Global] reads them
//	n=                                for how many keys; TopN, which is also the most; of redis up to 1,000
//	sort=count|key|lower|upper|misses count
//	order=desc|asc                    desc, and asc for key
//	refresh=                          the page loads itself again after so many seconds, 1 to 3,600
//	format=html|json
//
// What isn't allowed is refused with 400. It serves GET and HEAD, and has no
// authentication: keys may be confidential, so mind who can reach it.
func (t *Tracker) Handler() http.Handler { return http.HandlerFunc(t.serve) }

func (t *Tracker) serve(w http.ResponseWriter, r *http.Request) {
	if !webpage.ReadOnly(w, r) {
		return
	}
	asked, err := t.asked(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	v, err := t.view(r.Context(), asked)
	switch {
	case errors.Is(err, ErrNoSink):
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	case err != nil: // which may have more in it than the reader should know
		http.Error(w, "the sets can't be read: "+hooks.ErrorType(err), http.StatusBadGateway)
		return
	}
	webpage.Write(w, r, asked.format == "json", v, func(b *bytes.Buffer) { writePage(b, v, asked) })
}

// asked is what a request asks for. A field has the zero value for what it leaves to
// the handler, n and format are always set.
type asked struct {
	source  string
	n       int
	sort    string
	order   string
	refresh int
	format  string
	askedN  bool
}

// parameters are those that a request may have.
var parameters = []string{"source", "n", "sort", "order", "refresh", "format"}

// most is how many keys of the sets are shown at most.
const most = 1000

// asked reads a request, and returns all that is wrong with it.
func (t *Tracker) asked(r *http.Request) (asked, error) {
	query, errs := r.URL.Query(), []error(nil)
	for _, name := range slices.Sorted(maps.Keys(query)) {
		if !slices.Contains(parameters, name) {
			errs = append(errs, fmt.Errorf("%s is unknown; allowed are %s", strconv.Quote(name), strings.Join(parameters, ", ")))
		}
	}
	word := func(name string, allowed ...string) string {
		value := query.Get(name)
		if value != "" && !slices.Contains(allowed, value) {
			errs = append(errs, fmt.Errorf("%s is %q; allowed are %s", name, value, strings.Join(allowed, ", ")))
		}
		return value
	}
	number := func(name string, most int) int {
		value := query.Get(name)
		if value == "" {
			return 0
		}
		n, err := strconv.Atoi(value)
		if err != nil || n < 1 || n > most {
			errs = append(errs, fmt.Errorf("%s is %q; allowed is 1 to %d", name, value, most))
		}
		return n
	}
	a := asked{
		source: word("source", "local", "redis"), sort: word("sort", "count", "key", "lower", "upper", "misses"),
		order: word("order", "desc", "asc"), format: word("format", "html", "json"), refresh: number("refresh", 3600),
	}
	most := most
	if a.source != "redis" {
		most = t.cfg.TopN
	}
	a.n = number("n", most)
	if a.askedN = a.n != 0; !a.askedN {
		a.n = t.cfg.TopN
	}
	if a.format == "" && webpage.WantsJSON(r) {
		a.format = "json"
	}
	return a, errors.Join(errs...)
}

// query is the query of a URL that asks for the same.
func (a asked) query() string {
	values := make(url.Values)
	set := func(name, value string) {
		if value != "" {
			values.Set(name, value)
		}
	}
	set("source", a.source)
	set("sort", a.sort)
	set("order", a.order)
	set("format", a.format)
	if a.askedN {
		set("n", strconv.Itoa(a.n))
	}
	if a.refresh > 0 {
		set("refresh", strconv.Itoa(a.refresh))
	}
	return "?" + values.Encode()
}

// sorted says by what keys are ordered, and whether the lowest comes first.
func (a asked) sorted() (by string, ascending bool) {
	by = cmp.Or(a.sort, "count")
	if a.order == "" {
		return by, by == "key"
	}
	return by, a.order == "asc"
}

// arrange orders keys, which are in the order of their counts.
func (a asked) arrange(keys []keyView) {
	by, ascending := a.sorted()
	slices.SortStableFunc(keys, func(x, y keyView) int {
		var c int
		switch by {
		case "key":
			c = strings.Compare(x.Key, y.Key)
		case "lower":
			c = cmp.Compare(value(x.Lower), value(y.Lower))
		case "misses":
			c = cmp.Compare(value(x.Misses), value(y.Misses))
		case "upper":
			c = cmp.Compare(value(x.Upper), value(y.Upper))
		default:
			c = cmp.Compare(x.Count, y.Count)
		}
		if ascending {
			return c
		}
		return -c
	})
}

// value is 0 where there is none.
func value[T any](of *T) (v T) {
	if of != nil {
		v = *of
	}
	return v
}

// view gathers what is asked for.
func (t *Tracker) view(ctx context.Context, a asked) (v *view, err error) {
	if a.source == "redis" {
		v, err = t.globalView(ctx, a.n)
	} else {
		v = t.localView(a.n)
	}
	if err != nil {
		return nil, err
	}
	v.Client = t.cfg.Client
	for _, c := range v.Classes {
		a.arrange(c.Keys)
	}
	return v, nil
}
