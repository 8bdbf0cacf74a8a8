// Package webpage is what the handlers that show something have in common: they are
// read only, have a page and the same as JSON, and load nothing from elsewhere.
package webpage

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
)

// ReadOnly reports whether the request may be served, and refuses it if not: it has to
// be GET or HEAD.
func ReadOnly(w http.ResponseWriter, r *http.Request) bool {
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		return true
	}
	w.Header().Set("Allow", "GET, HEAD")
	http.Error(w, "only GET and HEAD", http.StatusMethodNotAllowed)
	return false
}

// WantsJSON reports whether the request's Accept header asks for JSON, and not for HTML.
func WantsJSON(r *http.Request) bool {
	accept := strings.Join(r.Header.Values("Accept"), ",")
	return strings.Contains(accept, "application/json") && !strings.Contains(accept, "text/html")
}

// Write answers with view as JSON, or with what page writes.
func Write(w http.ResponseWriter, r *http.Request, asJSON bool, view any, page func(*bytes.Buffer)) {
	var body bytes.Buffer
	h := w.Header()
	if asJSON {
		h.Set("Content-Type", "application/json")
		encoder := json.NewEncoder(&body)
		encoder.SetIndent("", "  ")
		if err := encoder.Encode(view); err != nil {
			http.Error(w, "the answer couldn't be made", http.StatusInternalServerError)
			return
		}
	} else {
		h.Set("Content-Type", "text/html; charset=utf-8")
		page(&body)
	}
	h.Set("Content-Length", strconv.Itoa(body.Len()))
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-store")
	h.Set("Vary", "Accept")
	if r.Method == http.MethodGet {
		_, _ = body.WriteTo(w) // or the reader has gone
	}
}

// Grouped is a number's digits in groups of three.
func Grouped(digits string) string {
	first := len(digits) - len(strings.TrimPrefix(digits, "-"))
	for i := len(digits) - 3; i > first; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}
