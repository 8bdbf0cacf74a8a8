package pooler_test

import (
	"context"
	"syscall"
	"testing"
	"time"

	"github.com/everpool/everpool/pooler"
)

// hanging runs the test for each way to ask, while a dial hangs for its caller and the next
// ones wouldn't. It ends with the server's answer to the caller, and nothing that is left.
func hanging(t *testing.T, cfg pooler.Config, run func(pt *tester, asked <-chan error)) {
	cfg.WaitTimeout, cfg.DialTimeout = -1, 4*time.Second
	for name, ask := range asking {
		t.Run(name, func(t *testing.T) {
			bubble(t, cfg, func(pt *tester) {
				pt.dialer.hold(true)
				asked := make(chan error, 1)
				go func() { asked <- ask(pt) }()
				pt.dialer.wantHeld(1)
				pt.dialer.hold(false)
				run(pt, asked)
				pt.wantState(pooler.StateUp)
				pt.sleep(10 * time.Second)
				pt.wantState(pooler.StateUp)
				if n := pt.pool.Counts()["dialing"]; n != 0 {
					t.Errorf("%d dials are counted that are over", n)
				}
			})
		})
	}
}

// With the stock client it is one caller that meets the dead one of several servers behind
// an address; here all would wait for its dial.
func TestADialThatHangsHoldsNobodyUpForLong(t *testing.T) {
	hanging(t, pooler.Config{}, func(pt *tester, asked <-chan error) {
		began := time.Now()
		if err := <-asked; err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took != time.Second {
			t.Errorf("it took %s, want a quarter of DialTimeout", took)
		}
		pt.wantDials(2)
	})
}

// Nobody waited when it was time for another dial; who comes then waits no longer for it.
func TestWhoComesWhileADialHangsDoesNotWaitForIt(t *testing.T) {
	bubble(t, pooler.Config{WaitTimeout: -1, DialTimeout: 4 * time.Second}, func(pt *tester) {
		pt.dialer.hold(true)
		w := pt.wait(pt.plain)
		pt.dialer.wantHeld(1)
		w.cancel(context.Canceled)
		w.await()
		pt.sleep(1500 * time.Millisecond)
		pt.dialer.hold(false)
		began := time.Now()
		pt.put(pt.get(pt.plain))
		if took := time.Since(began); took > 50*time.Millisecond {
			t.Errorf("it took %v", took)
		}
		pt.dialer.finishAll()
	})
}

// What is dialed in vain leaves nothing, whichever comes first.
func TestOfSeveralDialsOneConnectionIsKept(t *testing.T) {
	hanging(t, pooler.Config{}, func(pt *tester, asked <-chan error) {
		pt.dialer.hold(true)
		pt.sleep(time.Second)
		pt.dialer.wantHeld(2)
		pt.dialer.finishAll()
		if err := <-asked; err != nil {
			t.Error(err)
		}
		pt.wantOpen(1)
		if n := pt.dialer.live(); n != 1 {
			t.Errorf("%d sockets", n)
		}
		if s := pt.pool.Stats(); s.Dials != 2 || s.DialErrors != 0 {
			t.Errorf("%d dials, %d errors", s.Dials, s.DialErrors)
		}
		pt.dialer.hold(false)
	})
}

func TestNoOtherDialIsMadeWhereThereIsNoRoom(t *testing.T) {
	for name, cfg := range map[string]pooler.Config{"MaxOpenConns": {MaxOpenConns: 1}, "MaxConcurrentDials": {MaxConcurrentDials: 1}} {
		t.Run(name, func(t *testing.T) {
			hanging(t, cfg, func(pt *tester, asked <-chan error) {
				pt.sleep(3 * time.Second)
				pt.wantDials(1)
				pt.dialer.finishAll()
				if err := <-asked; err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// Dials that hang are made less and less often.
func TestInABlackHoleFewDialsAreMade(t *testing.T) {
	bubble(t, pooler.Config{WaitTimeout: -1, DialTimeout: 8 * time.Second, FailFastAfter: time.Minute}, func(pt *tester) {
		pt.fake.HangDials(true)
		w, began := pt.wait(pt.plain), time.Now()
		for _, until := range []struct {
			after time.Duration
			dials int
		}{{1900, 1}, {2100, 2}, {2400, 2}, {2600, 3}, {4000, 5}, {5900, 6}, {7900, 8}} {
			pt.sleep(until.after*time.Millisecond - time.Since(began))
			pt.wantDials(until.dials)
		}
		pt.wantState(pooler.StateUp)
		pt.sleep(time.Second)
		pt.wantState(pooler.StateSuspect)
		pt.fake.HangDials(false)
		pt.sleep(8 * time.Second)
		pt.put(w.wantConn())
	})
}

// A prober that meets the dead one is no reason to wait either.
func TestAProbeThatHangsHoldsNobodyUpForLong(t *testing.T) {
	bubble(t, pooler.Config{WaitTimeout: -1, DialTimeout: 4 * time.Second}, func(pt *tester) {
		pt.dialer.hold(true)
		w := pt.wait(pt.plain)
		pt.dialer.wantDial().finish(syscall.ECONNREFUSED)
		pt.dialer.wantHeld(1) // the probe
		pt.dialer.hold(false)
		pt.sleep(time.Second)
		pt.put(w.wantConn())
		pt.wantState(pooler.StateUp)
	})
}

// A dial that hangs is all that says that a node is away of which no connection is left.
// It may have more time than anybody waits.
func TestWhereNoConnectionIsLeftADialHangsForFailFastAfter(t *testing.T) {
	bubble(t, pooler.Config{WaitTimeout: -1, DialTimeout: time.Minute, FailFastAfter: 2 * time.Second}, func(pt *tester) {
		c := pt.get(pt.plain)
		pt.fake.HangDials(true)
		pt.fake.ResetAll()
		_, _ = exchange(c, "PING")
		pt.fail(c)
		began := time.Now()
		pt.wantGetErr(pt.plain, pooler.ErrNodeDown)
		if took := time.Since(began); took != 2*time.Second {
			t.Errorf("it took %s", took)
		}
		pt.fake.HangDials(false)
	})
}

// Where one serves, or none ever did, a dial has all of its time: it is what a far node
// takes, or what those who wait for the first one look after by themselves.
func TestADialHasItsTimeWhereItTellsNothingOfTheNode(t *testing.T) {
	for name, first := range map[string]bool{"the first": true, "beside one that serves": false} {
		t.Run(name, func(t *testing.T) {
			bubble(t, pooler.Config{WaitTimeout: -1, DialTimeout: time.Minute, FailFastAfter: time.Second}, func(pt *tester) {
				if !first {
					defer pt.put(pt.get(pt.plain))
				}
				pt.dialer.take(3 * time.Second)
				c := pt.get(pt.plain)
				pt.dialer.take(0)
				pt.put(c)
				pt.wantState(pooler.StateUp)
				if s := pt.pool.Stats(); s.DialErrors != 0 {
					t.Errorf("%d dials have failed", s.DialErrors)
				}
			})
		})
	}
}
