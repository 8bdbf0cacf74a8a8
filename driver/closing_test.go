package driver_test

import (
	"errors"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/pooler"
)

// blocked runs call, and returns its error once it has returned; until then it
// must block.
func (l *lab) blocked(call func() error) (result func() error) {
	l.Helper()
	done := make(chan error, 1)
	go func() { done <- call() }()
	synctest.Wait()
	select {
	case err := <-done:
		l.Fatalf("returned at once: %v", err)
	default:
	}
	return func() error {
		l.Helper()
		synctest.Wait()
		select {
		case err := <-done:
			return err
		default:
			l.Fatal("still blocked")
			return nil
		}
	}
}

// situations are all the places where a handle may block. Each leaves a call
// blocked in it.
var situations = map[string]func(t *lab, v *virtual) func() error{
	"reading with nothing written": func(t *lab, v *virtual) func() error {
		return t.blocked(func() error { _, err := v.Conn.Read(make([]byte, 9)); return err })
	},
	"reading a reply": func(t *lab, v *virtual) func() error {
		t.slow(time.Hour)
		v.send("GET slow")
		return t.blocked(func() error { _, err := v.Conn.Read(make([]byte, 9)); return err })
	},
	"reading messages": func(t *lab, v *virtual) func() error {
		v.do("SUBSCRIBE c", "*3 $9 subscribe $1 c :1")
		return t.blocked(func() error { _, err := v.Conn.Read(make([]byte, 9)); return err })
	},
	"writing to a server that doesn't read": func(t *lab, v *virtual) func() error {
		t.f.Freeze(true)
		return t.blocked(func() error { _, err := v.Write([]byte(frames("SET k " + strings.Repeat("v", 1<<20)))); return err })
	},
	"waiting for a connection": func(t *lab, v *virtual) func() error {
		other := t.handle()
		other.do("WATCH k", "+OK")
		return t.blocked(func() error { _, err := v.Write([]byte(frames("GET k"))); return err })
	},
	"waiting for a dial": func(t *lab, v *virtual) func() error {
		t.d.SetMaxIdleConns(-1) // that of the first contact goes
		t.f.HangDials(true)
		return t.blocked(func() error { _, err := v.Write([]byte(frames("GET k"))); return err })
	},
	"waiting for another's handshake": func(t *lab, v *virtual) func() error {
		t.f.Freeze(true)
		other := t.handle()
		other.send("SELECT 1")
		return t.blocked(func() error { _, err := v.Write([]byte(frames("SELECT 1"))); return err })
	},
	"asking about an unknown command": func(t *lab, v *virtual) func() error {
		v.do("PING", "+PONG")
		t.f.Freeze(true)
		return t.blocked(func() error { _, err := v.Write([]byte(frames("NOSUCH"))); return err })
	},
}

func TestCloseEndsWhateverTheHandleWaitsFor(t *testing.T) {
	for name, begin := range situations {
		t.Run(name, func(t *testing.T) {
			inBothLabs(t, one(), func(t *lab) {
				v := t.handle()
				result := begin(t, v)
				start := time.Now()
				if err := v.Close(); err != nil {
					t.Error(err)
				}
				if err := result(); !errors.Is(err, net.ErrClosed) {
					t.Errorf("%v, want net.ErrClosed", err)
				}
				if time.Since(start) != 0 {
					t.Errorf("took %v", time.Since(start))
				}
				t.f.Freeze(false)
				t.f.HangDials(false)
			})
		})
	}
}

func TestDeadlinesEndWhateverTheHandleWaitsFor(t *testing.T) {
	for name, begin := range situations {
		t.Run(name, func(t *testing.T) {
			inBothLabs(t, one(), func(t *lab) {
				v := t.handle()
				start := time.Now()
				if err := v.SetDeadline(start.Add(50 * time.Millisecond)); err != nil {
					t.Fatal(err)
				}
				result := begin(t, v)
				time.Sleep(51 * time.Millisecond)
				err := result()
				if strings.HasPrefix(name, "reading") || strings.HasPrefix(name, "writing") {
					ne, ok := errors.AsType[net.Error](err)
					if !errors.Is(err, os.ErrDeadlineExceeded) || !ok || !ne.Timeout() {
						t.Errorf("%v, want a timeout", err)
					}
				} else if !errors.Is(err, pooler.ErrWaitTimeout) {
					t.Errorf("%v, want ErrWaitTimeout", err)
				}
				t.f.Freeze(false)
				t.f.HangDials(false)
			})
		})
	}
}

func TestAReadDeadlineMayBeSetWhileReadBlocks(t *testing.T) {
	for name, begin := range situations {
		if !strings.HasPrefix(name, "reading") {
			continue
		}
		t.Run(name, func(t *testing.T) {
			inBothLabs(t, one(), func(t *lab) {
				v := t.handle()
				_ = v.SetReadDeadline(time.Now().Add(time.Minute))
				result := begin(t, v)
				for _, d := range []time.Duration{time.Hour, 0, time.Second} {
					by := time.Time{}
					if d > 0 {
						by = time.Now().Add(d)
					}
					_ = v.SetReadDeadline(by)
					synctest.Wait()
				}
				time.Sleep(time.Second)
				if err := result(); !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("%v, want a timeout", err)
				}
			})
		})
	}
}

