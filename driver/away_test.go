package driver_test

import (
	"context"
	"errors"
	"io"
	"net"
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

// Its first callers meet an outage in Write, where contexts aren't seen. go-redis brings
// single commands again, and waits in the dial.
func TestTheFirstCallersOfAnOutageAreLetGoWhenTheirContextsEnd(t *testing.T) {
	if !driver.Vetoes {
		t.Skip("callers wait in Write, where only deadlines are seen")
	}
	inBothLabs(t, driver.Config{LeaveContextTimeout: true}, func(t *lab) {
		rdb := t.client(func(o *redis.Options) { o.MaxRetries = 1 })
		t.vanish(rdb)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(200*time.Millisecond, cancel)
		began := time.Now()
		t.wantErr(rdb.Incr(ctx, "n").Err(), context.Canceled)
		if took := time.Since(began); took != 200*time.Millisecond {
			t.Errorf("took %v", took)
		}
		t.f.Up()
	})
}

// A connection that was reset or a quick restart is over before its callers are sent to the
// dial, each of whom has only so many tries.
func TestAShortOutageCostsCallersNoneOfTheirTries(t *testing.T) {
	inBothLabs(t, driver.Config{}, func(t *lab) {
		rdb := t.client(func(o *redis.Options) {
			o.MaxRetries, o.MinRetryBackoff, o.MaxRetryBackoff = 1, time.Hour, time.Hour
		})
		for outage, costs := range map[time.Duration]bool{5 * time.Millisecond: false, 40 * time.Millisecond: false, 300 * time.Millisecond: driver.Vetoes} {
			t.vanish(rdb)
			time.AfterFunc(outage, t.f.Up)
			began := time.Now()
			if err := rdb.Incr(t.Context(), "n").Err(); err != nil {
				t.Errorf("away for %v: %v", outage, err)
			}
			if took := time.Since(began); (took >= 30*time.Minute) != costs {
				t.Errorf("away for %v: took %v", outage, took)
			}
		}
		if n := t.f.Count("INCR"); n != 3 {
			t.Errorf("ran %d times", n)
		}
		if s := t.stats(); s.SentAway == 0 || s.SentAway != s.Failed {
			t.Errorf("%d requests failed, of which %d were sent away; want some, and all", s.Failed, s.SentAway)
		}
	})
}

// Its callers wait in go-redis's dial soon, where cancellations are seen.
func TestADialThatHangsAfterOneThatFailedKeepsNoCaller(t *testing.T) {
	if !driver.Vetoes {
		t.Skip("callers wait in Write, where only deadlines are seen")
	}
	var fails atomic.Bool
	var f *testkit.Fake
	dial := func(ctx context.Context, network, addr string) (net.Conn, error) {
		if fails.CompareAndSwap(true, false) {
			f.HangDials(true)
			return nil, &net.OpError{Op: "dial", Net: network, Err: syscall.ECONNRESET}
		}
		return f.Dial(ctx, network, addr)
	}
	inBothLabs(t, driver.Config{Dial: dial}, func(t *lab) {
		f = t.f
		rdb := t.client(func(o *redis.Options) { o.MaxRetries = 1 })
		if err := rdb.Incr(t.Context(), "n").Err(); err != nil {
			t.Fatal(err)
		}
		fails.Store(true)
		t.f.ResetAll()
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		began := time.Now()
		t.wantErr(rdb.Incr(ctx, "n").Err(), context.Canceled)
		if took := time.Since(began); took != time.Second {
			t.Errorf("took %v", took)
		}
		f.HangDials(false)
	})
}

// The timeouts of sockets don't bound the wait for a node that is away, as they don't
// bound dials, wherever the request waits. A Watch and a Conn keep the handle with which
// they meet the outage: it must not fail. Without retries there is no second handle.
func TestATimeoutOfSocketsEndsNoWaitForANodeThatIsAway(t *testing.T) {
	incr := func(ctx context.Context) func(p redis.Pipeliner) error {
		return func(p redis.Pipeliner) error {
			p.Incr(ctx, "n")
			return nil
		}
	}
	for name, call := range map[string]func(ctx context.Context, rdb *redis.Client) error{
		"Incr": func(ctx context.Context, rdb *redis.Client) error { return rdb.Incr(ctx, "n").Err() },
		"Pipelined": func(ctx context.Context, rdb *redis.Client) error {
			_, err := rdb.Pipelined(ctx, incr(ctx))
			return err
		},
		"TxPipelined": func(ctx context.Context, rdb *redis.Client) error {
			_, err := rdb.TxPipelined(ctx, incr(ctx))
			return err
		},
		"Conn": func(ctx context.Context, rdb *redis.Client) error {
			conn := rdb.Conn()
			defer conn.Close()
			return conn.Incr(ctx, "n").Err()
		},
		"Watch": func(ctx context.Context, rdb *redis.Client) error {
			return rdb.Watch(ctx, func(tx *redis.Tx) error {
				_, err := tx.TxPipelined(ctx, incr(ctx))
				return err
			}, "n")
		},
	} {
		for _, retries := range []int{-1, 3} {
			t.Run(name, func(t *testing.T) {
				inBothLabs(t, driver.Config{}, func(t *lab) {
					rdb := t.client(func(o *redis.Options) {
						o.MaxRetries, o.ReadTimeout, o.WriteTimeout = retries, time.Second, time.Second
					})
					t.vanish(rdb)
					time.AfterFunc(3*time.Second, t.f.Up)
					began := time.Now()
					if err := call(t.Context(), rdb); err != nil {
						t.Errorf("%d retries: %v after %v", retries, err, time.Since(began))
					}
					if n := t.f.Count("INCR"); n != 1 {
						t.Errorf("%d retries: ran %d times", retries, n)
					}
				})
			})
		}
	}
}

// A deadline of the caller's is a deadline there, too, and not the node's failure. Not in a
// bubble, where the deadlines of contexts are like those of sockets.
func TestADeadlineEndsTheWaitOfWhatKeepsItsHandle(t *testing.T) {
	bothWays(t, func(t *testing.T, shared int) {
		f := testkit.NewFake()
		t.Cleanup(f.Close)
		d := newDriver(t, driver.Config{Dial: f.Dial, Pool: pooler.Config{SharedConns: shared}})
		rdb := redis.NewClient(d.Options(&redis.Options{Addr: labAddr, MaxRetries: -1}))
		defer rdb.Close()
		if err := rdb.Ping(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		f.DownRefused()
		conn := rdb.Conn()
		defer conn.Close()
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if err := conn.Incr(ctx, "n").Err(); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
	})
}

// inPlaceOf is a hook that runs a pipeline where a command was asked for, as gathering does.
type inPlaceOf struct {
	redis.Hook
	pipeline func(context.Context) error
}

func (h inPlaceOf) DialHook(next redis.DialHook) redis.DialHook { return next }
func (h inPlaceOf) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (h inPlaceOf) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if cmd.Name() != "get" {
			return next(ctx, cmd)
		}
		return h.pipeline(ctx)
	}
}

