package pooler_test

import (
	"errors"
	"net"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/everpool/everpool/pooler"
)

func TestAFirstFailedDialMakesTheNodeSuspectAndASecondDown(t *testing.T) {
	bubble(t, pooler.Config{}, func(pt *tester) {
		pt.dialer.hold(true)
		w := pt.wait(pt.plain)
		pt.wantState(pooler.StateUp)
		pt.dialer.wantDial().finish(syscall.ECONNREFUSED)
		pt.wantState(pooler.StateSuspect)
		pt.dialer.wantDial().finish(syscall.ECONNREFUSED)
		pt.wantState(pooler.StateDown)
		pt.sleep(10 * time.Millisecond)
		pt.dialer.wantDial().finish(nil)
		pt.wantState(pooler.StateUp)
		pt.put(w.wantConn())
		if want := []string{"up", "suspect", "down", "up"}; !slices.Equal(pt.states(), want) {
			t.Errorf("states are %v, want %v", pt.states(), want)
		}
	})
}

// A reply to what was asked before the node failed may have been under way: it says
// nothing of the node now. One to what was asked since does.
func TestAnOldReplyDoesNotMakeADeadNodeSuspect(t *testing.T) {
	bubble(t, pooler.Config{FailFastAfter: -1, WaitTimeout: -1}, func(pt *tester) {
		old := pt.get(pt.plain)
		pt.sleep(time.Second)
		pt.fake.DownRefused()
		line := pt.wait(pt.plain)
		pt.sleep(time.Second)
		pt.wantState(pooler.StateDown)
		pt.put(old)
		again := line.wantConn()
		pt.wantState(pooler.StateDown)
		pt.put(again)
		pt.wantState(pooler.StateSuspect)
		pt.fake.Up()
		pt.sleep(2 * time.Second)
	})
}

func TestOneProberDialsForEverybody(t *testing.T) {
	bubble(t, pooler.Config{MaxOpenConns: 20, FailFastAfter: -1, WaitTimeout: -1}, func(pt *tester) {
		s := session(1)
		pt.fill(pt.plain, 20)
		pt.fake.DownRefused()
		pt.dialer.take(2 * time.Millisecond)
		pt.dialer.resetPeak()
		for range 20 { // everybody loses a connection
			c := pt.get(pt.plain)
			_, _ = exchange(c, "PING")
			pt.fail(c)
		}
		var line []*pending
		for i := range 40 {
			line = append(line, pt.wait([]*pooler.Session{pt.plain, s}[i%2]))
		}
		pt.sleep(2 * time.Second)
		if most := pt.dialer.peak(); most > 1 {
			t.Errorf("%d dials at a time, want 1", most)
		}
		pt.fake.Up()
		for _, w := range line {
			pt.put(w.await().wantConn())
		}
	})
}

func TestAfterRecoveryDialsRamp(t *testing.T) {
	bubble(t, pooler.Config{MaxOpenConns: 40, WaitTimeout: -1}, func(pt *tester) {
		pt.fake.DownRefused()
		var line []*pending
		for range 40 {
			line = append(line, pt.wait(pt.plain))
		}
		pt.sleep(time.Second)
		pt.dialer.hold(true)
		pt.fake.Up()
		pt.sleep(100 * time.Millisecond)
		// In each round all dials that are under way succeed.
		for _, want := range []int{1, 2, 4, 8, 16, 9} {
			pt.dialer.wantHeld(want)
			for range want {
				h := pt.dialer.wantDial()
				h.result <- nil
			}
		}
		for _, w := range line {
			pt.put(w.wantConn())
		}
	})
}

func TestWaitersFailWhenFailFastAfterPassesAlthoughTheProbeHangs(t *testing.T) {
	cfg := pooler.Config{FailFastAfter: 3 * time.Second, WaitTimeout: -1, DialTimeout: time.Minute}
	t.Run("known to be down", func(t *testing.T) {
		bubble(t, cfg, func(pt *tester) {
			pt.dialer.hold(true)
			w := pt.wait(pt.plain)
			pt.dialer.wantDial().finish(syscall.ECONNREFUSED)
			pt.dialer.wantDial().finish(syscall.ECONNREFUSED)
			pt.sleep(time.Second)
			later := pt.wait(pt.plain)
			pt.sleep(2*time.Second - 1)
			w.wantWaiting()
			pt.sleep(1)
			w.wantErr(pooler.ErrNodeDown)
			later.wantErr(pooler.ErrNodeDown)
		})
	})
	t.Run("only suspected", func(t *testing.T) {
		bubble(t, cfg, func(pt *tester) {
			pt.dialer.hold(true)
			w := pt.wait(pt.plain)
			pt.dialer.wantDial().finish(syscall.ECONNREFUSED)
			pt.sleep(3 * time.Second)
			w.wantErr(pooler.ErrNodeDown)
			pt.wantState(pooler.StateDown)
		})
	})
	t.Run("the first dial hung for longer", func(t *testing.T) {
		cfg.DialTimeout = 4 * time.Second
		bubble(t, cfg, func(pt *tester) {
			pt.dialer.hold(true)
			w := pt.wait(pt.plain).await()
			w.wantErr(pooler.ErrNodeDown)
			if w.took > 4*time.Second+100*time.Millisecond {
				t.Errorf("it took %s, want 4s", w.took)
			}
		})
	})
}

