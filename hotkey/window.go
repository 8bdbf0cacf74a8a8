package hotkey

import (
	"math"
	"time"
)

// window is what was counted over some time. It isn't changed.
type window struct {
	class      Class
	start, end time.Time
	rate       float64 // of the sampling
	samples    uint64
	keys       float64 // about how many different ones were sampled
	live       bool
	entries    []entry // the highest first
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
	// within; at lower rates it is 9 times in 10 or more of the keys that are listed, if
	// some are used more than others: of many that are used alike those are listed
	// that chance has favoured.
	Lower uint64 `json:"lower"`
	Upper uint64 `json:"upper"`
	// Share is Count's of all uses of keys in the class over the window, up to 1.
	Share float64 `json:"share"`

	// What follows is of the samples that were surely the key's.

	// Commands are those that have used the key, the first most: of the first two that
	// came, and [hooks.Other] for all others.
	Commands []CommandShare `json:"commands,omitempty"`
	// Misses is the share of the uses that were answered with nil, as to a GET of a key
	// that doesn't exist.
	Misses float64 `json:"misses"`
	// Node is the server that answered last, as host:port; "" if that isn't known, as of
	// batches of a cluster.
	Node string `json:"node,omitempty"`
}

// top returns the counts of up to n keys.
func (w *window) top(n int) []Count {
	counts := make([]Count, min(max(n, 0), len(w.entries)))
	for i := range counts {
		counts[i] = w.count(w.entries[i])
	}
	return counts
}

// those are the up to n first entries for which keep returns true.
func those(entries []entry, n int, keep func(entry) bool) []entry {
	kept := make([]entry, 0, min(n, len(entries)))
	for _, e := range entries {
		if len(kept) < n && keep(e) {
			kept = append(kept, e)
		}
	}
	return kept
}

func (w *window) count(e entry) Count {
	c := Count{Key: e.Key, Count: scaled(float64(e.Count), w.rate)}
	lower, _ := truth(e.Lower(), w.rate)
	_, upper := truth(e.Count, w.rate)
	c.Lower, c.Upper = scaled(math.Floor(lower), 1), scaled(math.Ceil(upper), 1)
	if w.samples > 0 {
		c.Share = float64(e.Count) / float64(w.samples)
	}
	e.usage.describe(&c, e.Lower())
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

// truth bounds the number N of which n were sampled at the rate p: between what is
// likely by chance, and at least n. With p = 1 both bounds are n.
func truth(n uint64, p float64) (lower, upper float64) {
	lower, upper = chance(n, p)
	return max(float64(n), lower/p), upper / p
}

// deviations are how many standard deviations a number of samples may be from what is
// expected. Nineteen in 20 are within two; those that are listed are there because they are
// high, so that it takes more.
const deviations = 2.5

// chance bounds the samples Np that are expected where n were seen: those from which
// n is at most so many standard deviations away, the solutions of
// (n-Np)^2 = deviations^2*Np(1-p).
func chance(n uint64, p float64) (lower, upper float64) {
	half := deviations * deviations * (1 - p) / 2
	middle, deviation := float64(n)+half, deviations*math.Sqrt((1-p)*float64(n)+half*half/(deviations*deviations))
	return middle - deviation, middle + deviation
}
