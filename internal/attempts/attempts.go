// Package attempts counts what the nodes of clusters and rings had of operations, for all
// that export it.
package attempts

import (
	"maps"
	"math"
	"sync"
	"sync/atomic"
	"unicode/utf8"

	"github.com/everpool/everpool/hooks"
)

// MaxNodes is how many nodes have counts of their own: a cluster whose nodes come back with
// other addresses has ever new ones.
const MaxNodes = 128

// others stands for all further nodes, and for those that have no address to show.
var others = hooks.Target{Addr: "other", Host: "other"}

// Counts are attempts by node and by how they have ended. To count takes no lock and
// doesn't allocate, but for the first of a node and of an ending. The zero value has none.
type Counts struct {
	nodes table[*node]
	rest  node // of further nodes
}

// node is what was counted of one.
type node struct {
	peer   hooks.Target
	counts table[*atomic.Int64] // by type of error
}

// Of is the count of the peer's attempts with that type of error, which is "" for those that
// have succeeded.
func (c *Counts) Of(peer *hooks.Target, errorType string) *atomic.Int64 {
	counts := &c.node(peer).counts
	if n, ok := counts.held()[errorType]; ok {
		return n
	}
	n, _ := counts.add(errorType, new(atomic.Int64), math.MaxInt) // package hooks bounds the types
	return n
}

func (c *Counts) node(peer *hooks.Target) *node {
	known := c.nodes.held()
	if n, ok := known[peer.Addr]; ok {
		return n
	}
	if len(known) < MaxNodes && isShown(peer.Addr) {
		if n, ok := c.nodes.add(peer.Addr, &node{peer: *peer}, MaxNodes); ok {
			return n
		}
	}
	return &c.rest
}

// isShown reports whether an address can be an attribute and a label of one node: a unix
// socket's path may be anything.
func isShown(addr string) bool {
	return addr != "" && addr != others.Addr && utf8.ValidString(addr)
}

// Each calls f for each count that isn't 0.
func (c *Counts) Each(f func(peer *hooks.Target, errorType string, n int64)) {
	for _, node := range c.nodes.held() {
		node.each(&node.peer, f)
	}
	c.rest.each(&others, f)
}

func (n *node) each(peer *hooks.Target, f func(*hooks.Target, string, int64)) {
	for errorType, count := range n.counts.held() {
		if count := count.Load(); count != 0 {
			f(peer, errorType, count)
		}
	}
}

// table only grows. It is read without a lock.
type table[V any] struct {
	mu  sync.Mutex                   // of adding
	all atomic.Pointer[map[string]V] // never changed, replaced
}

func (t *table[V]) held() map[string]V {
	if all := t.all.Load(); all != nil {
		return *all
	}
	return nil
}

// add returns what is held by the key, which is v if nothing was. It reports false if there
// is no room for v.
func (t *table[V]) add(key string, v V, most int) (held V, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := t.held()
	if old, ok := all[key]; ok {
		return old, true
	}
	if len(all) >= most {
		return v, false
	}
	more := map[string]V{key: v}
	maps.Copy(more, all)
	t.all.Store(&more)
	return v, true
}
