package debugpage

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/everpool/everpool/internal/guard"
)

// Gathered is what gathering has done, over all clients. It is what driver.GatherStats is.
type Gathered struct {
	Calls    int64            `json:"calls"`    // commands, gathered or not
	Gathered int64            `json:"gathered"` // commands that ran in batches
	Batches  int64            `json:"batches"`
	Direct   map[string]int64 `json:"direct"`        // commands that went straight on though callers were many, by reason
	Off      map[string]int64 `json:"off,omitempty"` // clients and nodes that go without, by reason
}

// GatherStats makes of a driver's GatherStats what [Source].Gathering takes:
// GatherStats(d.GatherStats). S is driver.GatherStats, see [Clients].
func GatherStats[S ~struct {
	Calls    int64
	Gathered int64
	Batches  int64
	Direct   map[string]int64
	Off      map[string]int64
}](stats func() S,
) func() Gathered {
	return func() Gathered { return Gathered(stats()) }
}

// gathering returns what gathering has done; nil if the source doesn't tell.
func (s *Source) gathering() (g *Gathered, err error) {
	defer func() {
		if v := recover(); v != nil {
			g, err = nil, guard.PanicError("reading what it has gathered", v)
		}
	}()
	if s.Gathering == nil {
		return nil, nil
	}
	all := s.Gathering()
	return &all, nil
}

// meanSize is how many commands a batch has had on average.
func (g *Gathered) meanSize() float64 { return float64(g.Gathered) / float64(max(g.Batches, 1)) }

// byReason names the reasons that have happened, those that happened most first.
func byReason(counts map[string]int64) string {
	var words []string
	for _, reason := range slices.SortedFunc(maps.Keys(counts), func(a, b string) int {
		return cmp.Or(cmp.Compare(counts[b], counts[a]), cmp.Compare(a, b))
	}) {
		if n := counts[reason]; n > 0 {
			words = append(words, fmt.Sprintf("%s %d", visible(reason), n))
		}
	}
	if len(words) == 0 {
		return "none"
	}
	return strings.Join(words, ", ")
}

func (p page) gathered(g *Gathered) {
	p.raw(`<section class="card"><h3>Gathering</h3><dl>` + "\n")
	p.fact("calls", fmt.Sprint(g.Calls))
	p.fact("gathered", fmt.Sprint(g.Gathered))
	p.fact("batches", fmt.Sprintf("%d, of %.1f commands on average", g.Batches, g.meanSize()))
	p.fact("straight on", byReason(g.Direct))
	p.fact("clients without", byReason(g.Off))
	p.raw("</dl></section>\n")
}
