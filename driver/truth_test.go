package driver_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/pooler"
)

// The last piece of a command that streams is a Write of its own: go-redis flushes
// the CRLF alone. A connection that waits for it completes it with the next
// caller's bytes.
func TestAConnectionInTheMiddleOfACommandIsNobodyElses(t *testing.T) {
	inBothLabs(t, one(), func(t *lab) {
		a, b := t.handle(), t.handle()
		b.do("SET k old", "+OK")
		a.write("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$71680\r\n" + strings.Repeat("x", 70<<10)) // all but its CRLF
		_ = a.SetWriteDeadline(time.Now())
		if _, err := io.WriteString(a, "\r\n"); err == nil {
			t.Error("written after its deadline")
		}
		_ = a.Close()
		b.do("ECHO hello", "$5 hello")
		b.do("GET k", "$3 old")
	})
}

// go-redis leaves the replies behind a refused MULTI unread, and gives the handle to
// the next caller.
func TestATransactionAfterARefusedOneIsToldTheTruth(t *testing.T) {
	leavesOnWindows(t)
	inBothLabs(t, driver.Config{}, func(t *lab) {
		rdb := t.client(func(o *redis.Options) { o.MaxRetries = 3 })
		ctx := t.Context()
		if err := rdb.Ping(ctx).Err(); err != nil {
			t.Fatal(err)
		}
		t.f.Handle("MULTI", func(*testkit.FakeConn, []string) []byte { return []byte("-NOPERM no\r\n") })
		t.f.Handle("SET", func(*testkit.FakeConn, []string) []byte { time.Sleep(50 * time.Millisecond); return []byte("+OK\r\n") })
		if _, err := rdb.TxPipelined(ctx, func(p redis.Pipeliner) error { return p.Set(ctx, "k", "v", 0).Err() }); err == nil {
			t.Error("it wasn't refused")
		}
		t.f.Handle("MULTI", nil)
		t.f.Handle("SET", nil)
		before := len(t.ran())
		_, err := rdb.TxPipelined(ctx, func(p redis.Pipeliner) error { return p.Incr(ctx, "n").Err() })
		if ran := strings.Contains(strings.Join(t.ran()[before:], "\n"), "EXEC"); err != nil && ran {
			t.Errorf("told %v, and it has run", err)
		}
	})
}

// leavesOnWindows skips where go-redis says nothing of a handle's next use: replies that it
// has left unread are the next caller's there, with the stock pool, too.
func leavesOnWindows(t *testing.T) {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("go-redis doesn't look at connections on Windows")
	}
}

// refusing has dials fail from a moment on, while what is open serves on.
func refusing(cfg driver.Config, f **testkit.Fake) (driver.Config, *atomic.Bool) {
	refuse := new(atomic.Bool)
	cfg.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
		if refuse.Load() {
			return nil, &net.OpError{Op: "dial", Net: network, Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
		}
		return (*f).Dial(ctx, network, addr)
	}
	return cfg, refuse
}

func TestAHandleWhoseOwnConnectionWorksIsUsedWhileTheNodeIsAway(t *testing.T) {
	var f *testkit.Fake
	cfg, refuse := refusing(leased(driver.Config{Pool: pooler.Config{FailFastAfter: 2 * time.Second}}), &f)
	inLab(t, cfg, func(t *lab) {
		f = t.f
		rdb := t.client()
		if err := rdb.Do(t.Context(), "CLIENT", "ID").Err(); err != nil {
			t.Fatal(err)
		}
		refuse.Store(true)
		sub := rdb.Subscribe(t.Context(), "ch") // dials, in vain
		defer sub.Close()
		_ = sub.Ping(t.Context())
		if err := rdb.Get(t.Context(), "k").Err(); !errors.Is(err, redis.Nil) {
			t.Errorf("%v; open %d, closes %v", err, t.stats().OpenConnections, t.stats().Closes)
		}
	})
}

// While a node is away one call's credentials serve others. Its error may be its own.
func TestOneCallersContextSaysNothingOfAnothersCredentials(t *testing.T) {
	inLab(t, driver.Config{Pool: pooler.Config{FailFastAfter: time.Millisecond}}, func(t *lab) {
		rdb := t.client(func(o *redis.Options) {
			o.CredentialsProviderContext = func(ctx context.Context) (string, string, error) {
				select {
				case <-time.After(100 * time.Millisecond):
				case <-ctx.Done():
					return "", "", ctx.Err()
				}
				return "", "", nil
			}
		})
		if err := rdb.Ping(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		t.f.DownRefused()
		t.f.ResetAll()
		time.Sleep(time.Second)
		_, _ = rdb.Ping(t.Context()).Err(), rdb.Ping(t.Context()).Err()
		time.Sleep(2 * time.Second)
		slow := make(chan struct{})
		go func() {
			defer close(slow)
			_ = rdb.Ping(context.Background()).Err()
		}()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		began := time.Now()
		_ = rdb.Ping(ctx).Err()
		if took := time.Since(began); took > 50*time.Millisecond {
			t.Errorf("waited %v for another's credentials", took)
		}
		<-slow
		if err := rdb.Ping(t.Context()).Err(); errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v, to a caller without a deadline", err)
		}
	})
}

