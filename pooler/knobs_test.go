package pooler_test

import (
	"testing"
	"time"

	"github.com/everpool/everpool/pooler"
)

func TestSetMaxOpenConnsRaisedServesThoseWhoWait(t *testing.T) {
	bubble(t, pooler.Config{MaxOpenConns: 1}, func(pt *tester) {
		c := pt.get(pt.plain)
		w1, w2, w3 := pt.wait(pt.plain), pt.wait(pt.plain), pt.wait(pt.plain)
		pt.pool.SetMaxOpenConns(3)
		c1, c2 := w1.wantConn(), w2.wantConn()
		w3.wantWaiting()
		pt.pool.SetMaxOpenConns(-1)
		pt.put(c, c1, c2, w3.wantConn())
		pt.wantIdle(4) // MaxIdleConns follows
	})
}

func TestSetMaxOpenConnsLoweredClosesIdleAtOnceAndLeasedAsTheyComeBack(t *testing.T) {
	bubble(t, pooler.Config{MaxOpenConns: 6}, func(pt *tester) {
		c1, c2, c3 := pt.get(pt.plain), pt.get(pt.plain), pt.get(pt.plain)
		pt.fill(pt.plain, 3)
		pt.wantOpen(6)
		pt.pool.SetMaxOpenConns(2)
		pt.wantOpen(3)
		pt.wantIdle(0)
		w := pt.wait(pt.plain)
		pt.put(c1)
		pt.wantOpen(2)
		w.wantWaiting()
		pt.put(c2)
		pt.put(w.wantConn(), c3)
		pt.wantIdle(2)
		pt.wantCloses(pooler.CloseRoom, 4)
		pt.wantDials(6)
	})
}

func TestADialThatEndsAfterTheBoundWasLoweredIsClosed(t *testing.T) {
	bubble(t, pooler.Config{MaxOpenConns: 2}, func(pt *tester) {
		c := pt.get(pt.plain)
		pt.dialer.hold(true)
		w := pt.wait(pt.plain)
		pt.pool.SetMaxOpenConns(1)
		pt.dialer.wantDial().finish(nil)
		pt.wantOpen(1)
		w.wantWaiting()
		pt.put(c)
		pt.put(w.wantConn())
	})
}

func TestSetMaxIdleConnsClosesWhatIsBeyond(t *testing.T) {
	bubble(t, pooler.Config{MaxOpenConns: 5}, func(pt *tester) {
		pt.fill(pt.plain, 5)
		pt.pool.SetMaxIdleConns(3)
		pt.wantIdle(3)
		if s := pt.pool.Stats(); s.MaxIdleClosed != 2 {
			t.Errorf("MaxIdleClosed is %d, want 2; closes: %v", s.MaxIdleClosed, s.Closes)
		}
		pt.fill(pt.plain, 5)
		pt.wantIdle(3)
		pt.pool.SetMaxIdleConns(-1)
		pt.wantIdle(0)
		pt.pool.SetMaxIdleConns(0)
		pt.fill(pt.plain, 5)
		pt.wantIdle(5)
	})
}

func TestSetConnMaxIdleTimeAppliesToThoseThatAreIdle(t *testing.T) {
	bubble(t, pooler.Config{MaxOpenConns: 5}, func(pt *tester) {
		pt.fill(pt.plain, 2)
		pt.sleep(3 * time.Second)
		pt.fill(pt.plain, 1)
		pt.pool.SetConnMaxIdleTime(2 * time.Second)
		pt.wantIdle(1)
		pt.sleep(4 * time.Second)
		pt.wantIdle(0)
		if s := pt.pool.Stats(); s.MaxIdleTimeClosed != 2 {
			t.Errorf("MaxIdleTimeClosed is %d, want 2", s.MaxIdleTimeClosed)
		}
		pt.pool.SetConnMaxIdleTime(-1)
		pt.fill(pt.plain, 1)
		pt.sleep(time.Hour)
		pt.wantIdle(1)
		pt.pool.SetConnMaxIdleTime(0) // the default, 5 minutes
		pt.wantIdle(0)
	})
}

func TestSetConnMaxLifetimeAppliesToThoseThatAreOpen(t *testing.T) {
	bubble(t, pooler.Config{MaxOpenConns: 5, ConnMaxLifetimeJitter: -1}, func(pt *tester) {
		leased := pt.get(pt.plain)
		pt.fill(pt.plain, 1)
		pt.sleep(time.Minute)
		pt.pool.SetConnMaxLifetime(time.Minute)
		pt.wantOpen(1) // the leased one isn't cut
		pt.do(leased, "PING")
		pt.put(leased)
		pt.wantOpen(0)
		pt.wantCloses(pooler.CloseLifetime, 2)
		pt.fill(pt.plain, 1)
		pt.pool.SetConnMaxLifetime(0)
		pt.sleep(2 * time.Minute)
		pt.wantIdle(1)
	})
}