func TestGetFailsAtOnceWithTheFactsWhenTheNodeIsDownForLong(t *testing.T) {
	bubble(t, pooler.Config{FailFastAfter: 2 * time.Second}, func(pt *tester) {
		c := pt.get(pt.plain)
		pt.sleep(time.Minute)
		pt.fake.Down(&net.OpError{Op: "dial", Err: syscall.ECONNREFUSED})
		_, _ = exchange(c, "PING")
		pt.fail(c)
		died := time.Now()
		w := pt.wait(pt.plain).await()
		w.wantErr(pooler.ErrNodeDown)
		if w.took < 2*time.Second || w.took > 2200*time.Millisecond {
			t.Errorf("it waited for %s, want 2s", w.took)
		}
		began := time.Now()
		e := pt.wantGetErr(pt.plain, pooler.ErrNodeDown)
		if took := time.Since(began); took > 10*time.Millisecond {
			t.Errorf("Get took %s, want BackoffMin at most, for a dial that begins after it", took)
		}
		if e.Node != addr || !e.Since.Equal(died) || e.Attempts != int64(pt.dialer.count()-1) ||
			e.Cause == nil || !errors.Is(e.Cause, syscall.ECONNREFUSED) {
			t.Errorf("facts are %+v; it died at %s and there were %d dials", e, died, pt.dialer.count()-1)
		}
		if errors.Is(e, syscall.ECONNREFUSED) {
			t.Error("the cause is in the chain, where go-redis would try again for it")
		}
		pt.fake.Up()
		pt.sleep(time.Second)
		pt.put(pt.get(pt.plain))
	})
}

func TestANodeThatNobodyAsksForIsProbedAgainOnDemand(t *testing.T) {
	bubble(t, pooler.Config{WaitTimeout: -1}, func(pt *tester) {
		pt.fake.DownRefused()
		pt.wait(pt.plain).await().wantErr(pooler.ErrNodeDown)
		pt.sleep(65 * time.Second)
		before := pt.dialer.count()
		pt.sleep(time.Hour)
		pt.wantDials(before)
		pt.wantState(pooler.StateSuspect)
		// Still down: it is found out at once.
		w := pt.begin(pooler.Request{Session: pt.plain})
		w.wantErr(pooler.ErrNodeDown)
		pt.sleep(65 * time.Second)
		pt.fake.Up()
		pt.sleep(time.Hour)
		pt.put(pt.get(pt.plain))
		pt.wantState(pooler.StateUp)
	})
}

func TestHangingDialsThatIgnoreTheirContextDoNotStopTheHealing(t *testing.T) {
	bubble(t, pooler.Config{DialTimeout: time.Second, WaitTimeout: -1, FailFastAfter: -1}, func(pt *tester) {
		pt.dialer.deaf = true
		pt.dialer.hold(true)
		w := pt.wait(pt.plain)
		pt.sleep(5 * time.Second)
		w.wantWaiting()
		pt.dialer.hold(false)
		pt.put(w.await().wantConn())
		if w.took > 7*time.Second {
			t.Errorf("it took %s, want at most a dial's time more than 5s", w.took)
		}
		// What they return in the end is closed.
		for pt.dialer.live() < 2 {
			pt.dialer.wantDial().finish(nil)
		}
		pt.sleep(time.Second)
		if n := pt.dialer.live(); n != 1 {
			t.Errorf("%d sockets, want 1", n)
		}
	})
}

func TestANodeWithLivingConnectionsIsSuspectAndNotDown(t *testing.T) {
	bubble(t, pooler.Config{MaxOpenConns: 2, WaitTimeout: -1, FailFastAfter: time.Second}, func(pt *tester) {
		c := pt.get(pt.plain)
		pt.dialer.refuse(true)
		w := pt.wait(session(1))
		for range 2000 {
			pt.do(c, "PING")
			pt.put(c)
			pt.sleep(5 * time.Millisecond)
			c = pt.get(pt.plain)
		}
		w.wantWaiting()
		if want := []string{"up", "suspect"}; !slices.Equal(pt.states(), want) {
			states := pt.states()
			t.Errorf("states are %v ... (%d), want %v", states[:min(6, len(states))], len(states), want)
		}
		// When they fall silent too it is down.
		pt.sleep(5 * time.Second)
		w.wantErr(pooler.ErrNodeDown)
		pt.wantState(pooler.StateDown)
		pt.put(c)
		pt.wantState(pooler.StateSuspect)
	})
}
