package hotkey

import (
	"bytes"
	"fmt"
	"html"
	"strconv"
	"strings"
	"unicode"

	"github.com/everpool/everpool/internal/webpage"
)

// The page is written without html/template, which calls methods by name: with it,
// the linker keeps every exported method of every type in the program. Whatever
// isn't a constant goes through text.

// page is the page for people. It has nothing from elsewhere, and no script.
type page struct {
	*bytes.Buffer
	asked asked
}

func writePage(to *bytes.Buffer, v *view, a asked) {
	p := page{to, a}
	p.head(v)
	for _, c := range v.Classes {
		p.class(c)
	}
	p.flushes(v.Flush)
	p.raw("</body>\n</html>\n")
}

func (p page) raw(markup string) { p.WriteString(markup) }

// text writes what is to be read as it is.
func (p page) text(s string) { p.WriteString(html.EscapeString(s)) }

func (p page) textf(format string, args ...any) { p.text(fmt.Sprintf(format, args...)) }

// link links to what is asked for.
func (p page) link(to asked, words string) {
	p.raw(`<a href="`)
	p.text(to.query())
	p.raw(`">`)
	p.text(words)
	p.raw("</a>")
}

const style = `
:root { color-scheme: light dark; --text: #1c2128; --soft: #59636e; --line: #d8dee4; --back: #fff; --bar: #cfe3fb; --link: #0757b8 }
@media (prefers-color-scheme: dark) { :root { --text: #e6e9ed; --soft: #9aa5b1; --line: #343b44; --back: #14181d; --bar: #23466e; --link: #7db6ff } }
* { box-sizing: border-box }
body { font: 15px/1.45 system-ui, sans-serif; margin: 0 auto; max-width: 76rem; padding: 1.2rem 1rem 3rem; color: var(--text); background: var(--back) }
h1 { font-size: 1.5rem; margin: 0 } h2 { font-size: 1.1rem; margin: 2rem 0 .2rem } h1 small { color: var(--soft); font-weight: normal }
p { color: var(--soft); margin: .3rem 0 .6rem } a { color: var(--link) } nav a, nav b { margin-right: 1rem; white-space: nowrap }
table { border-collapse: collapse; width: 100% }
th, td { padding: .3rem .6rem; border-bottom: 1px solid var(--line); text-align: right; vertical-align: top; font-variant-numeric: tabular-nums; white-space: nowrap }
th { color: var(--soft); font-weight: 600 } th a { color: inherit }
th[aria-sort=ascending] a::after { content: " ↑" } th[aria-sort=descending] a::after { content: " ↓" }
th.words, td.words, th.key, td.key { text-align: left } td.words { white-space: normal; color: var(--soft) }
th.key, td.key { padding-left: 0 } td.key { font-family: ui-monospace, monospace; white-space: pre-wrap; overflow-wrap: anywhere; min-width: 12rem }
td.share { background: linear-gradient(var(--bar), var(--bar)) no-repeat right / var(--w) 100% }
@media (max-width: 640px) {
  thead { display: block; margin-bottom: .5rem } thead tr { display: flex; flex-wrap: wrap; gap: .1rem .9rem } thead th { padding: 0; border: 0 } thead th.words { display: none }
  tbody, tbody tr { display: block } tbody tr { border-bottom: 1px solid var(--line); padding: .5rem 0 }
  tbody td { display: flex; justify-content: space-between; gap: 1rem; border: 0; padding: .05rem 0 }
  tbody td::before { content: attr(data-name); color: var(--soft); font-family: system-ui, sans-serif; white-space: nowrap } tbody td.words { text-align: right }
  td.key { min-width: 0; font-weight: 600; margin-bottom: .2rem } td.key::before { display: none }
}
`

func (p page) head(v *view) {
	p.raw("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n")
	if p.asked.refresh > 0 {
		p.raw(`<meta http-equiv="refresh" content="` + strconv.Itoa(p.asked.refresh) + "\">\n")
	}
	p.raw("<title>Hot keys")
	if v.Client != "" {
		p.text(" of " + visible(v.Client))
	}
	p.raw("</title>\n<style>" + style + "</style>\n</head>\n<body>\n<h1>Hot keys")
	if v.Client != "" {
		p.raw(" <small>of ")
		p.text(visible(v.Client))
		p.raw("</small>")
	}
	p.raw("</h1>\n")
	p.navigation(v)
}

// navigation is for what else may be asked for.
func (p page) navigation(v *view) {
	p.raw("<nav><p>")
	for _, source := range []struct{ name, words string }{{"local", "This process"}, {"redis", "All processes, in Redis"}} {
		p.raw("\n")
		if v.Source == source.name {
			p.raw("<b>" + source.words + "</b>")
			continue
		}
		to := p.asked
		to.source, to.n, to.askedN = source.name, 0, false
		p.link(to, source.words)
	}
	p.raw("\n")
	to := p.asked
	if to.refresh > 0 {
		to.refresh = 0
		p.link(to, fmt.Sprintf("Stop the refresh every %d s", p.asked.refresh))
	} else {
		to.refresh = 5
		p.link(to, "Refresh every 5 s")
	}
	to = p.asked
	p.raw("\n")
	to.format, to.refresh = "json", 0
	p.link(to, "JSON")
	p.raw("</p></nav>\n")
}

// column is one of a table.
type column struct {
	name  string
	class string
	sort  string // by what its head orders; "": by nothing
	cell  func(page, keyView)
}

