package poolview_test

import (
	"maps"
	"testing"

	"github.com/everpool/everpool/internal/poolview"
	"github.com/everpool/everpool/pooler"
)

// What is reported never goes back and never grows by what was counted before, whoever
// leaves and comes back; what others count meanwhile is counted.
func TestCountersNeitherFallNorGrowByWhatWasCounted(t *testing.T) {
	for name, c := range map[string]struct {
		part   bool
		rounds []map[string]int64 // by source
		want   []int64
	}{
		"two sources":            {false, []map[string]int64{{"a": 1, "b": 10}, {"a": 3, "b": 11}}, []int64{11, 14}},
		"one leaves":             {false, []map[string]int64{{"a": 5, "b": 10}, {"b": 12}, {"b": 13}}, []int64{15, 17, 18}},
		"one comes back":         {false, []map[string]int64{{"a": 5, "b": 10}, {"b": 12}, {"a": 5, "b": 13}}, []int64{15, 17, 18}},
		"one comes back anew":    {false, []map[string]int64{{"a": 5, "b": 10}, {"b": 10}, {"a": 2, "b": 10}}, []int64{15, 15, 17}},
		"one that goes back":     {false, []map[string]int64{{"a": 5}, {"a": 4}, {"a": 6}}, []int64{5, 5, 7}},
		"a sum that falls":       {true, []map[string]int64{{"a": 100}, {"a": 60}, {"a": 100}, {"a": 101}}, []int64{100, 100, 100, 101}},
		"a sum that is away":     {true, []map[string]int64{{"a": 100}, {}, {"a": 60}, {"a": 101}}, []int64{100, -1, 100, 101}},
		"nothing is a beginning": {false, []map[string]int64{{"a": 0}, {"a": 0}}, []int64{0, 0}},
	} {
		var counters poolview.Counters[string, string]
		for i, round := range c.rounds {
			counters.Begin()
			for source, v := range round {
				counters.Count(source, "k", v, c.part)
			}
			got := int64(-1) // not there
			counters.Each(func(_ string, total int64) { got = total })
			counters.End()
			if got != c.want[i] {
				t.Errorf("%s: round %d: %d, want %d", name, i, got, c.want[i])
			}
		}
	}
}

// What comes and goes for ever takes bounded memory, and what stays is right.
func TestCountersAreBounded(t *testing.T) {
	var counters poolview.Counters[int, int]
	for round := range 4 {
		counters.Begin()
		counters.Count(-1, -1, int64(round), false)
		for i := range poolview.MaxGone {
			k := round*poolview.MaxGone + i
			counters.Count(k, k, 1, false)
		}
		counters.End()
	}
	counters.Begin()
	counters.Count(-1, -1, 4, false) // all others are gone
	counters.End()
	if n := counters.Len(); n > 2*(poolview.MaxGone+2) {
		t.Errorf("%d are kept", n)
	}
	counters.Begin()
	counters.Count(-1, -1, 1e6, false)
	counters.Each(func(k int, total int64) {
		if k != -1 || total != 1e6 {
			t.Errorf("%d: %d", k, total)
		}
	})
}

// Every connection that is open is in one state, whatever the numbers say that were
// taken together.
func TestStatesAddUp(t *testing.T) {
	for _, s := range []pooler.Stats{
		{},
		{OpenConnections: 7, InUse: 5, Idle: 2, Lanes: 2, Draining: 1, Pinned: 1},
		{OpenConnections: 3, InUse: 3, Lanes: 2, Draining: 2, Pinned: 2},
		{OpenConnections: 1, Idle: 1, Pinned: 1},
	} {
		got := make(map[string]int)
		sum := 0
		poolview.StatesOf(&s).Each(func(state string, n int) { got[state] = n; sum += n })
		if sum != s.OpenConnections || len(got) != 5 {
			t.Errorf("%+v: %v", s, got)
		}
	}
	got := make(map[string]int)
	poolview.StatesOf(&pooler.Stats{InUse: 10, Idle: 1, Lanes: 2, Draining: 3, Pinned: 4}).Each(func(state string, n int) { got[state] = n })
	if want := map[string]int{"idle": 1, "used": 1, "shared": 2, "draining": 3, "pinned": 4}; !maps.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// Pools of one address are told apart.
func TestSourcesAreToldApart(t *testing.T) {
	all := poolview.Sources("driver", []pooler.NodeStatus{{Addr: "a"}, {Addr: "a", TLS: true}, {Addr: "a"}, {Addr: "b"}})
	seen := make(map[poolview.Source]bool)
	for _, s := range all {
		seen[s] = true
	}
	if len(seen) != 4 {
		t.Errorf("%v", all)
	}
}
