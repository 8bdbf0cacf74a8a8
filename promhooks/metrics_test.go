package promhooks_test

import (
	"context"
	"errors"
	"math"
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/hooks"
	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/promhooks"
)

// A command counts once, by how it has ended, and one that nobody knows counts as
// "other".
func TestCommandsAreCountedByNameAndOutcome(t *testing.T) {
	for _, kind := range testkit.Kinds {
		t.Run(string(kind), func(t *testing.T) {
			s := testkit.Start(t, kind)
			w := watch(t, "test", "redis://"+s.Addr, prometheus.NewRegistry(), nil)
			ctx := t.Context()
			w.Set(ctx, "k", "v", 0)
			w.Get(ctx, "k")
			w.Get(ctx, "k")
			w.Get(ctx, "nothing")
			w.LPush(ctx, "k", "x")
			w.Do(ctx, "no-such-command-4711", "x")
			w.ClientList(ctx)

			got := gather(t, w.reg)
			got.want(t, samples{
				`redis_client_command_duration_seconds_count{command="SET",outcome="ok"}`:         1,
				`redis_client_command_duration_seconds_count{command="GET",outcome="ok"}`:         2,
				`redis_client_command_duration_seconds_count{command="GET",outcome="miss"}`:       1,
				`redis_client_command_duration_seconds_count{command="LPUSH",outcome="error"}`:    1,
				`redis_client_command_duration_seconds_count{command="other",outcome="error"}`:    1,
				`redis_client_command_duration_seconds_count{command="CLIENT LIST",outcome="ok"}`: 1,
				`redis_client_command_errors_total{command="LPUSH",error_type="WRONGTYPE"}`:       1,
				`redis_client_command_errors_total{command="other",error_type="ERR"}`:             1,
				`redis_client_commands_in_flight`:                                                 0,
			})
			if sum := got[`redis_client_command_duration_seconds_sum{command="GET",outcome="ok"}`]; sum <= 0 || sum > 60 {
				t.Errorf("GETs took %v seconds", sum)
			}
			// The handshake and the misses are no errors, and nothing else is counted.
			if n := len(got.starting("redis_client_command_duration_seconds_count")); n != 6 {
				t.Errorf("%d series of commands", n)
			}
			if errs := got.starting("redis_client_command_errors_total"); len(errs) != 2 {
				t.Errorf("errors: %q", errs)
			}
		})
	}
}

// A batch is one operation; of its commands those count that have failed.
func TestBatchesCountOnceAndTheirErrorsEach(t *testing.T) {
	s := testkit.Start(t, testkit.Redis)
	w := watch(t, "test", "redis://"+s.Addr, prometheus.NewRegistry(), nil)
	ctx := t.Context()
	w.Set(ctx, "text", "v", 0)
	_, err := w.Pipelined(ctx, func(p redis.Pipeliner) error {
		p.Get(ctx, "text")
		p.Get(ctx, "nothing")
		p.LPush(ctx, "text", "x")
		p.LPush(ctx, "text", "x")
		p.HGet(ctx, "text", "f")
		return nil
	})
	if err == nil {
		t.Error("the pipeline has succeeded")
	}
	if _, err := w.TxPipelined(ctx, func(p redis.Pipeliner) error {
		p.Incr(ctx, "n")
		p.Incr(ctx, "n")
		return nil
	}); err != nil {
		t.Error(err)
	}

	got := gather(t, w.reg)
	got.want(t, samples{
		`redis_client_batch_duration_seconds_count{kind="pipeline",outcome="error"}`:    1,
		`redis_client_batch_duration_seconds_count{kind="pipeline",outcome="ok"}`:       0,
		`redis_client_batch_duration_seconds_count{kind="transaction",outcome="ok"}`:    1,
		`redis_client_batch_duration_seconds_count{kind="transaction",outcome="error"}`: 0,
		`redis_client_commands_total{command="SET",outcome="ok"}`:                       1,
		`redis_client_commands_total{command="GET",outcome="ok"}`:                       1,
		`redis_client_commands_total{command="GET",outcome="miss"}`:                     1,
		`redis_client_commands_total{command="LPUSH",outcome="error"}`:                  2,
		`redis_client_commands_total{command="HGET",outcome="error"}`:                   1,
		`redis_client_commands_total{command="INCR",outcome="ok"}`:                      2,
		`redis_client_batch_size_count{kind="pipeline"}`:                                1,
		`redis_client_batch_size_sum{kind="pipeline"}`:                                  5,
		`redis_client_batch_size_sum{kind="transaction"}`:                               2, // without MULTI and EXEC
		`redis_client_command_errors_total{command="LPUSH",error_type="WRONGTYPE"}`:     2,
		`redis_client_command_errors_total{command="HGET",error_type="WRONGTYPE"}`:      1,
		`redis_client_commands_in_flight`:                                               0,
	})
	want := []string{`redis_client_command_duration_seconds_count{command="SET",outcome="ok"}`}
	if diff := cmp.Diff(want, got.starting("redis_client_command_duration_seconds_count")); diff != "" {
		t.Errorf("series of commands (-want +got):\n%s", diff)
	}
}

