package topk

import (
	"iter"
	"maps"
	"math"
	"slices"
	"testing"
)

// checkSketch fails the test unless s keeps all it promises about the stream
// whose true counts are given. Their sum saturates, as do the counts themselves.
func checkSketch(tb testing.TB, s *Sketch, truth map[string]uint64) {
	tb.Helper()
	var total uint64
	for _, n := range truth {
		total = saturatingAdd(total, n)
	}
	if s.Total() != total {
		tb.Fatalf("Total() = %d, want %d", s.Total(), total)
	}
	checkBounds(tb, s, maps.All(truth))
	checkTop(tb, s, truth)
	checkCounters(tb, s)
	checkSizes(tb, s)
}

// checkBounds checks the bounds for the keys given, and that the frequent ones
// are monitored.
func checkBounds(tb testing.TB, s *Sketch, truth iter.Seq2[string, uint64]) {
	tb.Helper()
	monitored := make(map[string]bool, s.m)
	for i := range s.counters {
		monitored[s.counters[i].key] = true
	}
	for key, n := range truth {
		lower, upper := s.Bounds(key)
		if n < lower || n > upper {
			tb.Fatalf("Bounds(%q) = %d, %d, the true count is %d", key, lower, upper, n)
		}
		if n > s.floor() && !monitored[key] {
			tb.Fatalf("%q isn't monitored with %d, floor() = %d", key, n, s.floor())
		}
		if s.total != math.MaxUint64 && n > s.total/uint64(s.m) && !monitored[key] {
			tb.Fatalf("%q isn't monitored with %d of %d, m = %d", key, n, s.total, s.m)
		}
	}
}

// checkTop checks that Top returns all monitored keys in order.
func checkTop(tb testing.TB, s *Sketch, truth map[string]uint64) {
	tb.Helper()
	top := s.Top(nil, s.Len()+1)
	if len(top) != s.Len() || s.Len() > s.m || s.Len() < min(s.m, len(truth)) {
		tb.Fatalf("Top has %d keys, Len() = %d, m = %d, %d keys added", len(top), s.Len(), s.m, len(truth))
	}
	if !slices.IsSortedFunc(top, compareEntries) {
		tb.Fatalf("Top isn't sorted: %v", top)
	}
	for _, e := range top {
		if _, ok := truth[e.Key]; !ok {
			tb.Fatalf("%q is monitored and was never added", e.Key)
		}
		if lower, upper := s.Bounds(e.Key); lower != e.Lower() || upper != e.Count {
			tb.Fatalf("Bounds(%q) = %d, %d, but Top says %+v", e.Key, lower, upper, e)
		}
	}
}

// checkCounters checks how counters, heap and buckets hang together.
func checkCounters(tb testing.TB, s *Sketch) {
	tb.Helper()
	if len(s.heap) != len(s.counters) {
		tb.Fatalf("heap of %d, %d counters", len(s.heap), len(s.counters))
	}
	for pos, i := range s.heap {
		c := &s.counters[i]
		if int(c.pos) != pos {
			tb.Fatalf("%q is at %d of the heap, but says %d", c.key, pos, c.pos)
		}
		if parent := s.heap[max(pos-1, 0)/2]; s.before(i, parent) {
			tb.Fatalf("heap order: %+v is below %+v", *c, s.counters[parent])
		}
		if s.find(c.hash, c.key) != i {
			tb.Fatalf("%q can't be found", c.key)
		}
	}
	chained := 0
	for _, i := range s.buckets {
		for ; i != none; i = s.counters[i].next {
			chained++
		}
	}
	if chained != len(s.counters) {
		tb.Fatalf("%d counters are in buckets, of %d", chained, len(s.counters))
	}
}

// checkSizes checks why frequent keys are monitored: the counters add up to no more
// than the stream, and a cell lets no key of more than its m-th part through.
func checkSizes(tb testing.TB, s *Sketch) {
	tb.Helper()
	if s.total == math.MaxUint64 {
		return
	}
	var sum uint64
	for i := range s.counters {
		sum = saturatingAdd(sum, s.counters[i].count)
	}
	if sum > s.total {
		tb.Fatalf("the counters add up to %d, of %d", sum, s.total)
	}
	if most := slices.Max(s.cells); uint64(most) > s.total/uint64(s.m) {
		tb.Fatalf("a cell says %d, of %d with m = %d", most, s.total, s.m)
	}
}
