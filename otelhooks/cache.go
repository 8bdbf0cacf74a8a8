package otelhooks

import (
	"maps"
	"sync/atomic"

	"github.com/everpool/everpool/hooks"
)

// cache keeps what is made once for each key, of the first max keys; for others it is made
// each time. Reading takes no lock and doesn't allocate.
type cache[K comparable, V any] struct {
	max  int
	make func(K) V
	all  atomic.Pointer[map[K]V] // never changed, replaced
}

// get returns what is kept for k, or makes it.
func (c *cache[K, V]) get(k K) V {
	all := c.all.Load()
	if all == nil {
		all = new(map[K]V)
		c.all.CompareAndSwap(nil, all)
	}
	if v, ok := (*all)[k]; ok {
		return v
	}
	v := c.make(k)
	if len(*all) < c.max {
		more := map[K]V{k: v}
		maps.Copy(more, *all)
		c.all.CompareAndSwap(all, &more) // if another was quicker this is made once more
	}
	return v
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