// A transaction that a watched key has undone fails by a type of its own.
func TestATransactionThatWasUndoneIsTxFailed(t *testing.T) {
	s := testkit.Start(t, testkit.Redis)
	w := watch(t, "test", "redis://"+s.Addr, prometheus.NewRegistry(), nil)
	ctx := t.Context()
	err := w.Watch(ctx, func(tx *redis.Tx) error {
		w.Set(ctx, "k", "other", 0)
		_, err := tx.TxPipelined(ctx, func(p redis.Pipeliner) error {
			p.Set(ctx, "k", "mine", 0)
			return nil
		})
		return err
	}, "k")
	if !errors.Is(err, redis.TxFailedErr) {
		t.Fatal(err)
	}
	gather(t, w.reg).want(t, samples{
		`redis_client_batch_duration_seconds_count{kind="transaction",outcome="tx_failed"}`: 1,
		`redis_client_batch_duration_seconds_count{kind="transaction",outcome="error"}`:     0,
		`redis_client_commands_total{command="SET",outcome="tx_failed"}`:                    1,
		`redis_client_commands_total{command="SET",outcome="error"}`:                        math.NaN(),
		`redis_client_command_errors_total{command="SET",error_type="tx_failed"}`:           1,
	})
}

// A batch that fails without any of its commands is one of which all have failed.
func TestABatchThatFailsAsAWholeIsAnError(t *testing.T) {
	m := must(promhooks.NewMetrics("test"))(t)
	process := must(hooks.New(m))(t).ProcessPipelineHook(func(context.Context, []redis.Cmder) error { return net.ErrClosed })
	cmds := []redis.Cmder{redis.NewStringCmd(t.Context(), "get", "k"), redis.NewStringCmd(t.Context(), "set", "k", "v")}
	if err := process(t.Context(), cmds); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
	if err := process(t.Context(), cmds[:1]); !errors.Is(err, net.ErrClosed) { // no batch
		t.Error(err)
	}
	gather(t, registry(t, m)).want(t, samples{
		`redis_client_command_errors_total{command="GET",error_type="connection"}`:   2,
		`redis_client_command_errors_total{command="SET",error_type="connection"}`:   1,
		`redis_client_commands_total{command="GET",outcome="error"}`:                 2,
		`redis_client_commands_total{command="SET",outcome="error"}`:                 1,
		`redis_client_batch_duration_seconds_count{kind="pipeline",outcome="error"}`: 1,
		`redis_client_command_duration_seconds_count{command="GET",outcome="error"}`: 1,
	})
}

