package topk

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"testing"
)

// TestMerge merges by hand: what both monitor, what one does, what neither does.
func TestMerge(t *testing.T) {
	a, b := newSketch(2, 1, 1), newSketch(2, 1, 1)
	for key, n := range map[string]uint64{"both": 10, "a": 8} {
		a.Add(key, n)
	}
	a.Add("rare", 2)
	for key, n := range map[string]uint64{"both": 20, "b": 9} {
		b.Add(key, n)
	}
	b.Add("rare", 3)
	a.Merge(b)
	// Of a with 8+3 and b with 9+2, a is the less certain.
	want := []Entry{{Key: "both", Count: 30}, {Key: "b", Count: 11, Error: 2}}
	if got := a.Top(nil, 3); !slices.Equal(got, want) {
		t.Errorf("Top = %v, want %v", got, want)
	}
	if _, upper := a.Bounds("rare"); upper != 11 { // that of the counter that was dropped
		t.Errorf("upper bound of a rare key = %d, want 11", upper)
	}
	if a.Total() != 52 {
		t.Errorf("Total = %d, want 52", a.Total())
	}
}

// TestMergeFewKeys counts exactly while there is a counter for each key of both.
func TestMergeFewKeys(t *testing.T) {
	a, b := New(3), New(3)
	a.Merge(b)
	if a.Len() != 0 || a.Total() != 0 {
		t.Errorf("of two empty sketches: Len %d, Total %d", a.Len(), a.Total())
	}
	a.Add("x", 1)
	a.Add("y", 2)
	b.Add("y", 3)
	b.Add("z", 4)
	a.Merge(b)
	a.Add("x", 5)
	want := []Entry{{Key: "x", Count: 6}, {Key: "y", Count: 5}, {Key: "z", Count: 4}}
	if got := a.Top(nil, 3); !slices.Equal(got, want) {
		t.Errorf("Top = %v, want %v", got, want)
	}
}

// TestMergeLeavesOther merges into a sketch that then goes on, and looks at the other.
func TestMergeLeavesOther(t *testing.T) {
	fill := func(first int) *Sketch {
		s := New(8)
		for i := range 200 {
			s.Add(fmt.Sprint(first+i*i%50), uint64(i))
		}
		return s
	}
	o, same := fill(0), fill(0)
	s := fill(25)
	s.Merge(o)
	for i := range 200 {
		s.Add(fmt.Sprint(i), 1000)
	}
	if !reflect.DeepEqual(o, same) {
		t.Error("Merge changed the other sketch")
	}
}

// TestMergeShards splits a stream over sketches, as hot-key tracking does, and
// finds the top keys in their sum.
func TestMergeShards(t *testing.T) {
	const shards, draws = 8, 200_000
	z := newZipf(0.99, 7)
	counts := make([]uint64, universe)
	sum, parts := New(monitors), make([]*Sketch, shards)
	for i := range parts {
		parts[i] = New(monitors)
	}
	for i := range draws {
		rank := z.rank()
		counts[rank]++
		parts[i%shards].Add(rankKey(rank), 1)
	}
	for _, part := range parts {
		sum.Merge(part)
	}
	got := recall(t, sum, counts)
	t.Logf("recall@%d from %d merged sketches: %.3f", topKeys, shards, got)
	if got < 0.9 {
		t.Error("want recall of at least 0.9")
	}
	checkSketch(t, sum, maps.Collect(drawn(counts)))
}

func TestMergePanics(t *testing.T) {
	if !panics(func() { New(3).Merge(New(4)) }) {
		t.Error("Merge of sketches with different m doesn't panic")
	}
}

func BenchmarkMerge(b *testing.B) {
	s, o := New(monitors), New(monitors)
	for i := range 10 * monitors {
		s.Add(rankKey(i), uint64(i))
		o.Add(rankKey(i+5*monitors), uint64(i))
	}
	for b.Loop() {
		s.Merge(o)
	}
}
