package bench

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// Quantiles of the histogram are those of the sorted values, within the error
// that it states.
func TestQuantilesAreWithinTheStatedError(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	for name, next := range map[string]func() float64{
		"uniform":     func() float64 { return random.Float64() * 1e6 },
		"exponential": func() float64 { return random.ExpFloat64() * 1e5 },
		"heavy tail":  func() float64 { return math.Exp(random.NormFloat64()*3 + 10) },
		"tiny":        func() float64 { return random.Float64() * 40 },
		"one value":   func() float64 { return 123456 },
	} {
		t.Run(name, func(t *testing.T) {
			h, halves := new(Histogram), [2]Histogram{}
			all := make([]time.Duration, 20000)
			for i := range all {
				all[i] = time.Duration(next())
				halves[i%2].Record(all[i])
			}
			h.Merge(&halves[0])
			h.Merge(&halves[1])
			if h.Count() != uint64(len(all)) {
				t.Errorf("%d recorded, counted %d", len(all), h.Count())
			}
			slices.Sort(all)
			for _, q := range []float64{0, 0.01, 0.5, 0.9, 0.99, 0.999, 1} {
				want := all[max(int(math.Ceil(q*float64(len(all))))-1, 0)]
				got := h.Quantile(q)
				if off := math.Abs(float64(got - want)); off > HistogramError*float64(want) {
					t.Errorf("quantile %v is %d; want %d, give or take %.1f", q, got, want, HistogramError*float64(want))
				}
			}
		})
	}
}

// Every value is in a bucket whose middle is near, and larger values are never
// in lower buckets.
func TestBucketsCoverAllValues(t *testing.T) {
	t.Parallel()
	last := 0
	for v := time.Duration(0); v < 1<<valueBits; v += v/200 + 1 {
		i := bucketOf(v)
		if i < last || i > last+1 {
			t.Fatalf("%d is in bucket %d, after %d", v, i, last)
		}
		last = i
		if off := math.Abs(float64(middleOf(i) - v)); off > HistogramError*float64(v) {
			t.Fatalf("%d is in bucket %d, whose middle is %d", v, i, middleOf(i))
		}
	}
	if last != buckets-1 {
		t.Errorf("the last bucket is %d; there are %d", last, buckets)
	}
}

func TestHistogramTakesWhatIsOutOfRange(t *testing.T) {
	t.Parallel()
	var h Histogram
	if got := h.Quantile(0.5); got != 0 {
		t.Errorf("median of nothing: %v", got)
	}
	h.Record(-time.Second)
	h.Record(time.Hour)
	if low, high := h.Quantile(0), h.Quantile(1); low != 0 || high < 130*time.Second {
		t.Errorf("from %v to %v; want 0 to 137s", low, high)
	}
}

func BenchmarkRecord(b *testing.B) {
	var h Histogram
	for i := 0; b.Loop(); i++ {
		h.Record(time.Duration(i))
	}
}
