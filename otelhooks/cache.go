package otelhooks

import (
	"maps"
	"sync"
	"sync/atomic"

	"github.com/everpool/everpool/hooks"
)

// cache keeps what is made once for each key. Reading takes no lock and doesn't
// allocate. It holds at most max keys: one more empties it, so that keys that
// nobody asks for any more go, at the price of making the others again.
type cache[K comparable, V any] struct {
	max  int
	make func(K) V
	mu   sync.Mutex // held by writers only
	all  atomic.Pointer[map[K]V]
}

// get returns what was made for k, or else makes it. Two callers may both make
// it; either may be kept.
func (c *cache[K, V]) get(k K) V {
	if all := c.all.Load(); all != nil {
		if v, ok := (*all)[k]; ok {
			return v
		}
	}
	v := c.make(k)
	c.put(k, v)
	return v
}

func (c *cache[K, V]) put(k K, v V) {
	c.mu.Lock()
	defer c.mu.Unlock()
	next := make(map[K]V)
	if all := c.all.Load(); all != nil && len(*all) < c.max {
		maps.Copy(next, *all)
	}
	next[k] = v
	c.all.Store(&next)
}

// maxTargets bounds the servers that something is kept for.
const maxTargets = 128

// byOperation keeps what is made once for each name of an operation and each
// target. Names are bounded by the command table, targets by maxTargets.
type byOperation[T any] struct {
	make func(op *hooks.Operation) *T

	// A client has one Target, which is found by its address. Those of equal
	// clients share what is kept.
	tables cache[*hooks.Target, *table[T]]
	equal  cache[hooks.Target, *table[T]]
}

// table has a place for every name: those of single commands, pipelines and
// transactions by [hooks.Command.Index], then those of mixed batches.
type table[T any] []atomic.Pointer[T]

func newByOperation[T any](newT func(op *hooks.Operation) *T) *byOperation[T] {
	b := &byOperation[T]{make: newT}
	b.tables.max, b.equal.max = maxTargets, maxTargets
	b.tables.make = func(t *hooks.Target) *table[T] { return b.equal.get(*t) }
	b.equal.make = func(hooks.Target) *table[T] {
		places := make(table[T], kinds*hooks.NumCommands()+kinds)
		return &places
	}
	return b
}

// of returns what is kept for the operation's name and target.
func (b *byOperation[T]) of(op *hooks.Operation) *T {
	slot := &(*b.tables.get(op.Target))[slotOf(op)]
	v := slot.Load()
	if v == nil {
		v = b.make(op)
		slot.Store(v)
	}
	return v
}

// kinds is the number of [hooks.Kind]s.
const kinds = 3

func slotOf(op *hooks.Operation) int {
	if op.Command == nil {
		return kinds*hooks.NumCommands() + int(op.Kind)
	}
	return int(op.Kind)*hooks.NumCommands() + op.Command.Index
}