// What may wait for as long as it was told to has a histogram of its own, so that the
// others tell of the server; what doesn't, of the same name, is among these.
func TestBlockingCommandsAreApart(t *testing.T) {
	m := must(promhooks.NewMetrics("test"))(t)
	h := must(hooks.New(m))(t)
	one := h.ProcessHook(func(context.Context, redis.Cmder) error { return nil })
	many := h.ProcessPipelineHook(func(context.Context, []redis.Cmder) error { return nil })
	cmd := func(args ...any) redis.Cmder { return redis.NewCmd(t.Context(), args...) }
	_ = one(t.Context(), cmd("blpop", "k", 0))
	_ = one(t.Context(), cmd("xread", "block", 0, "streams", "s", "$"))
	_ = one(t.Context(), cmd("xread", "streams", "s", "0"))
	_ = many(t.Context(), []redis.Cmder{cmd("get", "k"), cmd("get", "k")})
	_ = many(t.Context(), []redis.Cmder{cmd("get", "k"), cmd("blpop", "k", 0)})
	_ = many(t.Context(), []redis.Cmder{cmd("multi"), cmd("get", "k"), cmd("blpop", "k", 0), cmd("exec")})
	got := gather(t, registry(t, m))
	got.want(t, samples{
		`redis_client_blocking_seconds_count{command="BLPOP",outcome="ok"}`:                1,
		`redis_client_blocking_seconds_count{command="XREAD",outcome="ok"}`:                1,
		`redis_client_command_duration_seconds_count{command="XREAD",outcome="ok"}`:        1,
		`redis_client_command_duration_seconds_count{command="BLPOP",outcome="ok"}`:        math.NaN(),
		`redis_client_batch_duration_seconds_count{kind="pipeline",outcome="ok"}`:          1,
		`redis_client_batch_duration_seconds_count{kind="blocking_pipeline",outcome="ok"}`: 1,
		`redis_client_batch_duration_seconds_count{kind="transaction",outcome="ok"}`:       1,
		`redis_client_commands_total{command="BLPOP",outcome="ok"}`:                        3,
	})
}

func registry(tb testing.TB, all ...prometheus.Collector) *prometheus.Registry {
	tb.Helper()
	reg := prometheus.NewRegistry()
	for _, c := range all {
		if err := reg.Register(c); err != nil {
			tb.Fatal(err)
		}
	}
	return reg
}

// While a command runs it is in flight, and afterwards it isn't, however it ends.
func TestNothingStaysInFlight(t *testing.T) {
	m := must(promhooks.NewMetrics("test", promhooks.WithBaseplateNames()))(t)
	reg := registry(t, m)
	const ours, baseplate = "redis_client_commands_in_flight", `redis_client_active_requests{redis_client_name="test",redis_command="GET",redis_database="",redis_type="standalone"}`
	endings := map[string]func(context.Context) error{
		"returns":  func(context.Context) error { return nil },
		"fails":    func(context.Context) error { return errors.New("no") },
		"canceled": func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
		"panics":   func(context.Context) error { panic("no") },
		"exits":    func(context.Context) error { runtime.Goexit(); return nil },
	}
	for name, end := range endings {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			process := hooked(t, m, func(ctx context.Context, _ redis.Cmder) error {
				gather(t, reg).want(t, samples{ours: 1, baseplate: 1})
				cancel()
				return end(ctx)
			})
			done := make(chan struct{})
			go func() {
				defer close(done)
				defer func() { _ = recover() }()
				_ = process(ctx, redis.NewStringCmd(ctx, "get", "k"))
			}()
			<-done
			gather(t, reg).want(t, samples{ours: 0, baseplate: 0})
		})
	}
	gather(t, reg).want(t, samples{
		`redis_client_command_duration_seconds_count{command="GET",outcome="error"}`:    3,
		`redis_client_command_duration_seconds_count{command="GET",outcome="canceled"}`: 1, // no server's fault
		`redis_client_command_duration_seconds_count{command="GET",outcome="ok"}`:       1,
		`redis_client_command_errors_total{command="GET",error_type="canceled"}`:        1,
		`redis_client_command_errors_total{command="GET",error_type="no such thing"}`:   math.NaN(),
	})
}

