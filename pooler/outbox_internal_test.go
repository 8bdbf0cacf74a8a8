package pooler

import (
	"bytes"
	"testing"

	"github.com/everpool/everpool/internal/lent"
	"github.com/everpool/everpool/internal/testkit"
)

// Once: what 64 callers with values of 12 KiB had gathered was new memory each time, 50 KiB
// a call, and took twice the time that it had on connections of their own.
func TestMemoryForWhatGathersIsUsedAgain(t *testing.T) {
	if testkit.Race {
		t.Skip("the race detector has a sync.Pool forget things")
	}
	for _, size := range []int{30, 700, 1 << 10, 2100, 5000, 12 << 10} {
		for _, callers := range []int{1, 3, 8, 30, 64} {
			if 2*callers*size > maxUnsent {
				continue // more doesn't gather
			}
			request := make([]byte, size)
			var o outbox
			if n := testing.AllocsPerRun(100, func() {
				for range 2 { // what is written, and what gathers meanwhile
					for range callers {
						o.add(request)
					}
					written := o.take()
					for range callers {
						o.add(request)
					}
					lent.Back(written)
				}
				lent.Back(o.take())
			}); n >= 1 {
				t.Errorf("%d callers, %d bytes: %v allocations each time", callers, size, n)
			}
		}
	}
}

func TestWhatGathersKeepsItsOrderInWhateverMemory(t *testing.T) {
	var o outbox
	for round := range 3 {
		var want []byte
		for n := range 90 {
			request := bytes.Repeat([]byte{byte(n)}, n*n)
			want = append(want, request...)
			o.add(request)
		}
		if got := o.take(); !bytes.Equal(got, want) {
			t.Fatalf("round %d: %d bytes, want %d others", round, len(got), len(want))
		} else if lent.Back(got); o.issued != int64((round+1)*len(want)) {
			t.Errorf("round %d: %d bytes issued", round, o.issued)
		}
	}
}
