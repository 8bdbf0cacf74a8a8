package pooler_test

import (
	"errors"
	"testing"
	"time"

	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/pooler"
)

// saysNotReady makes the server answer everything with that error, new connections
// and those that are open.
func (pt *tester) saysNotReady(reply string) {
	for _, name := range []string{"SET", "ECHO", "PING", "SELECT"} {
		var h testkit.Handler
		if reply != "" {
			h = func(*testkit.FakeConn, []string) []byte { return []byte(reply) }
		}
		pt.fake.Handle(name, h)
	}
}

// That a server isn't ready is what its callers are told, as with the stock client. It
// is no outage: they aren't kept waiting, and nothing is dialed over and over.
func TestAServerThatIsNotReadyIsNoOutage(t *testing.T) {
	for _, reply := range changes[:3] {
		for _, shared := range []int{-1, 1} {
			bubble(t, pooler.Config{SharedConns: shared, MaxOpenConns: 9, MinIdleConns: 2, HealthCheckInterval: time.Second}, func(pt *tester) {
				s := session(1)
				lease := pt.get(s)
				pt.put(pt.get(s))
				pt.sleep(10 * time.Millisecond)
				pt.saysNotReady(reply)
				dials := pt.dialer.count()
				for range 100 { // 10 seconds
					if shared > 0 {
						pt.ride(pt.share(s), ask("SET", "a", "b")).wantReply(reply)
					}
					if got := pt.do(lease, "SET", "a", "b"); got != reply {
						t.Errorf("received %q", got)
					}
					pt.put(lease)
					pt.sleep(100 * time.Millisecond)
					lease = pt.get(s)
				}
				if n := pt.dialer.count() - dials; n > 25 {
					t.Errorf("%d dials in 10 s", n)
				}
				pt.wantRetired(0)
				pt.wantState(pooler.StateUp)

				// What needs a new connection is told at once.
				held := []*pooler.Conn{lease}
				for {
					began := time.Now()
					c, err := pt.tryGet(pooler.Request{Session: s})
					if err == nil {
						held = append(held, c)
						continue
					}
					e := pt.wantErr(err, pooler.ErrNotReady)
					if time.Since(began) != 0 || e.Cause == nil || e.Cause.Error()[:4] != reply[1:5] {
						t.Errorf("after %s: %v", time.Since(began), err)
					}
					break
				}
				pt.saysNotReady("")
				pt.put(pt.get(s)) // at once
				pt.put(held...)
				pt.wantState(pooler.StateUp)
			})
		}
	}
}

// What a server said before a request came isn't what that request is told.
func TestWhoComesAfterTheDialIsNotToldThatTheServerWasNotReady(t *testing.T) {
	bubble(t, pooler.Config{SharedConns: -1, MaxOpenConns: 9, HealthCheckInterval: -1}, func(pt *tester) {
		s := session(1)
		held := []*pooler.Conn{pt.get(s)}
		ready := false
		pt.fake.Handle("SELECT", func(*testkit.FakeConn, []string) []byte {
			says := []byte("-READONLY\r\n")
			if ready {
				says = []byte("+OK\r\n")
			}
			time.Sleep(50 * time.Millisecond)
			return says
		})
		told := make(chan error)
		go func() {
			c, err := pt.tryGet(pooler.Request{Session: s})
			if c != nil {
				pt.put(c)
			}
			told <- err
		}()
		pt.sleep(10 * time.Millisecond)
		ready = true
		held = append(held, pt.get(s))
		pt.wantErr(<-told, pooler.ErrNotReady)
		pt.put(held...)
	})
}

