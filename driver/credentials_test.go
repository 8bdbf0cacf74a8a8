package driver_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
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

// rotation is a password that changes on both sides.
type rotation struct {
	mu sync.Mutex
	pw string
}

func (r *rotation) get() (string, string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return "ann", r.pw
}

func (r *rotation) rotate(f *testkit.Fake, pw string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pw = pw
	f.SetPassword("ann", pw)
}

func TestARotatedPasswordIsTakenUpWithoutAFailedCall(t *testing.T) {
	for _, server := range []testkit.FakeOption{testkit.WithBuffer(0), testkit.WithoutHello()} {
		for name, provide := range map[string]func(*redis.Options, *rotation){
			"CredentialsProvider": func(o *redis.Options, r *rotation) { o.CredentialsProvider = r.get },
			"CredentialsProviderContext": func(o *redis.Options, r *rotation) {
				o.CredentialsProviderContext = func(context.Context) (string, string, error) {
					u, p := r.get()
					return u, p, nil
				}
			},
		} {
			t.Run(name, func(t *testing.T) {
				inBothLabs(t, driver.Config{}, func(t *lab) {
					var r rotation
					r.rotate(t.f, "pw0")
					rdb := t.client(func(o *redis.Options) { provide(o, &r); o.DB = 3 })
					for round := range 5 {
						var wg sync.WaitGroup
						for i := range 30 {
							wg.Go(func() {
								if err := rdb.Set(t.Context(), "k", i, 0).Err(); err != nil {
									t.Errorf("round %d: %v", round, err)
								}
							})
						}
						wg.Wait()
						synctest.Wait() // a connection that is being opened would live
						r.rotate(t.f, fmt.Sprint("pw", round+1))
						for _, c := range t.f.Conns() {
							c.CloseNow() // as ACL SETUSER and a restart do; idle, so nothing is lost
						}
						// The fake's connections can't be looked at, so the pool
						// learns of it by its own PING.
						time.Sleep(time.Minute)
					}
					if t.f.Count("SET") != 150 {
						t.Errorf("%d SETs", t.f.Count("SET"))
					}
				}, server)
			})
		}
	}
}

// With the stock client a changed password keeps nobody out who is in.
func TestAChangedPasswordCostsOnlyWhatNeedsANewConnection(t *testing.T) {
	for name, onConnect := range map[string]func(context.Context, *redis.Conn) error{
		"": nil, "with OnConnect": func(ctx context.Context, cn *redis.Conn) error { return cn.ClientSetName(ctx, "me").Err() },
	} {
		t.Run(name, func(t *testing.T) {
			inLab(t, driver.Config{}, func(t *lab) {
				t.f.SetPassword("ann", "pw")
				rdb := t.client(func(o *redis.Options) { o.Username, o.Password, o.OnConnect = "ann", "pw", onConnect })
				if err := rdb.Ping(t.Context()).Err(); err != nil {
					t.Fatal(err)
				}
				t.f.SetPassword("ann", "rotated")
				var wg sync.WaitGroup
				for range 4 {
					wg.Go(func() {
						if err := rdb.BLPop(t.Context(), time.Second, "none").Err(); !errors.Is(err, redis.Nil) && (!redis.IsAuthError(err) || !errors.Is(err, pooler.ErrRefused)) {
							t.Errorf("BLPOP: %v (%T)", err, err)
						}
					})
					time.Sleep(10 * time.Millisecond)
					if err := rdb.Ping(t.Context()).Err(); err != nil {
						t.Error(err)
					}
				}
				wg.Wait()
			})
		})
	}
}

// Where OnConnect authenticates by itself, it may have newer credentials the next time: a
// refusal ends the session, so that it is asked.
func TestARefusalAsksOnConnectAnew(t *testing.T) {
	inLab(t, driver.Config{}, func(t *lab) {
		var password atomic.Pointer[string]
		rotate := func(to string) {
			password.Store(&to)
			t.f.SetPassword("ann", to)
		}
		rotate("pw")
		rdb := t.client(func(o *redis.Options) {
			o.MaxRetries = 3
			o.OnConnect = func(ctx context.Context, cn *redis.Conn) error { return cn.AuthACL(ctx, "ann", *password.Load()).Err() }
		})
		for _, to := range []string{"rotated", "again"} {
			if err := rdb.Ping(t.Context()).Err(); err != nil {
				t.Fatal(err)
			}
			rotate(to)
			if err := rdb.BLPop(t.Context(), time.Second, "none").Err(); !errors.Is(err, redis.Nil) { // needs a connection of its own
				t.Error(err)
			}
		}
	})
}

