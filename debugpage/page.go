package debugpage

import (
	"bytes"
	"cmp"
	"fmt"
	"html"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The page is written without html/template, which calls methods by name: with it,
// the linker keeps every exported method of every type in the program. Whatever
// isn't a constant goes through text.

// page is the page for people. It has nothing from elsewhere, and no script.
type page struct {
	*bytes.Buffer
	view  *view
	asked asked
}

func writePage(to *bytes.Buffer, v *view, a asked) {
	p := page{to, v, a}
	p.head()
	p.verdict()
	nth := 0
	for _, s := range v.Sources {
		p.source(s, &nth)
	}
	p.raw("</body>\n</html>\n")
}

func (p page) raw(markup string) { p.WriteString(markup) }

// text writes what is to be read as it is.
func (p page) text(s string) { p.WriteString(html.EscapeString(s)) }

func (p page) textf(format string, args ...any) { p.text(fmt.Sprintf(format, args...)) }

// element writes an element whose content is text.
func (p page) element(tag, class, content string) {
	p.raw("<" + tag)
	if class != "" {
		p.raw(` class="` + class + `"`)
	}
	p.raw(">")
	p.text(content)
	p.raw("</" + tag + ">")
}

// link links to another page.
func (p page) link(to, words string) {
	p.raw(`<a href="`)
	p.text(to)
	p.raw(`">`)
	p.text(words)
	p.raw("</a>")
}

func (p page) head() {
	p.raw("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n")
	if p.asked.refresh > 0 {
		p.raw(`<meta http-equiv="refresh" content="` + strconv.Itoa(p.asked.refresh) + "\">\n")
	}
	p.raw("<title>")
	p.text(p.headline() + " · everpool")
	p.raw("</title>\n<style>" + style + "</style>\n</head>\n<body>\n<header><h1>everpool</h1>\n<nav>")
	p.element("span", "", p.view.At.Format("2006-01-02 15:04:05 MST"))
	to := p.asked
	if to.refresh > 0 {
		to.refresh = 0
		p.link(to.query(), fmt.Sprintf("Stop the refresh every %d s", p.asked.refresh))
	} else {
		p.link(to.query(), "Refresh")
		to.refresh = usualRefresh
		p.link(to.query(), fmt.Sprintf("Refresh every %d s", to.refresh))
	}
	p.link(asked{json: true}.query(), "JSON")
	p.raw("</nav></header>\n")
}

// headline is the verdict in two words.
func (p page) headline() string {
	if p.view.Well {
		return "All well"
	}
	return several(len(p.view.Findings), "thing") + map[bool]string{true: " is", false: " are"}[len(p.view.Findings) == 1] + " wrong"
}

func (p page) verdict() {
	class := "well"
	if !p.view.Well {
		class = string(p.view.Findings[0].Severity)
	}
	p.raw(`<section class="verdict ` + class + `">`)
	p.element("h2", "", p.headline())
	if len(p.view.Findings) > 0 {
		p.raw("\n<ul>\n")
		for _, f := range p.view.Findings {
			p.finding(f)
		}
		p.raw("</ul>\n")
	}
	p.raw("<p>")
	if s := p.view.IntervalSeconds; s > 0 {
		p.textf("Rates are of the last %s.", lasting(time.Duration(s*float64(time.Second))))
	} else {
		p.text("Rates, and what grows, come with the next look, a second from now or later.")
	}
	p.raw("</p></section>\n")
}

func (p page) finding(f finding) {
	p.raw(`<li class="` + string(f.Severity) + `">`)
	p.element("b", "", map[severity]string{bad: "✖ ", warning: "▲ "}[f.Severity])
	p.text(f.Text)
	if len(f.Of) > 0 {
		p.element("span", "soft", " ("+firstOf(f.Of)+")")
	}
	p.raw("</li>\n")
}

func (p page) source(s *sourceView, nth *int) {
	for _, c := range s.Clients {
		p.client(s, c, nth)
	}
	if len(s.Clients) == 0 {
		p.raw("<h2>")
		p.text(cmp.Or(visible(s.Name), "Nodes"))
		p.raw("</h2>\n<p class=\"soft\">")
		p.text(cmp.Or(s.Error, "There are no clients."))
		p.raw("</p>\n")
	}
	if s.Gathering != nil {
		p.gathered(s.Gathering)
	}
	if s.tracked || s.HotKeysURL != "" {
		p.hotKeys(s)
	}
	p.settings(s.Settings)
}

func (p page) client(s *sourceView, c *clientView, nth *int) {
	p.raw("<h2>")
	p.text(cmp.Or(owner(s.Name, c.Name), "Nodes"))
	if c.Kind != "" {
		p.element("small", "", " "+visible(c.Kind))
	}
	p.raw("</h2>\n")
	if len(c.Nodes) == 0 {
		p.raw("<p class=\"soft\">No client has asked for a node yet.</p>\n")
		return
	}
	if len(c.Nodes) > 1 {
		p.overview(c.Nodes, *nth)
	}
	for _, n := range c.Nodes {
		*nth++
		p.node(n, *nth)
	}
}

// column is one of the overview.
type column struct {
	name  string
	class string
	cell  func(page, *nodeView)
}

func number(of func(*nodeView) string) func(page, *nodeView) {
	return func(p page, n *nodeView) { p.text(of(n)) }
}

var columns = []column{
	{"state", "words long", func(p page, n *nodeView) { p.state(n) }},
	{"role", "words long", number(func(n *nodeView) string { return n.place() })},
	{"sockets", "", number(func(n *nodeView) string { return n.Sockets.ofBound() })},
	{"waiting", "", number(func(n *nodeView) string { return grouped(n.Waiting + n.Awaiting) })},
	{"in flight", "", number(func(n *nodeView) string { return grouped(n.InFlight) })},
	{"requests/s", "", func(p page, n *nodeView) { p.rate(n, "admitted") }},
	{"failed/s", "", func(p page, n *nodeView) { p.rate(n, "failed") }},
}

// rate writes the rate of a counter; a dash if there is none yet.
func (p page) rate(n *nodeView, name string) {
	words := "–"
	if n.Counters[0].Grown != nil {
		words = perSecond(n.Counters.perSecond(name))
	}
	p.text(words)
}

func (p page) overview(nodes []*nodeView, nth int) {
	p.raw(`<section class="card"><table class="rows">` + "\n<thead><tr><th>node</th>")
	for _, c := range columns {
		p.element("th", c.class, c.name)
	}
	p.raw("</tr></thead>\n<tbody>\n")
	for i, n := range nodes {
		p.raw("<tr><td>")
		p.link("#node"+strconv.Itoa(nth+i+1), cmp.Or(visible(n.Addr), "not shown"))
		p.raw("</td>")
		for _, c := range columns {
			p.raw(`<td class="` + c.class + `" data-name="` + c.name + `"><span>`)
			c.cell(p, n)
			p.raw("</span></td>")
		}
		p.raw("</tr>\n")
	}
	p.raw("</tbody></table></section>\n")
}

// state writes in which state the node is, and since when.
func (p page) state(n *nodeView) {
	words, class := n.State, n.State
	if n.Silent && n.State == up {
		words, class = "up, silent", "silent"
	}
	p.element("span", "state "+class, words)
	if n.StateSeconds > 0 {
		p.element("span", "soft", " for "+lasting(time.Duration(n.StateSeconds*float64(time.Second))))
	}
}

// place says what the node is to others.
func (m *member) place() string {
	words := visible(m.Role)
	if m.Slots > 0 {
		words = strings.TrimSpace(words + " of " + several(m.Slots, "slot"))
	}
	return cmp.Or(words, "–")
}

// ofBound is how many sockets there are, and may be. Those beyond the bound aren't in it.
func (s socketView) ofBound() string {
	words := grouped(s.Open - s.Streams)
	if s.Max >= 0 {
		words += " of " + grouped(s.Max)
	}
	if s.Streams > 0 {
		words += " + " + grouped(s.Streams)
	}
	return words
}

func (p page) node(n *nodeView, nth int) {
	p.raw(`<section class="card" id="node` + strconv.Itoa(nth) + `"><h3>`)
	p.text(cmp.Or(visible(n.Addr), "an address that isn't shown"))
	p.raw(" ")
	p.state(n)
	p.raw(" ")
	p.element("small", "", n.nature())
	p.raw("</h3>\n<dl>\n")
	p.sockets(n)
	p.fact("waiting for a connection", n.waiters())
	p.fact("waiting for the node", grouped(n.Awaiting))
	p.fact("requests in flight", grouped(n.InFlight))
	p.fact("oldest under way", age(n.OldestReply))
	p.fact("dials under way", grouped(n.Sockets.Dialing))
	p.fact("sessions, handles", grouped(n.Sessions)+", "+grouped(n.Handles))
	if !n.Since.IsZero() {
		p.fact(n.State+" since", n.Since.UTC().Format("2006-01-02 15:04:05 MST"))
	}
	if n.SlotRanges != "" {
		p.wideFact("slots", n.SlotRanges)
	}
	if n.LastDialError != "" {
		p.raw(`<div class="wide"><dt>the last dial failed</dt>`)
		p.element("dd", "alert mono", visible(n.LastDialError))
		p.raw("</div>\n")
	}
	p.raw("</dl>\n")
	p.lanes(n.Lanes)
	p.raw("<div class=\"tables\">\n")
	first := slices.IndexFunc(n.Counters, func(c counter) bool { return c.Name == "waits" })
	p.counters("requests", n.Counters[:first])
	p.counters("connections", n.Counters[first:])
	p.raw("<div>\n")
	p.holders(n.Holders)
	p.counters("closed, by reason", n.Closes)
	p.counters("pinned, by reason", n.Pins)
	p.raw("</div>\n</div>\n")
	p.events(n.Events)
	p.raw("</section>\n")
}

func (p page) holders(all []holder) {
	if len(all) == 0 {
		return
	}
	p.raw("<table>\n<thead><tr><th>sockets are held by</th><th>sockets</th><th>oldest</th></tr></thead>\n<tbody>\n")
	for _, h := range all {
		p.raw("<tr>")
		p.element("td", "", visible(h.What))
		p.element("td", "", grouped(h.Conns))
		p.element("td", "", age(h.Oldest))
		p.raw("</tr>\n")
	}
	p.raw("</tbody></table>\n")
}

// nature is what is known of the node but its state.
func (n *nodeView) nature() string {
	words := []string{}
	for _, w := range []string{visible(n.Topology), n.place(), visible(n.Network)} {
		if w != "" && w != "–" {
			words = append(words, w)
		}
	}
	if n.TLS {
		words = append(words, "TLS")
	}
	return strings.Join(words, ", ")
}

func (n *nodeView) waiters() string {
	if n.Waiting == 0 {
		return "0"
	}
	return fmt.Sprintf("%s, the oldest for %s", grouped(n.Waiting), lasting(time.Duration(n.OldestWaiter)))
}

// age is how long something has lasted, if there is something.
func age(s seconds) string {
	if s <= 0 {
		return "–"
	}
	return lasting(time.Duration(s))
}

func (p page) fact(name, value string) {
	p.raw("<div>")
	p.element("dt", "", name)
	p.element("dd", "", value)
	p.raw("</div>\n")
}

// wideFact is a fact that may be long.
func (p page) wideFact(name, value string) {
	p.raw(`<div class="wide">`)
	p.element("dt", "", name)
	p.element("dd", "", value)
	p.raw("</div>\n")
}

// sockets shows the sockets by use, against the bound if there is one.
func (p page) sockets(n *nodeView) {
	s := n.Sockets
	uses := []struct {
		name string
		n    int
	}{{"used", s.Used}, {"shared", s.Shared}, {"pinned", s.Pinned}, {"draining", s.Draining}, {"idle", s.Idle}}
	whole := max(s.Open, s.Max+s.Streams, 1)
	p.raw(`<div class="wide"><dt>sockets</dt><dd>`)
	p.textf("%s open", grouped(s.Open))
	if s.Max >= 0 {
		p.textf(", at most %s", grouped(s.Max))
	} else {
		p.text(", without a bound")
	}
	if s.Streams > 0 {
		p.textf("; %s of them beyond the bound, for subscriptions and the like", grouped(s.Streams))
	}
	p.raw(`<div class="bar" role="img" aria-label="sockets by use">`)
	for _, u := range uses {
		if u.n > 0 {
			p.raw(`<i class="` + u.name + `" style="width:` + strconv.FormatFloat(100*float64(u.n)/float64(whole), 'f', 2, 64) + `%"></i>`)
		}
	}
	p.raw(`</div><div class="legend">`)
	for _, u := range uses {
		p.raw(`<span><i class="` + u.name + `"></i>` + u.name + " ")
		p.text(grouped(u.n))
		p.raw("</span>\n")
	}
	p.raw("</div></dd></div>\n")
}

// counters shows counters with their rates.
func (p page) counters(name string, all counters) {
	if len(all) == 0 {
		return
	}
	p.raw("<table>\n<thead><tr>")
	p.element("th", "", name)
	p.raw("<th>total</th><th>per second</th></tr></thead>\n<tbody>\n")
	for _, c := range all {
		class := ""
		if c.Total == 0 {
			class = ` class="none"`
		}
		p.raw("<tr" + class + ">")
		p.element("td", "", visible(strings.ReplaceAll(c.Name, "_", " ")))
		p.element("td", "", grouped(c.Total))
		rate := "–"
		if c.PerSecond != nil {
			rate = perSecond(*c.PerSecond)
		}
		p.element("td", "", rate)
		p.raw("</tr>\n")
	}
	p.raw("</tbody></table>\n")
}

func (p page) hotKeys(s *sourceView) {
	p.raw(`<section class="card"><h3>Hot keys`)
	if s.HotKeysURL != "" {
		p.raw(" <small>")
		p.link(s.HotKeysURL, "all of them")
		p.raw("</small>")
	}
	p.raw("</h3>\n")
	switch {
	case len(s.HotKeys) > 0:
		p.raw("<table>\n<thead><tr><th>key</th><th class=\"words\">class</th><th>share</th><th>per second</th></tr></thead>\n<tbody>\n")
		for _, k := range s.HotKeys {
			p.raw("<tr>")
			p.element("td", "mono", cmp.Or(k.Key, `""`))
			p.element("td", "words", visible(k.Class))
			p.element("td", "", fmt.Sprintf("%.1f %%", 100*k.Share))
			p.element("td", "", perSecond(k.PerSecond))
			p.raw("</tr>\n")
		}
		p.raw("</tbody></table>\n")
	case s.tracked:
		p.raw("<p class=\"soft\">Nothing is hot: no key stands out.</p>\n")
	}
	p.raw("</section>\n")
}
