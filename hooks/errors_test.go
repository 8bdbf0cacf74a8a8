package hooks_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/hooks"
	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/pooler"
)

func wantType(t *testing.T, what string, err error, want string) {
	t.Helper()
	outcome, got := hooks.Classify(err)
	wantOutcome := hooks.Error
	switch {
	case err == nil:
		wantOutcome = hooks.OK
	case want == "":
		wantOutcome = hooks.Miss
	}
	if got != want || outcome != wantOutcome || hooks.ErrorType(err) != want {
		t.Errorf("%s: %v (%T) is %s %q, want %s %q", what, err, err, outcome, got, wantOutcome, want)
	}
}

// replied is a server's error as go-redis's users may have it.
type replied string

func (e replied) Error() string { return string(e) }
func (replied) RedisError()     {}

// late only says that it is a deadline.
type late struct{}

func (late) Error() string        { return "late" }
func (late) Is(target error) bool { return target == context.DeadlineExceeded }

type slow struct{ is bool }

func (slow) Error() string   { return "slow" }
func (s slow) Timeout() bool { return s.is }

func TestErrorTypesOfErrors(t *testing.T) {
	wrap := func(err error) error { return fmt.Errorf("a hook says: %w", err) }
	for _, c := range []struct {
		err  error
		want string
	}{
		{nil, ""},
		{redis.Nil, ""},
		{fmt.Errorf("redis: all sentinels specified in configuration are unreachable: %w", errors.Join(redis.Nil)), "connection"},
		{fmt.Errorf("redis: all sentinels specified in configuration are unreachable: %w", errors.Join(redis.Nil, replied("WRONGPASS x"))), "WRONGPASS"},
		{errors.New("redis: all sentinels specified in configuration are unreachable"), "connection"},
		{errors.Join(redis.Nil, errors.New("else")), "_OTHER"},
		{redis.TxFailedErr, "tx_failed"},
		{redis.ErrClosed, "connection"},
		{redis.ErrPoolTimeout, "wait_timeout"},
		{redis.ErrPoolExhausted, "wait_timeout"},
		{redis.ErrCrossSlot, "CROSSSLOT"},
		{redis.ErrNoScript, "NOSCRIPT"},
		{pooler.ErrWaitTimeout, "wait_timeout"},
		{pooler.ErrPoolExhausted, "wait_timeout"},
		{pooler.ErrNodeDown, "node_down"},
		{pooler.ErrUnknownOutcome, "unknown_outcome"},
		{&pooler.Error{Err: pooler.ErrUnknownOutcome, Cause: context.DeadlineExceeded}, "unknown_outcome"},
		{errors.Join(context.DeadlineExceeded, pooler.ErrUnknownOutcome), "unknown_outcome"},
		{pooler.ErrClosed, "connection"},
		{pooler.ErrConnGone, "connection"},
		{pooler.ErrSessionLost, "connection"},
		{pooler.ErrProtocol, "connection"},
		{pooler.ErrLost, "connection"},
		{pooler.ErrConfig, "_OTHER"},
		{context.Canceled, "canceled"},
		{context.DeadlineExceeded, "timeout"},
		{os.ErrDeadlineExceeded, "timeout"},
		{late{}, "timeout"},
		{slow{true}, "timeout"},
		{slow{false}, "_OTHER"},
		{&net.OpError{Op: "read", Err: os.ErrDeadlineExceeded}, "timeout"},
		{&net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}, "connection"},
		{&net.OpError{Op: "dial", Err: context.Canceled}, "canceled"},
		{&net.OpError{Op: "remote error", Err: errors.New("unknown certificate")}, "connection"},
		{&net.DNSError{Err: "no such host", Name: "secret", IsNotFound: true}, "connection"},
		{&net.DNSError{Err: "slow", Name: "secret", IsTimeout: true}, "timeout"},
		{syscall.ECONNRESET, "connection"},
		{syscall.EPIPE, "connection"},
		{syscall.ETIMEDOUT, "timeout"},
		{io.EOF, "connection"},
		{io.ErrUnexpectedEOF, "connection"},
		{io.ErrClosedPipe, "connection"},
		{net.ErrClosed, "connection"},
		{&tls.CertificateVerificationError{Err: errors.New("who are you")}, "connection"},
		{tls.RecordHeaderError{Msg: "no TLS"}, "connection"},
		{tls.AlertError(42), "connection"},
		{errors.New("redis: all ring shards are down"), "connection"},
		{errors.New("redis: cluster has no nodes"), "connection"},
		{errors.New("WRONGTYPE says a program"), "_OTHER"}, // no server's
		{errors.New("SECRET"), "_OTHER"},
		{replied("WRONGTYPE Operation"), "WRONGTYPE"},
		{replied("ERR"), "ERR"},
		{replied("SECRET x"), "_OTHER"},
		{replied("wrongtype x"), "_OTHER"},
		{replied("ERR\nx"), "_OTHER"},
		{replied(" ERR x"), "_OTHER"},
		{replied(""), "_OTHER"},
		{replied("MOVED 1 10.0.0.1:6379"), "MOVED"},
	} {
		wantType(t, "bare", c.err, c.want)
		if c.err != nil && c.err.Error() != "redis: all ring shards are down" && c.err.Error() != "redis: cluster has no nodes" {
			wantType(t, "wrapped", wrap(c.err), c.want)
			wantType(t, "wrapped twice", wrap(wrap(c.err)), c.want)
		}
	}
	if got := fmt.Sprint(hooks.OK, hooks.Miss, hooks.Error, hooks.Outcome(7)); got != "ok miss error 7" {
		t.Error(got)
	}
}

