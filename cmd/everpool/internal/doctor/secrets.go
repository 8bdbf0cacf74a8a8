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

// addMistaken adds what may be a password in what is no good URL: what is between the
// first colon after the scheme and the last @, and its parts, which may have been taken
// for a host, a path or parameters.
func (s *secrets) addMistaken(raw string) {
	_, rest, isURL := strings.Cut(raw, "://")
	if !isURL {
		rest = raw
	}
	_, password, _ := strings.Cut(rest[:max(strings.LastIndexByte(rest, '@'), 0)], ":")
	s.add(password)
	for part := range strings.FieldsFuncSeq(password, func(r rune) bool { return strings.ContainsRune("/?#&=@:", r) }) {
		s.add(part)
		if plain, err := url.QueryUnescape(part); err == nil {
			s.add(plain)
		}
	}
}

// addStray adds what is before an @ in a parameter: where a password has a ? in it that
// isn't encoded, its end.
func (s *secrets) addStray(raw string) {
	u, err := url.Parse(raw)
	if err != nil {
		return
	}
	for _, values := range u.Query() {
		for _, v := range values {
			s.add(v[:max(strings.LastIndexByte(v, '@'), 0)])
		}
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
