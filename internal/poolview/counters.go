// Package poolview is what the exporters of pools' metrics have in common.
package poolview

// Counters adds up counters of sources, such as pools, that come and go: what is
// reported never goes back, and never grows by what was counted before. S is a
// source, K a counter that is reported, to which several sources may add. It isn't
// safe for concurrent use.
type Counters[S, K comparable] struct {
	sources map[S]*source[K]
	sums    map[K]sum
	round   uint64
}

// source is what was read of one.
type source[K comparable] struct {
	round uint64 // in which it was read last
	gone  bool   // it wasn't read in the round before this one
	last  map[K]int64
}

type sum struct {
	n     int64
	round uint64 // in which a source had it last
}

// maxGone bounds what is kept of sources that are gone, but may come back, and as
// many of their counters.
const maxGone = 8192

// Begin begins a round, in which every source is read once.
func (c *Counters[S, K]) Begin() {
	if c.sources == nil {
		c.sources, c.sums = make(map[S]*source[K]), make(map[K]sum)
	}
	c.round++
}

// Count takes in what was read of a counter of one source. One that has gone back
// adds nothing, and goes on from there; a source that was away and comes back with less
// is a new one, all of which is added. part says that the source is itself a sum of
// several, some of which may leave and come back with what they had: then nothing is
// added until there is more than there ever was.
func (c *Counters[S, K]) Count(s S, k K, v int64, part bool) {
	from := c.sources[s]
	if from == nil {
		from = &source[K]{last: make(map[K]int64), round: c.round}
		c.sources[s] = from
	}
	if from.round != c.round {
		from.gone, from.round = from.round != c.round-1, c.round
	}
	last := from.last[k]
	total := c.sums[k]
	switch {
	case v >= last:
		total.n += v - last
	case part:
		v = last
	case from.gone:
		total.n += v
	}
	from.last[k], total.round = v, c.round
	c.sums[k] = total
}

// Each calls f with every counter that a source had in this round.
func (c *Counters[S, K]) Each(f func(k K, total int64)) {
	for k, total := range c.sums {
		if total.round == c.round {
			f(k, total.n)
		}
	}
}

// End ends the round: what is gone is forgotten if it is too much.
func (c *Counters[S, K]) End() {
	forget(c.sources, func(s *source[K]) bool { return s.round != c.round })
	forget(c.sums, func(s sum) bool { return s.round != c.round })
}

func forget[K comparable, V any](all map[K]V, gone func(V) bool) {
	kept := 0
	for k, v := range all {
		if !gone(v) {
			continue
		}
		if kept++; kept > maxGone {
			delete(all, k)
		}
	}
}
