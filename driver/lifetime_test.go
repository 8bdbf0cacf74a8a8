package driver_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"math"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/pooler"
)

// However handles, pins, waits and nodes end, they leave nothing behind.

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

func (h hooked) Share(ctx context.Context, r pooler.Request) (*pooler.Lanes, error) {
	h.get()
	return h.Pooler.Share(ctx, r)
}

func (h hooked) Pin(c *pooler.Conn, reason string) {
	h.Pooler.Pin(c, reason)
	h.pin(reason)
}

// serving is a pooler whose handles don't wait for the node.
type serving struct{ pooler.Pooler }

func (serving) Serves() bool { return true }

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
	for _, rest := range []string{"GET a|GET b|GET c", "GET a"} {
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
				t.wantErr(v.failure(), net.ErrClosed)
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
				d := newDriver(t.T, driver.Config{NewPooler: func(n pooler.Node, c pooler.Config) (pooler.Pooler, error) {
					p, err := pooler.New(n, c)
					return serving{p}, err
				}})
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
