package driver_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/pooler"
)

// tries returns how many requests of the call reached the pool.
func (l *lab) tries(call func() error) (int64, error) {
	before := l.stats().Admitted
	err := call()
	return l.stats().Admitted - before, err
}

// ways are a client that has never had a connection, whose call fails in the
// handshake, and one whose handshake is remembered.
func ways(t *testing.T, cfg driver.Config, run func(t *lab, rdb *redis.Client)) {
	for name, warm := range map[string]bool{"in the handshake": false, "after the handshake": true} {
		t.Run(name, func(t *testing.T) {
			inBothLabs(t, cfg, func(t *lab) {
				rdb := t.client(func(o *redis.Options) { o.MaxRetries = 3 })
				if warm {
					if err := rdb.Ping(t.Context()).Err(); err != nil {
						t.Fatal(err)
					}
				}
				run(t, rdb)
			})
		})
	}
}

func TestANodeThatIsDownFailsFastWithTheFactsAndIsNotTriedAgain(t *testing.T) {
	ways(t, driver.Config{Pool: pooler.Config{FailFastAfter: time.Second}}, func(t *lab, rdb *redis.Client) {
		t.f.DownRefused()
		for range 3 {
			_ = rdb.Ping(t.Context()).Err()
			time.Sleep(time.Second)
		}
		start := time.Now()
		n, err := t.tries(func() error { return rdb.Ping(t.Context()).Err() })
		if n != 0 || time.Since(start) != 0 {
			t.Errorf("%d requests in %v", n, time.Since(start))
		}
		t.wantErr(err, pooler.ErrNodeDown)
		e, ok := errors.AsType[*pooler.Error](err)
		if !ok || e.Node != labAddr || e.Attempts < 2 || time.Since(e.Since) < 3*time.Second || e.Cause == nil {
			t.Errorf("facts: %+v", e)
		}
		for _, not := range []error{redis.ErrPoolTimeout, redis.ErrClosed, pooler.ErrUnknownOutcome} {
			if errors.Is(err, not) {
				t.Errorf("%v is %v", err, not)
			}
		}
		t.f.Up()
		time.Sleep(2 * time.Second)
		if err := rdb.Ping(t.Context()).Err(); err != nil {
			t.Errorf("when it is back: %v", err)
		}
	})
}

func TestATimeoutWaitingForAConnectionIsGoRedissOwnAndTriedAgain(t *testing.T) {
	ways(t, driver.Config{Pool: pooler.Config{MaxOpenConns: 1, WaitTimeout: 50 * time.Millisecond}}, func(t *lab, rdb *redis.Client) {
		holder := t.handle()
		holder.do("WATCH k", "+OK")
		n, err := t.tries(func() error { return rdb.Incr(t.Context(), "n").Err() })
		t.wantErr(err, redis.ErrPoolTimeout)
		t.wantErr(err, pooler.ErrWaitTimeout)
		if op, ok := errors.AsType[*net.OpError](err); !ok || op.Op != "dial" {
			t.Errorf("%v (%T) isn't the error of a dial", err, err)
		}
		if n != 4 || t.f.Count("INCR") != 0 {
			t.Errorf("%d tries, %d runs", n, t.f.Count("INCR"))
		}
		e, ok := errors.AsType[*pooler.Error](err)
		if !ok || e.Holders == "" || e.Max != 1 || e.Leased != 1 || e.Waited != 50*time.Millisecond {
			t.Errorf("facts: %+v", e)
		}
		holder.do("UNWATCH", "+OK")
		if err := rdb.Incr(t.Context(), "n").Err(); err != nil {
			t.Error(err)
		}
	})
}

func TestTooManyWaitersAreToldSoAtOnceAndNotTriedAgain(t *testing.T) {
	ways(t, driver.Config{Pool: pooler.Config{MaxOpenConns: 1, MaxWaiters: 1}}, func(t *lab, rdb *redis.Client) {
		holder, waiter := t.handle(), t.handle()
		holder.do("WATCH k", "+OK")
		result := t.blocked(func() error { _, err := waiter.Write([]byte(frames("PING"))); return err })
		n, err := t.tries(func() error { return rdb.Ping(t.Context()).Err() })
		t.wantErr(err, redis.ErrPoolExhausted)
		t.wantErr(err, pooler.ErrPoolExhausted)
		if n != 1 {
			t.Errorf("%d tries", n)
		}
		holder.do("UNWATCH", "+OK")
		if err := result(); err != nil {
			t.Error(err)
		}
	})
}

func TestAClosedDriverFailsEveryCommandAtOnce(t *testing.T) {
	ways(t, driver.Config{}, func(t *lab, rdb *redis.Client) {
		if err := t.d.Close(); err != nil {
			t.Fatal(err)
		}
		if err := t.d.Close(); err != nil {
			t.Errorf("again: %v", err)
		}
		start := time.Now()
		err := rdb.Ping(t.Context()).Err()
		t.wantErr(err, redis.ErrClosed)
		t.wantErr(err, pooler.ErrClosed)
		if time.Since(start) != 0 {
			t.Errorf("took %v", time.Since(start))
		}
		_, err = rdb.TxPipelined(t.Context(), func(p redis.Pipeliner) error { p.Incr(t.Context(), "n"); return nil })
		t.wantErr(err, redis.ErrClosed)
	})
}

