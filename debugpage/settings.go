package debugpage

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/everpool/everpool/internal/safeaddr"
)

// settings are those in force at nodes that have the same.
type settings struct {
	Nodes  []string  `json:"nodes"` // their addresses
	Values []setting `json:"values"`
}

type setting struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// settingsOf has the settings of each node once, those of the first node first.
func settingsOf(clients []Client) []settings {
	var all []settings
	for _, c := range clients {
		for i := range c.Nodes {
			values := valuesOf(c.Nodes[i].Settings)
			if values == nil {
				continue
			}
			at := slices.IndexFunc(all, func(s settings) bool { return slices.Equal(s.Values, values) })
			if at < 0 {
				at = len(all)
				all = append(all, settings{Values: values})
			}
			if addr := safeaddr.Of(c.Nodes[i].Addr); !slices.Contains(all[at].Nodes, addr) { // several clients may have it
				all[at].Nodes = append(all[at].Nodes, addr)
			}
		}
	}
	return all
}

func valuesOf(attrs []slog.Attr) (all []setting) {
	for _, a := range attrs {
		all = append(all, setting{a.Key, a.Value.String()})
	}
	return all
}

// settings shows the settings in force, and which nodes they are of if there are others.
func (p page) settings(all []settings) {
	for _, s := range all {
		p.raw(`<section class="card"><h3>Settings`)
		if len(all) > 1 {
			p.raw(" <small>of ")
			p.text(firstOf(s.Nodes))
			p.raw("</small>")
		}
		p.raw("</h3><dl>\n")
		for _, one := range s.Values {
			p.fact(visible(one.Name), visible(one.Value))
		}
		p.raw("</dl></section>\n")
	}
}

// mostNamed is how many nodes, or clients, are named that something is of.
const mostNamed = 5

// firstOf names the first of several things, and says how many more there are.
func firstOf(names []string) string {
	var words []string
	for _, n := range names[:min(mostNamed, len(names))] {
		words = append(words, visible(n))
	}
	text := strings.Join(words, ", ")
	if more := len(names) - len(words); more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}