// A dial counts by how it has ended, on the stock pool, where hooks see dials.
func TestDialsOfTheStockPool(t *testing.T) {
	s := testkit.Start(t, testkit.Redis)
	m := must(promhooks.NewMetrics("test"))(t)
	hook := must(hooks.New(m))(t)
	for _, addr := range []string{s.Addr, closedAddr(t)} {
		rdb := redis.NewClient(&redis.Options{Addr: addr, MaxRetries: -1, DialerRetries: 1})
		defer rdb.Close()
		must(hook.Attach(rdb))(t)
		rdb.Get(t.Context(), "k")
	}
	gather(t, registry(t, m)).want(t, samples{
		`redis_client_dial_duration_seconds_count{outcome="ok",pool="go-redis"}`:           1,
		`redis_client_dial_duration_seconds_count{outcome="error",pool="go-redis"}`:        1,
		`redis_client_command_duration_seconds_count{command="GET",outcome="miss"}`:        1,
		`redis_client_command_errors_total{command="GET",error_type="connection"}`:         1,
		`redis_client_handshake_errors_total{command="CLIENT SETINFO"}`:                    2, // a server of version 7.0
		`redis_client_command_errors_total{command="CLIENT SETINFO",error_type="ERR"}`:     math.NaN(),
		`redis_client_command_duration_seconds_count{command="HELLO",outcome="ok"}`:        math.NaN(),
		`redis_client_batch_duration_seconds_count{kind="pipeline",outcome="ok"}`:          0,
		`redis_client_dial_duration_seconds_count{outcome="ok",pool="everpool"}`:           math.NaN(),
		`redis_client_command_duration_seconds_count{command="CLIENT SETINFO",outcome=""}`: math.NaN(),
	})
}

// A wrong password is a failed handshake command, and so a failed operation.
func TestAWrongPasswordIsAFailedHandshake(t *testing.T) {
	s := testkit.Start(t, testkit.Redis, testkit.WithPassword("right-4711"))
	for name, url := range map[string]string{"stock": "", "everpool": "redis://:wrong-4711@" + s.Addr} {
		t.Run(name, func(t *testing.T) {
			m := must(promhooks.NewMetrics("test"))(t)
			reg := registry(t, m)
			var rdb redis.UniversalClient
			if url == "" {
				stock := redis.NewClient(&redis.Options{Addr: s.Addr, Password: "wrong-4711", MaxRetries: -1})
				defer stock.Close()
				must(must(hooks.New(m))(t).Attach(stock))(t)
				rdb = stock
			} else {
				reg = prometheus.NewRegistry()
				rdb = watch(t, "test", url, reg, nil)
			}
			if err := rdb.Get(t.Context(), "k").Err(); err == nil {
				t.Fatal("the password is taken")
			}
			got := gather(t, reg)
			got.want(t, samples{`redis_client_command_errors_total{command="GET",error_type="WRONGPASS"}`: 1})
			if got[`redis_client_handshake_errors_total{command="HELLO"}`] == 0 {
				t.Errorf("failed handshakes: %q", got.starting("redis_client_handshake"))
			}
		})
	}
}

// Only a server refuses a step of a handshake: in an outage each call has one that fails.
func TestAHandshakeThatGetsNoAnswerIsNotRefused(t *testing.T) {
	m := must(promhooks.NewMetrics("test"))(t)
	reg := registry(t, m)
	hello := hooks.CommandOf(redis.NewCmd(t.Context(), "hello", 3))
	for _, errorType := range []string{"", hooks.ErrorNodeDown, hooks.ErrorWaitTimeout, hooks.ErrorTimeout, hooks.ErrorCanceled, hooks.ErrorConnection, hooks.ErrorUnknownOutcome} {
		m.Handshake(t.Context(), hello, errorType)
	}
	gather(t, reg).want(t, samples{`redis_client_handshake_errors_total{command="HELLO"}`: math.NaN()})
	m.Handshake(t.Context(), hello, "NOAUTH")
	m.Handshake(t.Context(), hello, hooks.ErrorOther)
	gather(t, reg).want(t, samples{`redis_client_handshake_errors_total{command="HELLO"}`: 2})
}

