package handle

import (
	"testing"
	"time"

	"github.com/everpool/everpool/internal/resp"
	"github.com/everpool/everpool/internal/session"
	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/pooler"
)

// step makes a deadline what it would be had the system's clock been set by so much since
// it was given: the clock is ahead of one without a monotonic reading then.
func (d *deadline) step(by time.Duration) {
	if d.Time == d.Round(0) {
		d.Time = d.Add(-by)
	}
}

// on returns a handle on the fake server.
func on(t *testing.T, f *testkit.Fake) *handle {
	t.Helper()
	pool, err := pooler.New(pooler.Node{Network: "tcp", Addr: "10.0.0.1:6379", Dial: f.Dial}, pooler.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = pool.Close() })
	n := &Node{Network: "tcp", Addr: "10.0.0.1:6379", Pool: pool, Shares: true, Memory: session.NewMemory(), Unknown: func(string) {}, Left: func(*Client) {}}
	h := newHandle(n, &Client{Identity: &session.Identity{}, WaitsInDial: true}, n.Addr)
	t.Cleanup(func() { _ = h.Close() })
	return h
}

// A Read looks at its deadline again when it was interrupted, and when its request has gone
// on another connection.
func TestAReadThatLooksAtItsDeadlineAgainIsRightWhenTheClockWasSetMeanwhile(t *testing.T) {
	for _, by := range []time.Duration{-time.Hour, time.Hour} {
		f := testkit.NewFake()
		defer f.Close()
		answer := make(chan struct{})
		f.Handle("GET", func(*testkit.FakeConn, []string) []byte { <-answer; return testkit.ReplyBulk("v") })
		defer close(answer)
		h := on(t, f)
		_ = h.SetDeadline(time.Now().Round(0).Add(10 * time.Minute))
		if _, err := h.Write(resp.AppendCommand(nil, "GET", "k")); err != nil {
			t.Fatal(err)
		}
		read := make(chan error, 1)
		go func() {
			_, err := h.Read(make([]byte, 100))
			read <- err
		}()
		testkit.Await(t, "the Read to wait", func() bool {
			h.mu.Lock()
			defer h.mu.Unlock()
			return h.receiving
		})
		h.mu.Lock()
		h.readBy.step(by)
		if left := time.Until(h.readBy.Time); left < 5*time.Minute || left > 10*time.Minute {
			t.Errorf("%v are left of 10 min after the clock was set by %v", left, by)
		}
		h.wayLocked().interrupt()
		h.mu.Unlock()
		answer <- struct{}{}
		if err := <-read; err != nil {
			t.Errorf("the clock was set by %v: %v", by, err)
		}
	}
}

// What is sent on a shared connection may have waited for one, and goes by what was left
// of its time before that.
func TestTheDeadlineOfARequestThatHasWaitedDoesNotMoveWithTheClock(t *testing.T) {
	f := testkit.NewFake()
	defer f.Close()
	h := on(t, f)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.writeBy = given(time.Now().Round(0).Add(10 * time.Minute))
	h.b.addCommand(t, "GET", "k")
	x := h.b.exchange(h.b.plan, 0)
	if shared, err := h.submit(h.b.plan, &x); !shared || err != nil {
		t.Fatal(shared, err)
	}
	if x.Deadline.IsZero() || x.Deadline == x.Deadline.Round(0) {
		t.Errorf("the deadline is %v, a time of the system's clock", x.Deadline)
	}
}