func TestClosingTheDriverLetsRequestsInProgressFinishAndFailsThoseThatWait(t *testing.T) {
	inBothLabs(t, one(), func(t *lab) {
		t.slow(time.Second)
		a, b, c := t.handle(), t.handle(), t.handle()
		a.send("GET slow")
		if !t.leased { // whoever shares a connection doesn't wait for one
			c.send("GET c")
		}
		waiting := t.blocked(func() error { _, err := b.Write([]byte(frames("WATCH k"))); return err })
		closed := t.blocked(t.d.Close)
		t.wantErr(waiting(), redis.ErrClosed)
		a.want("$4 slow")
		if !t.leased {
			c.want("$1 c")
		}
		if err := closed(); err != nil {
			t.Error(err)
		}
		_, err := a.Write([]byte(frames("PING")))
		t.wantErr(err, redis.ErrClosed)
	})
}

func TestAClosedHandleSaysThatItIsClosed(t *testing.T) {
	inBothLabs(t, driver.Config{}, func(t *lab) {
		a := t.handle()
		a.do("PING", "+PONG")
		a.close()
		_, err := a.Write([]byte(frames("PING")))
		t.wantErr(err, net.ErrClosed)
		_, err = a.Read(make([]byte, 1))
		t.wantErr(err, net.ErrClosed)
		t.wantErr(a.Close(), net.ErrClosed)
		if err := a.SetDeadline(time.Now()); err != nil && !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
		synctest.Wait()
	})
}

// Nothing that go-redis would try again may look as if the server can't have run
// it when it may have.
func TestAnUnknownOutcomeIsNeitherEOFNorTimeoutNorDial(t *testing.T) {
	inBothLabs(t, driver.Config{}, func(t *lab) {
		t.spoiled("INCR", 1000, spoil["lost before the reply"])
		rdb := t.client(func(o *redis.Options) { o.MaxRetries = 3 })
		rdb.Ping(t.Context())
		n, err := t.tries(func() error { return rdb.Incr(t.Context(), "n").Err() })
		t.wantErr(err, pooler.ErrUnknownOutcome)
		t.checkTimeout(err, false)
		if _, dial := errors.AsType[*net.OpError](err); dial || t.f.Count("INCR") != 1 || n != 1 {
			t.Errorf("%d runs, a dial error %t, %d tries", t.f.Count("INCR"), dial, n)
		}
		if s := t.stats(); s.Unknown != 1 {
			t.Errorf("unknown %d", s.Unknown)
		}
	})
}

// A server that stands still answers no new connection either: that those that are open
// are in use isn't why, and a larger pool wouldn't help.
func TestAWaitForAConnectionThatIsBeingOpenedBlamesNobody(t *testing.T) {
	inLab(t, driver.Config{Pool: pooler.Config{WaitTimeout: 300 * time.Millisecond}}, func(t *lab) {
		rdb := t.client()
		if err := rdb.Ping(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		t.f.Freeze(true)
		err := rdb.BLPop(t.Context(), time.Second, "q").Err()
		t.f.Freeze(false)
		t.wantErr(err, pooler.ErrWaitTimeout)
		want := "dial everpool: " + pooler.ErrWaitTimeout.Error() + ": " + labAddr + ": no new one is ready"
		if err != nil && err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	})
}

// Programs tell by these what is wrong: wait for a server that isn't started yet, give up
// on a certificate.
func TestWhyANodeIsDownIsKnownByTheNamesThatTheStockClientHasForIt(t *testing.T) {
	certificate := &tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}
	for name, c := range map[string]struct {
		dial  error // nil: refused
		knows func(error) bool
	}{
		"refused":     {nil, func(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) }},
		"no route":    {&net.OpError{Op: "dial", Err: syscall.EHOSTUNREACH}, func(err error) bool { return errors.Is(err, syscall.EHOSTUNREACH) }},
		"no host":     {&net.OpError{Op: "dial", Err: &net.DNSError{IsNotFound: true}}, isA[*net.DNSError]},
		"certificate": {certificate, isA[*tls.CertificateVerificationError]},
		"authority":   {certificate, isA[x509.UnknownAuthorityError]},
	} {
		t.Run(name, func(t *testing.T) {
			ways(t, driver.Config{Pool: pooler.Config{FailFastAfter: time.Second}}, func(t *lab, rdb *redis.Client) {
				t.f.Down(c.dial)
				stock := t.stock()
				if err := stock.Ping(t.Context()).Err(); !c.knows(err) {
					t.Errorf("stock: %v", err)
				}
				err := rdb.Ping(t.Context()).Err()
				if t.wantErr(err, pooler.ErrNodeDown); !c.knows(err) {
					t.Errorf("%v (%T) isn't known", err, err)
				}
				if errors.Is(err, io.EOF) || isA[net.Error](err) {
					t.Errorf("%v is what go-redis tries again", err)
				}
			})
		})
	}
}

func isA[E error](err error) bool { _, ok := errors.AsType[E](err); return ok }

func TestWhyAConnectionWasLostIsKnownByTheSystemsName(t *testing.T) {
	for name, call := range map[string]func(*lab, *redis.Client) error{
		"INCR": func(t *lab, rdb *redis.Client) error { return rdb.Incr(t.Context(), "n").Err() },
		"SET":  func(t *lab, rdb *redis.Client) error { return rdb.Set(t.Context(), "k", "v", 0).Err() },
	} {
		t.Run(name, func(t *testing.T) {
			inBothLabs(t, driver.Config{}, func(t *lab) {
				t.spoiled(name, 1000, spoil["lost before the reply"])
				t.wantErr(call(t, t.client()), syscall.ECONNRESET)
			})
		})
	}
}
