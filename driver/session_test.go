package driver_test

import (
	"context"
	"fmt"
	"net"
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

// whoami makes GET tell the state of the connection that it runs on.
func (l *lab) whoami() {
	l.f.Handle("GET", func(c *testkit.FakeConn, _ []string) []byte {
		s := c.Session()
		return testkit.ReplyBulk(fmt.Sprintf("%s db%d RESP%d %s readonly=%t", s.User, s.DB, s.Proto, s.Name, s.ReadOnly))
	})
}

func TestTheHandshakeIsMadeOnceForAllHandles(t *testing.T) {
	for _, conns := range []int{1, 10} {
		t.Run(fmt.Sprint(conns, " connections"), func(t *testing.T) {
			inBothLabs(t, driver.Config{Pool: pooler.Config{MaxOpenConns: conns}}, func(t *lab) {
				t.slow(10 * time.Millisecond)
				rdb := t.client(func(o *redis.Options) { o.DB, o.ClientName = 3, "me" })
				var wg sync.WaitGroup
				for i := range 200 {
					wg.Go(func() {
						key := fmt.Sprint("slow", i)
						if v, err := rdb.Get(t.Context(), key).Result(); v != key || err != nil {
							t.Errorf("%q, %v; want %q", v, err, key)
						}
					})
				}
				wg.Wait()
				s := t.stats()
				if n := t.d.Nodes()[0].Handles; n < 200 {
					t.Errorf("only %d handles", n)
				}
				t.checkHandshakes()
				if n := t.f.Count("HELLO"); n != int(s.Dials) {
					t.Errorf("HELLO executed %d times on %d connections", n, s.Dials)
				}
				// One that was left in the middle of the handshake may have to make
				// room for one at its end.
				if s.Dials-s.Closes[pooler.CloseRoom] > int64(conns) {
					t.Errorf("%d dials, %v closed", s.Dials, s.Closes)
				}
			})
		})
	}
}

// checkHandshakes checks that each connection has executed every command of the
// handshake once before its first GET, and none twice. One that was opened in the
// middle of a handshake may have stopped there, if nobody used it.
func (l *lab) checkHandshakes() {
	l.Helper()
	handshake := []string{"hello", "select", "client setinfo LIB-NAME", "client setinfo LIB-VER"}
	done := map[int64]map[string]int{}
	for _, e := range l.f.Log() {
		c := done[e.ConnID]
		if c == nil {
			c = map[string]int{}
			done[e.ConnID] = c
		}
		line := strings.Join(e.Args, " ")
		for _, command := range handshake {
			if strings.EqualFold(e.Args[0], "get") && c[command] != 1 {
				l.Errorf("connection %d executed %s after %d %s", e.ConnID, line, c[command], command)
			}
			if strings.HasPrefix(strings.ToLower(line), strings.ToLower(command)) {
				if c[command]++; c[command] > 1 {
					l.Errorf("connection %d executed %s %d times", e.ConnID, command, c[command])
				}
			}
		}
	}
}

func TestLaterHandlesShakeHandsWithoutTheServer(t *testing.T) {
	inBothLabs(t, driver.Config{}, func(t *lab) {
		options := t.d.Options(&redis.Options{Addr: labAddr, DB: 3, ClientName: "me", ReadTimeout: time.Second})
		rdb := redis.NewClient(options)
		defer rdb.Close()
		if err := rdb.Ping(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		var handshake []string
		for _, e := range t.f.Log()[:4] {
			handshake = append(handshake, strings.Join(e.Args, " "))
		}
		t.f.Freeze(true)
		later := t.handleOf(options)
		later.send(handshake...)
		later.wantLine("%7")
		t.f.Freeze(false)
	})
}

// What others were let in for need not let this client in. The price is one HELLO,
// and the connection that it was asked on isn't kept.
func TestTheFirstHandleOfEachClientAsksTheServer(t *testing.T) {
	inBothLabs(t, driver.Config{}, func(t *lab) {
		options := func(o *redis.Options) { o.DB, o.ClientName = 3, "me" }
		if err := t.client(options).Ping(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		before := t.stats().OpenConnections
		t.f.ResetLog()
		for range 20 {
			rdb := t.client(options)
			for range 3 {
				if err := rdb.Ping(t.Context()).Err(); err != nil {
					t.Fatal(err)
				}
			}
		}
		synctest.Wait()
		asked := 0
		for _, e := range t.f.Log() {
			if e.Args[0] == "hello" {
				asked++
			}
		}
		if n := len(t.f.Log()); asked != 20 || n != 80 {
			t.Errorf("60 PINGs of 20 clients took %d commands, %d of them HELLO: %q", n, asked, t.f.Commands())
		}
		if open := t.stats().OpenConnections; open != before {
			t.Errorf("%d connections are open, before the 20 clients there were %d", open, before)
		}
	})
}

// A password that the server no longer takes lets nobody in, however many still are.
func TestARevokedPasswordLetsNoNewClientIn(t *testing.T) {
	inBothLabs(t, driver.Config{}, func(t *lab) {
		t.f.SetPassword("ann", "old")
		as := func(password string) *redis.Client {
			return t.client(func(o *redis.Options) { o.Username, o.Password = "ann", password })
		}
		older := as("old")
		if err := older.Ping(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		t.f.SetPassword("ann", "new")
		for range 3 {
			if err := as("old").Ping(t.Context()).Err(); !redis.IsAuthError(err) {
				t.Errorf("a new client with the old password: %v", err)
			}
		}
		if err := older.Ping(t.Context()).Err(); err != nil {
			t.Errorf("the client that is in: %v", err)
		}
		if err := as("new").Ping(t.Context()).Err(); err != nil {
			t.Errorf("a new client with the new password: %v", err)
		}
		// Its other handles don't answer from memory any more either.
		conn := older.Conn()
		defer conn.Close()
		held := older.Conn()
		defer held.Close()
		_ = conn.Ping(t.Context())
		if err := held.Ping(t.Context()).Err(); !redis.IsAuthError(err) {
			t.Errorf("another handle with the refused password: %v", err)
		}
	})
}

func TestHandlesOfDifferentSessionsNeverShareAConnection(t *testing.T) {
	for _, conns := range []int{2, 50} {
		inBothLabs(t, driver.Config{Pool: pooler.Config{MaxOpenConns: conns}}, func(t *lab) {
			t.whoami()
			for _, u := range []string{"ann", "bob"} {
				t.f.SetPassword(u, "pw of "+u)
			}
			var wg sync.WaitGroup
			for i := range 32 {
				user, db, proto, readonly := []string{"ann", "bob"}[i&1], i>>1&1, 2+i>>2&1, i>>3&1 == 1
				name := fmt.Sprint("name", i>>4)
				want := fmt.Sprintf("%s db%d RESP%d %s readonly=%t", user, db, proto, name, readonly)
				rdb := t.client(func(o *redis.Options) {
					o.Username, o.Password, o.DB, o.Protocol, o.ClientName = user, "pw of "+user, db, proto, name
					o.PoolTimeout = time.Hour
					o.ReadTimeout = time.Hour
					if readonly {
						o.OnConnect = func(ctx context.Context, cn *redis.Conn) error { return cn.ReadOnly(ctx).Err() }
					}
				})
				for range 3 {
					wg.Go(func() {
						for range 10 {
							if got, err := rdb.Get(t.Context(), "k").Result(); got != want || err != nil {
								t.Errorf("got %q, %v; want %q", got, err, want)
							}
						}
					})
				}
			}
			wg.Wait()
			states := map[int64]string{}
			for _, e := range t.f.Log() {
				if e.Args[0] == "hello" {
					if old := states[e.ConnID]; old != "" {
						t.Errorf("connection %d: %s after %s", e.ConnID, e.Args, old)
					}
					states[e.ConnID] = fmt.Sprint(e.Args)
				}
			}
		})
	}
}

func TestACommandRefusedAsUnknownIsNotAskedForAgainUntilANewOutage(t *testing.T) {
	for command, server := range map[string]testkit.FakeOption{
		"HELLO": testkit.WithoutHello(), "CLIENT SETINFO LIB-NAME": testkit.WithoutSetInfo(), "CLIENT SETINFO LIB-VER": testkit.WithoutSetInfo(),
	} {
		t.Run(command, func(t *testing.T) {
			inBothLabs(t, driver.Config{}, func(t *lab) {
				ping := func() {
					t.Helper()
					rdb := t.client(func(o *redis.Options) { o.DB = 3 })
					if err := rdb.Ping(t.Context()).Err(); err != nil {
						t.Error(err)
					}
				}
				for range 10 {
					ping()
				}
				if n := t.f.Count(command); n != 1 {
					t.Errorf("asked %d times: %q", n, t.f.Commands())
				}
				t.f.DownRefused()
				if _, err := t.handle().Write([]byte(frames("PING"))); err == nil {
					t.Error("taken by a server that is down")
				}
				t.f.Up()
				time.Sleep(2 * time.Second)
				for range 10 {
					ping()
				}
				if n := t.f.Count(command); n != 2 {
					t.Errorf("asked %d times after an outage", n)
				}
			}, server)
		})
	}
}

func TestARefusedPasswordIsNeverRemembered(t *testing.T) {
	for _, option := range [][]testkit.FakeOption{nil, {testkit.WithoutHello()}} {
		inBothLabs(t, driver.Config{}, func(t *lab) {
			t.f.SetPassword("", "new")
			rdb := t.client(func(o *redis.Options) { o.Password = "pw" })
			for range 3 {
				if err := rdb.Ping(t.Context()).Err(); !redis.HasErrorPrefix(err, "WRONGPASS") {
					t.Errorf("%v, want WRONGPASS", err)
				}
			}
			if n := t.f.Count("AUTH"); n != 3 {
				t.Errorf("asked %d times", n)
			}
			t.f.SetPassword("", "pw")
			if err := rdb.Ping(t.Context()).Err(); err != nil {
				t.Errorf("with the right password: %v", err)
			}
		}, option...)
	}
}

// writes counts the Write calls of each connection.
type writes struct {
	net.Conn
	n *atomic.Int64
}

func (w writes) Write(b []byte) (int, error) {
	w.n.Add(1)
	return w.Conn.Write(b)
}

func TestANewConnectionTakesUpTheSessionInOnePipeline(t *testing.T) {
	var n atomic.Int64
	inBothLabs(t, one(), func(t *lab) {
		t.f.SetPassword("ann", "pw")
		rdb := t.client(func(o *redis.Options) {
			o.DB, o.Username, o.Password, o.MaxRetries = 3, "ann", "pw", 3
			o.OnConnect = func(ctx context.Context, cn *redis.Conn) error { return cn.ReadOnly(ctx).Err() }
		})
		rdb.Ping(t.Context())
		t.f.ResetAll()
		t.f.ResetLog()
		n.Store(0)
		if err := rdb.Get(t.Context(), "k").Err(); err != redis.Nil { //nolint:errorlint // exactly it
			t.Error(err)
		}
		var names []string
		for _, e := range t.f.Log() {
			if e.ConnID != 2 {
				t.Errorf("on connection %d: %s", e.ConnID, e.Args)
			}
			names = append(names, e.Args[0])
		}
		if got := strings.Join(names, " "); got != "hello select client client readonly get" {
			t.Errorf("executed %q", got)
		}
		// The GET on the dead connection, the session, the GET.
		if n.Load() != 3 {
			t.Errorf("%d writes", n.Load())
		}
	}, testkit.WithConnWrapper(func(c net.Conn) net.Conn { return writes{c, &n} }))
}

func TestSessionsAreBoundedAndWhatIsBeyondIsPinnedAndRight(t *testing.T) {
	inBothLabs(t, driver.Config{Pool: pooler.Config{MaxOpenConns: 200}}, func(t *lab) {
		t.whoami()
		check := func(v *virtual, name string) {
			t.Helper()
			v.send("GET k")
			v.wantLine("$")
			v.wantLine("default db0 RESP2 " + name + " ")
		}
		var all []*virtual
		for i := range 100 {
			v := t.handle()
			v.do(fmt.Sprint("CLIENT SETNAME n", i), "+OK")
			check(v, fmt.Sprint("n", i))
			all = append(all, v)
		}
		if s := t.stats(); s.Pinned != 100-64 || s.Pins["session"] != 100-64 {
			t.Errorf("pinned %d, %v", s.Pinned, s.Pins)
		}
		for i, v := range all {
			check(v, fmt.Sprint("n", i))
		}
		for _, v := range all {
			v.close()
		}
		for i := range 100 { // nobody is in the old ones
			v := t.handle()
			v.do(fmt.Sprint("CLIENT SETNAME m", i), "+OK")
			check(v, fmt.Sprint("m", i))
			v.close()
		}
		if s := t.stats(); s.Pins["session"] != 100-64 {
			t.Errorf("pins %v", s.Pins)
		}
	})
}

// What a pinned connection has learned isn't true of the sessions of others.
func TestWhatFollowsAStateThatCouldNotBeRecordedIsNotRemembered(t *testing.T) {
	inBothLabs(t, driver.Config{Pool: pooler.Config{MaxOpenConns: 200}}, func(t *lab) {
		t.f.SetPassword("", "secret")
		t.f.SetPassword("ann", "pw")
		var all []*virtual
		for i := range 64 {
			v := t.handle()
			v.do("AUTH secret", "+OK")
			v.do(fmt.Sprint("CLIENT SETNAME n", i), "+OK")
			all = append(all, v)
		}
		last := t.handle()
		last.do("AUTH ann pw", "+OK")
		if s := t.stats(); s.Pins["session"] != 1 {
			t.Fatalf("pins %v", s.Pins)
		}
		for _, v := range all {
			v.close()
		}
		last.do("SELECT 3", "+OK")
		v := t.handle()
		v.send("SELECT 3")
		v.wantLine("-NOAUTH")
	})
}
