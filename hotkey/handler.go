package hotkey

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/everpool/everpool/hooks"
)

// Handler returns a handler that shows the keys of both classes: as a page, or as
// JSON with ?format=json or an Accept header that asks for JSON and not for HTML.
// ?n= is for how many keys, TopN by default. ?source=redis shows the sets in Redis
// instead, as [Tracker.Global] reads them. It serves GET and HEAD, and has no
// authentication: keys may be confidential, so mind who can reach it.
func (t *Tracker) Handler() http.Handler { return http.HandlerFunc(t.serve) }

// view is what is shown.
type view struct {
	Source  string       `json:"source"` // "local" or "redis"
	Classes []*classView `json:"classes"`
	Flush   *FlushStats  `json:"flush,omitempty"`
}

// classView is a class of it.
type classView struct {
	Class      string      `json:"class"`
	Tracked    bool        `json:"tracked"`
	SampleRate float64     `json:"sample_rate,omitempty"`
	Window     *windowView `json:"window,omitempty"`
	Set        string      `json:"set,omitempty"`
	Keys       []keyView   `json:"keys"`
}

type windowView struct {
	Start    time.Time `json:"start"`
	Seconds  float64   `json:"seconds"`
	Samples  uint64    `json:"samples"`
	Complete bool      `json:"complete"`
}

// keyView is a key. One that isn't valid UTF-8, as JSON and HTML have to be, is
// shown quoted as in Go.
type keyView struct {
	Key    string   `json:"key"`
	Quoted bool     `json:"quoted,omitempty"`
	Rate   *float64 `json:"rate,omitempty"`
	Count  uint64   `json:"count"`
	Lower  *uint64  `json:"lower,omitempty"`
	Upper  *uint64  `json:"upper,omitempty"`
}

func (t *Tracker) serve(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "only GET and HEAD", http.StatusMethodNotAllowed)
		return
	}
	asJSON, err := wantsJSON(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	v, status, err := t.view(r)
	if err != nil {
		http.Error(w, err.Error(), status)
		return
	}
	var body bytes.Buffer
	h := w.Header()
	if asJSON {
		h.Set("Content-Type", "application/json")
		encoder := json.NewEncoder(&body)
		encoder.SetIndent("", "  ")
		err = encoder.Encode(v)
	} else {
		h.Set("Content-Type", "text/html; charset=utf-8")
		err = page.Execute(&body, v)
	}
	if err != nil {
		http.Error(w, "the answer couldn't be made", http.StatusInternalServerError)
		return
	}
	h.Set("Content-Length", strconv.Itoa(body.Len()))
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	h.Set("Vary", "Accept")
	if r.Method == http.MethodGet {
		_, _ = body.WriteTo(w) // or the reader has gone
	}
}

func wantsJSON(r *http.Request) (bool, error) {
	switch format := r.URL.Query().Get("format"); format {
	case "json":
		return true, nil
	case "html":
		return false, nil
	case "":
		accept := strings.Join(r.Header.Values("Accept"), ",")
		return strings.Contains(accept, "application/json") && !strings.Contains(accept, "text/html"), nil
	}
	return false, fmt.Errorf("format: allowed are html and json")
}

// view gathers what is asked for, or returns an error and its status.
func (t *Tracker) view(r *http.Request) (v *view, status int, err error) {
	query := r.URL.Query()
	n := t.cfg.TopN
	if asked := query.Get("n"); asked != "" {
		if n, err = strconv.Atoi(asked); err != nil || n < 1 || n > membersPerTop*t.cfg.TopN {
			return nil, http.StatusBadRequest, fmt.Errorf("n: allowed is 1 to %d", membersPerTop*t.cfg.TopN)
		}
	}
	switch query.Get("source") {
	case "", "local":
		return t.localView(n), http.StatusOK, nil
	case "redis":
		return t.globalView(r, n)
	}
	return nil, http.StatusBadRequest, fmt.Errorf("source: allowed are local and redis")
}

func (t *Tracker) localView(n int) *view {
	v := &view{Source: "local"}
	for class := range numClasses {
		c := &classView{Class: class.String(), Keys: []keyView{}}
		v.Classes = append(v.Classes, c)
		w := t.window(class)
		if w == nil {
			continue
		}
		c.Tracked, c.SampleRate = true, w.rate
		c.Window = &windowView{Start: w.start.UTC(), Seconds: w.seconds(), Samples: w.samples, Complete: !w.live}
		for _, count := range w.top(min(n, t.cfg.TopN)) {
			k := newKeyView(count)
			k.Rate, k.Lower, k.Upper = &count.Rate, &count.Lower, &count.Upper
			c.Keys = append(c.Keys, k)
		}
	}
	if t.pending != nil {
		s := t.pending.snapshot()
		v.Flush = &s
	}
	return v
}

// globalView shows the sets. What has failed is told by its class alone: the error may
// have more in it than the reader should know.
func (t *Tracker) globalView(r *http.Request, n int) (*view, int, error) {
	v := &view{Source: "redis"}
	if t.cfg.Sink == nil {
		return nil, http.StatusNotFound, ErrNoSink
	}
	ctx, cancel := context.WithTimeout(r.Context(), t.cfg.FlushTimeout)
	defer cancel()
	for class := range numClasses {
		counts, err := t.global(ctx, class, n)
		if err != nil {
			return nil, http.StatusBadGateway, fmt.Errorf("the sets can't be read: %s", hooks.ErrorType(err))
		}
		c := &classView{Class: class.String(), Tracked: true, Set: t.sets[class][0], Keys: []keyView{}}
		for _, count := range counts {
			c.Keys = append(c.Keys, newKeyView(count))
		}
		v.Classes = append(v.Classes, c)
	}
	return v, http.StatusOK, nil
}

func newKeyView(c Count) keyView {
	if !utf8.ValidString(c.Key) {
		return keyView{Key: strconv.Quote(c.Key), Quoted: true, Count: c.Count}
	}
	return keyView{Key: c.Key, Count: c.Count}
}
