package handle

import (
	"testing"
	"time"

	"github.com/everpool/everpool/internal/resp"
	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/pooler"
)

// A request that has waited for a shared connection is counted from then on. When more is
// written, with which it has to lease one, it is that request still, and is over with it.
func TestWhatHasWaitedForASharedConnectionIsOverWithItsLease(t *testing.T) {
	f := testkit.NewFake()
	defer f.Close()
	h := on(t, f)
	wait := pooler.Request{Session: h.shake.in.Pool, Deadline: time.Now().Add(time.Minute), Rider: h.ride.Rider}
	if _, err := h.node.Pool.Share(t.Context(), wait); err != nil {
		t.Fatal(err)
	}
	if s := h.node.Pool.Stats(); s.InFlight != 1 {
		t.Fatalf("%d requests are under way, want the one that has waited", s.InFlight)
	}
	if _, err := h.Write(resp.AppendCommand(nil, "BLPOP", "k", "0.01")); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Read(make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	if s := h.node.Pool.Stats(); s.InFlight != 0 || s.Admitted != 1 {
		t.Errorf("%d requests, of which %d are under way; want 1, 0", s.Admitted, s.InFlight)
	}
}
