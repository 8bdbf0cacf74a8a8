package hotkey

import (
	"math"
	"time"

	"github.com/everpool/everpool/internal/topk"
)

// window is what was counted over some time. It isn't changed.
type window struct {
	class      Class
	start, end time.Time
	rate       float64 // of the sampling
	samples    uint64
	live       bool
	entries    []topk.Entry // the highest first
}

// Count is how often a key was used over a window. Estimates and bounds are of
// uses, not of samples.
type Count struct {
	// Key is the name under which it is counted.
	Key string `json:"key"`
	// Rate is Count per second of the window.
	Rate float64 `json:"rate"`
	// Count is the estimate, by which keys are ordered.
	Count uint64 `json:"count"`
	// Lower and Upper are bounds. At a sample rate of 1 the truth is always
	// within; at lower rates it is 95 times in 100.
	Lower uint64 `json:"lower"`
	Upper uint64 `json:"upper"`
}

// top returns the counts of up to n keys.
func (w *window) top(n int) []Count {
	counts := make([]Count, min(max(n, 0), len(w.entries)))
	for i := range counts {
		counts[i] = w.count(w.entries[i])
	}
	return counts
}

func (w *window) count(e topk.Entry) Count {
	c := Count{Key: e.Key, Count: scaled(float64(e.Count), w.rate)}
	lower, _ := truth(e.Lower(), w.rate)
	_, upper := truth(e.Count, w.rate)
	c.Lower, c.Upper = scaled(math.Floor(lower), 1), scaled(math.Ceil(upper), 1)
	c.Rate = w.perSecond(float64(e.Count) / w.rate)
	return c
}

// perSecond is the rate of so many uses.
func (w *window) perSecond(uses float64) float64 {
	if seconds := w.seconds(); seconds > 0 {
		return uses / seconds
	}
	return 0
}

func (w *window) seconds() float64 { return w.end.Sub(w.start).Seconds() }

// scaled is what so many samples stand for.
func scaled(samples, rate float64) uint64 {
	if n := math.Round(samples / rate); n < math.MaxUint64 {
		return uint64(n)
	}
	return math.MaxUint64
}

// truth bounds the number N of which n were sampled at the rate p: the N from which
// n is at most two standard deviations away, between the solutions of
// (n-Np)^2 = 4Np(1-p), and at least n. With p = 1 both bounds are n.
func truth(n uint64, p float64) (lower, upper float64) {
	q, seen := 1-p, float64(n)
	middle, deviation := seen+2*q, 2*math.Sqrt(q*(seen+q))
	return max(seen, (middle-deviation)/p), (middle + deviation) / p
}
