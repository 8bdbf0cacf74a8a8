package driver_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/pooler"
)

// A provider that fails says nothing of a server that has only accepted the connection:
// one that is loading is no node that is up.
func TestAFailingProviderCallsNoLoadingServerUp(t *testing.T) {
	var ups atomic.Int64
	cfg := driver.Config{Pool: pooler.Config{FailFastAfter: -1, OnEvent: func(ev pooler.Event) {
		if ev.Kind == pooler.EventState && ev.State == pooler.StateUp {
			ups.Add(1)
		}
	}}}
	inLab(t, cfg, func(t *lab) {
		var p tokens
		bad := t.client(func(o *redis.Options) { o.CredentialsProviderContext = p.provide(t) })
		good := t.client()
		if err := errors.Join(good.Ping(t.Context()).Err(), bad.Ping(t.Context()).Err()); err != nil {
			t.Fatal(err)
		}
		p.fail(errors.New("the vault is sealed"))
		loading := func(*testkit.FakeConn, []string) []byte {
			return testkit.ReplyError("LOADING Redis is loading the dataset in memory")
		}
		for _, c := range []string{"PING", "HELLO", "GET"} {
			t.f.Handle(c, loading)
		}
		t.f.ResetAll()
		time.Sleep(time.Second)
		ups.Store(0)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		var wg sync.WaitGroup
		wg.Go(func() { _ = good.Get(ctx, "k").Err() })
		wg.Go(func() {
			for ctx.Err() == nil {
				_ = bad.Get(ctx, "k").Err()
				time.Sleep(50 * time.Millisecond)
			}
		})
		wg.Wait()
		if n := ups.Load(); n > 0 {
			t.Errorf("the node was called up %d times while it was loading", n)
		}
		for _, c := range []string{"PING", "HELLO", "GET"} {
			t.f.Handle(c, nil)
		}
	})
}