// What was sent before it only reads; it itself was never sent.
func TestAnINCRThatWasNotSentBehindAGETIsNotCalledUnknown(t *testing.T) {
	inLab(t, leased(driver.Config{}), func(t *lab) {
		a := t.handle()
		a.do("PING", "+PONG")
		t.f.Freeze(true)
		a.send("GET k")
		t.f.ResetAll()
		if _, err := io.WriteString(a, frames("INCR n")); errors.Is(err, pooler.ErrUnknownOutcome) {
			t.Error(err)
		}
		t.f.Freeze(false)
	})
}

func TestARequestThatWaitsForRoomOnAHandleThatIsClosedWasNotSent(t *testing.T) {
	inLab(t, driver.Config{Pool: pooler.Config{SharedConns: 1, SilenceAfter: -1}}, func(t *lab) {
		first := t.handle()
		first.do("PING", "+PONG")
		t.f.Freeze(true)
		for range 2047 {
			t.handle().send("GET k")
		}
		last := t.handle()
		told := t.blocked(func() error { _, err := io.WriteString(last, frames("INCR n")); return err })
		_ = last.Close()
		t.wantErr(told(), net.ErrClosed)
		t.f.Freeze(false)
	})
}

// go-redis stamps an error on all commands of a pipeline, and in its next try takes
// it back from those only whose replies come: those behind a lost one keep it.
func TestNoCommandOfAPipelineThatHasRunIsCalledNeverSent(t *testing.T) {
	inBothLabs(t, one(), func(t *lab) {
		rdb := t.client(func(o *redis.Options) { o.MaxRetries = 3 })
		ctx := t.Context()
		if err := rdb.Ping(ctx).Err(); err != nil {
			t.Fatal(err)
		}
		holder := t.handle()
		holder.do("WATCH k", "+OK")
		t.f.Handle("LPUSH", func(c *testkit.FakeConn, args []string) []byte {
			if args[2] == "b" {
				c.ResetNow() // its reply, and those behind it, are lost
			}
			return testkit.ReplyInt(1)
		})
		for wait := 500 * time.Millisecond; wait < 30*time.Second; wait += 1900 * time.Millisecond {
			free := make(chan struct{})
			time.AfterFunc(wait, func() {
				defer close(free)
				holder.do("UNWATCH", "+OK")
			})
			cmds, _ := rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
				for _, v := range []string{"a", "b", "c"} {
					p.LPush(ctx, "q", v)
				}
				return nil
			})
			ran := t.f.Count("LPUSH q b") > 0
			for _, c := range cmds[1:] {
				if err := c.Err(); ran && !errors.Is(err, pooler.ErrUnknownOutcome) {
					t.Errorf("free after %v: %v is told %v", wait, c.Args(), err)
				}
				if err := c.Err(); !ran && (err == nil || errors.Is(err, pooler.ErrUnknownOutcome)) {
					t.Errorf("free after %v: %v is told %v, and was never sent", wait, c.Args(), err)
				}
			}
			<-free
			time.Sleep(time.Second)
			t.f.ResetLog()
			holder.do("WATCH k", "+OK")
		}
	})
}

// go-redis waits for a reply to each command of a transaction, though the server has refused
// one at once that isn't for transactions, and has run the others.
func TestWhatHasRunIsNotCalledUnsentForAReplyTooFew(t *testing.T) {
	inBothLabs(t, driver.Config{}, func(t *lab) {
		rdb := t.client(func(o *redis.Options) { o.ReadTimeout = time.Second })
		ctx := t.Context()
		t.answers("-ERR WATCH inside MULTI is not allowed\r\n", "WATCH")
		t.answers("*1\r\n:1\r\n", "EXEC")
		_, err := rdb.TxPipelined(ctx, func(p redis.Pipeliner) error {
			p.Incr(ctx, "n")
			p.Do(ctx, "WATCH", "k")
			return nil
		})
		var timeout net.Error
		if !errors.As(err, &timeout) || !timeout.Timeout() || errors.Is(err, pooler.ErrWaitTimeout) {
			t.Errorf("%v, of what has run", err)
		}
	})
}
