package driver_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/internal/command"
	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/pooler"
)

// retried is a request whose last command the server counts and spoils.
type retried struct {
	name   string
	effect command.Effect
	last   string // the command that meets the fault
	call   func(ctx context.Context, c *redis.Client) error
}

var retriedRequests = []retried{
	{"GET", command.Read, "GET", func(ctx context.Context, c *redis.Client) error { return c.Get(ctx, "k").Err() }},
	{"SET", command.Idempotent, "SET", func(ctx context.Context, c *redis.Client) error { return c.Set(ctx, "k", "v", time.Hour).Err() }},
	{"SET GET", command.Unsafe, "SET", func(ctx context.Context, c *redis.Client) error {
		return c.SetArgs(ctx, "k", "v", redis.SetArgs{Get: true}).Err()
	}},
	{"INCR", command.Unsafe, "INCR", func(ctx context.Context, c *redis.Client) error { return c.Incr(ctx, "k").Err() }},
	{"a pipeline of reads", command.Read, "GET", pipelined((*redis.Client).Pipeline, "EXISTS", "GET")},
	{"a pipeline of writes", command.Idempotent, "DEL", pipelined((*redis.Client).Pipeline, "SET", "DEL")},
	{"a pipeline with an INCR behind", command.Unsafe, "INCR", pipelined((*redis.Client).Pipeline, "EXISTS", "INCR")},
	{"a pipeline with an INCR before", command.Unsafe, "GET", pipelined((*redis.Client).Pipeline, "INCR", "GET")},
	{"a transaction of reads", command.Unsafe, "GET", pipelined((*redis.Client).TxPipeline, "GET")},
	{"a transaction", command.Unsafe, "INCR", pipelined((*redis.Client).TxPipeline, "SET", "INCR")},
}

func pipelined(open func(*redis.Client) redis.Pipeliner, commands ...string) func(context.Context, *redis.Client) error {
	return func(ctx context.Context, c *redis.Client) error {
		p := open(c)
		for _, name := range commands {
			args := []any{name, "k"}
			if name == "SET" {
				args = append(args, "v")
			}
			p.Do(ctx, args...)
		}
		_, err := p.Exec(ctx)
		return err
	}
}

// spoil spoils what the command's handler answers, and returns the reply.
var spoil = map[string]func(c *testkit.FakeConn) []byte{
	"lost before the reply": func(c *testkit.FakeConn) []byte { c.ResetNow(); return nil },
	"lost within the reply": func(c *testkit.FakeConn) []byte { c.CutReply(2); return testkit.ReplyBulk("7") },
	"late":                  func(*testkit.FakeConn) []byte { time.Sleep(300 * time.Millisecond); return testkit.ReplyBulk("7") },
}

// spoiled makes the server spoil the first few executions of a command; what it
// replies otherwise suits all of them.
func (l *lab) spoiled(name string, times int64, how func(*testkit.FakeConn) []byte) (runs *atomic.Int64) {
	runs = new(atomic.Int64)
	for _, other := range []string{"GET", "SET", "INCR", "DEL", "EXISTS"} {
		l.f.Handle(other, func(*testkit.FakeConn, []string) []byte { return testkit.ReplyInt(7) })
	}
	l.f.Handle(name, func(c *testkit.FakeConn, _ []string) []byte {
		if runs.Add(1) <= times {
			return how(c)
		}
		return testkit.ReplyInt(7)
	})
	return runs
}

func TestWhatMayRunAgainRunsAgainAndNothingElse(t *testing.T) {
	for _, policy := range []driver.Retry{driver.RetrySafe, driver.RetryAll, driver.RetryNone} {
		for _, rq := range retriedRequests {
			for fault, how := range spoil {
				t.Run(fmt.Sprintf("%s/%s/%s", policy, rq.name, fault), func(t *testing.T) {
					inBothLabs(t, driver.Config{Retry: policy}, func(t *lab) {
						// The second try is answered in time also if it has to wait
						// behind the late reply to the first.
						retries := func(o *redis.Options) { o.MaxRetries, o.ReadTimeout = 3, 200*time.Millisecond }
						stock := t.stock(retries)
						runs := t.spoiled(rq.last, 1, how)
						stockErr := rq.call(t.Context(), stock)
						stockRuns := runs.Load()
						runs = t.spoiled(rq.last, 1, how)
						err := rq.call(t.Context(), t.client(retries))
						again := rq.effect == command.Read || rq.effect == command.Idempotent && policy == driver.RetrySafe
						switch {
						case policy == driver.RetryAll:
							if runs.Load() != stockRuns || (err == nil) != (stockErr == nil) {
								t.Errorf("%d runs, %v; stock: %d, %v", runs.Load(), err, stockRuns, stockErr)
							}
						case again && (err != nil || runs.Load() != 2):
							t.Errorf("%d runs, %v; want a second one and its reply", runs.Load(), err)
						case !again && runs.Load() != 1:
							t.Errorf("%d runs", runs.Load())
						case !again:
							t.wantErr(err, pooler.ErrUnknownOutcome)
							t.checkTimeout(err, fault == "late")
						}
					})
				})
			}
		}
	}
}

// checkTimeout checks that the error is a timeout, or that it isn't, to
// everybody who may ask.
func (l *lab) checkTimeout(err error, want bool) {
	l.Helper()
	ne, ok := errors.AsType[net.Error](err)
	if is := errors.Is(err, os.ErrDeadlineExceeded); is != want || ok != want || want && !ne.Timeout() {
		l.Errorf("%v (%T): os.ErrDeadlineExceeded %t, a net.Error %t", err, err, is, ok)
	}
}