// Among them are all that go-redis makes typed errors of.
func TestErrorTypesOfWhatRealServersSay(t *testing.T) {
	for _, kind := range testkit.Kinds {
		t.Run(string(kind), func(t *testing.T) {
			s := testkit.Start(t, kind, testkit.WithUser("poor", "pw", "~* +get +hello +client"), testkit.WithArgs("--maxmemory", "0"))
			rdb := client(t, &redis.Options{Addr: s.Addr})
			ctx := t.Context()
			rdb.Set(ctx, "s", "v", 0)
			do := func(line string) error { return rdb.Do(ctx, words(line)...).Err() }
			for line, want := range map[string]string{
				"LPUSH s x":                          "WRONGTYPE",
				"NOSUCHCOMMAND secret":               "ERR",
				"GET":                                "ERR",
				"GET missing":                        "",
				"GET s":                              "",
				"EVALSHA " + strings.Repeat("0", 40): "ERR", // wrong number of arguments
				"EVALSHA " + strings.Repeat("0", 40) + " 0": "NOSCRIPT",
				"AUTH nobody nothing":                       "WRONGPASS",
				"HELLO 9":                                   "NOPROTO",
				"SCRIPT KILL":                               "NOTBUSY",
				"XREADGROUP GROUP g c STREAMS s >":          "WRONGTYPE",
				"XREADGROUP GROUP g c STREAMS x >":          "NOGROUP",
				"RESTORE s 0 x":                             "BUSYKEY",
				"FAILOVER ABORT":                            "ERR",
			} {
				err := do(line)
				wantType(t, line, err, want)
			}
			for say, want := range map[string]string{
				"SECRET x": "_OTHER", "SECRET": "ERR", "my key is user:1": "_OTHER", "OOM now": "OOM", "MOVED 1 a:1": "MOVED",
				"LOADING x": "LOADING", "READONLY x": "READONLY", "CLUSTERDOWN x": "CLUSTERDOWN", "TRYAGAIN x": "TRYAGAIN",
				"MASTERDOWN x": "MASTERDOWN", "NOREPLICAS x": "NOREPLICAS", "NOAUTH x": "NOAUTH", "NOPERM x": "NOPERM",
				"EXECABORT x": "EXECABORT", "ASK 1 a:1": "ASK", "ERR max number of clients reached": "ERR", "ERR unauthenticated": "ERR",
				"BUSY x": "BUSY", "MISCONF x": "MISCONF", "UNKILLABLE x": "UNKILLABLE", "INPROG x": "INPROG", "IOERR x": "IOERR",
			} {
				once := client(t, &redis.Options{Addr: s.Addr, MaxRetries: -1})
				wantType(t, say, once.Eval(ctx, "return redis.error_reply(ARGV[1])", nil, say).Err(), want)
			}
			poor := client(t, &redis.Options{Addr: s.Addr, Username: "poor", Password: "pw"})
			wantType(t, "no permission", poor.Set(ctx, "k", "v", 0).Err(), "NOPERM")
			wrong := client(t, &redis.Options{Addr: s.Addr, Username: "poor", Password: "wrong"})
			wantType(t, "wrong password", wrong.Get(ctx, "k").Err(), "WRONGPASS")
			_, err := rdb.TxPipelined(ctx, func(p redis.Pipeliner) error {
				p.Do(ctx, "GET")
				p.Set(ctx, "k", "v", 0)
				return nil
			})
			wantType(t, "EXECABORT", err, "EXECABORT")
			err = rdb.Watch(ctx, func(tx *redis.Tx) error {
				rdb.Incr(ctx, "watched")
				_, err := tx.TxPipelined(ctx, func(p redis.Pipeliner) error { p.Get(ctx, "s"); return nil })
				return err
			}, "watched")
			wantType(t, "a watched key", err, "tx_failed")
			rdb.ConfigSet(ctx, "maxmemory", "1")
			wantType(t, "no memory", rdb.Set(ctx, "k", "v", 0).Err(), "OOM")
		})
	}
}

