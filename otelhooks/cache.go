package otelhooks

import (
	"maps"
	"sync"
	"sync/atomic"

	"github.com/everpool/everpool/hooks"
)

// cache keeps what is made once for each key. Reading takes no lock and doesn't
// allocate. It holds at most max keys. One that is full takes no more, so that what
// it has goes on being found; only when it has refused many is it emptied, so that
// keys that nobody asks for any more go. Writing copies everything: were it emptied
// at once, a few keys too many would make every other reading a writing.
type cache[K comparable, V any] struct {
	max     int
	make    func(K) V
	mu      sync.Mutex // held by writers only
	all     atomic.Pointer[map[K]V]
	refused atomic.Int64 // since it was emptied
}

// patience is how many a full cache refuses before it is emptied, for each key
// that it holds. With 32 the copying is spread over so many readings that they cost
// less than a microsecond each for it.
const patience = 32

// find returns what is kept for k.
func (c *cache[K, V]) find(k K) (v V, ok bool) {
	if all := c.all.Load(); all != nil {
		v, ok = (*all)[k]
	}
	return v, ok
}

// get returns what is kept for k, or else makes and keeps it. It reports false if
// there is no room: then nothing is made. Two callers may both make it; either may
// be kept.
func (c *cache[K, V]) get(k K) (v V, ok bool) {
	if v, ok = c.find(k); ok {
		return v, true
	}
	if !c.hasRoom() {
		return v, false
	}
	v = c.make(k)
	c.put(k, v)
	return v, true
}

// hasRoom is asked for a key that isn't there, and counts those that it refuses.
func (c *cache[K, V]) hasRoom() bool {
	if all := c.all.Load(); all == nil || len(*all) < c.max {
		return true
	}
	most := int64(patience * c.max)
	if c.refused.Add(1) <= most {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.refused.Load() > most { // nobody else was faster
		c.all.Store(nil)
		c.refused.Store(0)
	}
	return true
}

// put keeps v, unless others have filled the cache.
func (c *cache[K, V]) put(k K, v V) {
	c.mu.Lock()
	defer c.mu.Unlock()
	next := make(map[K]V)
	if all := c.all.Load(); all != nil {
		if len(*all) >= c.max {
			return
		}
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
	b.equal.make = func(hooks.Target) *table[T] {
		places := make(table[T], kinds*hooks.NumCommands()+kinds)
		return &places
	}
	return b
}

// of returns what is kept for the operation's name and target, nil if there is no
// room for the target.
func (b *byOperation[T]) of(op *hooks.Operation) *T {
	places := b.tableOf(op.Target)
	if places == nil {
		return nil
	}
	slot := &(*places)[slotOf(op)]
	v := slot.Load()
	if v == nil {
		v = b.make(op)
		slot.Store(v)
	}
	return v
}

// tableOf returns the target's table, nil if there is no room for it.
func (b *byOperation[T]) tableOf(t *hooks.Target) *table[T] {
	if places, ok := b.tables.find(t); ok {
		return places
	}
	places, ok := b.equal.get(*t)
	if ok && b.tables.hasRoom() {
		b.tables.put(t, places)
	}
	return places
}

// kinds is the number of [hooks.Kind]s.
const kinds = 3

func slotOf(op *hooks.Operation) int {
	if op.Command == nil {
		return kinds*hooks.NumCommands() + int(op.Kind)
	}
	return int(op.Kind)*hooks.NumCommands() + op.Command.Index
}
