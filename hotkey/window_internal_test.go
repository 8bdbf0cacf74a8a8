package hotkey

import (
	"testing"

	"github.com/everpool/everpool/internal/topk"
)

// What is shown has five samples that are surely its own, and half of its count, and a
// quarter more than any key that isn't counted.
func TestAKeyIsSignificantByWhatIsSurelyItsOwn(t *testing.T) {
	for _, c := range []struct {
		name              string
		own, error, floor uint64
		want              bool
	}{
		{"five of its own", 5, 0, 0, true},
		{"four", 4, 0, 0, false},
		{"half of the count", 10, 10, 0, true},
		{"less than half", 10, 11, 0, false},
		{"a quarter above the floor", 10, 0, 8, false},
		{"more than that", 11, 0, 8, true},
		{"far above a high one, of many samples", 1300, 900, 1000, true},
		{"above it, and no more than chance is", 1200, 900, 1000, false},
	} {
		w := window{rate: 0.01, floor: c.floor}
		if got := w.isSignificant(entry{Entry: topk.Entry{Count: c.own + c.error, Error: c.error}}); got != c.want {
			t.Errorf("%s: %t", c.name, got)
		}
	}
}
