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

// byOperation keeps what is made once for each name of an operation and each client:
// in the client's own hook, so that it ends with the client and needs no bound. Names
// are bounded by the command table.
type byOperation[T any] struct {
	make func(op *hooks.Operation) *T
}

// table has a place for every name: those of single commands, pipelines and
// transactions by [hooks.Command.Index], then those of mixed batches; and all that once
// more for blocking operations. It is in pages, of which most clients need few.
type table[T any] []atomic.Pointer[page[T]]

func newTable[T any]() any { return make(table[T], (slots()+pageSize-1)/pageSize) }

const pageSize = 64

type page[T any] [pageSize]atomic.Pointer[T]

func newByOperation[T any](newT func(op *hooks.Operation) *T) *byOperation[T] {
	return &byOperation[T]{make: newT}
}

// of returns what is kept for the operation's name and client. For an operation that
// no hook has made nothing is kept: then it is made anew.
func (b *byOperation[T]) of(op *hooks.Operation) *T {
	places, ok := op.Kept(b).(table[T])
	if !ok {
		if places, ok = op.Keep(b, newTable[T]).(table[T]); !ok {
			return b.make(op)
		}
	}
	n := slotOf(op)
	at := &places[n/pageSize]
	if at.Load() == nil {
		at.CompareAndSwap(nil, new(page[T]))
	}
	slot := &at.Load()[n%pageSize]
	v := slot.Load()
	if v == nil {
		v = b.make(op)
		slot.Store(v)
	}
	return v
}

// kinds is the number of [hooks.Kind]s.
const kinds = 3

// slots is the number of places in a table.
func slots() int { return 2 * kinds * (hooks.NumCommands() + 1) }

func slotOf(op *hooks.Operation) int {
	kind, index := int(op.Kind), hooks.NumCommands()
	if op.Blocking() {
		kind += kinds
	}
	if op.Command != nil {
		index = op.Command.Index
	}
	return kind*(hooks.NumCommands()+1) + index
}
