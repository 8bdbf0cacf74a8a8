package driver_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/pooler"
)

// A *tls.Conn repeats its first timeout for ever.
func TestAWriteDeadlineThatHasPassedSpoilsNoTLSConnection(t *testing.T) {
	s := testkit.Start(t, testkit.Redis, testkit.WithTLS())
	bothWays(t, func(t *testing.T, shared int) {
		lateWrites(t, s, driver.Config{Pool: pooler.Config{MaxOpenConns: 1, SharedConns: shared}})
	})
}

// lateWrites writes in time and too late by turns, over TLS.
func lateWrites(t *testing.T, s *testkit.Server, cfg driver.Config) {
	t.Helper()
	d := newDriver(t, cfg)
	dial := d.Options(&redis.Options{Addr: s.Addr, TLSConfig: s.TLSConfig()}).Dialer
	ping := func(change func(net.Conn)) error {
		t.Helper()
		nc, err := dial(t.Context(), "tcp", s.Addr)
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		_ = nc.SetDeadline(time.Now().Add(10 * time.Second))
		change(nc)
		if _, err := io.WriteString(nc, frames("PING")); err != nil {
			return err
		}
		_, err = io.ReadFull(nc, make([]byte, len("+PONG\r\n")))
		return err
	}
	for range 3 {
		if err := ping(func(net.Conn) {}); err != nil {
			t.Fatal(err)
		}
		// Once: on a shared connection Lane.submit doesn't look at the deadline.
		// The request is sent, and the watch that finds the deadline passed during
		// the write gives up the whole TLS connection, with everybody's requests.
		err := ping(func(nc net.Conn) { _ = nc.SetWriteDeadline(time.Now().Add(-time.Second)) })
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%v, want a timeout", err)
		}
	}
	if n := d.Nodes()[0].Stats.Dials; n != 1 {
		t.Errorf("%d dials", n)
	}
}

// The rest of the push would be taken for the next caller's message.
func TestHalfAPushBehindAReplyNeverMeetsTheNextCaller(t *testing.T) {
	inBothLabs(t, one(), func(t *lab) {
		t.f.Handle("TYPE", func(*testkit.FakeConn, []string) []byte {
			return append(testkit.ReplySimple("string"), ">2\r\n$3\r\nfoo\r\n"...)
		})
		a, b := t.handle(), t.handle()
		a.do("TYPE k", "+string")
		c := t.f.Conns()[0]
		b.send("SUBSCRIBE c")
		c.Push([]byte("$3\r\nbar\r\n"))
		b.want("*3 $9 subscribe $1 c :1")
	})
}

// A dropped push is no reason to wait for more, with the lock held least of all.
func TestAReplyIsNotHeldBackByThePushBehindIt(t *testing.T) {
	inBothLabs(t, one(), func(t *lab) {
		t.slow(time.Second)
		t.f.Handle("TYPE", func(*testkit.FakeConn, []string) []byte {
			return append(testkit.ReplySimple("string"), testkit.ReplyPush(testkit.ReplyBulk("x"))...)
		})
		a := t.handle()
		start := time.Now()
		a.send("TYPE k", "GET slow")
		a.want("+string")
		if d := time.Since(start); d != 0 {
			t.Errorf("held back for %v", d)
		}
		a.want("$4 slow")
	})
}

// hooked is a pooler that does something else first.
type hooked struct {
	pooler.Pooler
	get func()
	pin func(reason string)
}

func (h hooked) Get(ctx context.Context, r pooler.Request) (*pooler.Conn, error) {
	h.get()
	return h.Pooler.Get(ctx, r)
}

func (h hooked) Share(ctx context.Context, r pooler.Request) (*pooler.Shared, error) {
	h.get()
	return h.Pooler.(pooler.Sharer).Share(ctx, r)
}

func (h hooked) Pin(c *pooler.Conn, reason string) {
	h.Pooler.Pin(c, reason)
	h.pin(reason)
}

// hook returns a configuration with a hooked pooler.
func hook(get func(), pin func(reason string)) driver.Config {
	return driver.Config{NewPooler: func(n pooler.Node, c pooler.Config) (pooler.Pooler, error) {
		p, err := pooler.New(n, c)
		return hooked{p, get, pin}, err
	}}
}

// A refused command ends its pin while Read takes the replies: the pool is told
// without the lock, and the handle may be closed meanwhile.
func TestAHandleMayBeClosedAtTheMomentAPinEnds(t *testing.T) {
	for _, rest := range []string{"GET a|GET b|MULTI|SELECT 1|EXEC", "MULTI|SELECT 1|EXEC", "GET a"} {
		t.Run(rest, func(t *testing.T) {
			var v *virtual
			var ended int
			cfg := hook(func() {}, func(reason string) {
				if reason == "" {
					ended++
					_ = v.Close()
				}
			})
			inBothLabs(t, cfg, func(t *lab) {
				ended = 0
				t.answers("-ERR refused\r\n", "CLIENT TRACKING")
				v = t.handle()
				v.send(strings.Split("CLIENT TRACKING ON|"+rest, "|")...)
				synctest.Wait() // all replies are here
				want := pooler.ErrUnknownOutcome
				if rest == "GET a" {
					want = net.ErrClosed
				}
				t.wantErr(v.failure(), want)
				synctest.Wait()
				if s := t.stats(); ended != 1 || s.InUse != 0 || s.Pinned != 0 {
					t.Errorf("%d pins have ended, in use %d, pinned %d", ended, s.InUse, s.Pinned)
				}
			})
		})
	}
}

