package driver_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/auth"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/pooler"
)

// logins returns the passwords with which connections have authenticated.
func (l *lab) logins() (passwords []string) {
	for _, e := range l.f.Log() {
		if at := slices.IndexFunc(e.Args, func(a string) bool { return strings.EqualFold(a, "auth") }); at >= 0 {
			passwords = append(passwords, e.Args[min(at+2, len(e.Args)-1)])
		}
	}
	return passwords
}

// tokens is a provider whose tokens differ from call to call. The server takes them
// all until they are revoked.
type tokens struct {
	mu    sync.Mutex
	calls int
	err   error
}

func (p *tokens) provide(t *lab) func(context.Context) (string, string, error) {
	return func(context.Context) (string, string, error) {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.err != nil {
			return "", "", p.err
		}
		p.calls++
		user, token := fmt.Sprint("ann", p.calls), fmt.Sprint("token", p.calls)
		t.f.SetPassword(user, token)
		return user, token, nil
	}
}

func (p *tokens) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.err = err
}

// A session is of a client and its provider. So tokens that differ from call to call
// make no sessions of their own, and are asked for where a connection is opened.
func TestATokenForEachCallMakesOneSession(t *testing.T) {
	inBothLabs(t, driver.Config{}, func(t *lab) {
		var p tokens
		rdb := t.client(func(o *redis.Options) { o.CredentialsProviderContext, o.PoolSize = p.provide(t), 100 })
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				for range 10 {
					if err := rdb.Set(t.Context(), "k", "v", 0).Err(); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		synctest.Wait()
		s := t.stats()
		if s.Sessions != 1 || s.Pinned != 0 || int64(p.calls) != s.Dials {
			t.Errorf("%d sessions, %d pinned, %d tokens for %d dials", s.Sessions, s.Pinned, p.calls, s.Dials)
		}
		logins := t.logins()
		if len(logins) != p.calls {
			t.Errorf("%d logins with %d tokens", len(logins), p.calls)
		}
		for _, password := range logins {
			if !strings.HasPrefix(password, "token") {
				t.Errorf("authenticated with %q", password)
			}
		}
	})
}

// Two clients may have two providers for one user, of which one is no longer let in.
func TestTheSessionOfOneProviderIsNotAnothers(t *testing.T) {
	inBothLabs(t, driver.Config{}, func(t *lab) {
		t.f.SetPassword("ann", "right")
		with := func(password string) *redis.Client {
			return t.client(func(o *redis.Options) {
				o.CredentialsProvider = func() (string, string) { return "ann", password }
			})
		}
		if err := with("right").Ping(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		if err := with("wrong").Ping(t.Context()).Err(); !redis.IsAuthError(err) {
			t.Errorf("with the wrong password: %v", err)
		}
	})
}

// What is open serves on while the provider can't be asked, as on the stock pool; a
// call that needs a new connection is told the provider's own error.
func TestAFailingProviderFailsNewConnectionsOnly(t *testing.T) {
	sealed := errors.New("the vault is sealed")
	inLab(t, driver.Config{}, func(t *lab) {
		var p tokens
		rdb := t.client(func(o *redis.Options) { o.CredentialsProviderContext = p.provide(t) })
		if err := rdb.Ping(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		p.fail(sealed)
		conns := make([]*redis.Conn, 3)
		for i := range conns { // new handles, in a session that is known
			conns[i] = rdb.Conn()
			defer conns[i].Close()
			if err := conns[i].Ping(t.Context()).Err(); err != nil {
				t.Errorf("handle %d: %v", i, err)
			}
		}
		t.f.ResetAll()
		synctest.Wait()
		err := rdb.Ping(t.Context()).Err()
		if !errors.Is(err, sealed) || !errors.Is(err, pooler.ErrCredentials) {
			t.Errorf("PING: %v", err)
		}
		if s := t.stats(); s.State != pooler.StateUp {
			t.Errorf("the node is %v", s.State)
		}
		p.fail(nil)
		if err := rdb.Ping(t.Context()).Err(); err != nil {
			t.Errorf("once it is open again: %v", err)
		}
	})
}

// A provider that hangs costs its caller what a server that hangs costs.
func TestAHangingProviderIsWaitedForUntilTheDeadline(t *testing.T) {
	inLab(t, driver.Config{}, func(t *lab) {
		rdb := t.client(func(o *redis.Options) {
			o.CredentialsProviderContext = func(ctx context.Context) (string, string, error) {
				<-ctx.Done()
				return "", "", ctx.Err()
			}
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		err := rdb.Ping(ctx).Err()
		if took := time.Since(start); err == nil || took > 5*time.Second {
			t.Errorf("%v after %v", err, took)
		}
	})
}

// Without a password go-redis sends no AUTH; nor does the handle.
func TestAProviderWithoutAPasswordAuthenticatesNobody(t *testing.T) {
	inBothLabs(t, driver.Config{}, func(t *lab) {
		rdb := t.client(func(o *redis.Options) {
			o.CredentialsProvider = func() (string, string) { return "", "" }
			o.ClientName = "me"
		})
		if err := rdb.Ping(t.Context()).Err(); err != nil {
			t.Error(err)
		}
		if logins := t.logins(); len(logins) != 0 {
			t.Errorf("authenticated %d times", len(logins))
		}
		if name := t.f.Log()[0].Args; name[len(name)-1] != "me" {
			t.Errorf("HELLO was %q", name)
		}
	})
}

// stream is a streaming provider.
type stream struct {
	mu        sync.Mutex
	current   auth.Credentials
	listeners map[auth.CredentialsListener]bool
}

func (s *stream) Subscribe(l auth.CredentialsListener) (auth.Credentials, auth.UnsubscribeFunc, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listeners[l] = true
	return s.current, func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.listeners, l)
		return nil
	}, nil
}

func (s *stream) set(credentials auth.Credentials) (listeners []auth.CredentialsListener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.current = credentials
	for l := range s.listeners {
		listeners = append(listeners, l)
	}
	return listeners
}

// A token that was replaced is never shown to the server again, whichever session a
// connection is opened for.
func TestAReplayNeverBeginsWithATokenThatWasReplaced(t *testing.T) {
	inBothLabs(t, driver.Config{Pool: pooler.Config{MaxOpenConns: 40}}, func(t *lab) {
		t.f.SetPassword("ann", "t0")
		p := &stream{current: auth.NewBasicCredentials("ann", "t0"), listeners: map[auth.CredentialsListener]bool{}}
		rdb := t.client(func(o *redis.Options) { o.StreamingCredentialsProvider, o.PoolSize = p, 8 })
		use := func() {
			t.Helper()
			var wg sync.WaitGroup
			for range 8 {
				wg.Go(func() {
					for range 5 {
						if err := rdb.Get(t.Context(), "k").Err(); err != nil && !errors.Is(err, redis.Nil) {
							t.Error(err)
						}
					}
				})
			}
			wg.Wait()
			synctest.Wait()
		}
		use()
		for round := 1; round <= 3; round++ {
			token := fmt.Sprint("t", round)
			t.f.SetPassword("ann", token)
			listeners := p.set(auth.NewBasicCredentials("ann", token))
			t.f.ResetLog()
			for i, l := range listeners {
				if i == 0 { // it is the first to know, and connections die at that moment
					l.OnNext(p.current)
					t.f.ResetAll()
					time.Sleep(time.Minute)
					use()
				} else {
					l.OnNext(p.current)
				}
			}
			use()
			for _, password := range t.logins() {
				if password != token {
					t.Errorf("round %d: authenticated with %q", round, password)
				}
			}
		}
		if s := t.stats(); s.DialErrors != 0 || s.Pinned != 0 {
			t.Errorf("%d dials failed: %s; %d pinned", s.DialErrors, s.LastDialError, s.Pinned)
		}
	})
}

// Asked in OnConnect, CLIENT ID would keep a connection for each handle.
func TestAClientIDAskedInOnConnectPinsNothing(t *testing.T) {
	for _, command := range []string{"ID", "INFO"} {
		inBothLabs(t, driver.Config{}, func(t *lab) {
			t.answers(":7\r\n", "CLIENT ID", "CLIENT INFO")
			rdb := t.client(func(o *redis.Options) {
				o.OnConnect = func(ctx context.Context, c *redis.Conn) error { return c.Do(ctx, "CLIENT", command).Err() }
			})
			conns := make([]*redis.Conn, 64)
			for i := range conns {
				conns[i] = rdb.Conn()
				defer conns[i].Close()
				if err := conns[i].Ping(t.Context()).Err(); err != nil {
					t.Fatal(err)
				}
			}
			if s := t.stats(); s.Pinned != 0 || s.InUse > 4 {
				t.Errorf("%d pinned, %d in use", s.Pinned, s.InUse)
			}
			if err := conns[0].ClientID(t.Context()).Err(); err != nil {
				t.Fatal(err)
			}
			if s := t.stats(); s.Pinned != 1 {
				t.Errorf("asked for later: %d pinned, want 1", s.Pinned)
			}
		})
	}
}

// What a connection says of itself that no handle keeps is true of each of them, so nobody has
// to keep one: more callers than connections would wait for them in vain.
func TestAWordOfOnConnectThatLeavesNothingBehindPinsNothing(t *testing.T) {
	for _, words := range [][]any{
		{"CLIENT", "TRACKINGINFO"}, {"CLIENT", "GETREDIR"}, {"CLIENT", "TRACKING", "OFF"}, {"CLIENT", "REPLY", "ON"},
	} {
		inBothLabs(t, driver.Config{Pool: pooler.Config{MaxOpenConns: 4}}, func(t *lab) {
			t.answers("+DONE\r\n", "CLIENT TRACKINGINFO", "CLIENT GETREDIR", "CLIENT TRACKING", "CLIENT REPLY")
			rdb := t.client(func(o *redis.Options) {
				o.OnConnect = func(ctx context.Context, c *redis.Conn) error { return c.Do(ctx, words...).Err() }
			})
			for range 16 {
				conn := rdb.Conn()
				defer conn.Close()
				if err := conn.Ping(t.Context()).Err(); err != nil {
					t.Fatal(err)
				}
			}
			if s := t.stats(); s.Pinned != 0 || s.Closes[pooler.CloseState] != 0 {
				t.Errorf("%v: %d pinned, closes %v", words, s.Pinned, s.Closes)
			}
		})
	}
}

// hello authenticates by HELLO.
func (v *virtual) hello(user, password string) {
	v.l.Helper()
	v.send("HELLO 3 AUTH " + user + " " + password)
	v.wantLine("%7")
	_, _ = v.r.Discard(v.r.Buffered())
}

// listener is told of new credentials, and does nothing.
type listener struct{}

func (*listener) OnNext(auth.Credentials) {}
func (*listener) OnError(error)           {}

func TestAHandleThatHasNotHeardOfNewCredentialsIsServedOnConnectionsThatHave(t *testing.T) {
	inBothLabs(t, driver.Config{}, func(t *lab) {
		t.f.SetPassword("ann", "t0")
		p := &stream{current: auth.NewBasicCredentials("ann", "t0"), listeners: map[auth.CredentialsListener]bool{}}
		options := t.d.Options(&redis.Options{Addr: labAddr, StreamingCredentialsProvider: p})
		v := t.handleOf(options)
		v.hello("ann", "t0")
		v.do("GET k", "_")
		t.f.SetPassword("ann", "t1")
		p.set(auth.NewBasicCredentials("ann", "t1"))
		if _, _, err := options.StreamingCredentialsProvider.Subscribe(new(listener)); err != nil {
			t.Fatal(err)
		}
		t.f.ResetLog()
		t.f.ResetAll()
		time.Sleep(time.Minute)
		v.do("GET k", "_")
		if logins := t.logins(); len(logins) == 0 || slices.Contains(logins, "t0") {
			t.Errorf("authenticated with %q", logins)
		}
	})
}

func TestAUserThatAuthenticatesAnewHasDoneSoFromTheBeginning(t *testing.T) {
	for _, again := range []string{"ann new", "bob pw"} {
		inBothLabs(t, driver.Config{}, func(t *lab) {
			t.f.SetPassword("ann", "old")
			t.f.SetPassword("bob", "pw")
			v := t.handle()
			v.hello("ann", "old")
			t.f.SetPassword("ann", "new")
			v.do("AUTH "+again, "+OK")
			t.f.ResetLog()
			t.f.ResetAll()
			time.Sleep(time.Minute)
			if again == "bob pw" { // what ann has set before is hers: it needs her password, and that is gone
				_, err := v.Write([]byte(frames("GET k")))
				t.wantErr(err, pooler.ErrSessionLost)
				return
			}
			v.do("GET k", "_")
			if logins := t.logins(); !slices.Equal(logins, []string{"new"}) {
				t.Errorf("authenticated with %q", logins)
			}
		})
	}
}

// The password may change between the provider's answer and the server's look at it.
func TestCredentialsThatChangeOnTheWayAreAskedForAgain(t *testing.T) {
	inBothLabs(t, driver.Config{}, func(t *lab) {
		var mu sync.Mutex
		current, next, calls := "old", "", 0
		t.f.SetPassword("ann", current)
		rdb := t.client(func(o *redis.Options) {
			o.CredentialsProvider = func() (string, string) {
				mu.Lock()
				defer mu.Unlock()
				said := current
				calls++
				if next != "" {
					current, next = next, ""
					t.f.SetPassword("ann", current)
				}
				return "ann", said
			}
		})
		if err := rdb.Ping(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		mu.Lock()
		next = "new"
		mu.Unlock()
		t.f.ResetAll()
		time.Sleep(time.Minute)
		if err := rdb.Ping(t.Context()).Err(); err != nil {
			t.Error(err)
		}
		if s := t.stats(); s.Closes[pooler.CloseSessionLost] != 0 || s.Dials != 2 || calls != 3 {
			t.Errorf("closes %v, %d dials, asked %d times; want once more than dialed", s.Closes, s.Dials, calls)
		}
	})
}
