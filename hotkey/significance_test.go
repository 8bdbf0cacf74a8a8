package hotkey_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/everpool/everpool/hotkey"
	"github.com/everpool/everpool/internal/testkit"
)

// workload draws the numbers of keys.
type workload struct {
	name string
	draw func() int
	hot  int // how many keys are shown at most
}

func workloads() []workload {
	rng := rand.New(rand.NewPCG(7, 7))
	var all []workload
	for _, keys := range []int{universe, 100_000, 10_000, 5000, 2000, 1000, 300} {
		all = append(all, workload{fmt.Sprint("uniform/", keys), func() int { return rng.IntN(keys) }, 0})
	}
	for _, times := range []int{3, 300} { // each so often in a row, and then never again
		used := 0
		all = append(all, workload{fmt.Sprint("churn/", times), func() int { used++; return used / times % universe }, 0})
	}
	all = append(
		all,
		workload{"5 percent", func() int { return min(rng.IntN(20), 1) * (1 + rng.IntN(universe-1)) }, 1},
		workload{"one key and a thousand", func() int { return rng.IntN(2) * (1 + rng.IntN(1000)) }, 1},
	)
	for _, s := range []float64{0.8, 0.99, 1.2} {
		all = append(all, workload{fmt.Sprint("zipf/", s), newZipf(s).rank, topKeys})
	}
	return all
}

// Where nothing is hot nothing is shown; what is hot is shown as it would be without
// regard to what is significant, and the bounds hold as often as they claim.
func TestOnlyWhatIsSignificantIsShown(t *testing.T) {
	testkit.LongOnly(t)
	if testkit.Race {
		t.Skip("nothing concurrent in it, and slow with the race detector")
	}
	for rate, draws := range map[float64]int{1: 300_000, 0.01: 1_000_000} {
		held, listed := 0, 0
		for _, w := range workloads() {
			t.Run(fmt.Sprintf("%s/rate=%v", w.name, rate), func(t *testing.T) {
				tracker := newTracker(t, hotkey.Config{ReadSampleRate: rate, MaxSamplesPerSecond: -1, Window: time.Hour})
				f, uses := feed(tracker, "get", ""), make([]uint64, universe)
				for range draws {
					rank := w.draw()
					uses[rank]++
					f.key(rankKey(rank), 1)
				}
				shown := tracker.Top(hotkey.Reads, topKeys)
				got, without := recall(t, shown, uses), recall(t, tracker.All(hotkey.Reads, topKeys), uses)
				t.Logf("%d shown, recall@%d %.3f, without regard to significance %.3f", len(shown), topKeys, got, without)
				if len(shown) > w.hot || w.hot == 1 && (len(shown) != 1 || shown[0].Key != rankKey(0)) {
					t.Errorf("shown are %+v, want %d", shown, w.hot)
				}
				if w.hot == topKeys && got < without-1.0/topKeys {
					t.Errorf("the recall is %.3f, and would be %.3f", got, without)
				}
				for _, c := range shown {
					listed++
					if n := usesOf(t, c, uses); c.Lower <= n && n <= c.Upper {
						held++
					}
				}
			})
		}
		t.Logf("rate %v: %d of %d intervals hold", rate, held, listed)
		if rate == 1 && held < listed || held < listed*9/10 { // 95 in 100 are claimed, and there are about 90
			t.Errorf("only %d of %d intervals hold", held, listed)
		}
	}
}
