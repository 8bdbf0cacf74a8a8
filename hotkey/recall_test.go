package hotkey_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sort"
	"strconv"
	"testing"

	"github.com/everpool/everpool/hotkey"
	"github.com/everpool/everpool/internal/testkit"
)

const (
	universe = 1_000_000
	topKeys  = 32
)

// zipf draws ranks with probabilities proportional to 1/(rank+1)^s.
type zipf struct {
	cdf []float64
	rng *rand.Rand
}

func newZipf(s float64) *zipf {
	z := &zipf{make([]float64, universe), rand.New(rand.NewPCG(42, math.Float64bits(s)))}
	sum := 0.0
	for rank := range z.cdf {
		sum += math.Pow(float64(rank+1), -s)
		z.cdf[rank] = sum
	}
	return z
}

func (z *zipf) rank() int { return sort.SearchFloat64s(z.cdf, z.rng.Float64()*z.cdf[universe-1]) }

// stream feeds draws to a tracker and returns how often each rank came.
func (z *zipf) stream(tracker *hotkey.Tracker, draws int) []uint64 {
	f, uses := feed(tracker, "get", ""), make([]uint64, universe)
	for range draws {
		rank := z.rank()
		uses[rank]++
		f.key(rankKey(rank), 1)
	}
	return uses
}

func rankKey(rank int) string { return fmt.Sprintf("user:session:%011d", rank) }

// recall is the share of the top that belongs there. Of keys that were used as
// often as the last that does, any is right.
func recall(tb testing.TB, top []hotkey.Count, uses []uint64) float64 {
	tb.Helper()
	sorted := slices.Sorted(slices.Values(uses))
	right := 0
	for _, c := range top {
		if usesOf(tb, c, uses) >= sorted[universe-topKeys] {
			right++
		}
	}
	return float64(right) / topKeys
}

func usesOf(tb testing.TB, c hotkey.Count, uses []uint64) uint64 {
	tb.Helper()
	rank, err := strconv.Atoi(c.Key[len("user:session:"):])
	if err != nil {
		tb.Fatal(err)
	}
	return uses[rank]
}

// The streams are the same in each run; how the keys are hashed isn't.
func TestTheTopKeysOfZipfStreamsAreFound(t *testing.T) {
	testkit.LongOnly(t)
	if testkit.Race {
		t.Skip("nothing concurrent in it, and slow with the race detector")
	}
	for _, c := range []struct {
		s     float64
		draws int
		rate  float64
		want  float64
	}{
		{0.8, 1_000_000, 1, 1},
		{0.99, 1_000_000, 1, 1},
		{1.2, 1_000_000, 1, 1},
		{0.99, 20_000, 1, 0.95},
		{1.2, 20_000, 1, 0.95},
		{0.99, 1_000_000, 0.02, 0.7}, // neighbours in rank differ by less than chance
		{1.2, 1_000_000, 0.02, 0.7},
	} {
		t.Run(fmt.Sprintf("s=%v/draws=%d/rate=%v", c.s, c.draws, c.rate), func(t *testing.T) {
			tracker := newTracker(t, hotkey.Config{ReadSampleRate: c.rate, MaxSamplesPerSecond: -1, Window: 3600e9})
			uses := newZipf(c.s).stream(tracker, c.draws)
			top := tracker.Top(hotkey.Reads, topKeys)
			got := recall(t, top, uses)
			t.Logf("recall@%d %.3f from %d samples of %d", topKeys, got, tracker.Stats().Reads.Samples, c.draws)
			if got < c.want {
				t.Errorf("want at least %v", c.want)
			}
			for _, k := range top {
				if n := usesOf(t, k, uses); c.rate == 1 && (n < k.Lower || k.Upper < n) {
					t.Errorf("%+v, but it was used %d times", k, n)
				}
			}
		})
	}
}
