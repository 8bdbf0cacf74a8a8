package pooler_test

import (
	"testing"
	"time"

	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/pooler"
)

func TestAPingThatIsNotAnsweredReplacesTheConnection(t *testing.T) {
	cfg := pooler.Config{MaxOpenConns: 3, MinIdleConns: 3, HealthCheckInterval: time.Second, HealthCheckTimeout: 300 * time.Millisecond}
	bubble(t, cfg, func(pt *tester) {
		s := session(1)
		pt.fill(s, 1)
		pt.wantIdle(3)
		for _, c := range pt.fake.Conns() {
			c.SwallowReplies(true) // a black hole behind those that are open
		}
		pt.sleep(3 * time.Second)
		pt.wantCloses(pooler.CloseHealth, 3)
		pt.wantIdle(3)
		pt.wantDials(6)
		pt.wantState(pooler.StateUp)
	})
}

func TestOnlyTheQuietestConnectionIsPinged(t *testing.T) {
	bubble(t, pooler.Config{MaxOpenConns: 5, HealthCheckInterval: time.Second}, func(pt *tester) {
		pt.fill(pt.plain, 5)
		pt.sleep(10 * time.Second)
		if got := pt.fake.Count("PING"); got < 9 || got > 10 {
			t.Errorf("%d PINGs in 10 s, want one a second", got)
		}
		// Those that are in use need none.
		pt.fake.ResetLog()
		for range 100 {
			pt.fill(pt.plain, 5)
			pt.sleep(100 * time.Millisecond)
		}
		if got := pt.fake.Count("PING"); got != 0 {
			t.Errorf("%d PINGs to connections in use, want 0", got)
		}
	})
}

func TestAPingAnsweredWithAnErrorIsAnAnswer(t *testing.T) {
	for reply, closes := range map[string]int64{"NOPERM no": 0, "LOADING wait": 0, "ERR max number of clients reached": 1} {
		bubble(t, pooler.Config{HealthCheckInterval: time.Second}, func(pt *tester) {
			pt.fake.Handle("PING", func(*testkit.FakeConn, []string) []byte { return testkit.ReplyError(reply) })
			pt.fill(pt.plain, 1)
			pt.sleep(time.Second)
			pt.wantCloses(pooler.CloseHealth, closes)
		})
	}
}

func TestAGetDuringAHealthCheckWaitsForNothing(t *testing.T) {
	cfg := pooler.Config{MaxOpenConns: 1, HealthCheckInterval: time.Second, HealthCheckTimeout: time.Second}
	bubble(t, cfg, func(pt *tester) {
		pt.fill(pt.plain, 1)
		pt.fake.Freeze(true)
		pt.sleep(1500 * time.Millisecond) // the only connection is being checked
		w := pt.wait(pt.plain)
		pt.fake.Freeze(false)
		pt.put(w.wantConn())
		pt.wantDials(1)
	})
}

func TestHealthChecksAreOffWhenTheyAreOff(t *testing.T) {
	bubble(t, pooler.Config{HealthCheckInterval: -1, ConnMaxIdleTime: -1}, func(pt *tester) {
		pt.fill(pt.plain, 1)
		pt.sleep(24 * time.Hour)
		if got := pt.fake.Count("PING"); got != 0 {
			t.Errorf("%d PINGs, want 0", got)
		}
		pt.wantIdle(1)
	})
}

func TestIdleConnectionsAreClosedInTheBackgroundWithoutAGet(t *testing.T) {
	bubble(t, pooler.Config{MaxOpenConns: 4, MinIdleConns: 1, ConnMaxIdleTime: time.Minute}, func(pt *tester) {
		s := session(1)
		pt.fill(s, 4)
		pt.sleep(time.Minute - 10*time.Second)
		pt.wantIdle(4)
		pt.sleep(15 * time.Second)
		pt.wantIdle(1)
		pt.wantCloses(pooler.CloseIdle, 3)
		pt.wantDials(4)
	})
}

