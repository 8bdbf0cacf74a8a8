package pooler_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/everpool/everpool/pooler"
)

func TestAParkedConnectionMakesRoomWhenEveryConnectionIsKept(t *testing.T) {
	bubble(t, pooler.Config{MaxOpenConns: 2}, func(pt *tester) {
		busy, parked := pt.get(pt.plain), pt.get(pt.plain)
		for _, c := range []*pooler.Conn{busy, parked} {
			pt.pool.Pin(c, "watch")
		}
		parked.Park()
		pt.put(pt.get(pt.plain)) // in its room
		pt.wantCloses(pooler.CloseRoom, 1)
		if parked.Unpark() || !errors.Is(parked.Err(), pooler.ErrClosed) {
			t.Errorf("its holder isn't told: %v", parked.Err())
		}
		if !busy.Unpark() || busy.Err() != nil {
			t.Errorf("the busy one has gone: %v", busy.Err())
		}
		pt.fail(parked)
		pt.put(busy)
	})
}

func TestAParkedConnectionStaysWhileAnotherMayComeBack(t *testing.T) {
	bubble(t, pooler.Config{MaxOpenConns: 2}, func(pt *tester) {
		leased, parked := pt.get(pt.plain), pt.get(pt.plain)
		pt.pool.Pin(parked, "watch")
		parked.Park()
		w := pt.wait(pt.plain)
		pt.put(leased)
		pt.put(w.wantConn())
		if !parked.Unpark() {
			t.Error("it was closed for nothing")
		}
		pt.put(parked)
	})
}

func TestAnUnparkedConnectionIsNeverTaken(t *testing.T) {
	bubble(t, pooler.Config{MaxOpenConns: 1}, func(pt *tester) {
		c := pt.get(pt.plain)
		pt.pool.Pin(c, "watch")
		c.Park()
		if !c.Unpark() {
			t.Fatal("Unpark failed though nobody has taken it")
		}
		w := pt.wait(pt.plain)
		pt.do(c, "PING")
		pt.put(c)
		pt.put(w.wantConn())
	})
}

// keep leases a connection, pinned, as a handle does that asks CLIENT ID.
func (pt *tester) keep() *pooler.Conn {
	pt.Helper()
	c := pt.get(pt.plain)
	pt.pool.Pin(c, "client-id")
	return c
}

func TestWhoWaitsIsServedWhenAConnectionIsParkedLater(t *testing.T) {
	bubble(t, pooler.Config{MaxOpenConns: 3, WaitTimeout: -1}, func(pt *tester) {
		kept := []*pooler.Conn{pt.keep(), pt.keep(), pt.keep()}
		line := []*pending{pt.wait(pt.plain), pt.wait(session(1)), pt.wait(pt.plain), pt.wait(session(1))}
		pt.sleep(time.Second)
		for i, w := range line {
			w.wantWaiting()
			kept[i].Park()
			if kept[i].Unpark() || kept[i].Ready() {
				t.Error("its handle has it back although somebody waits")
			}
			c := w.wantConn() // in the order of arrival, whatever the session
			pt.pool.Pin(c, "client-id")
			kept = append(kept, c)
			if i+1 < len(line) {
				line[i+1].wantWaiting()
			}
			pt.sleep(time.Second)
		}
		pt.wantCloses(pooler.CloseRoom, 4)
		pt.wantOpen(3)
		pt.fail(kept[:4]...)
		pt.put(kept[4:]...)
	})
}

// Those who come later don't get what was parked for those who wait.
func TestAGetThatComesAfterAParkDoesNotOvertake(t *testing.T) {
	bubble(t, pooler.Config{MaxOpenConns: 1, WaitTimeout: -1}, func(pt *tester) {
		c := pt.keep()
		first := pt.wait(pt.plain)
		pt.sleep(time.Second)
		c.Park()
		second := pt.begin(pooler.Request{Session: pt.plain})
		got := first.wantConn()
		second.wantWaiting()
		pt.put(got)
		pt.put(second.wantConn())
		pt.fail(c)
	})
}

// A handle that has waited for its connection can use it before it loses it.
func TestAConnectionIsKeptForAMomentHoweverManyWait(t *testing.T) {
	bubble(t, pooler.Config{MaxOpenConns: 1, WaitTimeout: -1}, func(pt *tester) {
		kept := pt.keep()
		w := pt.wait(pt.plain)
		for range 49 {
			kept.Park()
			pt.sleep(time.Millisecond)
			if !kept.Unpark() || !kept.Ready() {
				t.Fatal("it was taken")
			}
			pt.do(kept, "PING")
		}
		kept.Park()
		if pt.sleep(time.Millisecond); kept.Ready() {
			t.Error("it is still there")
		}
		pt.put(w.wantConn())
		pt.fail(kept)
	})
}