// A client that is closed has its provider asked no more.
func TestTheProviderOfAClosedClientIsNotAsked(t *testing.T) {
	inLab(t, driver.Config{Pool: pooler.Config{MinIdleConns: 2}}, func(t *lab) {
		keep := t.handle()
		keep.do("GET k", "$-1")
		t.f.SetPassword("ann", "pw")
		var calls atomic.Int64
		rdb := t.client(func(o *redis.Options) {
			o.CredentialsProvider = func() (string, string) { calls.Add(1); return "ann", "pw" }
		})
		if err := rdb.Ping(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		_ = rdb.Close()
		time.Sleep(time.Minute)
		before := calls.Load()
		t.f.ResetAll()
		time.Sleep(time.Hour)
		if n := calls.Load() - before; n > 0 {
			t.Errorf("asked %d times after Close", n)
		}
	})
}

// A Conn whose SELECT was late and that is not closed keeps nobody else from it.
func TestALateSelectKeepsNobodyWaiting(t *testing.T) {
	inLab(t, driver.Config{}, func(t *lab) {
		rdb := t.client()
		one, two := rdb.Conn(), rdb.Conn()
		defer one.Close()
		defer two.Close()
		for _, c := range []*redis.Conn{one, two} {
			if err := c.Ping(t.Context()).Err(); err != nil {
				t.Fatal(err)
			}
		}
		t.f.Freeze(true)
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if err := one.Select(ctx, 5).Err(); err == nil {
			t.Error("SELECT on a frozen server")
		}
		t.f.Freeze(false)
		ctx, cancel = context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		if err := two.Select(ctx, 5).Err(); err != nil {
			t.Errorf("another's SELECT: %v", err)
		}
	})
}

func TestLongAndStrangePasswords(t *testing.T) {
	for name, pw := range map[string]string{
		"long": strings.Repeat("x", 100<<10), "crlf": "a\r\n$3\r\nfoo\r\n", "auth": "AUTH", "longer": strings.Repeat("y", 300<<10), "nul": "\x00\xff",
	} {
		t.Run(name, func(t *testing.T) {
			for _, opt := range []testkit.FakeOption{testkit.WithBuffer(0), testkit.WithoutHello()} {
				inBothLabs(t, driver.Config{Pool: pooler.Config{MaxOpenConns: 3}}, func(t *lab) {
					t.f.SetPassword("ann", pw)
					rdb := t.client(func(o *redis.Options) {
						o.CredentialsProvider = func() (string, string) { return "ann", pw }
						o.DB, o.ClientName = 3, "AUTH"
					})
					for range 3 {
						var wg sync.WaitGroup
						for range 20 {
							wg.Go(func() {
								if err := rdb.Set(t.Context(), "k", "v", 0).Err(); err != nil {
									t.Error(err)
								}
							})
						}
						wg.Wait()
						used := make(map[int64]bool) // others may be in the middle of a handshake
						for _, e := range t.f.Log() {
							used[e.ConnID] = used[e.ConnID] || strings.EqualFold(e.Args[0], "SET")
						}
						live := 0
						for _, c := range t.f.Conns() {
							if !used[c.ID] {
								continue
							}
							live++
							if s := c.Session(); s.User != "ann" || s.DB != 3 || s.Name != "AUTH" {
								t.Errorf("session %+v", s)
							}
						}
						if live == 0 {
							t.Error("no connection has run a SET")
						}
						synctest.Wait() // a connection that is being opened would live
						t.f.ResetAll()
						time.Sleep(time.Minute)
					}
					for _, l := range t.logins() {
						if l != pw && l != "ann" && l != "AUTH" {
							t.Errorf("authenticated with %.40q", l)
						}
					}
					if s := t.stats(); s.Pinned != 0 {
						t.Errorf("%d pinned", s.Pinned)
					}
				}, opt)
			}
		})
	}
}

// One connection: a busy lane, an idle pin, and a Conn in a transaction each give way to
// a new client's first step or come back.
func TestANewClientWithOneConnection(t *testing.T) {
	inBothLabs(t, driver.Config{Pool: pooler.Config{MaxOpenConns: 1}}, func(t *lab) {
		t.slow(3 * time.Millisecond)
		rdb := t.client()
		stop := make(chan struct{})
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					if err := rdb.Get(t.Context(), "slow").Err(); err != nil {
						t.Errorf("old: %v", err)
					}
				}
			})
		}
		for i := range 30 {
			fresh := redis.NewClient(t.d.Options(&redis.Options{Addr: labAddr, MaxRetries: -1}))
			start := time.Now()
			if err := fresh.Get(t.Context(), "slow").Err(); err != nil || time.Since(start) > 3*time.Second {
				t.Errorf("new client %d: %v after %v", i, err, time.Since(start))
			}
			_ = fresh.Close()
		}
		close(stop)
		wg.Wait()
		conn := rdb.Conn()
		defer conn.Close()
		if err := conn.ClientID(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		fresh := t.client()
		if err := fresh.Get(t.Context(), "k").Err(); err != nil {
			t.Errorf("beside an idle pin: %v", err)
		}
		t.Logf("%d dials", t.stats().Dials)
	})
}

func TestAThousandClientsAtOnce(t *testing.T) {
	for name, max := range map[string]int{"one": 1, "ten": 10, "many": 0} {
		t.Run(name, func(t *testing.T) {
			inBothLabs(t, driver.Config{Pool: pooler.Config{MaxOpenConns: max}}, func(t *lab) {
				t.f.SetPassword("ann", "pw")
				clients := make([]*redis.Client, 1000)
				for i := range clients {
					clients[i] = t.client(func(o *redis.Options) { o.Username, o.Password = "ann", "pw" })
				}
				for range 2 {
					var wg sync.WaitGroup
					var failed atomic.Int64
					for _, c := range clients {
						wg.Go(func() {
							if err := c.Get(t.Context(), "k").Err(); !errors.Is(err, redis.Nil) {
								if failed.Add(1) == 1 {
									t.Error(err)
								}
							}
						})
					}
					wg.Wait()
					s := t.stats()
					t.Logf("%d failed, dials %d, open %d, sessions %d, pinned %d", failed.Load(), s.Dials, s.OpenConnections, s.Sessions, s.Pinned)
				}
			})
		})
	}
}