// The replies of an abandoned request are being read to their end, and the connection is
// the next request's then: there the server says itself what it is to be told.
func TestAnAbandonedConnectionIsAwaitedWhereTheServerIsNotReady(t *testing.T) {
	bubble(t, pooler.Config{SharedConns: -1, MaxOpenConns: 9}, func(pt *tester) {
		s := session(1)
		c := pt.get(s)
		pt.fake.Handle("GET", func(*testkit.FakeConn, []string) []byte {
			time.Sleep(100 * time.Millisecond)
			return []byte("-LOADING\r\n")
		})
		pt.saysNotReady("-LOADING\r\n")
		dials := pt.dialer.count()
		pt.send(c, "GET", "a")
		pt.abandon(c)
		began := time.Now()
		for range 3 {
			pt.put(pt.get(s))
		}
		if waited := time.Since(began); waited != 100*time.Millisecond {
			pt.Errorf("waited for %s", waited)
		}
		pt.settle()
		if n := pt.dialer.count() - dials; n != 2 { // for the request that waits, and as the reply says that the name may mean another server
			pt.Errorf("%d dials", n)
		}
	})
}

// The name may mean another server by now, which is.
func TestConnectionsToAServerThatIsNotReadyAreRetiredOnceANewOneReachesOneThatIs(t *testing.T) {
	for _, reply := range changes[:3] {
		for _, on := range []string{"lane", "lease", "idle"} {
			t.Run(on+" "+reply[:6], func(t *testing.T) {
				bubble(t, pooler.Config{SharedConns: 1, MaxOpenConns: 9, HealthCheckInterval: time.Second}, func(pt *tester) {
					old := make(map[int64]bool)
					says := func(c *testkit.FakeConn, _ []string) []byte {
						if old[c.ID] {
							return []byte(reply)
						}
						return []byte("+OK\r\n")
					}
					sh := pt.share(pt.plain)
					lease, idle := pt.get(pt.plain), pt.get(session(1))
					pt.put(idle)
					pt.settle()
					for _, c := range pt.fake.Conns() {
						old[c.ID] = true
					}
					pt.fake.Handle("SET", says)
					pt.fake.Handle("PING", says)
					switch on {
					case "lane":
						pt.ride(sh, ask("SET", "a", "b")).wantReply(reply)
					case "lease":
						pt.do(lease, "SET", "a", "b")
					default:
						pt.sleep(time.Second)
					}
					pt.put(lease)
					pt.settle()
					pt.wantRetired(1)
					pt.wantCloses(pooler.CloseRetired, 3)
					pt.wantOpen(1)
					c := pt.get(pt.plain)
					if got := pt.do(c, "SET", "a", "b"); got != "+OK\r\n" {
						t.Errorf("received %q", got)
					}
					pt.put(c)
				})
			})
		}
	}
}

// A server that has restarted says so on new connections, and the old ones are dead:
// its callers wait until it has loaded its data.
func TestAServerThatLoadsItsDataAfterARestartIsAnOutage(t *testing.T) {
	for name, shared := range map[string]int{"leased": -1, "shared": 1} {
		t.Run(name, func(t *testing.T) {
			bubble(t, pooler.Config{SharedConns: shared, MaxOpenConns: 9, WaitTimeout: -1}, func(pt *tester) {
				s := session(1)
				pt.put(pt.get(s))
				if shared > 0 {
					pt.share(s)
				}
				pt.fake.ResetAll() // and it is back at once
				pt.saysNotReady(changes[1])
				w := pt.wait(session(2))
				pt.sleep(2 * time.Second)
				w.wantWaiting()
				if pt.pool.Serves() {
					t.Error("it serves")
				}
				pt.saysNotReady("")
				pt.put(w.await().wantConn())
			})
		})
	}
}

