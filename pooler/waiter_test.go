package pooler_test

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/everpool/everpool/pooler"
)

func TestWaitersAreServedInOrderOfArrival(t *testing.T) {
	bubble(t, pooler.Config{MaxOpenConns: 2}, func(pt *tester) {
		c1, c2 := pt.get(pt.plain), pt.get(pt.plain)
		var line []*pending
		for range 10 {
			line = append(line, pt.wait(pt.plain))
		}
		for i := 0; i < len(line); i += 2 {
			pt.put(c2)
			c2 = line[i].wantConn()
			line[i+1].wantWaiting()
			pt.put(c1)
			c1 = line[i+1].wantConn()
		}
		pt.put(c1, c2)
		pt.wantDials(2)
	})
}

func TestALateGetCannotTakeAConnectionThatAWaiterIsDue(t *testing.T) {
	bubble(t, pooler.Config{MaxOpenConns: 1}, func(pt *tester) {
		c := pt.get(pt.plain)
		first := pt.wait(pt.plain)
		pt.put(c)
		// first has not run yet, or it has: a Get right now must not matter.
		_, err := pt.tryGet(pooler.Request{Session: pt.plain, Deadline: time.Now().Add(time.Millisecond)})
		pt.wantErr(err, pooler.ErrWaitTimeout)
		pt.put(first.wantConn())
	})
}

func TestACancelledWaiterLeavesOnlyItself(t *testing.T) {
	bubble(t, pooler.Config{MaxOpenConns: 1}, func(pt *tester) {
		gone := errors.New("gone home")
		for leaves := range 4 {
			c := pt.get(pt.plain)
			line := []*pending{pt.wait(pt.plain), pt.wait(pt.plain), pt.wait(pt.plain), pt.wait(pt.plain)}
			line[leaves].cancel(gone)
			line[leaves].wantErr(gone)
			for i, w := range line {
				if i == leaves {
					continue
				}
				w.wantWaiting()
				pt.put(c)
				c = w.wantConn()
			}
			pt.put(c)
		}
		if s := pt.pool.Stats(); s.Abandoned != 4 || s.Waiting != 0 {
			t.Errorf("%d abandoned, %d waiting, want 4 and 0", s.Abandoned, s.Waiting)
		}
	})
}

func TestTheDeadlineOfOneWaiterDoesNotDisturbTheOthers(t *testing.T) {
	bubble(t, pooler.Config{MaxOpenConns: 1}, func(pt *tester) {
		c := pt.get(pt.plain)
		first := pt.wait(pt.plain)
		hasty := pt.begin(pooler.Request{Session: pt.plain, Deadline: time.Now().Add(time.Second)})
		last := pt.wait(pt.plain)
		pt.sleep(time.Second)
		hasty.wantErr(pooler.ErrWaitTimeout)
		first.wantWaiting()
		last.wantWaiting()
		pt.put(c)
		pt.put(first.wantConn())
		pt.put(last.wantConn())
	})
}

func TestAWaiterThatLeavesAtTheMomentOfHandOverLosesNoConnection(t *testing.T) {
	pt := newTester(t, pooler.Config{MaxOpenConns: 1, WaitTimeout: 10 * time.Second})
	kept, passedOn := 0, 0
	for i := range 1500 {
		c := pt.get(pt.plain)
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan *pooler.Conn, 1)
		go func() {
			c, err := pt.pool.Get(ctx, pooler.Request{Session: pt.plain})
			if err != nil && !errors.Is(err, context.Canceled) {
				t.Errorf("Get: %v", err)
			}
			done <- c
		}()
		for pt.pool.Stats().Waiting == 0 {
			runtime.Gosched() // the other goroutine is on its way into the line
		}
		switch i % 3 {
		case 0: // at the same time
			go cancel()
			pt.put(c)
		case 1: // both before it runs again
			pt.put(c)
			cancel()
		case 2:
			cancel()
			pt.put(c)
		}
		if c := <-done; c != nil {
			kept++
			pt.put(c)
		} else {
			passedOn++
		}
		cancel()
	}
	if kept == 0 || passedOn == 0 {
		t.Errorf("%d kept it, %d had left: one of the two wasn't tried", kept, passedOn)
	}
	if got := pt.dialer.count(); got != 1 {
		t.Errorf("%d dials, want 1: a connection was lost", got)
	}
	if s := pt.pool.Stats(); s.Idle != 1 || s.Waiting != 0 {
		t.Errorf("%d idle, %d waiting, want 1 and 0", s.Idle, s.Waiting)
	}
}

