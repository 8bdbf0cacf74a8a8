package doctor

import (
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// secrets are what no finding may show, in all the ways in which it may be written.
type secrets []string

func (s *secrets) add(secret string) {
	if secret == "" {
		return
	}
	quoted := strconv.Quote(secret)
	user := strings.TrimPrefix(url.UserPassword("", secret).String(), ":")
	for _, written := range []string{secret, user, url.QueryEscape(secret), url.PathEscape(secret), quoted[1 : len(quoted)-1]} {
		if !slices.Contains(*s, written) {
			*s = append(*s, written)
		}
	}
	// The longest first, or what is left of it would show.
	slices.SortFunc(*s, func(a, b string) int { return len(b) - len(a) })
}

// addURL adds what may be a password in what may not even be a URL: what is between the
// first colon after the scheme and the last @, and parameters that are passwords.
func (s *secrets) addURL(raw string) {
	_, rest, isURL := strings.Cut(raw, "://")
	if !isURL {
		rest = raw
	}
	if at := strings.LastIndexByte(rest, '@'); at >= 0 {
		_, password, _ := strings.Cut(rest[:at], ":")
		s.addWritten(password)
	}
	_, query, _ := strings.Cut(rest, "?")
	for pair := range strings.FieldsFuncSeq(query, func(r rune) bool { return r == '&' || r == '?' }) {
		if name, value, _ := strings.Cut(pair, "="); strings.Contains(strings.ToLower(name), "password") {
			s.addWritten(value)
		}
	}
}

// addWritten adds a secret as a URL has it.
func (s *secrets) addWritten(written string) {
	s.add(written)
	if plain, err := url.PathUnescape(written); err == nil {
		s.add(plain)
	}
	if plain, err := url.QueryUnescape(written); err == nil {
		s.add(plain)
	}
}

// clean makes what a server, or a library, has said fit to be shown: one line without a
// secret. Servers echo what they don't understand, cut off anywhere.
func (s secrets) clean(text string) string {
	if at := strings.Index(text, "with args beginning with"); at >= 0 {
		text = strings.TrimRight(text[:at], " ,")
	}
	for _, secret := range s {
		text = strings.ReplaceAll(text, secret, "***")
	}
	return strings.Join(strings.FieldsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f }), " ")
}
