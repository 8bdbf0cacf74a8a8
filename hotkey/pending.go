package hotkey

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"sync"
)

// pendingPerTop is how many keys of a class may wait for a flush, for each of the
// top N: what a window gives, four times over.
const pendingPerTop = 4

// batch is what is to be flushed: what to add to which key's score.
type batch [numClasses]map[string]uint64

func (b *batch) empty() bool { return len(b[Reads])+len(b[Writes]) == 0 }

func (b *batch) sum() (n uint64) {
	for _, counts := range b {
		n = saturating(n, sum(counts))
	}
	return n
}

func (b *batch) set(class Class, key string, n uint64) {
	if b[class] == nil {
		b[class] = make(map[string]uint64)
	}
	b[class][key] = n
}

func sum(counts map[string]uint64) (n uint64) {
	for _, c := range counts {
		n = saturating(n, c)
	}
	return n
}

// pending are the counts that wait for a flush, and what has become of others.
type pending struct {
	limit int // of keys in a class

	mu     sync.Mutex
	counts batch
	stats  FlushStats
}

func newPending(limit int) *pending { return &pending{limit: limit} }

// add adds to what waits. Of too many keys those with the lowest counts are
// dropped.
func (p *pending) add(class Class, counts map[string]uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.addLocked(class, counts)
}

func (p *pending) addLocked(class Class, counts map[string]uint64) {
	all := p.counts[class]
	if all == nil {
		all = make(map[string]uint64, len(counts))
		p.counts[class] = all
	}
	for key, n := range counts {
		if n > 0 {
			all[key] = saturating(all[key], n)
		}
	}
	if len(all) <= p.limit {
		return
	}
	keys := slices.SortedFunc(maps.Keys(all), func(a, b string) int {
		return cmp.Or(cmp.Compare(all[b], all[a]), cmp.Compare(a, b))
	})
	for _, key := range keys[p.limit:] {
		p.stats.Dropped = saturating(p.stats.Dropped, all[key])
		delete(all, key)
	}
}

// take returns all that waits and leaves nothing.
func (p *pending) take() batch {
	p.mu.Lock()
	defer p.mu.Unlock()
	b := p.counts
	p.counts = batch{}
	return b
}

// settle notes what has become of a flush. What was surely not added, and what
// there was no room for, waits for the next one and adds up, unless this is the
// last.
func (p *pending) settle(o outcome, last bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stats.Flushes++
	p.stats.Written = saturating(p.stats.Written, o.written)
	p.stats.Unknown = saturating(p.stats.Unknown, o.unknown)
	if o.errorType != "" {
		p.stats.Failed++
		p.stats.LastError = o.errorType
	}
	back := []batch{o.kept, o.refused}
	if last {
		p.stats.Outranked = saturating(p.stats.Outranked, o.refused.sum())
		back = back[:1]
	}
	for _, b := range back {
		for class, counts := range b {
			if len(counts) > 0 {
				p.addLocked(Class(class), counts)
			}
		}
	}
}

// drop gives up what waits.
func (p *pending) drop() {
	b := p.take()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stats.Dropped = saturating(p.stats.Dropped, b.sum())
}

func (p *pending) snapshot() FlushStats {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.stats
	s.Pending = p.counts.sum()
	return s
}

// saturating is a+b, or the highest number there is: a count that wraps would be
// off by more than any other.
func saturating(a, b uint64) uint64 {
	if a > math.MaxUint64-b {
		return math.MaxUint64
	}
	return a + b
}
