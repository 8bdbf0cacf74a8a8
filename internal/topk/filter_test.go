package topk

import (
	"math"
	"testing"
)

// TestTwoCells has a key share one of its cells, or both, with a key that is used more.
func TestTwoCells(t *testing.T) {
	const a, b, c = 0, 1, 2 // cells
	hash := func(first, second uint64) uint64 { return first | second<<32 }
	f := make(filter, 4)
	f.raise(hash(a, b), 5)
	f.raise(hash(b, c), 3)
	for _, test := range []struct {
		first, second uint64
		want          uint64
	}{{a, b, 5}, {b, a, 5}, {b, c, 3}, {a, c, 3}, {a, a, 5}, {a, 3, 0}, {3, b, 0}} {
		if got := f.bound(hash(test.first, test.second)); got != test.want {
			t.Errorf("cells %d and %d: %d, want %d", test.first, test.second, got, test.want)
		}
	}
}

// TestFullCells has counts that a cell can't say.
func TestFullCells(t *testing.T) {
	for _, n := range []uint64{full - 1, full, full + 1, 1 << 20, math.MaxUint64 / 2} {
		e := newExact(newSketch(1, 1, 1))
		for _, key := range []string{"a", "b", "a", "c", "b", "a"} {
			e.add(key, n)
			e.check(t)
			e.add(key, 1)
			e.check(t)
		}
	}
}

// TestKeys counts different keys, each added several times.
func TestKeys(t *testing.T) {
	s := New(monitors)
	want := func(low, high float64) {
		t.Helper()
		if got := s.Keys(); got < low || got > high {
			t.Errorf("Keys() = %.1f, want %.1f to %.1f", got, low, high)
		}
	}
	added := 0
	add := func(upTo int) {
		for ; added < upTo; added++ {
			for range 1 + added%3 {
				s.Add(rankKey(added), 1)
			}
		}
	}
	want(0, 0)
	add(10)
	want(10, 10)
	add(monitors)
	want(monitors, monitors)
	for _, n := range []int{monitors + 1, 1000, len(s.cells) / 4, len(s.cells), 2 * len(s.cells)} {
		add(n)
		want(0.9*float64(n), 1.1*float64(n))
	}
	add(20 * len(s.cells))
	want(2*float64(len(s.cells)), 10*float64(len(s.cells)))
	s.Reset()
	want(0, 0)
}