// A connection that may come back by itself isn't waited for without end: its
// request may block.
func TestAParkedConnectionMakesRoomForWhoeverHasWaitedForAMoment(t *testing.T) {
	bubble(t, pooler.Config{MaxOpenConns: 2, WaitTimeout: -1}, func(pt *tester) {
		blocking, kept := pt.get(pt.plain), pt.keep()
		kept.Park()
		pt.sleep(time.Second)
		w := pt.wait(pt.plain).await()
		next := w.wantConn()
		if w.took != 5*time.Millisecond {
			t.Errorf("after %s, want 5ms", w.took)
		}
		pt.pool.Pin(next, "client-id")
		w = pt.wait(pt.plain)
		pt.sleep(time.Second)
		w.wantWaiting()
		next.Park()
		pt.put(w.wantConn()) // it has waited already
		pt.fail(kept, next)
		pt.put(blocking)
	})
}

// What was parked while somebody waited is kept when nobody waits any more.
func TestAParkedConnectionStaysOnceNobodyWaits(t *testing.T) {
	bubble(t, pooler.Config{MaxOpenConns: 1, WaitTimeout: -1}, func(pt *tester) {
		kept := pt.keep()
		w := pt.wait(pt.plain)
		pt.sleep(time.Second)
		w.cancel(context.Canceled)
		w.await()
		kept.Park()
		if pt.sleep(time.Second); !kept.Unpark() {
			t.Error("it was taken")
		}
		pt.put(kept)
	})
}

func TestManyHandlesThatKeepTheirConnectionsStarveNobody(t *testing.T) {
	const callers, rounds = 64, 50
	bubble(t, pooler.Config{MaxOpenConns: 20}, func(pt *tester) {
		pt.dialer.take(time.Millisecond)
		var wg sync.WaitGroup
		for range callers {
			wg.Go(func() {
				var kept *pooler.Conn
				for range rounds {
					if kept != nil && !kept.Unpark() {
						pt.fail(kept)
						kept = nil
					}
					if kept == nil {
						c, err := pt.tryGet(pooler.Request{Session: pt.plain, Name: "CLIENT"})
						if err != nil {
							t.Errorf("Get: %v", err)
							return
						}
						pt.pool.Pin(c, "client-id")
						kept = c
					}
					if _, err := exchange(kept, "PING"); err != nil {
						t.Errorf("exchange: %v", err)
					}
					kept.Park()
					time.Sleep(time.Millisecond)
				}
				if !kept.Unpark() {
					pt.fail(kept)
				} else {
					pt.put(kept)
				}
			})
		}
		wg.Wait()
		if s := pt.pool.Stats(); s.WaitTimeouts != 0 || s.WaitDuration > time.Duration(s.WaitCount)*100*time.Millisecond {
			t.Errorf("%d gave up, %d waited for %s together", s.WaitTimeouts, s.WaitCount, s.WaitDuration)
		}
	})
}

// The server is at its maxclients, say: the only way to one more connection is to
// give one up.
func TestAFullPoolOfKeptConnectionsIsProbedForWhoeverAwaitsTheNode(t *testing.T) {
	bubble(t, pooler.Config{MaxOpenConns: 2, FailFastAfter: -1, WaitTimeout: -1}, func(pt *tester) {
		kept := []*pooler.Conn{pt.keep(), pt.keep()}
		pt.pool.SetMaxOpenConns(3)
		pt.dialer.refuse(true)
		w := pt.wait(pt.plain)
		pt.sleep(time.Second)
		pt.pool.SetMaxOpenConns(2)
		w.cancel(context.Canceled)
		w.await()
		if pt.pool.Serves() {
			t.Error("it serves")
		}
		awaits := make(chan error, 1)
		go func() { awaits <- pt.pool.Await(pt.Context(), pooler.Request{Session: pt.plain}, time.Hour) }()
		pt.dialer.refuse(false)
		pt.sleep(10 * time.Second)
		if len(awaits) > 0 {
			t.Errorf("it has ended: %v", <-awaits)
		}
		kept[0].Park()
		if err := <-awaits; err != nil {
			t.Error(err)
		}
		pt.wantState(pooler.StateUp)
		pt.fail(kept[0])
		pt.put(kept[1])
	})
}

// All connections of a full pool are lent when the request comes, and are kept and
// parked afterwards.
func TestWhoWaitsIsServedWhenAConnectionIsKeptAndParkedLater(t *testing.T) {
	bubble(t, pooler.Config{MaxOpenConns: 1, WaitTimeout: -1}, func(pt *tester) {
		kept := pt.get(pt.plain)
		w := pt.wait(pt.plain)
		pt.sleep(time.Second)
		w.wantWaiting()
		pt.pool.Pin(kept, "client-id")
		kept.Park()
		pt.sleep(time.Second)
		pt.put(w.wantConn())
		pt.fail(kept)
	})
}