func TestOneWaiterMoreThanMaxWaitersFailsAtOnce(t *testing.T) {
	bubble(t, pooler.Config{MaxOpenConns: 1, MaxWaiters: 2}, func(pt *tester) {
		c := pt.get(pt.plain)
		w1, w2 := pt.wait(pt.plain), pt.wait(pt.plain)
		began := time.Now()
		e := pt.wantGetErr(pt.plain, pooler.ErrPoolExhausted)
		if time.Since(began) != 0 {
			t.Errorf("it took %s, want 0", time.Since(began))
		}
		if e.Open != 1 || e.Max != 1 || e.Leased != 1 || e.Waiting != 2 {
			t.Errorf("numbers are %+v", e)
		}
		pt.put(c)
		pt.put(w1.wantConn())
		pt.put(w2.wantConn())
	})
}

func TestErrWaitTimeoutHasHowLongAndWhoHoldsTheConnections(t *testing.T) {
	bubble(t, pooler.Config{MaxOpenConns: 4, WaitTimeout: 2 * time.Second}, func(pt *tester) {
		var held []*pooler.Conn
		for _, name := range []string{"BLPOP", "GET", "BLPOP", "MULTI"} {
			c, err := pt.tryGet(pooler.Request{Session: pt.plain, Name: name})
			if err != nil {
				t.Fatal(err)
			}
			held = append(held, c)
		}
		pt.pool.Pin(held[3], "transaction")
		pt.sleep(time.Second)
		want := []pooler.Holder{{What: "BLPOP", Conns: 2, Oldest: time.Second}, {What: "GET", Conns: 1, Oldest: time.Second}, {What: "MULTI (transaction)", Conns: 1, Oldest: time.Second}}
		if got := pt.pool.Stats().Holders; !slices.Equal(got, want) {
			t.Errorf("held by %+v, want %+v", got, want)
		}
		e := pt.wantGetErr(pt.plain, pooler.ErrWaitTimeout)
		if e.Waited != 2*time.Second || e.Open != 4 || e.Max != 4 || e.Leased != 4 || e.Waiting != 1 || e.Node != addr {
			t.Errorf("numbers are %+v", e)
		}
		const holders = "2 BLPOP, 1 GET, 1 MULTI (transaction), the oldest for 3s"
		if e.Holders != holders {
			t.Errorf("holders are %q, want %q", e.Holders, holders)
		}
		if want := "everpool: timed out waiting for a connection: " + addr + ": most connections are held by BLPOP"; e.Error() != want {
			t.Errorf("the text is %q, want %q", e, want)
		}
		if e.Cause != nil || !e.Since.IsZero() {
			t.Errorf("it blames a node that is up: %+v", e)
		}
		pt.put(held...)
	})
}

func TestAWaitEndsAtTheEarliestOfDeadlineWaitTimeoutAndContext(t *testing.T) {
	gone := errors.New("gone home")
	for name, tc := range map[string]struct {
		waitTimeout, deadline, cancel time.Duration // 0: none
		want                          time.Duration
		err                           error
	}{
		"WaitTimeout":                   {5 * time.Second, 0, 0, 5 * time.Second, pooler.ErrWaitTimeout},
		"WaitTimeout before deadline":   {time.Second, 2 * time.Second, 0, time.Second, pooler.ErrWaitTimeout},
		"deadline before WaitTimeout":   {2 * time.Second, time.Second, 0, time.Second, pooler.ErrWaitTimeout},
		"deadline, WaitTimeout off":     {-1, time.Hour, 0, time.Hour, pooler.ErrWaitTimeout},
		"deadline passed already":       {-1, -time.Hour, 0, 1, pooler.ErrWaitTimeout},
		"context before both":           {3 * time.Second, 2 * time.Second, time.Second, time.Second, gone},
		"context, nothing else is set":  {-1, 0, time.Hour, time.Hour, gone},
		"default WaitTimeout, 5 second": {0, 0, 0, 5 * time.Second, pooler.ErrWaitTimeout},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, pooler.Config{MaxOpenConns: 1, WaitTimeout: tc.waitTimeout}, func(pt *tester) {
				c := pt.get(pt.plain)
				r := pooler.Request{Session: pt.plain}
				if tc.deadline != 0 {
					r.Deadline = time.Now().Add(tc.deadline)
				}
				w := pt.begin(r)
				if tc.cancel > 0 {
					stop := time.AfterFunc(tc.cancel, func() { w.cancel(gone) })
					defer stop.Stop()
				}
				w.await().wantErr(tc.err)
				if w.took != tc.want {
					t.Errorf("it took %s, want %s", w.took, tc.want)
				}
				pt.put(c)
			})
		})
	}
}

