package topk

import (
	"iter"
	"slices"
	"testing"

	"github.com/everpool/everpool/internal/testkit"
)

const (
	topKeys  = 32
	monitors = 10 * topKeys
)

// skews are the Zipf exponents that tests and benchmarks go through.
var skews = []float64{0.8, 0.99, 1.2}

// TestAccuracy finds the top keys of Zipf streams. The streams are the same in
// each run, the hashes aren't: the recall wanted was reached in each of 20 to 60
// runs with other streams and hashes.
func TestAccuracy(t *testing.T) {
	const sampleLen = 20_000
	streamLen, streamRecall := 2_000_000, 1.0
	if testkit.Race {
		// Each draw takes several times as long, so there are fewer of them, and two
		// keys about as frequent may end up in the wrong order.
		streamLen, streamRecall = 200_000, 0.9
	}
	tests := []struct {
		s            float64
		sampleRecall float64 // wanted from the first sampleLen draws
	}{
		{s: 0.8, sampleRecall: 0.85},
		{s: 0.99, sampleRecall: 0.95},
		{s: 1.2, sampleRecall: 0.95},
	}
	for _, test := range tests {
		t.Run(skewName(test.s), func(t *testing.T) {
			z := newZipf(test.s, 42)
			counts := make([]uint64, universe)
			s := New(monitors)
			draw := func(n int) float64 {
				for range n {
					rank := z.rank()
					counts[rank]++
					s.Add(rankKey(rank), 1)
				}
				return recall(t, s, counts)
			}
			sample := draw(sampleLen)
			fullStream := draw(streamLen - sampleLen)
			t.Logf("m=%d: recall@%d %.3f after %d draws, %.3f after %d",
				monitors, topKeys, sample, sampleLen, fullStream, streamLen)
			if sample < test.sampleRecall || fullStream < streamRecall {
				t.Errorf("want recall of at least %v and %v", test.sampleRecall, streamRecall)
			}
			checkBounds(t, s, drawn(counts))
		})
	}
}

// drawn returns the keys of the ranks that were drawn, with their counts.
func drawn(counts []uint64) iter.Seq2[string, uint64] {
	return func(yield func(string, uint64) bool) {
		for rank, n := range counts {
			if n > 0 && !yield(rankKey(rank), n) {
				return
			}
		}
	}
}

// recall returns which part of the top keys found belongs there by the true
// counts. Where others occur as often as the last of the true top keys, any of
// them is right.
func recall(tb testing.TB, s *Sketch, counts []uint64) float64 {
	tb.Helper()
	var sorted []uint64
	for _, n := range drawn(counts) {
		sorted = append(sorted, n)
	}
	slices.Sort(sorted)
	least := sorted[len(sorted)-topKeys]
	found := 0
	for _, e := range s.Top(nil, topKeys) {
		if counts[keyRank(tb, e.Key)] >= least {
			found++
		}
	}
	return float64(found) / topKeys
}

func BenchmarkAdd(b *testing.B) {
	const draws = 1 << 20
	for _, skew := range skews {
		b.Run(skewName(skew), func(b *testing.B) {
			z := newZipf(skew, 42)
			keys := make([]string, draws)
			s := New(monitors)
			for i := range keys {
				keys[i] = rankKey(z.rank())
				s.Add(keys[i], 1)
			}
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				s.Add(keys[i&(draws-1)], 1)
				i++
			}
		})
	}
}