// closedAddr is an address at which nobody listens.
func closedAddr(tb testing.TB) string {
	tb.Helper()
	l := must(net.Listen("tcp", "127.0.0.1:0"))(tb)
	defer l.Close()
	return l.Addr().String()
}

// A server that doesn't know HELLO is a failed handshake command, not a failed
// operation.
func TestAServerWithoutHelloIsNoFailedOperation(t *testing.T) {
	fake := testkit.NewFake(testkit.WithoutHello())
	defer fake.Close()
	m := must(promhooks.NewMetrics("test"))(t)
	rdb := redis.NewClient(&redis.Options{Addr: "fake:6379", Dialer: fake.Dial})
	defer rdb.Close()
	must(must(hooks.New(m))(t).Attach(rdb))(t)
	if err := rdb.Set(t.Context(), "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	got := gather(t, registry(t, m))
	got.want(t, samples{
		`redis_client_handshake_errors_total{command="HELLO"}`:                    1,
		`redis_client_command_duration_seconds_count{command="SET",outcome="ok"}`: 1,
	})
	if errs := got.starting("redis_client_command_errors_total"); len(errs) != 0 {
		t.Errorf("errors: %q", errs)
	}
}

// The series that are kept at hand are those of the vector: none is lost when
// several goroutines need the first one at once.
func TestConcurrentCommandsAreAllCounted(t *testing.T) {
	const goroutines, each = 8, 200
	m := must(promhooks.NewMetrics("test", promhooks.WithBaseplateNames()))(t)
	process := hooked(t, m, func(_ context.Context, cmd redis.Cmder) error { return cmd.Err() })
	done := make(chan struct{})
	for range goroutines {
		go func() {
			defer func() { done <- struct{}{} }()
			for i := range each {
				cmd := redis.NewStringCmd(t.Context(), []any{"get", "set", "incr"}[i%3], "k")
				cmd.SetErr([]error{nil, redis.Nil, errors.New("ERR x"), context.Canceled}[i%4])
				_ = process(t.Context(), cmd)
			}
		}()
	}
	for range goroutines {
		<-done
	}
	sums := make(map[string]float64)
	got := gather(t, registry(t, m))
	for _, family := range []string{"redis_client_command_duration_seconds_count{", "redis_client_command_errors_total{", "redis_client_requests_total{", "redis_client_latency_seconds_count{"} {
		for _, name := range got.starting(family) {
			sums[family] += got[name]
		}
	}
	want := map[string]float64{
		"redis_client_command_duration_seconds_count{": goroutines * each,
		"redis_client_command_errors_total{":           goroutines * each / 2,
		"redis_client_requests_total{":                 goroutines * each,
		"redis_client_latency_seconds_count{":          goroutines * each,
	}
	if diff := cmp.Diff(want, sums); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// The duration is the operation's own, in seconds.
func TestDurationsAreTheOperations(t *testing.T) {
	m := must(promhooks.NewMetrics("test"))(t)
	get := hooks.CommandOf(redis.NewStringCmd(t.Context(), "get", "k"))
	op := &hooks.Operation{Name: "GET", Command: get, Target: &hooks.Target{}, Duration: 1500 * time.Microsecond}
	m.End(m.Begin(t.Context(), op), op)
	gather(t, registry(t, m)).want(t, samples{`redis_client_command_duration_seconds_sum{command="GET",outcome="ok"}`: .0015})
}
