package driver_test

import (
	"errors"
	"fmt"
	"io"
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

// transaction is INCR n in MULTI and EXEC, as go-redis writes it: in one piece.
var transaction = frames("MULTI", "INCR n", "EXEC")

// go-redis stamps what Write tells on the MULTI, and doesn't clear it when the next
// try succeeds. So Write accepts it, and Read gets over the wait.
func TestATransactionThatCouldNotBeSentInTimeIsSentByRead(t *testing.T) {
	for name, begin := range map[string]func(t *lab) (end func()){
		"full pool": func(t *lab) func() {
			holder := t.handle()
			holder.do("WATCH k", "+OK")
			return func() { holder.do("UNWATCH", "+OK") }
		},
		"restart": func(t *lab) func() {
			t.goAway()
			return t.f.Up
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBothLabs(t, one(), func(t *lab) {
				a := t.handle()
				a.do("SET k v", "+OK")
				end := begin(t)
				time.AfterFunc(1500*time.Millisecond, end)
				_ = a.SetWriteDeadline(time.Now().Add(time.Second))
				a.write(transaction)
				_ = a.SetReadDeadline(time.Now().Add(time.Second))
				a.want("+OK +QUEUED *1 :1")
				if n := t.f.Count("INCR n"); n != 1 {
					t.Errorf("ran %d times", n)
				}
			})
		})
	}
}

func TestATransactionThatReadCanNotSendEitherIsToldSo(t *testing.T) {
	inBothLabs(t, one(), func(t *lab) {
		a, holder := t.handle(), t.handle()
		holder.do("WATCH k", "+OK")
		began := time.Now()
		_ = a.SetWriteDeadline(began.Add(time.Second))
		a.write(transaction)
		_ = a.SetReadDeadline(began.Add(2 * time.Second))
		err := a.failure()
		t.wantErr(err, pooler.ErrWaitTimeout)
		if took := time.Since(began); took != 2*time.Second {
			t.Errorf("after %v", took)
		}
		if _, err := a.Write([]byte("x")); err == nil {
			t.Error("the handle goes on, with the transaction unsent")
		}
		holder.do("UNWATCH", "+OK")
		t.wantRan("1 WATCH k", "1 UNWATCH")
	})
}

// Larger than what is gathered at a time: it is accepted piece by piece.
func TestALargeTransactionThatWaitsIsSentWhole(t *testing.T) {
	inBothLabs(t, one(), func(t *lab) {
		a, holder := t.handle(), t.handle()
		holder.do("WATCH k", "+OK")
		value := strings.Repeat("v", 100<<10)
		whole := frames("MULTI", "SET big "+value, "INCR n", "EXEC")
		_ = a.SetWriteDeadline(time.Now().Add(time.Second))
		for rest := whole; len(rest) > 0; {
			n := min(4096, len(rest))
			a.write(rest[:n])
			rest = rest[n:]
		}
		time.AfterFunc(time.Second, func() { holder.do("UNWATCH", "+OK") })
		a.want("+OK +QUEUED +QUEUED *2 +OK :1")
	})
}

func TestARequestUnderWayOnAHandleThatIsClosedIsNotRunAgain(t *testing.T) {
	for request, want := range map[string]error{
		"INCR n":               pooler.ErrUnknownOutcome,
		"SET k v":              net.ErrClosed,
		"GET k":                net.ErrClosed,
		"MULTI|SET k v|EXEC":   pooler.ErrUnknownOutcome,
		"GET k|INCR n|GET k":   pooler.ErrUnknownOutcome,
		"SELECT 1|INCR n":      pooler.ErrUnknownOutcome,
		"GET k|SELECT 1|GET k": net.ErrClosed,
	} {
		t.Run(request, func(t *testing.T) {
			inBothLabs(t, driver.Config{}, func(t *lab) {
				a := t.handle()
				a.do("SET warm v", "+OK")
				t.f.Freeze(true)
				a.send(strings.Split(request, "|")...)
				result := t.blocked(func() error { _, err := a.Conn.Read(make([]byte, 99)); return err })
				_ = a.Close()
				t.wantErr(result(), want)
				t.f.Freeze(false)
				synctest.Wait()
				unknown := int64(0)
				if errors.Is(want, pooler.ErrUnknownOutcome) {
					unknown = 1
				}
				if s := t.stats(); s.Unknown != unknown {
					t.Errorf("%d unknown outcomes counted, want %d", s.Unknown, unknown)
				}
			})
		})
	}
}

// A request that waits for a connection when its handle is closed was never sent.
func TestARequestThatWaitsOnAHandleThatIsClosedWasNotSent(t *testing.T) {
	inBothLabs(t, one(), func(t *lab) {
		a, holder := t.handle(), t.handle()
		holder.do("WATCH k", "+OK")
		result := t.blocked(func() error { _, err := io.WriteString(a, frames("INCR n")); return err })
		_ = a.Close()
		err := result()
		t.wantErr(err, net.ErrClosed)
		if errors.Is(err, pooler.ErrUnknownOutcome) {
			t.Errorf("told %v", err)
		}
		holder.do("UNWATCH", "+OK")
	})
}