// Without a single retry by go-redis. Once a part of the replies was read it is
// too late: the caller would get that part twice.
func TestALostReadIsSentOnceMoreUnnoticed(t *testing.T) {
	bothWays(t, func(t *testing.T, shared int) {
		for _, policy := range []driver.Retry{driver.RetrySafe, driver.RetryAll, driver.RetryNone} {
			for _, rq := range retriedRequests {
				for _, fault := range []string{"lost before the reply", "lost within the reply"} {
					inLab(t, driver.Config{Retry: policy, Pool: pooler.Config{SharedConns: shared}}, func(t *lab) {
						runs := t.spoiled(rq.last, 1, spoil[fault])
						err := rq.call(t.Context(), t.client())
						again := t.stats().Resent
						may := rq.effect == command.Read && fault == "lost before the reply"
						must := may && rq.name == "GET" // of a pipeline the first reply may have come
						if must && again != 1 || !may && again != 0 || (err == nil) != (again == 1) || runs.Load() != 1+again {
							t.Errorf("%s, %s, %s: %d runs, resent %d, %v", policy, rq.name, fault, runs.Load(), again, err)
						}
					})
				}
			}
		}
	})
}

// Of a silent connection nothing is heard but that silence, for SilenceAfter; then
// a probe has to be answered.
func TestASilentSharedConnectionCostsALoneReaderHalfASecond(t *testing.T) {
	inLab(t, driver.Config{}, func(t *lab) {
		a := t.handle()
		for range 3 {
			a.do("GET k", "$-1")
			for _, c := range t.f.Conns() {
				c.SwallowReplies(true)
			}
			began := time.Now()
			a.do("GET k", "$-1")
			if took := time.Since(began); took == 0 || took > 500*time.Millisecond {
				t.Errorf("the read took %v", took)
			}
		}
	})
}

// However often the connection is lost, what must not run twice runs once, and
// the rest not more often than the retries allow: each try may send a read twice.
func TestNothingUnsafeRunsTwiceHoweverOftenItFails(t *testing.T) {
	bothWays(t, func(t *testing.T, shared int) {
		for _, policy := range []driver.Retry{driver.RetrySafe, driver.RetryNone} {
			for _, rq := range retriedRequests {
				for fault, how := range spoil {
					inLab(t, driver.Config{Retry: policy, Pool: pooler.Config{SharedConns: shared}}, func(t *lab) {
						runs := t.spoiled(rq.last, 1000, how)
						rdb := t.client(func(o *redis.Options) { o.MaxRetries, o.ReadTimeout = 3, 100*time.Millisecond })
						// What is sent again stands behind the late reply, and has time for that.
						waits := fault == "late" && rq.effect != command.Unsafe
						if err := rq.call(t.Context(), rdb); err == nil && !waits {
							t.Errorf("%s, %s: no error", rq.name, fault)
						}
						most := map[command.Effect]int64{command.Read: 8, command.Idempotent: 4, command.Unsafe: 1}[rq.effect]
						if runs.Load() > most || runs.Load() == 0 {
							t.Errorf("%s, %s, %s: %d runs", policy, rq.name, fault, runs.Load())
						}
					})
				}
			}
		}
	})
}

func TestWhatWasNeverSentIsSentWhenTheNodeIsBack(t *testing.T) {
	bothWays(t, func(t *testing.T, shared int) {
		for _, policy := range []driver.Retry{driver.RetrySafe, driver.RetryAll, driver.RetryNone} {
			for _, rq := range retriedRequests {
				for _, warm := range []bool{false, true} {
					inLab(t, driver.Config{Retry: policy, Pool: pooler.Config{SharedConns: shared}}, func(t *lab) {
						runs := t.spoiled(rq.last, 0, nil)
						rdb := t.client(func(o *redis.Options) { o.ReadTimeout, o.WriteTimeout = time.Second, time.Second })
						if warm {
							rdb.Ping(t.Context())
						}
						t.f.DownRefused()
						time.AfterFunc(500*time.Millisecond, t.f.Up)
						if warm {
							time.Sleep(100 * time.Millisecond)
							t.handle().write(frames("PING")) // waits until it is known and over
						}
						if err := rq.call(t.Context(), rdb); err != nil || runs.Load() != 1 {
							t.Errorf("%s, %s: %d runs, %v", policy, rq.name, runs.Load(), err)
						}
					})
				}
			}
		}
	})
}

// A write on a connection that is known to be dead runs nothing there: the
// request moves to another one, whatever it is.
func TestAWriteThatFailsAtOnceMovesTheRequest(t *testing.T) {
	bothWays(t, func(t *testing.T, shared int) {
		for _, rq := range retriedRequests {
			inLab(t, driver.Config{Retry: driver.RetryNone, Pool: pooler.Config{SharedConns: shared}}, func(t *lab) {
				runs := t.spoiled(rq.last, 0, nil)
				rdb := t.client()
				rdb.Ping(t.Context())
				for range 5 {
					t.f.ResetAll() // as a RST that has arrived: the write itself fails
					if err := rq.call(t.Context(), rdb); err != nil {
						t.Errorf("%s: %v", rq.name, err)
					}
				}
				if s := t.stats(); runs.Load() != 5 || s.Moved != 5 || s.Resent != 0 || s.Unknown != 0 {
					t.Errorf("%s: %d runs, moved %d, resent %d, unknown %d", rq.name, runs.Load(), s.Moved, s.Resent, s.Unknown)
				}
			})
		}
	})
}