// A pin is told to the user's OnEvent, under no lock: whatever that does, the
// handle must take it.
func TestAHandleMayBeClosedAtTheMomentOfAPin(t *testing.T) {
	for _, request := range []string{"CLIENT ID", "WATCH k", "MULTI", "SUBSCRIBE c", "MULTI|SELECT 1|EXEC", "NOSUCH"} {
		t.Run(request, func(t *testing.T) {
			var v atomic.Pointer[virtual]
			cfg := driver.Config{Pool: pooler.Config{OnEvent: func(ev pooler.Event) {
				if ev.Kind == pooler.EventPin {
					_ = v.Load().Close()
				}
			}}}
			inBothLabs(t, cfg, func(t *lab) {
				t.answers("+DONE\r\n", "NOSUCH")
				v.Store(t.handle())
				_, err := v.Load().Write([]byte(frames(strings.Split(request, "|")...)))
				if err == nil {
					err = v.Load().failure()
				}
				t.wantErr(err, net.ErrClosed)
				synctest.Wait()
				if s := t.stats(); s.OpenConnections != 0 || s.Pinned != 0 {
					t.Errorf("open %d, pinned %d", s.OpenConnections, s.Pinned)
				}
			})
		})
	}
}

// An element that BLPOP takes while its late reply is awaited would be lost.
func TestAnAbandonedBlockingCommandTakesNothing(t *testing.T) {
	for _, request := range []string{"BLPOP q 0", "GET k|BLPOP q 0", "GET k and BLPOP q 0", "GET k|SELECT 1|SELECT 0|BLPOP q 0"} {
		t.Run(request, func(t *testing.T) {
			inBothLabs(t, driver.Config{}, func(t *lab) {
				a, b := t.handle(), t.handle()
				for written := range strings.SplitSeq(request, " and ") {
					a.send(strings.Split(written, "|")...)
				}
				a.expire(time.Second)
				a.close()
				b.do("RPUSH q x", ":1")
				b.do("LLEN q", ":1")
			})
		})
	}
}

func TestAnAbandonedRequestToASlowServerCostsItsConnectionOnlyWhenItTakesTooLong(t *testing.T) {
	for late, dials := range map[time.Duration]int64{time.Second: 1, time.Minute: 2} {
		inLab(t, leased(driver.Config{Pool: pooler.Config{MaxOpenConns: 1, WaitTimeout: time.Hour}}), func(t *lab) {
			t.slow(late)
			a, b := t.handle(), t.handle()
			a.send("GET slow")
			a.close()
			start := time.Now()
			b.do("GET b", "$1 b")
			if s := t.stats(); s.Dials != dials || time.Since(start) > 2*time.Second {
				t.Errorf("dials %d, after %v", s.Dials, time.Since(start))
			}
		})
	}
}

// That the server answers on a new connection says all there is to know of the
// one that is silent. A command that takes its time must not cost a dial each time
// that somebody looks again.
func TestASlowCommandIsNotProbedForAsLongAsItTakes(t *testing.T) {
	for _, name := range []string{"GET", "INCR", "EVAL"} { // sent again, waited for, known to be slow
		t.Run(name, func(t *testing.T) {
			inLab(t, driver.Config{}, func(t *lab) {
				t.f.Handle(name, func(*testkit.FakeConn, []string) []byte {
					time.Sleep(time.Minute)
					return testkit.ReplyInt(7)
				})
				a := t.handle()
				a.do(name+" x 0", ":7")
				// The first, one for each lane that is silent, and a spare one.
				if s := t.stats(); s.Dials > 4 {
					t.Errorf("%d dials for one command, %d connections are open, closes %v", s.Dials, s.OpenConnections, s.Closes)
				}
			})
		})
	}
}

// go-redis leaves a refused transaction after the first reply, and gives the
// handle to the next caller.
func TestRepliesThatWereLeftUnreadAreNotTheNextCallers(t *testing.T) {
	leavesOnWindows(t)
	inBothLabs(t, driver.Config{}, func(t *lab) {
		t.slow(time.Second)
		t.answers("-NOPERM no permissions\r\n", "MULTI", "EXEC")
		rdb := t.client(func(o *redis.Options) { o.PipelinePoolSize, o.MaxRetries = -1, 1 })
		for range 5 {
			_, err := rdb.TxPipelined(t.Context(), func(p redis.Pipeliner) error { p.Get(t.Context(), "slow"); return nil })
			if !redis.HasErrorPrefix(err, "NOPERM") {
				t.Errorf("transaction: %v", err)
			}
			if v, err := rdb.Get(t.Context(), "mine").Result(); v != "mine" || err != nil {
				t.Errorf("got %q, %v", v, err)
			}
		}
	})
}