// A server of HTTP, say, recovers and goes on.
func TestAPanicInAUsersPoolerLeavesNothingLocked(t *testing.T) {
	var fail bool
	cfg := hook(func() {
		if fail {
			panic("a user's pooler")
		}
	}, func(string) {})
	inBothLabs(t, cfg, func(t *lab) {
		fail = true
		a := t.handle()
		func() {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			_, _ = io.WriteString(a, frames("PING"))
		}()
		fail = false
		a.close()
		t.handle().do("PING", "+PONG")
	})
}

// A session that seems to be in use is never forgotten, and there is room for 64.
func TestAHandleClosedWhenItsWaitEndsLeavesItsSession(t *testing.T) {
	inBothLabs(t, driver.Config{Pool: pooler.Config{MaxOpenConns: 200}}, func(t *lab) {
		for i := range 100 {
			request := fmt.Sprint("CLIENT SETNAME n", i)
			a, b := t.handle(), t.handle()
			a.send(request)
			waiting := t.blocked(func() error { _, err := io.WriteString(b, frames(request)); return err })
			a.want("+OK") // wakes b, which doesn't have the lock yet
			_ = b.Close()
			_ = a.Close()
			_ = waiting()
		}
		for i := range 64 {
			t.handle().do(fmt.Sprint("CLIENT SETNAME m", i), "+OK")
		}
		if s := t.stats(); s.Pinned != 0 {
			t.Errorf("no room for %d of 64 sessions", s.Pinned)
		}
	})
}

// Added to a time, these overflow into the past.
func TestTheLongestDurationsAreNotTheShortest(t *testing.T) {
	for name, cfg := range map[string]pooler.Config{
		"WaitTimeout":     {WaitTimeout: math.MaxInt64},
		"ConnMaxLifetime": {ConnMaxLifetime: math.MaxInt64},
	} {
		t.Run(name, func(t *testing.T) {
			// Each of them leases, so it is told by the number of dials whether
			// connections last.
			inLab(t, leased(driver.Config{Pool: cfg}), func(t *lab) {
				var all []*virtual
				for range 10 { // lifetimes have jitter
					a := t.handle()
					_ = a.SetDeadline(time.Time{})
					all = append(all, a)
				}
				for range 3 {
					time.Sleep(time.Second)
					for _, a := range all {
						a.send("GET k")
					}
					for _, a := range all {
						a.want("$-1")
					}
				}
				if n := t.f.Dials(); n != len(all) {
					t.Errorf("%d dials for %d connections", n, len(all))
				}
			})
		})
	}
}

// Its connection comes back, and makes the pool refill, when nobody is left.
func TestALateReplyAfterTheLastHandleHasGoneLeavesNothingOpen(t *testing.T) {
	inBothLabs(t, driver.Config{Pool: pooler.Config{MinIdleConns: 2, HealthCheckInterval: -1}}, func(t *lab) {
		t.slow(1500 * time.Millisecond) // longer than a node lingers
		a := t.handle()
		a.send("GET slow")
		a.close()
		time.Sleep(time.Minute)
		if s := t.stats(); s.OpenConnections != 0 || t.f.Live() != 0 {
			t.Errorf("open %d, at the server %d", s.OpenConnections, t.f.Live())
		}
	})
}

// A TLS configuration or a Dialer of its own for each client makes a node for each.
func TestANodeThatNobodyCanComeBackToIsForgotten(t *testing.T) {
	names := 0
	for name, change := range map[string]func(t *lab, o *redis.Options){
		"TLS": func(_ *lab, o *redis.Options) {
			names++
			o.TLSConfig = &tls.Config{ServerName: fmt.Sprint(names)} //nolint:gosec // never used
		},
		"Dialer": func(t *lab, o *redis.Options) {
			o.Dialer = func(ctx context.Context, network, addr string) (net.Conn, error) { return t.f.Dial(ctx, network, addr) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBothLabs(t, driver.Config{}, func(t *lab) {
				d := newDriver(t.T, hook(func() {}, func(string) {})) // its dials don't wait
				dial := func() net.Conn {
					o := &redis.Options{Addr: labAddr}
					change(t, o)
					nc, err := d.Options(o).Dialer(t.Context(), "tcp", labAddr)
					if err != nil {
						t.Fatal(err)
					}
					return nc
				}
				stays := dial()
				defer stays.Close()
				for range 20 {
					_ = dial().Close()
				}
				if n := len(d.Nodes()); n != 21 {
					t.Fatalf("%d nodes; they aren't told apart", n)
				}
				time.Sleep(2 * time.Second)
				if n := len(d.Nodes()); n != 1 {
					t.Errorf("%d nodes, want the one that is used", n)
				}
			})
		})
	}
}