// What a server says on the first connection after it has closed all others is that it has
// restarted, if it isn't ready, unless something else was heard from it since.
func TestAServerThatIsNotReadyAfterItHasClosedAllConnectionsIsAnOutage(t *testing.T) {
	for name, tt := range map[string]struct {
		stays  bool // a connection does
		away   bool // it accepts none for a while
		serves bool // at first
		outage bool
	}{
		"at once":              {outage: true},
		"one connection stays": {stays: true},
		"after an outage":      {away: true},
		"later":                {serves: true},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, pooler.Config{SharedConns: -1, MaxOpenConns: 9, HealthCheckInterval: -1}, func(pt *tester) {
				lost, kept := pt.get(pt.plain), pt.get(pt.plain)
				pt.sleep(time.Minute)
				lost.Fail(pooler.CloseRead, errors.New("lost"))
				pt.fail(lost)
				if !tt.stays {
					kept.Fail(pooler.CloseRead, errors.New("lost"))
					pt.fail(kept)
				}
				if tt.away {
					pt.fake.DownRefused()
					done := pt.awaitNode(pt.Context(), 0)
					pt.sleep(time.Second)
					pt.fake.Up()
					if err := <-done; err != nil {
						pt.Fatal(err)
					}
				}
				c := pt.get(pt.plain)
				if tt.serves {
					pt.do(c, "SET", "a", "b")
					pt.sleep(time.Second)
				}
				pt.saysNotReady(changes[1])
				if got := pt.do(c, "SET", "a", "b"); got != changes[1] {
					pt.Errorf("received %q", got)
				}
				pt.put(c)
				pt.settle()
				if up := pt.pool.Stats().State == pooler.StateUp; up == tt.outage || pt.pool.Serves() == tt.outage {
					pt.Errorf("up %t, serves %t", up, pt.pool.Serves())
				}
				if tt.outage {
					done := pt.awaitNode(pt.Context(), 0)
					pt.sleep(time.Second)
					if n := pt.pool.Stats().Awaiting; n != 1 {
						pt.Errorf("%d await it", n)
					}
					pt.saysNotReady("")
					if err := <-done; err != nil {
						pt.Error(err)
					}
					pt.wantState(pooler.StateUp)
				}
				if tt.stays {
					pt.put(kept)
				}
			})
		})
	}
}

// A connection that was just lent, and that nobody has looked at yet, is no sign that the server
// hasn't restarted.
func TestAConnectionThatNobodyHasLookedAtIsNoSignOfLife(t *testing.T) {
	bubble(t, pooler.Config{SharedConns: -1, MaxOpenConns: 9, HealthCheckInterval: -1}, func(pt *tester) {
		lost, lent := pt.get(pt.plain), pt.get(pt.plain)
		pt.put(lent)
		pt.sleep(time.Minute)
		lent = pt.get(pt.plain)
		lost.Fail(pooler.CloseRead, errors.New("lost"))
		pt.fail(lost)
		c := pt.get(pt.plain)
		pt.saysNotReady(changes[1])
		pt.do(c, "SET", "a", "b")
		pt.put(c)
		pt.settle()
		if pt.pool.Stats().State == pooler.StateUp {
			t.Error("the node is up")
		}
		pt.put(lent)
	})
}

// As before: it accepts nobody, and serves those whom it has.
func TestAServerThatHasTooManyClientsIsWaitedFor(t *testing.T) {
	bubble(t, pooler.Config{WaitTimeout: -1, HealthCheckInterval: 500 * time.Millisecond, FailFastAfter: 3 * time.Second}, func(pt *tester) {
		pt.put(pt.get(pt.plain))
		pt.fake.Handle("SELECT", func(*testkit.FakeConn, []string) []byte {
			return testkit.ReplyError("ERR max number of clients reached")
		})
		w := pt.wait(session(1))
		pt.sleep(time.Minute)
		w.wantWaiting()
		pt.fake.Handle("SELECT", nil)
		pt.put(w.await().wantConn())
	})
}

func TestWhereAFullPoolHasNoRoomToAskConnectionsAreRetiredAtOnce(t *testing.T) {
	for _, reply := range changes {
		bubble(t, pooler.Config{SharedConns: -1, MaxOpenConns: 2}, func(pt *tester) {
			pt.fake.Handle("SET", func(*testkit.FakeConn, []string) []byte { return []byte(reply) })
			first, second := pt.get(pt.plain), pt.get(pt.plain)
			pt.do(first, "SET", "a", "b")
			pt.put(first)
			pt.wantRetired(1)
			pt.put(second)
			pt.wantCloses(pooler.CloseRetired, 2)
			pt.wantDials(2)
		})
	}
}
