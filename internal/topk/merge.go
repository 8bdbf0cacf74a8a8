package topk

import "sort"

// Merge adds to s what o counted, and leaves o as it is. The bounds are then
// those of both streams together: the sums of the bounds in s and o. Of the keys
// monitored by either, s goes on with the m that have the highest sums.
//
// Merge panics if s and o were made with different m.
func (s *Sketch) Merge(o *Sketch) {
	if s.m != o.m || len(s.cells) != len(o.cells) {
		panic("topk: merge of sketches with different numbers of monitored keys")
	}
	union := s.union(o)
	sort.Slice(union, func(i, j int) bool { return union[i].before(&union[j]) })
	for i := range s.cells {
		s.cells[i] = saturatingAdd(s.cells[i], o.cells[i])
	}
	s.total = saturatingAdd(s.total, o.total)

	dropped := max(len(union)-s.m, 0)
	for i := range dropped {
		s.filterOut(&union[i])
	}
	s.monitor(union[dropped:])
}

// union returns counters for all keys that s or o monitors, with the sums of
// their bounds.
func (s *Sketch) union(o *Sketch) []counter {
	union := make([]counter, 0, len(s.counters)+len(o.counters))
	for _, c := range s.counters {
		union = append(union, c.plus(o))
	}
	for _, c := range o.counters {
		if s.find(c.hash, c.key) == none {
			union = append(union, c.plus(s))
		}
	}
	return union
}

// plus returns c with the bounds added that another sketch has for its key. Where
// the key isn't monitored there, it may have occurred as often as its cell says,
// or not at all.
func (c counter) plus(other *Sketch) counter {
	count, err := other.bounds(c.hash, c.key)
	c.count = saturatingAdd(c.count, count)
	c.err = saturatingAdd(c.err, err)
	return c
}

// monitor replaces all counters by those given, which are at most m and sorted.
func (s *Sketch) monitor(counters []counter) {
	clear(s.counters)
	s.counters = append(s.counters[:0], counters...)
	s.clearBuckets()
	s.heap = s.heap[:0]
	for i := range s.counters {
		s.heap = append(s.heap, int32(i)) // what is sorted is a heap
		s.counters[i].pos = int32(i)
		s.link(int32(i))
	}
}
