package pooler_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/pooler"
)

// await has a caller await the node; its error comes when the wait is over.
func (pt *tester) awaitNode(ctx context.Context, limit time.Duration) <-chan error {
	done := make(chan error, 1)
	go func() { done <- pt.pool.Await(ctx, pooler.Request{Session: pt.plain}, limit) }()
	synctest.Wait()
	return done
}

// wantAwaiting says that so many callers await the node.
func (pt *tester) wantAwaiting(n int) {
	pt.Helper()
	if s := pt.pool.Stats(); s.Awaiting != n || s.Waiting != 0 || s.Admitted != 0 {
		pt.Errorf("%d await the node, %d requests wait of %d; want %d and none", s.Awaiting, s.Waiting, s.Admitted, n)
	}
}

func TestANodeThatHasNeverAnsweredIsDialedForTheFirstWhoAwaitIt(t *testing.T) {
	bubble(t, pooler.Config{}, func(pt *tester) {
		if pt.pool.Serves() {
			t.Error("it serves before anybody has asked")
		}
		pt.fake.HangDials(true)
		first, second := pt.awaitNode(pt.Context(), 0), pt.awaitNode(pt.Context(), 0)
		pt.wantAwaiting(2)
		pt.wantDials(1)
		pt.fake.HangDials(false)
		for _, done := range []<-chan error{first, second} {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		if !pt.pool.Serves() {
			t.Error("it doesn't serve")
		}
		pt.put(pt.get(pt.plain))
		pt.wantDials(1) // whose connection serves the first request
	})
}

// The least has calls fail as soon as the node is known to be down, which takes a dial.
func TestTheFirstContactHasItsTimeHoweverSoonCallsShallFail(t *testing.T) {
	bubble(t, pooler.Config{FailFastAfter: time.Millisecond}, func(pt *tester) {
		pt.fake.HangDials(true)
		done := pt.awaitNode(pt.Context(), 0)
		time.Sleep(100 * time.Millisecond)
		pt.fake.HangDials(false)
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestAwaitingEndsWhenCallsFailFast(t *testing.T) {
	for name, away := range map[string]func(pt *tester){
		"refuses": func(pt *tester) { pt.fake.DownRefused() },
		"hangs":   func(pt *tester) { pt.fake.HangDials(true) },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, pooler.Config{FailFastAfter: time.Second, DialTimeout: 5 * time.Second}, func(pt *tester) {
				away(pt)
				began := time.Now()
				first := pt.awaitNode(pt.Context(), 0)
				time.Sleep(600 * time.Millisecond)
				second := pt.awaitNode(pt.Context(), 0) // doesn't have it all for itself
				for _, done := range []<-chan error{first, second} {
					err := <-done
					pt.wantErr(err, pooler.ErrNodeDown)
					if took := time.Since(began); took != time.Second {
						t.Errorf("after %v, want a second", took)
					}
				}
				pt.wantErr(<-pt.awaitNode(pt.Context(), 0), pooler.ErrNodeDown)
				if took := time.Since(began); took > time.Second+10*time.Millisecond || name == "hangs" && took != time.Second {
					t.Errorf("the next one waited: %v", took)
				}
				pt.wantAwaiting(0)
				pt.fake.HangDials(false)
			})
		})
	}
}

func TestAwaitingEndsByItsOwnLimitByItsContextAndByClose(t *testing.T) {
	gone := errors.New("gone home")
	bubble(t, pooler.Config{FailFastAfter: -1}, func(pt *tester) {
		pt.fake.DownRefused()
		ctx, cancel := context.WithCancelCause(pt.Context())
		limited, left, stays := pt.awaitNode(pt.Context(), time.Second), pt.awaitNode(ctx, 0), pt.awaitNode(pt.Context(), 0)
		pt.wantAwaiting(3)
		cancel(gone)
		pt.wantErr(<-left, gone)
		pt.wantAwaiting(2)
		began := time.Now()
		err := <-limited
		pt.wantErr(err, pooler.ErrNodeDown)
		if e, ok := errors.AsType[*pooler.Error](err); !ok || e.Waited != time.Second || time.Since(began) != time.Second {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
		time.Sleep(time.Hour)
		pt.wantAwaiting(1)
		_ = pt.pool.Close()
		pt.wantErr(<-stays, pooler.ErrClosed)
	})
}

// Those who only await it make no requests that would have it probed.
func TestANodeIsProbedForThoseWhoAwaitIt(t *testing.T) {
	bubble(t, pooler.Config{FailFastAfter: -1}, func(pt *tester) {
		pt.fake.DownRefused()
		done := pt.awaitNode(pt.Context(), 0)
		time.Sleep(10 * time.Minute)
		pt.fake.Up()
		time.Sleep(time.Second)
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
		default:
			t.Error("it is back, and nobody has looked")
		}
	})
}

func TestANodeServesWhileItIsUpOrHasConnectionsThatAreNobodysOwn(t *testing.T) {
	bubble(t, pooler.Config{MaxOpenConns: 4, HealthCheckInterval: -1}, func(pt *tester) {
		leased, pinned, idle := pt.get(pt.plain), pt.get(pt.plain), pt.get(pt.plain)
		pt.put(idle)
		pt.pool.Pin(pinned, "kept")
		pt.dialer.refuse(true)
		w := pt.begin(pooler.Request{Session: session(1)}) // has a dial fail
		time.Sleep(time.Second)
		if s := pt.pool.Stats(); s.State == pooler.StateUp || !pt.pool.Serves() {
			t.Errorf("%v, serves %t: with connections that work it does", s.State, pt.pool.Serves())
		}
		if pt.pool.Well() {
			t.Error("it is well, and not up")
		}
		if !pt.pool.Answers() || !pt.pool.Illness().Answers {
			t.Error("it has a connection that nobody holds, and doesn't answer")
		}
		w.cancel(context.Canceled)
		w.await()
		held := pt.get(pt.plain)
		if !pt.pool.Serves() || pt.pool.Answers() || pt.pool.Illness().Answers {
			t.Error("it answers, with connections that are all held")
		}
		pt.put(held)
		idle.Fail(pooler.CloseRead, errors.New("lost"))
		pt.fail(leased)
		pt.fake.ResetAll()
		pt.pool.Drain()
		synctest.Wait()
		if s := pt.pool.Stats(); s.OpenConnections != 1 || pt.pool.Serves() {
			t.Errorf("%d open, serves %t: with one that is kept it doesn't", s.OpenConnections, pt.pool.Serves())
		}
		pt.dialer.refuse(false)
		pt.fail(pinned)
		pt.put(pt.get(pt.plain))
		if !pt.pool.Serves() {
			t.Error("it is back and doesn't serve")
		}
	})
}

// Idle connections that died with the node would be taken for ones that work.
func TestAFailedDialHasDeadConnectionsFound(t *testing.T) {
	for name, shared := range map[string]int{"idle": -1, "shared": 1} {
		t.Run(name, func(t *testing.T) {
			bubble(t, pooler.Config{SharedConns: shared, MaxOpenConns: 4, HealthCheckInterval: -1}, func(pt *tester) {
				if shared > 0 {
					pt.ride(pt.share(pt.plain), ask("ECHO", "x")).await()
				} else {
					pt.put(pt.get(pt.plain))
				}
				pt.fake.DownRefused()
				pt.fake.ResetAll()
				w := pt.begin(pooler.Request{Session: session(1)})
				time.Sleep(time.Second)
				if s := pt.pool.Stats(); s.OpenConnections != 0 || pt.pool.Serves() {
					t.Errorf("%d open, serves %t", s.OpenConnections, pt.pool.Serves())
				}
				w.cancel(context.Canceled)
				w.await()
			})
		})
	}
}

// nowhere are places of which none is here. It keeps what is read of the pool without its
// lock when it is asked.
type nowhere struct {
	pool  *pooler.Pool
	asked int
	wrong []pooler.Illness
}

func (n *nowhere) Here(_ string, _ int, ill pooler.Illness) bool {
	n.asked++
	if n.pool.Well() == ill.Ill() || n.pool.Serves() != ill.Serves || n.pool.Answers() != ill.Answers {
		n.wrong = append(n.wrong, ill)
	}
	return false
}

// A cluster's caller that is sent away asks at once whether there is a member that is well:
// the one that has sent it away isn't.
func TestANodeIsKnownToBeIllByThoseWhomItSendsAway(t *testing.T) {
	bubble(t, pooler.Config{}, func(pt *tester) {
		pt.fake.HangDials(true)
		n := &nowhere{pool: pt.pool}
		done := make(chan error, 1)
		go func() {
			done <- pt.pool.Await(pt.Context(), pooler.Request{Session: pt.plain, Place: pooler.Place{Places: n}}, 0)
		}()
		synctest.Wait()
		pt.fake.DownRefused()
		pt.fake.HangDials(false)
		if err := <-done; !errors.Is(err, pooler.ErrElsewhere) {
			t.Error(err)
		}
		if n.asked == 0 || len(n.wrong) > 0 {
			t.Errorf("asked %d times; of these it was told otherwise: %+v", n.asked, n.wrong)
		}
	})
}

// A node that has closed all connections may be gone, and a dial tells: who awaits it isn't
// told that it serves until then, and is where it refuses a session.
func TestANodeThatHasClosedAllConnectionsIsAwaited(t *testing.T) {
	for _, refused := range []bool{false, true} {
		bubble(t, pooler.Config{MaxOpenConns: 4, HealthCheckInterval: -1}, func(pt *tester) {
			pt.plain = session(1)
			c := pt.get(pt.plain)
			c.Fail(pooler.CloseRead, errors.New("lost"))
			pt.fail(c)
			if refused {
				pt.fake.Handle("SELECT", func(*testkit.FakeConn, []string) []byte { return []byte("-NOPERM\r\n") })
			}
			if s := pt.pool.Stats(); s.State != pooler.StateUp || s.OpenConnections != 0 || pt.pool.Serves() || !pt.pool.Answers() || !pt.pool.Well() {
				pt.Fatalf("%v, %d open, serves %t, answers %t, is well %t", s.State, s.OpenConnections, pt.pool.Serves(), pt.pool.Answers(), pt.pool.Well())
			}
			pt.fake.HangDials(true)
			first, second := pt.awaitNode(pt.Context(), 0), pt.awaitNode(pt.Context(), 0)
			if n := pt.pool.Stats().Awaiting; n != 2 {
				pt.Errorf("%d await it", n)
			}
			pt.wantDials(2)
			began := time.Now()
			pt.fake.HangDials(false)
			for _, done := range []<-chan error{first, second} {
				if err := <-done; err != nil || time.Since(began) > 0 {
					pt.Errorf("after %v: %v", time.Since(began), err)
				}
			}
			pt.wantState(pooler.StateUp)
			pt.wantDials(2)
		})
	}
}

// Who awaits a node that has closed all connections isn't told of an outage that was over long
// ago, whether it is dialed already, since connections are to be kept idle, or for that caller.
func TestANodeIsAwaitedHoweverLongAgoItWasDown(t *testing.T) {
	for name, keepIdle := range map[string]int{"dialed already": 1, "not dialed": 0} {
		t.Run(name, func(t *testing.T) {
			bubble(t, pooler.Config{MinIdleConns: keepIdle, HealthCheckInterval: -1, MaxOpenConns: 4}, func(pt *tester) {
				pt.fake.DownRefused()
				done := pt.awaitNode(pt.Context(), 0)
				time.Sleep(100 * time.Millisecond)
				pt.fake.Up()
				if err := <-done; err != nil {
					pt.Fatal(err)
				}
				time.Sleep(time.Hour)
				pt.wantState(pooler.StateUp)
				c := pt.get(pt.plain)
				pt.fake.HangDials(true)
				c.Fail(pooler.CloseRead, errors.New("lost"))
				pt.fail(c)
				if keepIdle == 0 {
					time.Sleep(time.Hour)
				}
				if n := pt.pool.Stats().Dialing; n != keepIdle || pt.pool.Serves() {
					pt.Fatalf("%d dials, serves %t; want %d", n, pt.pool.Serves(), keepIdle)
				}
				done = pt.awaitNode(pt.Context(), 0)
				time.Sleep(100 * time.Millisecond)
				pt.fake.HangDials(false)
				if err := <-done; err != nil {
					pt.Errorf("it was told: %v", err)
				}
			})
		})
	}
}