func TestAnAnswerThatIsNoRESPEndsItsRequestAndNoOther(t *testing.T) {
	for _, retry := range []driver.Retry{driver.RetrySafe, driver.RetryAll, driver.RetryNone} {
		for _, name := range []string{"GET", "SET", "INCR"} {
			t.Run(fmt.Sprint(retry, " ", name), func(t *testing.T) {
				inBothLabs(t, driver.Config{Retry: retry, Pool: pooler.Config{FailFastAfter: time.Second}}, func(t *lab) {
					rdb := t.client(func(o *redis.Options) { o.MaxRetries = 3 })
					if err := rdb.Ping(t.Context()).Err(); err != nil {
						t.Fatal(err)
					}
					t.f.Handle(name, func(*testkit.FakeConn, []string) []byte { return []byte("?what\r\n") })
					args := map[string][]any{"GET": {"GET", "k"}, "SET": {"SET", "k", "v"}, "INCR": {"INCR", "k"}}[name]
					began := time.Now()
					err := rdb.Do(t.Context(), args...).Err()
					t.wantErr(err, pooler.ErrProtocol)
					if unknown := errors.Is(err, pooler.ErrUnknownOutcome); unknown != (name != "GET") {
						t.Errorf("unknown outcome: %t, for a %s that has run", unknown, name)
					}
					if n := t.f.Count(name); n != 1 || time.Since(began) != 0 {
						t.Errorf("ran %d times in %v", n, time.Since(began))
					}
					if err := rdb.Ping(t.Context()).Err(); err != nil {
						t.Errorf("afterwards: %v", err)
					}
				})
			})
		}
	}
}

// The requests behind it on a shared connection are lost with it, not wrong.
func TestBystandersOfAnAnswerThatIsNoRESPAreSentAgain(t *testing.T) {
	inLab(t, driver.Config{Pool: pooler.Config{SharedConns: 1}}, func(t *lab) {
		a, b, c := t.handle(), t.handle(), t.handle()
		for _, v := range []*virtual{a, b, c} {
			v.do("SET k v", "+OK")
		}
		t.f.Handle("ECHO", func(*testkit.FakeConn, []string) []byte { return []byte("?what\r\n") })
		t.f.Freeze(true)
		a.send("ECHO x")
		b.send("GET k")
		c.send("INCR n")
		t.f.Freeze(false)
		t.wantErr(a.failure(), pooler.ErrProtocol)
		b.want("$1 v")
		err := c.failure()
		t.wantErr(err, pooler.ErrUnknownOutcome)
		if errors.Is(err, pooler.ErrProtocol) {
			t.Errorf("%v: its own answer may have been right", err)
		}
	})
}

// As on a socket, whose reader is told the same.
func TestAReadDeadlineThatHasPassedIsATimeoutWhateverHasCome(t *testing.T) {
	inBothLabs(t, driver.Config{}, func(t *lab) {
		a := t.handle()
		for _, request := range []string{"GET k", "HELLO 2"} {
			a.send(request)
			synctest.Wait()
			_ = a.SetReadDeadline(time.Now())
			if _, err := a.Conn.Read(make([]byte, 99)); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("%s: %v, want a timeout", request, err)
			}
			_ = a.SetReadDeadline(time.Time{})
			if n, err := a.Conn.Read(make([]byte, 999)); n == 0 || err != nil {
				t.Errorf("%s: %d, %v once there is time", request, n, err)
			}
		}
	})
}

// A second SUBSCRIBE finds the connection dead: go-redis would connect anew before
// it has recorded the channel.
func TestASubscriptionThatIsAddedToADeadConnectionIsNotLost(t *testing.T) {
	inBothLabs(t, driver.Config{}, func(t *lab) {
		rdb := t.client()
		ps := rdb.Subscribe(t.Context(), "first")
		defer ps.Close()
		if _, err := ps.Receive(t.Context()); err != nil {
			t.Fatal(err)
		}
		t.f.ResetAll()
		if err := ps.Subscribe(t.Context(), "second"); err != nil {
			t.Errorf("%v: told by Write", err)
		}
		if _, err := ps.Receive(t.Context()); err == nil {
			t.Error("nobody was told")
		}
		got := map[string]bool{}
		for range 2 {
			m, err := ps.Receive(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			got[m.(*redis.Subscription).Channel] = true
		}
		if !got["first"] || !got["second"] {
			t.Errorf("subscribed to %v", got)
		}
	})
}

// Otherwise a caller would wait for as long as somebody else does.
func TestAWriteWaitsForAReadThatSendsUntilItsDeadline(t *testing.T) {
	for name, after := range map[string]func(*virtual) error{
		"deadline": func(a *virtual) error {
			_ = a.SetWriteDeadline(time.Now().Add(10 * time.Millisecond))
			return os.ErrDeadlineExceeded
		},
		"close": func(a *virtual) error {
			_ = a.SetWriteDeadline(time.Now().Add(time.Minute))
			time.AfterFunc(10*time.Millisecond, func() { _ = a.Close() })
			return pooler.ErrConnGone
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBothLabs(t, one(), func(t *lab) {
				a, holder := t.handle(), t.handle()
				holder.do("WATCH k", "+OK")
				_ = a.SetWriteDeadline(time.Now().Add(time.Second))
				a.write(transaction)
				read := make(chan error)
				go func() {
					_, err := a.Conn.Read(make([]byte, 300))
					read <- err
				}()
				synctest.Wait() // it waits for the connection
				began, want := time.Now(), after(a)
				if n, err := a.Write([]byte(frames("PING"))); n != 0 || !errors.Is(err, want) {
					t.Errorf("wrote %d, %v", n, err)
				}
				if took := time.Since(began); took != 10*time.Millisecond {
					t.Errorf("after %v", took)
				}
				holder.do("UNWATCH", "+OK")
				if err, closes := <-read, errors.Is(want, pooler.ErrConnGone); closes != (err != nil) {
					t.Errorf("the Read: %v", err)
				}
			})
		})
	}
}
