package topk

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"
)

const (
	universe  = 1_000_000 // keys a Zipf stream draws from
	keyPrefix = "user:session:"
	keyLen    = 24
)

// allKeys is one string with the keys of all ranks in a row: a million strings of
// their own would cost the garbage collector more than the test.
var allKeys = sync.OnceValue(func() string {
	var b strings.Builder
	b.Grow(universe * keyLen)
	for rank := range universe {
		digits := strconv.Itoa(rank)
		b.WriteString(keyPrefix)
		b.WriteString("00000000000"[len(digits):])
		b.WriteString(digits)
	}
	return b.String()
})

// rankKey returns the key of a rank.
func rankKey(rank int) string { return allKeys()[rank*keyLen:][:keyLen] }

// keyRank returns the rank of a key.
func keyRank(tb testing.TB, key string) int {
	tb.Helper()
	rank, err := strconv.Atoi(strings.TrimPrefix(key, keyPrefix))
	if err != nil {
		tb.Fatal(err)
	}
	return rank
}

// zipf draws ranks from 0 to universe-1 with probabilities proportional to
// 1/(rank+1)^s, by inversion of the distribution function. Unlike rand.Zipf it
// can do s <= 1.
type zipf struct {
	*distribution
	rng *rand.Rand
}

// newZipf returns a generator whose draws depend on s and seed only.
func newZipf(s float64, seed uint64) zipf {
	return zipf{distributionOf(s), rand.New(rand.NewPCG(seed, math.Float64bits(s)))}
}

// rank draws a rank.
func (z zipf) rank() int {
	u := z.rng.Float64()
	rank := int(z.hint[int(u*universe)])
	for z.cdf[rank] <= u {
		rank++
	}
	return rank
}

// distribution is the table behind all generators with the same s.
type distribution struct {
	cdf  []float64 // the probability of this rank or a lower one
	hint []int32   // for u from i/universe on: the lowest rank it can be
}

var distributions struct {
	sync.Mutex
	byS map[float64]*distribution
}

// distributionOf returns the table for s and makes it once.
func distributionOf(s float64) *distribution {
	distributions.Lock()
	defer distributions.Unlock()
	d := distributions.byS[s]
	if d == nil {
		if distributions.byS == nil {
			distributions.byS = make(map[float64]*distribution)
		}
		d = newDistribution(s)
		distributions.byS[s] = d
	}
	return d
}

func newDistribution(s float64) *distribution {
	d := &distribution{cdf: make([]float64, universe), hint: make([]int32, universe)}
	sum := 0.0
	for rank := range d.cdf {
		sum += math.Pow(float64(rank+1), -s)
		d.cdf[rank] = sum
	}
	for rank := range d.cdf {
		d.cdf[rank] /= sum
	}
	rank := int32(0)
	for i := range d.hint {
		for d.cdf[rank] <= float64(i)/universe {
			rank++
		}
		d.hint[i] = rank
	}
	return d
}

// TestZipf checks the generator: how often the first ranks come.
func TestZipf(t *testing.T) {
	const draws = 100_000
	for _, s := range skews {
		z := newZipf(s, 1)
		counts := make([]uint64, universe)
		for range draws {
			counts[z.rank()]++
		}
		first := draws * z.cdf[0]
		for rank := range 20 {
			want := first * math.Pow(float64(rank+1), -s)
			if got := float64(counts[rank]); math.Abs(got-want) > 5*math.Sqrt(want) {
				t.Errorf("s=%v: rank %d drawn %v times, want about %.0f", s, rank, got, want)
			}
		}
	}
}

// skewName names a subtest or sub-benchmark.
func skewName(s float64) string { return fmt.Sprintf("s=%v", s) }
