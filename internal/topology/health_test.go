package topology

import (
	"testing"

	"github.com/everpool/everpool/internal/handle"
	"github.com/everpool/everpool/pooler"
)

// A cluster is healthy while each slot's owner isn't down, whatever its replicas are; what
// sentinels watch is as its master is; before anybody has said what there is, one is enough.
func TestTheHealthOfATopology(t *testing.T) {
	halves := func(last int) *View {
		return &View{parts: []part{{0, 8191, []string{"a", "r"}}, {8192, last, []string{"b"}}}}
	}
	const up, suspect, down = pooler.StateUp, pooler.StateSuspect, pooler.StateDown
	for name, c := range map[string]struct {
		view   *View
		states map[string]pooler.State // of a, b and r
		want   Health
	}{
		"all up":           {halves(16383), nil, Health{Healthy: true}},
		"a suspect":        {halves(16383), map[string]pooler.State{"a": suspect}, Health{Healthy: true}},
		"a replica down":   {halves(16383), map[string]pooler.State{"r": down}, Health{Healthy: true}},
		"a master down":    {halves(16383), map[string]pooler.State{"a": down}, Health{Partly: true}},
		"all down":         {halves(16383), map[string]pooler.State{"a": down, "b": down}, Health{}},
		"a slot of nobody": {halves(16382), nil, Health{Partly: true}},
		"no slots":         {&View{}, nil, Health{}},
		"the master up":    {&View{master: "a"}, map[string]pooler.State{"b": down, "r": down}, Health{Healthy: true}},
		"suspect master":   {&View{master: "a"}, map[string]pooler.State{"a": suspect}, Health{}},
		"nothing known":    {nil, map[string]pooler.State{"a": down, "r": down}, Health{Healthy: true}},
		"nothing, all ill": {nil, map[string]pooler.State{"a": down, "b": down, "r": suspect}, Health{}},
	} {
		top := &Topology{nodes: make(map[Node]bool)}
		for _, addr := range []string{"a", "b", "r"} {
			top.nodes[&member{Node: handle.Node{Addr: addr}}] = true
		}
		if c.view != nil {
			top.view.Store(c.view)
		}
		if got := top.Health(func(n Node) pooler.State { return c.states[n.Base().Addr] }); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}