func TestErrorTypesOfWhatHappensToAClient(t *testing.T) {
	s := testkit.Start(t, testkit.Redis)
	ctx := t.Context()
	one := func(change func(*redis.Options)) *redis.Client {
		o := &redis.Options{Addr: s.Addr, MaxRetries: -1, PoolSize: 1, PipelinePoolSize: -1, DialerRetries: 1}
		if change != nil {
			change(o)
		}
		return client(t, o)
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	wantType(t, "cancelled before", one(nil).Get(ended, "k").Err(), "canceled")
	over, cancel := context.WithTimeout(ctx, -1)
	defer cancel()
	wantType(t, "late before", one(nil).Get(over, "k").Err(), "timeout")
	wantType(t, "reply too late", one(func(o *redis.Options) { o.ReadTimeout = time.Nanosecond }).Get(ctx, "k").Err(), "timeout")
	full := one(func(o *redis.Options) { o.PoolTimeout = time.Millisecond })
	held := full.Conn()
	defer held.Close()
	if err := held.Ping(ctx).Err(); err != nil {
		t.Fatal(err)
	}
	wantType(t, "pool full", full.Get(ctx, "k").Err(), "wait_timeout")
	closed := one(nil)
	closed.Close()
	wantType(t, "client closed", closed.Get(ctx, "k").Err(), "connection")
	p := testkit.NewProxy(t, s.Addr)
	cut := one(func(o *redis.Options) { o.Addr = p.Addr() })
	if err := cut.Ping(ctx).Err(); err != nil {
		t.Fatal(err)
	}
	blocked := make(chan error)
	go func() { blocked <- cut.BLPop(ctx, 0, "list").Err() }()
	for one(nil).Do(ctx, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes").Val() == int64(0) {
		if ctx.Err() != nil {
			t.Fatal("nobody to be killed")
		}
	}
	wantType(t, "killed", <-blocked, "connection")
	s.Kill()
	// With a bigger pool, or go-redis goes on dialing in the background.
	refused := one(func(o *redis.Options) { o.PoolSize = 10 })
	wantType(t, "refused", refused.Get(ctx, "k").Err(), "connection")
	ring := redis.NewRing(&redis.RingOptions{Addrs: map[string]string{}})
	defer ring.Close()
	wantType(t, "no shards", ring.Get(ctx, "k").Err(), "connection")
}

func TestErrorTypesOfTheDriver(t *testing.T) {
	bubble := func(cfg driver.Config, run func(f *testkit.Fake, d *driver.Driver, rdb *redis.Client)) {
		synctest.Test(t, func(t *testing.T) {
			f := testkit.NewFake()
			cfg.Dial = f.Dial
			d, err := driver.New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			rdb := redis.NewClient(d.Options(&redis.Options{Addr: "node:6379", Protocol: 2, MaxRetries: -1}))
			run(f, d, rdb)
			_ = rdb.Close()
			_ = d.Close()
			f.Close()
		})
	}
	ctx := context.Background()
	bubble(driver.Config{Pool: pooler.Config{FailFastAfter: time.Second}}, func(f *testkit.Fake, _ *driver.Driver, rdb *redis.Client) {
		f.DownRefused()
		for range 3 {
			_ = rdb.Ping(ctx).Err()
			time.Sleep(time.Second)
		}
		wantType(t, "a dead node", rdb.Get(ctx, "k").Err(), "node_down")
	})
	bubble(driver.Config{Pool: pooler.Config{MaxOpenConns: 1, SharedConns: -1, WaitTimeout: 50 * time.Millisecond}}, func(_ *testkit.Fake, _ *driver.Driver, rdb *redis.Client) {
		err := rdb.Watch(ctx, func(*redis.Tx) error { return rdb.Get(ctx, "k").Err() }, "k")
		wantType(t, "a full pool", err, "wait_timeout")
	})
	bubble(driver.Config{}, func(f *testkit.Fake, _ *driver.Driver, rdb *redis.Client) {
		if err := rdb.Ping(ctx).Err(); err != nil {
			t.Fatal(err)
		}
		f.CutReply(1)
		wantType(t, "a lost reply to INCR", rdb.Incr(ctx, "n").Err(), "unknown_outcome")
		if err := rdb.Ping(ctx).Err(); err != nil {
			t.Fatal(err)
		}
		f.Freeze(true)
		late, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		wantType(t, "a frozen server", rdb.Incr(late, "n").Err(), "unknown_outcome")
	})
	bubble(driver.Config{}, func(_ *testkit.Fake, d *driver.Driver, rdb *redis.Client) {
		_ = d.Close()
		wantType(t, "a closed driver", rdb.Get(ctx, "n").Err(), "connection")
	})
}

// The errors that there are most of in an outage are known without a search, and are
// what the search, which those take that are wrapped again, says they are.
func TestThePoolsErrorsAreWhatTheyAreWhenWrapped(t *testing.T) {
	for err, want := range map[error]string{
		pooler.ErrUnknownOutcome: "unknown_outcome", pooler.ErrNodeDown: "node_down", pooler.ErrWaitTimeout: "wait_timeout",
		pooler.ErrPoolExhausted: "wait_timeout", pooler.ErrClosed: "connection", pooler.ErrConnGone: "connection",
		pooler.ErrSessionLost: "connection", pooler.ErrCredentials: "connection", pooler.ErrNotReady: "connection",
		pooler.ErrRefused: "connection", pooler.ErrProtocol: "connection", pooler.ErrLost: "connection",
	} {
		for _, cause := range []error{nil, io.EOF, context.DeadlineExceeded, pooler.ErrUnknownOutcome, syscall.ECONNREFUSED} {
			one := &pooler.Error{Err: err, Node: "a:1", Cause: cause}
			wantType(t, fmt.Sprint(one), one, want)
			wantType(t, fmt.Sprint(one, ", wrapped"), fmt.Errorf("x: %w", one), want)
			wantType(t, fmt.Sprint(one, ", wrapped twice"), fmt.Errorf("y: %w", fmt.Errorf("x: %w", one)), want)
		}
	}
	wantType(t, "a wait that has ended by itself, and another outcome that is unknown",
		errors.Join(&pooler.Error{Err: pooler.ErrNodeDown}, &pooler.Error{Err: pooler.ErrUnknownOutcome}), "unknown_outcome")
}