// go-redis would keep the error of a try on some commands of a pipeline, which runs in the
// next: it waits for the node, whatever has called it.
func TestAPipelineInPlaceOfACommandWaitsForANodeThatIsAway(t *testing.T) {
	inBothLabs(t, driver.Config{}, func(t *lab) {
		rdb := t.client(func(o *redis.Options) { o.MaxRetries = 3 })
		t.vanish(rdb)
		rdb.AddHook(inPlaceOf{pipeline: func(ctx context.Context) error {
			_, err := rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
				p.Incr(ctx, "n")
				p.Incr(ctx, "n")
				return nil
			})
			return err
		}})
		time.AfterFunc(time.Second, t.f.Up)
		if err := rdb.Get(t.Context(), "k").Err(); err != nil {
			t.Error(err)
		}
		if n := t.f.Count("INCR"); n != 2 {
			t.Errorf("ran %d times", n)
		}
	})
}

// There is no second handle for what go-redis tries once either.
func TestCommandsThatAreTriedOnceWaitForANodeThatIsAway(t *testing.T) {
	for name, call := range map[string]func(ctx context.Context, rdb *redis.Client) error{
		"GetToBuffer": func(ctx context.Context, rdb *redis.Client) error {
			return rdb.GetToBuffer(ctx, "k", make([]byte, 10)).Err()
		},
		"DoRawWriteTo": func(ctx context.Context, rdb *redis.Client) error {
			return rdb.DoRawWriteTo(ctx, io.Discard, "GET", "k").Err()
		},
		"DoRawWriteTo of an AutoPipeliner": func(ctx context.Context, rdb *redis.Client) error {
			ap, err := rdb.AutoPipeline()
			if err != nil {
				return err
			}
			defer ap.Close()
			return ap.DoRawWriteTo(ctx, io.Discard, "GET", "k").Err()
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBothLabs(t, driver.Config{}, func(t *lab) {
				rdb := t.client(func(o *redis.Options) { o.MaxRetries = 3 })
				if err := rdb.Set(t.Context(), "k", "v", 0).Err(); err != nil {
					t.Fatal(err)
				}
				t.vanish(rdb)
				time.AfterFunc(time.Second, t.f.Up)
				if err := call(t.Context(), rdb); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// A connection that was idle may lead to a server that stands still. With the stock pool a
// subscription's new socket finds that out before anything is sent on it.
func TestASubscriptionThatIsNeverAnsweredEndsAsADialWould(t *testing.T) {
	inBothLabs(t, driver.Config{}, func(t *lab) {
		rdb := t.client(func(o *redis.Options) { o.WriteTimeout = 20 * time.Second })
		if err := rdb.Ping(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		t.f.Freeze(true)
		synctest.Wait()
		ps := rdb.Subscribe(t.Context(), "news")
		result := t.blocked(func() error {
			_, err := ps.Receive(t.Context())
			return err
		})
		time.Sleep(11 * time.Second) // a second dial's, too
		if err := result(); err == nil {
			t.Error("it was made")
		}
		t.f.Freeze(false)
		for made := false; !made; time.Sleep(10 * time.Millisecond) {
			got, err := ps.ReceiveTimeout(t.Context(), 10*time.Second)
			s, ok := got.(*redis.Subscription)
			made = err == nil && ok && s.Channel == "news"
		}
		ch := ps.Channel(redis.WithChannelHealthCheckInterval(0))
		time.Sleep(time.Minute) // nobody bounds what comes later
		if n := t.f.Publish("news", "hello"); n != 1 {
			t.Errorf("%d subscriptions", n)
		}
		if m := <-ch; m.Payload != "hello" {
			t.Errorf("message %v", m)
		}
		_ = ps.Close()
	})
}

// PubSub.ReceiveTimeout takes a timeout for a channel without news, and keeps its handle.
func TestTheEndOfASubscriptionIsNoTimeout(t *testing.T) {
	inBothLabs(t, driver.Config{}, func(t *lab) {
		rdb := t.client(func(o *redis.Options) { o.WriteTimeout = time.Second })
		if err := rdb.Ping(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		t.f.ResetAll()
		t.f.HangDials(true)
		ps := rdb.Subscribe(t.Context(), "news")
		defer ps.Close()
		_, err := ps.ReceiveTimeout(t.Context(), time.Second)
		if timed, ok := errors.AsType[net.Error](err); err == nil || ok && timed.Timeout() {
			t.Errorf("%v of a subscription that has ended", err)
		}
		t.f.HangDials(false)
		for range 3 { // the handle after it may have met the same
			if _, err = ps.ReceiveTimeout(t.Context(), 10*time.Second); err == nil {
				return
			}
		}
		t.Errorf("it isn't taken up again: %v", err)
	})
}

// As with a dial of the stock pool, however the node is.
func TestASubscriptionWhoseContextHasEndedIsNotMade(t *testing.T) {
	subscribe := func(t *testing.T, rdb redis.UniversalClient, f *testkit.Fake) {
		if err := rdb.Get(t.Context(), "news").Err(); err != nil && !errors.Is(err, redis.Nil) {
			t.Fatal(err)
		}
		f.Freeze(true)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		ps := rdb.Subscribe(t.Context())
		defer ps.Close()
		began := time.Now()
		if err := ps.Subscribe(ctx, "news"); !errors.Is(err, context.Canceled) {
			t.Errorf("%v, want that its context has ended", err)
		}
		if took := time.Since(began); took > 0 {
			t.Errorf("took %v", took)
		}
		f.Freeze(false)
	}
	t.Run("client", func(t *testing.T) {
		inLab(t, driver.Config{}, func(t *lab) { subscribe(t.T, t.client(), t.f) })
	})
	t.Run("cluster", func(t *testing.T) {
		inShard(t, []string{primary}, func(s *shard) {
			subscribe(s.T, s.client(&redis.ClusterOptions{}), s.nodes[primary])
		})
	})
}

// Its socket comes on top, as on the stock pool.
func TestAFullPoolKeepsNoSubscriptionFromBeingMade(t *testing.T) {
	inBothLabs(t, one(), func(t *lab) {
		rdb := t.client()
		if err := rdb.Ping(t.Context()).Err(); err != nil { // its login is known
			t.Fatal(err)
		}
		holder := t.handle()
		holder.do("WATCH k", "+OK")
		ps := rdb.Subscribe(t.Context(), "news")
		defer ps.Close()
		if _, err := ps.ReceiveTimeout(t.Context(), time.Second); err != nil {
			t.Error(err)
		}
		holder.do("UNWATCH", "+OK")
	})
}

// What Write has accepted unsent, since the pool was full for as long as that may take, is
// sent by Read. It waits on there when the node goes away, beyond the timeout of a read.
func TestATimeoutOfSocketsEndsNoWaitOfWhatWriteHasHeldBack(t *testing.T) {
	inBothLabs(t, one(), func(t *lab) {
		rdb := t.client(func(o *redis.Options) { o.WriteTimeout, o.ReadTimeout = 100*time.Millisecond, time.Second })
		if err := rdb.Ping(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		holder := t.handle()
		holder.do("WATCH k", "+OK")
		result := t.blocked(func() error {
			_, err := rdb.TxPipelined(t.Context(), func(p redis.Pipeliner) error { return p.Incr(t.Context(), "n").Err() })
			return err
		})
		time.Sleep(200 * time.Millisecond)
		t.f.DownRefused()
		holder.close()
		time.Sleep(3 * time.Second)
		t.f.Up()
		time.Sleep(time.Second)
		if err := result(); err != nil {
			t.Error(err)
		}
		if n := t.f.Count("INCR"); n != 1 {
			t.Errorf("ran %d times", n)
		}
	})
}
