package pooler_test

import (
	"context"
	"testing"
	"time"

	"github.com/everpool/everpool/pooler"
)

// created has the pool asked for by a handle that makes no request, as go-redis does
// when a client is made.
func (pt *tester) created() {
	pt.Helper()
	if err := pt.pool.Await(context.Background(), pooler.Request{Session: pt.plain}, 0); err != nil {
		pt.Fatal(err)
	}
	pt.settle()
}

// wantReady says that so many leases of the session need no dial.
func (pt *tester) wantReady(s *pooler.Session, n int) {
	pt.Helper()
	pt.dialer.hold(true)
	var cs []*pooler.Conn
	for range n {
		w := pt.begin(pooler.Request{Session: s, Name: "GET"})
		cs = append(cs, w.wantConn())
		pt.do(cs[len(cs)-1], "PING")
	}
	pt.put(cs...)
	pt.dialer.hold(false)
	pt.dialer.finishAll() // MinIdleConns were missing meanwhile
}

func TestMinIdleConnsAreOpenedWithoutARequest(t *testing.T) {
	bubble(t, pooler.Config{MinIdleConns: 5}, func(pt *tester) {
		pt.created()
		pt.wantIdle(5)
		pt.wantDials(5)
		if n := len(pt.fake.Commands()); n != 0 || pt.pool.Stats().Admitted != 0 {
			t.Errorf("%d commands", n)
		}
	})
}

// Those that were opened before the session was known are brought to it.
func TestMinIdleConnsAreInTheSessionThatIsWorkedIn(t *testing.T) {
	for name, shared := range map[string]int{"leased": -1, "shared": 1} {
		t.Run(name, func(t *testing.T) {
			bubble(t, pooler.Config{MinIdleConns: 5, SharedConns: shared}, func(pt *tester) {
				pt.created()
				// As in go-redis's handshake: one step, and another on the next lease.
				first := session(1)
				both := pooler.NewSession(append(first.Steps(), session(2).Steps()...)...)
				for _, s := range []struct {
					db       string
					from, to *pooler.Session
				}{{"1", pt.plain, first}, {"2", first, both}} {
					c := pt.get(s.from)
					pt.do(c, "SELECT", s.db)
					c.SetSession(s.to)
					pt.put(c)
					pt.settle()
				}
				s := both
				if shared > 0 {
					pt.ride(pt.share(s), ask("ECHO", "x")).wantReply(bulk("x"))
				} else {
					pt.put(pt.get(s))
				}
				pt.settle()
				if n := pt.dialer.count(); n > 6 || n != pt.pool.Stats().OpenConnections {
					t.Errorf("%d dials, %d connections", n, pt.pool.Stats().OpenConnections)
				}
				pt.wantReady(s, 5)
			})
		})
	}
}

func TestMinIdleConnsAreOpenAgainAfterAnOutageWithoutARequest(t *testing.T) {
	for _, worked := range []bool{true, false} {
		bubble(t, pooler.Config{MinIdleConns: 3}, func(pt *tester) {
			s := pt.plain
			pt.created()
			if worked {
				s = session(1)
				pt.put(pt.get(s))
			}
			pt.wantReady(s, 3)
			pt.fake.DownRefused()
			pt.sleep(time.Hour)
			pt.wantOpen(0)
			pt.fake.Up()
			pt.sleep(2 * time.Second)
			pt.wantIdle(3)
			pt.wantReady(s, 3)
		})
	}
}

// What one session has of them is no reason to close another's.
func TestMinIdleConnsOfTwoSessionsThatTakeTurnsAreNotOpenedOverAndOver(t *testing.T) {
	bubble(t, pooler.Config{MinIdleConns: 3, MaxOpenConns: 9}, func(pt *tester) {
		a, b := session(1), session(2)
		for range 1000 {
			pt.put(pt.get(a))
			pt.put(pt.get(b))
			pt.sleep(time.Second)
		}
		if n := pt.dialer.count(); n > 20 {
			t.Errorf("%d dials", n)
		}
		pt.wantReady(a, 3)
		pt.wantReady(b, 3)
	})
}