func TestARotatedStaticPasswordGivesTheServersOwnAnswer(t *testing.T) {
	for retries, want := range map[int]func(error) bool{
		3: func(err error) bool { return redis.HasErrorPrefix(err, "WRONGPASS") },
		-1: func(err error) bool {
			return errors.Is(err, pooler.ErrSessionLost) || redis.HasErrorPrefix(err, "WRONGPASS")
		},
	} {
		t.Run(fmt.Sprint("retries ", retries), func(t *testing.T) {
			inBothLabs(t, driver.Config{}, func(t *lab) {
				t.f.SetPassword("ann", "pw")
				rdb := t.client(func(o *redis.Options) { o.Username, o.Password, o.MaxRetries = "ann", "pw", retries })
				if err := rdb.Ping(t.Context()).Err(); err != nil {
					t.Fatal(err)
				}
				t.f.SetPassword("ann", "rotated")
				t.f.ResetAll()
				time.Sleep(time.Minute)
				for range 3 {
					if err := rdb.Ping(t.Context()).Err(); !want(err) {
						t.Errorf("%v (%T)", err, err)
					}
				}
				t.f.SetPassword("ann", "pw")
				if err := rdb.Ping(t.Context()).Err(); err != nil {
					t.Errorf("once it is right again: %v", err)
				}
			})
		})
	}
}

// printed is all that one may print a value as.
func printed(v any) string { return fmt.Sprintf("%v %+v %#v %s %q %x", v, v, v, v, v, v) }

// forms are the ways in which a secret may show.
func forms(secret string) []string {
	dec := strings.Trim(fmt.Sprint([]byte(secret)), "[]")
	return []string{secret, dec, strings.ReplaceAll(dec, " ", ", "), fmt.Sprintf("%x", secret), strings.Trim(fmt.Sprintf("%#v", []byte(secret)), "[]byte{}")}
}

// spy is a pooler that prints whatever it is given.
type spy struct {
	pooler.Pooler
	see func(...any)
}

func (s spy) Get(ctx context.Context, r pooler.Request) (*pooler.Conn, error) {
	c, err := s.Pooler.Get(ctx, r)
	s.see(r, &r, r.Session, err)
	if c != nil {
		s.see(c.Session(), c.NetConn().RemoteAddr(), c.Err(), c.ID())
	}
	return c, err
}

func (s spy) Share(ctx context.Context, r pooler.Request) (*pooler.Lanes, error) {
	sh, err := s.Pooler.Share(ctx, r)
	s.see(r, &r, r.Session, err)
	return sh, err
}

func TestCredentialsAreNeverPrinted(t *testing.T) {
	const secret = "s3cr3t-pa55"
	var mu sync.Mutex
	var out bytes.Buffer
	see := func(values ...any) {
		mu.Lock()
		defer mu.Unlock()
		for _, v := range values {
			out.WriteString(printed(v))
		}
	}
	cfg := driver.Config{
		Logger: slog.New(slog.NewTextHandler(&lockedWriter{mu: &mu, w: &out}, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Pool:   pooler.Config{OnEvent: func(ev pooler.Event) { see(ev, &ev, ev.Err) }, FailFastAfter: time.Second},
		NewPooler: func(n pooler.Node, c pooler.Config) (pooler.Pooler, error) {
			p, err := pooler.New(n, c)
			see(n.Addr, p.Stats())
			return spy{p, see}, err
		},
	}
	inBothLabs(t, cfg, func(t *lab) {
		t.f.SetPassword("ann", secret)
		rdb := t.client(func(o *redis.Options) { o.Username, o.Password = "ann", secret })
		see(rdb.Ping(t.Context()).Err(), rdb.SetArgs(t.Context(), "k", "v", redis.SetArgs{}).Err())
		v := t.handle()
		v.write(frames("AUTH ann " + secret)[:40])
		see(v.Conn)
		v.write(frames("AUTH ann " + secret)[40:])
		see(v.Conn)
		v.want("+OK")
		v.send("AUTH ann "+secret, "HELLO 3 AUTH ann "+secret, "CLIENT ID")
		see(v.Conn)
		w := t.handle()
		_, err := w.Write([]byte(frames("AUTH ann "+secret) + "AUTH ann " + secret + "\r\n"))
		see(err, w.Conn, w.failure())
		t.f.SetPassword("ann", "rotated")
		t.f.ResetAll()
		for range 3 {
			see(rdb.Ping(t.Context()).Err(), v.failure())
		}
		t.f.DownRefused()
		for range 5 {
			see(rdb.Ping(t.Context()).Err())
			time.Sleep(time.Second)
		}
		see(t.d, t.d.Nodes()[0].Stats.Closes, t.d.Nodes(), t.stats(), v.LocalAddr(), v.RemoteAddr())
		t.f.Up()
		time.Sleep(time.Minute)
		see(rdb.Ping(t.Context()).Err())
	})
	mu.Lock()
	defer mu.Unlock()
	if out.Len() < 1000 || !strings.Contains(out.String(), "node is down") {
		t.Errorf("too little was printed: %q", out.String())
	}
	for _, form := range forms(secret) {
		if i := strings.Index(out.String(), form); i >= 0 {
			t.Errorf("printed as %q: ...%q", form, out.String()[max(0, i-300):i+len(form)])
		}
	}
}

type lockedWriter struct {
	mu *sync.Mutex
	w  *bytes.Buffer
}

func (l *lockedWriter) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}