func TestWhoWantsOneConnectionGetsThatOneBeforeOthers(t *testing.T) {
	bubble(t, pooler.Config{MaxOpenConns: 2}, func(pt *tester) {
		c1, c2 := pt.get(pt.plain), pt.get(pt.plain)
		other := pt.wait(pt.plain)
		wants := pt.begin(pooler.Request{Session: pt.plain, Want: c1})
		wants.wantWaiting()
		pt.put(c1)
		other.wantWaiting()
		if got := wants.wantConn(); got != c1 {
			t.Errorf("got connection %d, want %d", got.ID(), c1.ID())
		}
		gone := pt.begin(pooler.Request{Session: pt.plain, Want: c2})
		c2.Fail(pooler.CloseRead, errors.New("lost"))
		pt.fail(c2)
		gone.wantErr(pooler.ErrConnGone)
		_, err := pt.tryGet(pooler.Request{Session: pt.plain, Want: c2})
		pt.wantErr(err, pooler.ErrConnGone)
		pt.put(c1, other.wantConn())
	})
}

func TestWhoWantsAConnectionThatServesAnotherSessionNowIsTold(t *testing.T) {
	bubble(t, pooler.Config{MaxOpenConns: 2}, func(pt *tester) {
		s := session(1)
		c := pt.get(pt.plain)
		wants := pt.begin(pooler.Request{Session: pt.plain, Want: c})
		wants.wantWaiting()
		pt.do(c, "SELECT", "1")
		c.SetSession(s)
		pt.put(c)
		wants.wantErr(pooler.ErrConnGone)
		_, err := pt.tryGet(pooler.Request{Session: pt.plain, Want: c})
		pt.wantErr(err, pooler.ErrConnGone)
		if got := pt.get(s); got != c {
			t.Error("it doesn't serve its new session")
		}
		pt.put(c)
	})
}

func TestOnWaitIsToldOfEachWaitOnceItIsOver(t *testing.T) {
	type wait struct {
		node string
		d    time.Duration
		err  error
	}
	told := make(chan wait, 4)
	cfg := pooler.Config{MaxOpenConns: 1, OnWait: func(node string, d time.Duration, err error) { told <- wait{node, d, err} }}
	bubble(t, cfg, func(pt *tester) {
		c := pt.get(pt.plain)
		for len(told) > 0 {
			<-told // the first connection had to be dialed
		}
		served := pt.wait(pt.plain)
		time.Sleep(time.Second)
		pt.put(c)
		c = served.wantConn()
		if w := <-told; w.d != time.Second || w.err != nil || w.node == "" {
			t.Errorf("told %+v of a request that was served after 1 s", w)
		}
		gone := errors.New("gone home")
		left := pt.wait(pt.plain)
		time.Sleep(2 * time.Second)
		left.cancel(gone)
		left.wantErr(gone)
		if w := <-told; w.d != 2*time.Second || !errors.Is(w.err, gone) {
			t.Errorf("told %+v of a request whose caller left after 2 s", w)
		}
		pt.put(c)
		pt.put(pt.get(pt.plain))
		if len(told) > 0 {
			t.Errorf("told %+v of a request that did not wait", <-told)
		}
	})
}
