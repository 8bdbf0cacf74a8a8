package hooks

import (
	"sync"
	"sync/atomic"
)

// kept is what observers keep for a client. It isn't part of the Target, so that
// targets can be compared.
type kept struct {
	mu  sync.Mutex // for adding one
	all atomic.Pointer[[]keptFor]
}

// keptFor is what one observer keeps. There are few of them.
type keptFor struct{ owner, value any }

// Kept returns what was given to [Operation.Keep] for this owner, by any operation of
// the same client, or nil. It takes no lock and doesn't allocate.
func (op *Operation) Kept(owner any) any {
	if op.kept == nil {
		return nil
	}
	all := op.kept.all.Load()
	if all == nil {
		return nil
	}
	for i := range *all {
		if (*all)[i].owner == owner {
			return (*all)[i].value
		}
	}
	return nil
}

// Keep keeps what newValue returns for as long as there is the client: what an observer
// makes once for each target needs neither a bound nor a way out. owner should be a
// pointer of the observer's. What is kept for it already is returned, and newValue isn't
// called; nor is it for an operation that no hook has made, of which nothing is kept:
// then Keep returns nil.
func (op *Operation) Keep(owner any, newValue func() any) any {
	if op.kept == nil {
		return nil
	}
	op.kept.mu.Lock()
	defer op.kept.mu.Unlock()
	if before := op.Kept(owner); before != nil {
		return before
	}
	var all []keptFor
	if before := op.kept.all.Load(); before != nil {
		all = append(all, *before...)
	}
	value := newValue()
	all = append(all, keptFor{owner, value})
	op.kept.all.Store(&all)
	return value
}
