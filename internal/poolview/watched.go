package poolview

import (
	"errors"
	"reflect"
	"slices"
	"sync"

	"github.com/everpool/everpool/internal/guard"
	"github.com/everpool/everpool/pooler"
)

// Nodes is what has pools.
type Nodes interface{ Nodes() []pooler.NodeStatus }

// Pool is one that metrics are read of.
type Pool struct {
	pooler.NodeStatus
	Source Source
	Sum    bool   // it is itself a sum of several: see [Counters.Count]
	Stock  *Stock // nil: it is everpool's
}

// Watched are those whose pools are read. The zero value is none. It is safe for
// concurrent use.
type Watched struct {
	mu   sync.Mutex // never held while others are called
	last uint64
	all  []watch
}

// watch is one of them. The number tells its counters apart without keeping it alive.
type watch struct {
	number uint64
	nodes  Nodes
}

// Add has the pools of nodes read until stop is called, which may be called again.
func (w *Watched) Add(nodes Nodes) (stop func(), err error) {
	if guard.IsNil(nodes) {
		return nil, errors.New("nodes is nil")
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if reflect.TypeOf(nodes).Comparable() && slices.ContainsFunc(w.all, func(o watch) bool { return o.nodes == nodes }) {
		return nil, errors.New("the nodes are watched already; each would be counted twice")
	}
	w.last++
	number := w.last
	w.all = append(w.all, watch{number, nodes})
	return func() { w.remove(number) }, nil
}

func (w *Watched) remove(number uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all = slices.DeleteFunc(w.all, func(o watch) bool { return o.number == number })
}

// Clear takes all out.
func (w *Watched) Clear() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all = nil
}

// Any reports whether any are watched.
func (w *Watched) Any() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.all) > 0
}

// Pools reads them. It panics if they do.
func (w *Watched) Pools() []Pool {
	w.mu.Lock()
	all := slices.Clone(w.all)
	w.mu.Unlock()
	var pools []Pool
	for _, of := range all {
		nodes := of.nodes.Nodes()
		for i, source := range Sources(of.number, nodes) {
			pools = append(pools, Pool{NodeStatus: nodes[i], Source: source})
		}
	}
	return pools
}
