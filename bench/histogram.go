package bench

import (
	"math"
	"math/bits"
	"time"
)

// HistogramError is the largest relative error of a quantile.
const HistogramError = 1.0 / (2 * perOctave)

const (
	octaveBits = 4
	perOctave  = 1 << octaveBits // buckets for each doubling of the value

	// valueBits bounds what is told apart: 2^37 ns are 137 s.
	valueBits = 37
	buckets   = (valueBits-octaveBits-1)*perOctave + 2*perOctave
)

// Histogram counts durations in buckets that grow with the value, as HDR
// histograms do. The zero value is empty. It is small, since each goroutine has
// its own, and it isn't safe for concurrent use.
type Histogram struct {
	n      uint64
	counts [buckets]uint32
}

// Record counts one duration. What is negative counts as 0, what is too long as
// the longest that can be told.
func (h *Histogram) Record(d time.Duration) {
	h.n++
	h.counts[bucketOf(d)]++
}

// Merge adds what another histogram has counted.
func (h *Histogram) Merge(other *Histogram) {
	h.n += other.n
	for i, c := range other.counts {
		h.counts[i] += c
	}
}

// Count returns how many durations were recorded.
func (h *Histogram) Count() uint64 { return h.n }

// Quantile returns the duration that a share q of all don't exceed: 0.5 is the
// median, 1 the maximum. It is off by [HistogramError] at most, and 0 if nothing
// was recorded.
func (h *Histogram) Quantile(q float64) time.Duration {
	if h.n == 0 {
		return 0
	}
	rank := min(max(uint64(math.Ceil(q*float64(h.n))), 1), h.n)
	var seen uint64
	for i, c := range h.counts {
		if seen += uint64(c); seen >= rank {
			return middleOf(i)
		}
	}
	return middleOf(buckets - 1)
}

// bucketOf maps a value to its bucket: small values to buckets of their own,
// others by their highest octaveBits+1 bits.
func bucketOf(d time.Duration) int {
	v := uint64(min(max(d, 0), 1<<valueBits-1))
	shift := max(bits.Len64(v)-octaveBits-1, 0)
	return shift<<octaveBits + int(v>>shift)
}

// middleOf returns the value in the middle of a bucket.
func middleOf(i int) time.Duration {
	if i < 2*perOctave {
		return time.Duration(i)
	}
	shift := i>>octaveBits - 1
	low := (i&(perOctave-1) + perOctave) << shift
	return time.Duration(low + 1<<shift/2)
}
