package debugpage

import (
	"cmp"
	"slices"
	"time"

	"github.com/everpool/everpool/pooler"
)

// lane is what is under way on a shared connection.
type lane struct {
	Conn      uint64  `json:"conn"`
	InFlight  int     `json:"in_flight"`
	Forsaken  int     `json:"forsaken"`
	Oldest    seconds `json:"oldest_seconds"` // at least
	Silence   seconds `json:"silence_seconds"`
	Unwritten int     `json:"unwritten_bytes"`
	Entering  int     `json:"entering"`
	Yielding  bool    `json:"yielding,omitempty"`
}

func lanesOf(s *pooler.Stats) []lane {
	all := []lane{}
	for _, l := range s.LaneStats {
		all = append(all, lane{
			Conn: l.Conn, InFlight: l.InFlight, Forsaken: l.Forsaken, Oldest: seconds(l.Oldest), Silence: seconds(l.Silence),
			Unwritten: l.Unwritten, Entering: l.Entering, Yielding: l.Yielding,
		})
	}
	return all
}

// mostLanes is how many lanes of a node the page shows; a pool of many sessions may have
// hundreds.
const mostLanes = 16

// worst are the lanes that are shown of too many: those whose requests are oldest.
func worst(all []lane) []lane {
	if len(all) <= mostLanes {
		return all
	}
	all = slices.Clone(all)
	slices.SortStableFunc(all, func(a, b lane) int {
		return cmp.Or(cmp.Compare(b.Oldest, a.Oldest), cmp.Compare(b.InFlight, a.InFlight))
	})
	return all[:mostLanes]
}

// age is for how long the first request has been under way, as far as that is known.
func (l *lane) age() string {
	switch {
	case l.InFlight == 0:
		return "–"
	case l.Oldest == 0:
		return "new"
	}
	return lasting(time.Duration(l.Oldest))
}

// empty reports whether nothing is under way.
func (l *lane) empty() bool { return l.InFlight == 0 && l.Entering == 0 }

// laneColumns are those of the lanes, besides their number.
var laneColumns = []struct {
	name string
	cell func(*lane) string
}{
	{"in flight", func(l *lane) string { return grouped(l.InFlight) }},
	{"callers left", func(l *lane) string { return grouped(l.Forsaken) }},
	{"oldest, at least", (*lane).age},
	{"silent for", func(l *lane) string { return age(l.Silence) }},
	{"bytes unwritten", func(l *lane) string { return grouped(l.Unwritten) }},
	{"wait for room", func(l *lane) string { return grouped(l.Entering) }},
}

// lanes shows what is under way on each shared connection.
func (p page) lanes(all []lane) {
	if len(all) == 0 {
		return
	}
	p.raw(`<table class="rows lanes">` + "\n<thead><tr><th>shared connections</th>")
	for _, c := range laneColumns {
		p.element("th", "", c.name)
	}
	p.raw("</tr></thead>\n<tbody>\n")
	shown := worst(all)
	for i := range shown {
		p.lane(&shown[i])
	}
	p.raw("</tbody></table>\n")
	if more := len(all) - len(shown); more > 0 {
		p.raw(`<p class="soft">`)
		p.textf("And %s more, whose requests are younger.", grouped(more))
		p.raw("</p>\n")
	}
}

func (p page) lane(l *lane) {
	class := ""
	if l.empty() {
		class = ` class="none"`
	}
	p.raw("<tr" + class + "><td>")
	p.text("connection " + grouped(int64(l.Conn)))
	if l.Yielding {
		p.element("span", "soft", " takes no more, and is given back")
	}
	p.raw("</td>")
	for _, c := range laneColumns {
		p.raw(`<td data-name="` + c.name + `"><span>`)
		p.text(c.cell(l))
		p.raw("</span></td>")
	}
	p.raw("</tr>\n")
}
