package debugpage

import (
	"encoding/json"
	"maps"
	"slices"

	"github.com/everpool/everpool/pooler"
)

// counter is what only grows. Grown and PerSecond are since the last sample; nil if there
// is none.
type counter struct {
	Name      string   `json:"-"`
	Total     int64    `json:"total"`
	Grown     *int64   `json:"grown,omitempty"`
	PerSecond *float64 `json:"per_second,omitempty"`
}

// counters are in the order in which they are shown. In JSON they are an object.
type counters []counter

// MarshalJSON makes an object of them.
func (c counters) MarshalJSON() ([]byte, error) {
	byName := make(map[string]counter, len(c))
	for _, one := range c {
		byName[one.Name] = one
	}
	return json.Marshal(byName)
}

// grown is by how much a counter has grown; 0 if that isn't known.
func (c counters) grown(name string) int64 {
	for i := range c {
		if c[i].Name == name && c[i].Grown != nil {
			return *c[i].Grown
		}
	}
	return 0
}

// perSecond is its rate; 0 if that isn't known.
func (c counters) perSecond(name string) float64 {
	for i := range c {
		if c[i].Name == name && c[i].PerSecond != nil {
			return *c[i].PerSecond
		}
	}
	return 0
}

// counted are the counters that are shown, by their names in JSON.
var counted = []struct {
	name string
	of   func(*pooler.Stats) int64
}{
	{"admitted", func(s *pooler.Stats) int64 { return s.Admitted }},
	{"answered", func(s *pooler.Stats) int64 { return s.Answered }},
	{"failed", func(s *pooler.Stats) int64 { return s.Failed - s.SentAway }},
	{"sent_away", func(s *pooler.Stats) int64 { return s.SentAway }},
	{"abandoned", func(s *pooler.Stats) int64 { return s.Abandoned }},
	{"unknown_outcomes", func(s *pooler.Stats) int64 { return s.Unknown }},
	{"moved", func(s *pooler.Stats) int64 { return s.Moved }},
	{"resent", func(s *pooler.Stats) int64 { return s.Resent }},
	{"shared", func(s *pooler.Stats) int64 { return s.Shared }},
	{"leased", func(s *pooler.Stats) int64 { return s.Leased }},
	{"waits", func(s *pooler.Stats) int64 { return s.WaitCount }},
	{"wait_timeouts", func(s *pooler.Stats) int64 { return s.WaitTimeouts }},
	{"dials", func(s *pooler.Stats) int64 { return s.Dials }},
	{"dial_errors", func(s *pooler.Stats) int64 { return s.DialErrors }},
	{"heals", func(s *pooler.Stats) int64 { return s.Heals }},
	{"pushes_dropped", func(s *pooler.Stats) int64 { return s.PushesDropped }},
}

// pace makes counters of totals. before is nil if there is nothing to compare with.
type pace struct {
	before  *pooler.Stats
	seconds float64
}

func (p pace) counter(name string, total int64, of func(*pooler.Stats) int64) counter {
	c := counter{Name: name, Total: total}
	if p.before != nil {
		grown := total - of(p.before)
		if grown < 0 { // the pool was made anew
			grown = total
		}
		rate := float64(grown) / p.seconds
		c.Grown, c.PerSecond = &grown, &rate
	}
	return c
}

func (p pace) counted(s *pooler.Stats) (all counters) {
	for _, c := range counted {
		all = append(all, p.counter(c.name, c.of(s), c.of))
	}
	return all
}

// reasons makes counters of those by reason, the most frequent first.
func reasons[K ~string](p pace, s *pooler.Stats, of func(*pooler.Stats) map[K]int64) counters {
	now := of(s)
	all := counters{}
	for _, k := range slices.Sorted(maps.Keys(now)) {
		all = append(all, p.counter(string(k), now[k], func(s *pooler.Stats) int64 { return of(s)[k] }))
	}
	slices.SortStableFunc(all, func(a, b counter) int { return int(min(1, max(-1, b.Total-a.Total))) })
	return all
}
