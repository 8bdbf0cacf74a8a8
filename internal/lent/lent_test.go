package lent_test

import (
	"bytes"
	"runtime"
	"testing"

	"github.com/everpool/everpool/internal/lent"
	"github.com/everpool/everpool/internal/testkit"
)

func TestWhatIsLentIsUsedAgain(t *testing.T) {
	if testkit.Race {
		t.Skip("the race detector has a sync.Pool forget things")
	}
	for _, n := range []int{0, 1, 4095, 4096, 4097, 10_000, 64 << 10, 64<<10 + 1, 200_000, lent.Most} {
		if allocs := testing.AllocsPerRun(100, func() {
			b := lent.Buffer(n)
			if len(b) != 0 || cap(b) < n || cap(b) > max(4*n, 4<<10) {
				t.Errorf("%d bytes: %d of %d", n, len(b), cap(b))
			}
			lent.Back(b)
		}); allocs >= 1 {
			t.Errorf("%d bytes: %v allocations each time", n, allocs)
		}
	}
}

// Whoever has a buffer has it alone: neither one that was never lent, nor what is left of one,
// is lent to two.
func TestNothingIsLentTwice(t *testing.T) {
	own := make([]byte, 100, 5000)
	lent.Back(own)
	lent.Back(nil)
	lent.Back(lent.Buffer(lent.Most + 1))
	cut := append(lent.Buffer(10), "0123456789"...)
	lent.Back(cut[5:]) // has no size of a buffer's
	a, b := lent.Buffer(5000), lent.Buffer(10)
	a, b = a[:5000], b[:cap(b)]
	clear(a)
	clear(b)
	if string(cut) != "0123456789" || !bytes.Equal(own, make([]byte, 100)) {
		t.Errorf("%q was lent again", cut)
	}
}

func TestGrowKeepsWhatIsThere(t *testing.T) {
	var b, want []byte
	for i := range 300 {
		more := bytes.Repeat([]byte{byte(i)}, i)
		b = append(lent.Grow(b, len(more)), more...)
		want = append(want, more...)
		if !bytes.Equal(b, want) {
			t.Fatalf("%d bytes are others", len(b))
		}
	}
	if c := cap(lent.Grow(b, 0)); c != cap(b) {
		t.Errorf("%d bytes of room became %d", cap(b), c)
	}
}

// Once: each piece of what is larger than is lent had all before it copied. A reply of 32 MiB
// that was held for its caller took 16 GiB of memory and 18 seconds, with its lane held up.
func TestWhatGrowsIsCopiedAFewTimesOnly(t *testing.T) {
	const piece, total = 32 << 10, 32 << 20
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	var b []byte
	for len(b) < total {
		b = lent.Grow(b, piece)
		b = b[:len(b)+piece]
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 6*total {
		t.Errorf("%d MiB were allocated for %d", n>>20, total>>20)
	}
}