func columns(local bool) []column {
	number := func(of func(keyView) string) func(page, keyView) {
		return func(p page, k keyView) { p.text(of(k)) }
	}
	count := number(func(k keyView) string { return grouped(k.Count) })
	if !local {
		return []column{{"key", "key", "key", showKey}, {"score", "", "count", count}}
	}
	return []column{
		{"key", "key", "key", showKey},
		{"share", "share", "count", number(func(k keyView) string { return percent(*k.Share) })},
		{"per second", "", "count", number(func(k keyView) string { return rate(*k.Rate) })},
		{"count", "", "count", count},
		{"at least", "", "lower", number(func(k keyView) string { return grouped(*k.Lower) })},
		{"at most", "", "upper", number(func(k keyView) string { return grouped(*k.Upper) })},
		{"misses", "", "misses", number(func(k keyView) string { return percent(*k.Misses) })},
		{"commands", "words", "", number(func(k keyView) string { return mix(k.Commands) })},
		{"node", "words", "", number(func(k keyView) string { return k.Node })},
	}
}

func showKey(p page, k keyView) { p.text(show(k)) }

func (p page) class(c *classView) {
	p.raw("<h2>" + c.Class + "</h2>\n")
	if !c.Tracked {
		p.raw("<p>Not tracked: the sample rate is 0.</p>\n")
		return
	}
	if w := c.Window; w != nil {
		words := "The last window"
		if !w.Complete {
			words = "The first window, not complete yet"
		}
		p.raw("<p>")
		p.textf("%s: %.1f s from %s, %s samples at %.3g %%.", words, w.Seconds, w.Start.Format("2006-01-02 15:04:05 MST"), grouped(w.Samples), 100*c.SampleRate)
		p.raw("</p>\n")
	}
	if c.Set != "" {
		p.raw("<p>The sorted set <code>")
		p.text(visible(c.Set))
		p.raw("</code>.</p>\n")
	}
	switch {
	case len(c.Keys) > 0:
		p.table(c.Keys, columns(c.Window != nil))
	case c.Window == nil:
		p.raw("<p>Nothing is hot: no key is in it.</p>\n")
	case c.Window.Samples == 0:
		p.raw("<p>No key was used.</p>\n")
	default:
		p.raw("<p>Nothing is hot: no key stands out.</p>\n")
	}
}

func (p page) table(keys []keyView, columns []column) {
	p.raw("<table>\n<thead><tr>")
	for _, c := range columns {
		p.columnHead(c)
	}
	p.raw("</tr></thead>\n<tbody>\n")
	for _, k := range keys {
		p.raw("<tr>")
		for _, c := range columns {
			p.raw(`<td class="` + c.class + `" data-name="` + c.name + `"`)
			if c.class == "share" {
				p.raw(` style="--w:` + strconv.Itoa(int(100*min(1, *k.Share))) + `%"`)
			}
			p.raw(">")
			c.cell(p, k)
			p.raw("</td>")
		}
		p.raw("</tr>\n")
	}
	p.raw("</tbody>\n</table>\n")
}

// columnHead orders by its column, and when that is so already, the other way round.
func (p page) columnHead(c column) {
	p.raw(`<th scope="col" class="` + c.class + `"`)
	by, ascending := p.asked.sorted()
	sorted := c.sort == by
	if sorted {
		p.raw(` aria-sort="` + map[bool]string{true: "ascending", false: "descending"}[ascending] + `"`)
	}
	p.raw(">")
	if c.sort == "" {
		p.text(c.name)
	} else {
		to := p.asked
		to.sort, to.order = c.sort, ""
		if _, first := to.sorted(); sorted && first == ascending {
			to.order = map[bool]string{true: "desc", false: "asc"}[ascending]
		}
		p.link(to, c.name)
	}
	p.raw("</th>")
}

func (p page) flushes(s *FlushStats) {
	if s == nil {
		return
	}
	p.raw("<h2>Flushes</h2>\n<p>")
	p.textf("%s flushes, %s failed", grouped(s.Flushes), grouped(s.Failed))
	if s.LastError != "" {
		p.textf(" (the last: %s)", s.LastError)
	}
	p.textf(". Counts: %s written, %s waiting, %s dropped, %s without room in a full set, %s sent without a reply.",
		grouped(s.Written), grouped(s.Pending), grouped(s.Dropped), grouped(s.Outranked), grouped(s.Unknown))
	p.raw("</p>\n")
}

// show is a key for people's eyes.
func show(k keyView) string {
	if k.Quoted {
		return k.Key
	}
	return visible(k.Key)
}

// visible is text with nothing in it that can't be seen, or turns round what is.
func visible(s string) string {
	if s == "" || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.Quote(s)
	}
	return s
}

// grouped is a number with its thousands apart.
func grouped(n uint64) string { return webpage.Grouped(strconv.FormatUint(n, 10)) }

func rate(perSecond float64) string {
	whole, fraction, _ := strings.Cut(strconv.FormatFloat(perSecond, 'f', 1, 64), ".")
	return webpage.Grouped(whole) + "." + fraction
}

// percent has as many digits as can be compared down a column, more of a rate that
// is low.
func percent(share float64) string {
	if share > 0 && share < 0.001 {
		return fmt.Sprintf("%.2g %%", 100*share)
	}
	return fmt.Sprintf("%.1f %%", 100*share)
}

// mix is which commands have used a key.
func mix(commands []CommandShare) string {
	var parts []string
	for _, c := range commands {
		if len(commands) == 1 {
			return c.Command
		}
		parts = append(parts, fmt.Sprintf("%s\u00a0%.0f\u00a0%%", strings.ReplaceAll(c.Command, " ", "\u00a0"), 100*c.Share))
	}
	return strings.Join(parts, ", ")
}
