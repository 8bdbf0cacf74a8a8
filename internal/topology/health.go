package topology

import (
	"maps"
	"slices"
	"time"

	"github.com/everpool/everpool/pooler"
)

// Health is how far something serves that has one node or several.
type Health struct {
	Healthy bool
	Partly  bool // not all of it is served, and not nothing
}

// Health says how far the topology is served, by its newest view. A node that no
// connection was asked of counts as up.
func (t *Topology) Health(state func(Node) pooler.State) Health {
	states := make(map[string]pooler.State)
	for _, n := range t.Nodes() {
		states[n.Base().Addr] = state(n)
	}
	v := t.view.Load()
	switch {
	case v == nil:
		return Health{Healthy: slices.Contains(slices.Collect(maps.Values(states)), pooler.StateUp)}
	case v.master != "":
		return Health{Healthy: states[v.master] == pooler.StateUp}
	}
	served := v.slots(func(owner string) bool { return states[owner] != pooler.StateDown })
	return Health{Healthy: served >= Slots, Partly: 0 < served && served < Slots}
}

// Slots is how many slots a cluster has.
const Slots = 16384

// Heed has what is ill looked for though nobody asks for it, slots among it that were
// nobody's: members are asked for those once in maxPause.
func (t *Topology) Heed() {
	owned := func(string) bool { return true }
	if v := t.view.Load(); v != nil && v.master == "" && v.slots(owned) < Slots {
		t.Review()
	}
	t.wanted.Store(time.Now().UnixNano())
	t.look()
}

// slots is how many slots have an owner like that.
func (v *View) slots(like func(owner string) bool) int {
	n := 0
	for _, p := range v.parts {
		if len(p.nodes) > 0 && like(p.nodes[0]) {
			n += p.last - p.first + 1
		}
	}
	return n
}