// slowWriter says late that it has written.
type slowWriter struct{ net.Conn }

func (w slowWriter) Write(b []byte) (int, error) {
	n, err := w.Conn.Write(b)
	if strings.Contains(string(b), "last") {
		time.Sleep(time.Minute)
	}
	return n, err
}

func TestTheConnectionIsGivenBackAlsoIfTheReplyIsReadBeforeTheWriteIsOver(t *testing.T) {
	inBothLabs(t, one(), func(t *lab) {
		t.slow(time.Second)
		v := t.handle()
		v.send("GET slow")
		done := make(chan struct{})
		go func() {
			defer close(done)
			v.want("$4 slow $4 last")
		}()
		synctest.Wait()
		v.send("GET last")
		<-done
		// What overlaps is one request.
		if s := t.stats(); leases(s) != 0 || s.InFlight != 0 || s.Admitted != 1 || s.Answered != 1 {
			t.Errorf("leased %d, in flight %d, admitted %d, answered %d; want 1", leases(s), s.InFlight, s.Admitted, s.Answered)
		}
	}, testkit.WithConnWrapper(func(c net.Conn) net.Conn { return slowWriter{c} }))
}

// A reply whose caller has left is read even if no other request ever comes.
func TestAReplyThatNobodyWaitsForIsReadBeforeTheNextRequest(t *testing.T) {
	for name, silence := range map[string]time.Duration{"with a watch for silence": 0, "without": -1} {
		t.Run(name, func(t *testing.T) {
			inLab(t, driver.Config{Pool: pooler.Config{SharedConns: 1, SilenceAfter: silence}}, func(t *lab) {
				t.slow(time.Second)
				stays, leaves := t.handle(), t.handle()
				stays.do("ECHO x", "$1 x")
				leaves.send("GET slow")
				leaves.expire(10 * time.Millisecond)
				leaves.close()
				time.Sleep(10 * time.Second)
				if s := t.stats(); s.InFlight != 0 || s.Abandoned != 1 {
					t.Errorf("%d are in flight, %d abandoned", s.InFlight, s.Abandoned)
				}
			})
		})
	}
}

// Workers end when their client is closed, which they know by redis.ErrClosed, also those
// that are waiting for a job then.
func TestACallUnderWayWhenItsClientIsClosedIsToldThatItIs(t *testing.T) {
	for name, call := range map[string]struct {
		run     func(*lab, *redis.Client) error
		unknown bool
	}{
		"GET":         {func(t *lab, rdb *redis.Client) error { return rdb.Get(t.Context(), "k").Err() }, false},
		"INCR":        {func(t *lab, rdb *redis.Client) error { return rdb.Incr(t.Context(), "n").Err() }, true},
		"BLPOP":       {func(t *lab, rdb *redis.Client) error { return rdb.BLPop(t.Context(), 0, "q").Err() }, true},
		"transaction": {func(t *lab, rdb *redis.Client) error { return incrInTx(t, rdb) }, true},
	} {
		t.Run(name, func(t *testing.T) {
			inBothLabs(t, driver.Config{}, func(t *lab) {
				rdb := t.client(func(o *redis.Options) { o.MaxRetries, o.MinRetryBackoff = 3, -1 })
				if err := rdb.Ping(t.Context()).Err(); err != nil {
					t.Fatal(err)
				}
				t.f.Freeze(name != "BLPOP") // which waits by itself, once it is there
				result := t.blocked(func() error { return call.run(t, rdb) })
				_ = rdb.Close()
				err := result()
				t.f.Freeze(false)
				t.wantErr(err, redis.ErrClosed)
				if errors.Is(err, pooler.ErrUnknownOutcome) != call.unknown {
					t.Errorf("%v; unknown: want %t", err, call.unknown)
				}
			})
		})
	}
}

func incrInTx(t *lab, rdb *redis.Client) error {
	_, err := rdb.TxPipelined(t.Context(), func(p redis.Pipeliner) error { return p.Incr(t.Context(), "n").Err() })
	return err
}

// A subscription that nobody has closed ends with the driver, and doesn't dial for ever: a
// cluster client on sentinels leaves one behind.
func TestASubscriptionEndsWithTheDriver(t *testing.T) {
	inLab(t, driver.Config{}, func(t *lab) {
		subscription := t.client().Subscribe(t.Context(), "c")
		defer func() { _ = subscription.Close() }()
		messages := subscription.Channel()
		synctest.Wait()
		t.f.Publish("c", "before")
		if m := <-messages; m.Payload != "before" {
			t.Fatal(m)
		}
		if err := t.d.Close(); err != nil {
			t.Fatal(err)
		}
		select {
		case m, open := <-messages:
			if open {
				t.Error(m)
			}
		case <-time.After(time.Minute):
			t.Error("it goes on")
		}
	})
}
