package driver

import (
	"testing"

	"github.com/everpool/everpool/pooler"
)

// A cluster is healthy while each slot's owner isn't down, whatever its replicas are; what
// sentinels watch is as its master is; before anybody has said what there is, one is enough.
func TestTheHealthOfATopology(t *testing.T) {
	halves := func(last int) *view {
		return &view{parts: []part{{0, 8191, []string{"a", "r"}}, {8192, last, []string{"b"}}}}
	}
	const up, suspect, down = pooler.StateUp, pooler.StateSuspect, pooler.StateDown
	for name, c := range map[string]struct {
		view   *view
		states map[string]pooler.State // of a, b and r
		want   health
	}{
		"all up":           {halves(16383), nil, health{healthy: true}},
		"a suspect":        {halves(16383), map[string]pooler.State{"a": suspect}, health{healthy: true}},
		"a replica down":   {halves(16383), map[string]pooler.State{"r": down}, health{healthy: true}},
		"a master down":    {halves(16383), map[string]pooler.State{"a": down}, health{partly: true}},
		"all down":         {halves(16383), map[string]pooler.State{"a": down, "b": down}, health{}},
		"a slot of nobody": {halves(16382), nil, health{partly: true}},
		"no slots":         {&view{}, nil, health{}},
		"the master up":    {&view{master: "a"}, map[string]pooler.State{"b": down, "r": down}, health{healthy: true}},
		"suspect master":   {&view{master: "a"}, map[string]pooler.State{"a": suspect}, health{}},
		"nothing known":    {nil, map[string]pooler.State{"a": down, "r": down}, health{healthy: true}},
		"nothing, all ill": {nil, map[string]pooler.State{"a": down, "b": down, "r": suspect}, health{}},
	} {
		top := &topology{nodes: make(map[*node]bool)}
		for _, addr := range []string{"a", "b", "r"} {
			top.nodes[&node{key: nodeKey{addr: addr}}] = true
		}
		if c.view != nil {
			top.view.Store(c.view)
		}
		if got := top.health(func(n *node) pooler.State { return c.states[n.key.addr] }); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}