func TestConnectionsAreRotatedByLifetimeWithJitterAndNeverCut(t *testing.T) {
	cfg := pooler.Config{MaxOpenConns: 50, ConnMaxLifetime: time.Hour, ConnMaxLifetimeJitter: 30 * time.Minute, HealthCheckInterval: 5 * time.Second, ConnMaxIdleTime: -1}
	bubble(t, cfg, func(pt *tester) {
		leased := pt.get(pt.plain)
		pt.fill(pt.plain, 49)
		born := time.Now()
		pt.sleep(30*time.Minute - time.Second)
		pt.wantOpen(50)
		pt.sleep(time.Hour + 10*time.Second)
		pt.wantOpen(1)
		pt.do(leased, "PING")
		pt.put(leased)
		pt.wantOpen(0)
		pt.wantCloses(pooler.CloseLifetime, 50)
		var first, last, at time.Duration
		moments := make(map[time.Duration]bool)
		for _, ev := range pt.eventsOf(pooler.EventClose)[:49] {
			at = ev.Time.Sub(born)
			moments[at] = true
			if first == 0 {
				first = at
			}
			last = max(last, at)
		}
		if first > 45*time.Minute || last < 75*time.Minute || len(moments) < 30 {
			t.Errorf("closed between %s and %s, at %d moments: want them spread over an hour", first, last, len(moments))
		}
	})
}

func TestAPoolWithoutConnectionsHasNoTimer(t *testing.T) {
	bubble(t, pooler.Config{ConnMaxIdleTime: time.Minute}, func(pt *tester) {
		if pt.pool.Ticking() {
			t.Error("it has one before its first connection")
		}
		pt.fill(pt.plain, 1)
		if !pt.pool.Ticking() {
			t.Error("it has none with a connection")
		}
		pt.sleep(2 * time.Minute)
		pt.wantOpen(0)
		if pt.pool.Ticking() {
			t.Error("it has one after its last connection")
		}
	})
}

func TestDrainClosesWhatIsIdleAndStaysUsable(t *testing.T) {
	bubble(t, pooler.Config{MaxOpenConns: 5, MinIdleConns: 2}, func(pt *tester) {
		s := session(1)
		c := pt.get(s)
		pt.fill(s, 3)
		pt.settle()
		idle := pt.pool.Stats().Idle
		pt.pool.Drain()
		pt.wantOpen(1)
		pt.wantCloses(pooler.CloseDrained, int64(idle))
		pt.sleep(time.Minute)
		pt.wantOpen(1) // MinIdleConns are for users
		pt.put(c)
		pt.wantOpen(0) // nobody is left
		pt.fill(s, 1)
		pt.wantIdle(3) // somebody is again: what was leased, and two
	})
}

func TestADialThatEndsAfterDrainLeavesNothing(t *testing.T) {
	bubble(t, pooler.Config{MaxOpenConns: 5, MinIdleConns: 2, ConnMaxIdleTime: time.Minute}, func(pt *tester) {
		s := session(1)
		pt.dialer.hold(true)
		w := pt.wait(s)
		pt.dialer.wantDial().finish(nil)
		pt.put(w.wantConn())
		h := pt.dialer.wantDial() // for MinIdleConns
		pt.pool.Drain()
		pt.dialer.hold(false)
		h.finish(nil)
		pt.wantOpen(0)
		pt.sleep(2 * time.Minute)
		pt.wantOpen(0)
		pt.wantDials(2)
	})
}

func TestSessionsThatHaveNothingAreForgotten(t *testing.T) {
	bubble(t, pooler.Config{ConnMaxIdleTime: time.Second}, func(pt *tester) {
		for db := range 10 {
			pt.fill(session(db), 1)
		}
		if got := pt.pool.Stats().Sessions; got != 10 {
			t.Errorf("%d sessions, want 10", got)
		}
		pt.sleep(10 * time.Second)
		if got := pt.pool.Stats().Sessions; got != 0 {
			t.Errorf("%d sessions, want 0", got)
		}
	})
}

func TestAnsweredPingsKeepANodeThatAcceptsNobodyFromBeingDown(t *testing.T) {
	cfg := pooler.Config{MaxOpenConns: 3, HealthCheckInterval: 500 * time.Millisecond, FailFastAfter: 3 * time.Second, WaitTimeout: -1}
	bubble(t, cfg, func(pt *tester) {
		pt.fill(pt.plain, 1)
		pt.sleep(time.Second)
		pt.dialer.refuse(true)
		w := pt.wait(session(1))
		pt.sleep(time.Minute)
		w.wantWaiting()
		pt.wantState(pooler.StateSuspect)
		pt.dialer.refuse(false)
		pt.put(w.await().wantConn())
	})
}