func TestMinIdleConnsAreNotOpenedBeyondMaxIdleConns(t *testing.T) {
	bubble(t, pooler.Config{MinIdleConns: 3, MaxIdleConns: 4, MaxOpenConns: 9}, func(pt *tester) {
		pt.fill(session(1), 4)
		pt.put(pt.get(session(2)))
		pt.sleep(time.Minute)
		if n := pt.dialer.count(); n > 8 {
			t.Errorf("%d dials", n)
		}
	})
}

func TestAFreshConnectionThatCannotBeBroughtToTheSessionIsReplaced(t *testing.T) {
	bubble(t, pooler.Config{MinIdleConns: 3, HealthCheckInterval: -1, HealthCheckTimeout: time.Second}, func(pt *tester) {
		pt.created()
		for _, c := range pt.fake.Conns() {
			c.SwallowReplies(true)
		}
		s := session(1)
		pt.put(pt.get(s)) // on a new one
		pt.sleep(5 * time.Second)
		pt.wantCloses(pooler.CloseState, 3)
		pt.wantReady(s, 3)
		pt.wantState(pooler.StateUp)
	})
	bubble(t, pooler.Config{MinIdleConns: 3}, func(pt *tester) {
		pt.fake.SetPassword("", secret)
		pt.created()
		s := auth(secret)
		c := pt.get(s)
		pt.fake.SetPassword("", "rotated")
		pt.put(c)
		pt.settle()
		if !s.Dead() {
			t.Error("the session lives")
		}
		pt.wantOpen(0)
	})
}

// What says nothing of the session that is worked in.
func TestMinIdleConnsStayInTheSessionThatIsWorkedIn(t *testing.T) {
	for name, other := range map[string]func(pt *tester){
		"a handshake that fails": func(pt *tester) { pt.put(pt.get(pt.plain)) },
		"a lane that ends":       func(pt *tester) { pt.sleep(10 * time.Minute) },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, pooler.Config{MinIdleConns: 3, SharedConns: 1}, func(pt *tester) {
				old, s := session(1), session(2)
				pt.ride(pt.share(old), ask("ECHO", "x")).wantReply(bulk("x"))
				pt.settle()
				pt.put(pt.get(s))
				pt.settle()
				dials := pt.dialer.count()
				other(pt)
				pt.settle()
				if n := pt.dialer.count() - dials; n > 1 {
					t.Errorf("%d dials", n)
				}
				pt.wantReady(s, 3)
			})
		})
	}
}

// A pool that was drained is as one that is new.
func TestMinIdleConnsAreOpenedForTheNextClientToo(t *testing.T) {
	bubble(t, pooler.Config{MinIdleConns: 3}, func(pt *tester) {
		pt.created()
		pt.put(pt.get(session(1)))
		pt.settle()
		pt.pool.Drain()
		pt.wantOpen(0)
		pt.sleep(time.Hour)
		pt.wantOpen(0)
		if pt.pool.Serves() {
			t.Error("callers wouldn't come to Await")
		}
		pt.created()
		pt.wantIdle(3)
		if !pt.pool.Serves() {
			t.Error("it doesn't serve")
		}
	})
}

// A step of a handshake that the server refuses leaves the connection in a session that
// nothing is asked in.
func TestAStepThatIsRefusedIsNoWorkInItsSession(t *testing.T) {
	bubble(t, pooler.Config{MinIdleConns: 3}, func(pt *tester) {
		pt.created()
		s := session(1)
		c := pt.get(pt.plain)
		pt.do(c, "SELECT", "1")
		c.SetSession(s)
		pt.put(c)
		pt.settle()
		dials := pt.dialer.count()
		c = pt.get(s)
		c.SetSession(s) // refused
		pt.put(c)
		pt.settle()
		if n := pt.dialer.count() - dials; n != 0 {
			t.Errorf("%d dials", n)
		}
		if n := pt.fake.Count("SELECT"); n != 1 {
			t.Errorf("%d connections were brought to the session", n)
		}
	})
}
