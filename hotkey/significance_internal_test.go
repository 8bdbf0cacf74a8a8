package hotkey

import (
	"fmt"
	"slices"
	"testing"

	"github.com/everpool/everpool/internal/topk"
)

// windowOf has the entries whose own parts and errors are given, "0", "1" and so on.
func windowOf(samples uint64, keys float64, ownAndError ...[2]uint64) *window {
	w := &window{samples: samples, keys: keys}
	for i, c := range ownAndError {
		w.entries = append(w.entries, entry{Entry: topk.Entry{Key: fmt.Sprint(i), Count: c[0] + c[1], Error: c[1]}})
	}
	return w
}

func TestAKeyIsSignificantByWhatIsSurelyItsOwn(t *testing.T) {
	for _, c := range []struct {
		name string
		w    *window
		want []string
	}{
		{"few keys, used five times and four", windowOf(9, 2, [2]uint64{5}, [2]uint64{4}), []string{"0"}},
		{"few keys, used alike", windowOf(200, 2, [2]uint64{100}, [2]uint64{100}), []string{"0", "1"}},
		{"half of the count, and less than half", windowOf(10_000, 10_000, [2]uint64{10, 11}, [2]uint64{10, 10}), []string{"1"}},
		{"all other keys used once", windowOf(10_000, 10_000, [2]uint64{5}, [2]uint64{4}), []string{"0"}},
		{"more keys by estimate than samples", windowOf(10_000, 10_100, [2]uint64{5}), []string{"0"}},
		{"less than others have", windowOf(1_000_000, 1000, [2]uint64{100}), nil},
		// Of a thousand keys, ten times each, one has 22 by chance. The error counts for nothing.
		{"no more than by chance", windowOf(10_000, 1000, [2]uint64{30, 20}), nil},
		{"more than by chance", windowOf(10_000, 1000, [2]uint64{31}), []string{"0"}},
		{"beside a key with half of all", windowOf(10_000, 1001, [2]uint64{5000}, [2]uint64{19}, [2]uint64{18}), []string{"0", "1"}},
		{"beside one that isn't shown", windowOf(10_000, 1001, [2]uint64{4990, 5010}, [2]uint64{19}), nil},
		{"more than by chance, but little", windowOf(1_000_000, 1000, [2]uint64{1411}, [2]uint64{1340}), []string{"0"}},
	} {
		var got []string
		for _, e := range c.w.significant(2) {
			got = append(got, e.Key)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func TestNoMoreKeysAreSignificantThanAskedFor(t *testing.T) {
	w := windowOf(300, 3, [2]uint64{100}, [2]uint64{100}, [2]uint64{100})
	for n := range 5 {
		if got := len(w.significant(n)); got != min(n, 3) {
			t.Errorf("%d of %d", got, n)
		}
	}
}
