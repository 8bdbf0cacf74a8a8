package driver_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
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

// waitingCalls are calls of all kinds that wait for a connection where there is none to share.
var waitingCalls = map[string]func(ctx context.Context, rdb *redis.Client) error{
	"GET":   func(ctx context.Context, rdb *redis.Client) error { return rdb.Get(ctx, "k").Err() },
	"BLPOP": func(ctx context.Context, rdb *redis.Client) error { return rdb.BLPop(ctx, time.Second, "k").Err() },
	"40 KB": func(ctx context.Context, rdb *redis.Client) error {
		return rdb.Set(ctx, "k", make([]byte, 40_000), 0).Err()
	},
	"a pipeline": func(ctx context.Context, rdb *redis.Client) error {
		_, err := rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
			for range 100 {
				p.Set(ctx, "k", strings.Repeat("v", 300), 0)
			}
			return nil
		})
		return err
	},
	"a transaction": func(ctx context.Context, rdb *redis.Client) error {
		_, err := rdb.TxPipelined(ctx, func(p redis.Pipeliner) error { return p.Incr(ctx, "n").Err() })
		return err
	},
	"Watch": func(ctx context.Context, rdb *redis.Client) error {
		return rdb.Watch(ctx, func(tx *redis.Tx) error { return tx.Get(ctx, "k").Err() }, "k")
	},
	"Conn": func(ctx context.Context, rdb *redis.Client) error {
		cn := rdb.Conn()
		defer cn.Close()
		return cn.Get(ctx, "k").Err()
	},
	"raw": func(ctx context.Context, rdb *redis.Client) error {
		var b bytes.Buffer
		return rdb.DoRawWriteTo(ctx, &b, "GET", "k").Err()
	},
}

// takeAll takes all connections of the lab's pool, of which there are n, for so long. Its
// callers have come back when free returns, or at the end of the test.
func (l *lab) takeAll(n int, d time.Duration) (free func()) {
	rdb := l.client(func(o *redis.Options) { o.DB = 1 }) // who waits has to have one of theirs replaced, too
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			if err := rdb.BLPop(context.Background(), d, "none").Err(); !errors.Is(err, redis.Nil) {
				l.Errorf("holder: %v", err)
			}
		})
	}
	synctest.Wait()
	l.Cleanup(wg.Wait)
	return wg.Wait
}

func cancels(ctx context.Context, after time.Duration) context.Context {
	ctx, cancel := context.WithCancel(ctx)
	time.AfterFunc(after, cancel)
	return ctx
}

// As on the stock pool.
func TestACanceledCallLeavesAFullPoolAtOnce(t *testing.T) {
	for name, call := range waitingCalls {
		t.Run(name, func(t *testing.T) {
			inLab(t, driver.Config{Pool: pooler.Config{MaxOpenConns: 2, SharedConns: -1}}, func(t *lab) {
				rdb := t.client(func(o *redis.Options) { o.MaxRetries = 3 })
				if err := rdb.Ping(t.Context()).Err(); err != nil {
					t.Fatal(err)
				}
				free := t.takeAll(2, 3*time.Second)
				t.f.ResetLog()
				began := time.Now()
				err := call(cancels(t.Context(), 200*time.Millisecond), rdb)
				if took := time.Since(began); took != 200*time.Millisecond || !errors.Is(err, context.Canceled) {
					t.Errorf("after %v: %v", took, err)
				}
				t.wantRan()
				if s := t.stats(); s.Waiting != 0 {
					t.Errorf("%d still wait", s.Waiting)
				}
				free()
				if err := call(t.Context(), rdb); err != nil && !errors.Is(err, redis.Nil) {
					t.Errorf("afterwards: %v", err)
				}
			})
		})
	}
}

// What keeps its handle waits for the node where go-redis doesn't look at contexts.
func TestACanceledCallOfAConnLeavesAnOutageAtOnce(t *testing.T) {
	for name, call := range map[string]func(context.Context, *redis.Conn) error{
		"single": func(ctx context.Context, cn *redis.Conn) error { return cn.Get(ctx, "k").Err() },
		"pipeline": func(ctx context.Context, cn *redis.Conn) error {
			_, err := cn.Pipelined(ctx, func(p redis.Pipeliner) error { return p.Get(ctx, "k").Err() })
			return err
		},
		"transaction": func(ctx context.Context, cn *redis.Conn) error {
			_, err := cn.TxPipelined(ctx, func(p redis.Pipeliner) error { return p.Get(ctx, "k").Err() })
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBothLabs(t, driver.Config{}, func(t *lab) {
				rdb := t.client(func(o *redis.Options) { o.MaxRetries = 3 })
				cn := rdb.Conn()
				defer cn.Close()
				if err := call(t.Context(), cn); !errors.Is(err, redis.Nil) {
					t.Fatal(err)
				}
				t.f.DownRefused()
				var other sync.WaitGroup // who finds that the node is down
				other.Go(func() { _ = rdb.Ping(t.Context()).Err() })
				defer other.Wait()
				time.Sleep(time.Second)
				t.f.ResetLog()
				began := time.Now()
				err := call(cancels(t.Context(), 200*time.Millisecond), cn)
				if took := time.Since(began); took != 200*time.Millisecond || !errors.Is(err, context.Canceled) {
					t.Errorf("after %v: %v", took, err)
				}
				t.f.Up()
				time.Sleep(time.Second)
				if n := t.f.Count("GET"); n != 0 {
					t.Errorf("%d GETs have run", n)
				}
			})
		})
	}
}

// As on the stock pool, where it has its socket.
func TestACancellationDoesNotEndAConnThatWasUsedBefore(t *testing.T) {
	for _, leaves := range []bool{false, true} {
		t.Run(fmt.Sprint("LeaveContextTimeout ", leaves), func(t *testing.T) {
			cfg := driver.Config{LeaveContextTimeout: leaves, Pool: pooler.Config{MaxOpenConns: 1, SharedConns: -1}}
			inLab(t, cfg, func(t *lab) {
				cn := t.client().Conn()
				defer cn.Close()
				for _, want := range []int64{1, 2, 3} {
					if n, err := cn.Incr(cancels(t.Context(), 200*time.Millisecond), "n").Result(); n != want || err != nil {
						t.Errorf("%d, %v", n, err)
					}
					defer t.takeAll(1, time.Second)()
				}
			})
		})
	}
}

// A cluster's handles never wait in the dial.
func TestACanceledCallLeavesAClusterAtOnce(t *testing.T) {
	for name, call := range map[string]func(context.Context, *redis.ClusterClient) error{
		"single": func(ctx context.Context, c *redis.ClusterClient) error { return c.Incr(ctx, "k").Err() },
		"pipeline": func(ctx context.Context, c *redis.ClusterClient) error {
			_, err := c.Pipelined(ctx, func(p redis.Pipeliner) error { return p.Incr(ctx, "k").Err() })
			return err
		},
		"transaction": func(ctx context.Context, c *redis.ClusterClient) error {
			_, err := c.TxPipelined(ctx, func(p redis.Pipeliner) error { return p.Incr(ctx, "k").Err() })
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			inServers(t, 2, func(m *managed) {
				m.asCluster(0, 2)
				d := newDriver(m.T, driver.Config{Dial: m.dial})
				c := redis.NewClusterClient(d.ClusterOptions(&redis.ClusterOptions{Addrs: []string{"10.0.0.1:6379"}}))
				defer c.Close()
				if err := call(m.Context(), c); err != nil {
					m.Fatal(err)
				}
				m.server(1).DownRefused()
				var other sync.WaitGroup // who finds that the node is down
				other.Go(func() { _ = call(m.Context(), c) })
				defer other.Wait()
				time.Sleep(500 * time.Millisecond)
				began := time.Now()
				err := call(cancels(m.Context(), 200*time.Millisecond), c)
				if took := time.Since(began); took != 200*time.Millisecond || !errors.Is(err, context.Canceled) {
					m.Errorf("after %v: %v", took, err)
				}
			})
		})
	}
}

// withoutFirst returns the client of a cluster of two, by that seed, of which the first member
// has just gone, and what ends it. Another caller finds that the member is down.
func (m *managed) withoutFirst(seed string, as func(pooler.Pooler) pooler.Pooler) (c *redis.ClusterClient, end func()) {
	m.Helper()
	m.asCluster(0, 2)
	d := newDriver(m.T, driver.Config{Dial: m.dial, NewPooler: func(n pooler.Node, c pooler.Config) (pooler.Pooler, error) {
		p, err := pooler.New(n, c)
		if err != nil {
			return nil, err
		}
		return as(p), nil
	}})
	c = redis.NewClusterClient(d.ClusterOptions(&redis.ClusterOptions{Addrs: []string{seed}}))
	if err := c.Incr(m.Context(), "k").Err(); err != nil {
		m.Fatal(err)
	}
	m.server(1).DownRefused()
	m.server(1).ResetAll()
	var other sync.WaitGroup
	other.Go(func() { _ = c.Incr(m.Context(), "k").Err() })
	return c, func() {
		other.Wait()
		_ = c.Close()
	}
}

// So does a subscription, which is for this very node until another one has taken over.
func TestACanceledSubscriptionLeavesAClusterAtOnce(t *testing.T) {
	inServers(t, 2, func(m *managed) {
		c, end := m.withoutFirst("10.0.0.1:6379", asItIs)
		defer end()
		time.Sleep(500 * time.Millisecond)
		for _, after := range []time.Duration{0, 200 * time.Millisecond} {
			ps := c.Subscribe(m.Context())
			began := time.Now()
			err := ps.Subscribe(cancels(m.Context(), after), "k")
			if took := time.Since(began); took != after || !errors.Is(err, context.Canceled) {
				m.Errorf("after %v: %v, want %v", took, err, after)
			}
			_ = ps.Close()
		}
	})
}

func asItIs(p pooler.Pooler) pooler.Pooler { return p }

// relapsing is a pool that is ill anew when it is asked after it has sent somebody away, twice:
// whoever is responsible for the members asks, too.
type relapsing struct {
	pooler.Pooler
	sent  atomic.Bool
	asked atomic.Int64 // since then
}

func (p *relapsing) Await(ctx context.Context, r pooler.Request, limit time.Duration) error {
	err := p.Pooler.Await(ctx, r, limit)
	if errors.Is(err, pooler.ErrElsewhere) {
		p.sent.Store(true)
	}
	return err
}

func (p *relapsing) Illness() pooler.Illness {
	ill := p.Pooler.Illness()
	if p.sent.Load() && p.asked.Add(1) <= 2 {
		ill.Since = time.Now().Add(time.Second)
	}
	return ill
}

// Nor does it wait on for a node that another one has taken over from, also where it looks for
// that one just when the node is ill anew.
func TestASubscriptionThatWaitsForAMemberGoesToItsHeirAtOnce(t *testing.T) {
	t.Run("ill", func(t *testing.T) { goesToTheHeir(t, asItIs) })
	t.Run("ill anew", func(t *testing.T) {
		goesToTheHeir(t, func(p pooler.Pooler) pooler.Pooler { return &relapsing{Pooler: p} })
	})
}

func goesToTheHeir(t *testing.T, as func(pooler.Pooler) pooler.Pooler) {
	inServers(t, 2, func(m *managed) {
		m.Cleanup(func() { time.Sleep(time.Minute) }) // go-redis rests from its reloads
		c, end := m.withoutFirst("10.0.0.2:6379", as)
		defer end()
		time.Sleep(200 * time.Millisecond)
		time.AfterFunc(300*time.Millisecond, func() {
			m.server(2).Handle("CLUSTER", func(*testkit.FakeConn, []string) []byte {
				return testkit.ReplyArray(testkit.ReplyArray(testkit.ReplyInt(0), testkit.ReplyInt(16383),
					testkit.ReplyArray(testkit.ReplyBulk("10.0.0.2"), testkit.ReplyInt(6379), testkit.ReplyBulk("heir"))))
			})
		})
		ps := c.Subscribe(m.Context())
		defer ps.Close()
		began := time.Now()
		if err := ps.Subscribe(m.Context(), "k"); err != nil {
			m.Error(err)
		}
		if took := time.Since(began); took < 300*time.Millisecond || took > 600*time.Millisecond {
			m.Errorf("it took %v; the heir was named after 300 ms", took)
		}
		if _, err := ps.ReceiveTimeout(m.Context(), time.Second); err != nil {
			m.Error(err)
		}
		if n := m.server(2).Publish("k", "message"); n != 1 {
			m.Errorf("%d subscriptions at the heir", n)
		}
	})
}

// Of whatever kind a command is, and however its reply is read: the push that asks for the
// context is taken out before.
func TestWhatHasWaitedForAConnectionIsAnsweredAsUsual(t *testing.T) {
	inLab(t, driver.Config{Pool: pooler.Config{MaxOpenConns: 2, SharedConns: -1}}, func(t *lab) {
		rdb := t.client()
		if err := rdb.Set(t.Context(), "k", "value", 0).Err(); err != nil {
			t.Fatal(err)
		}
		for name, get := range map[string]func() (string, error){
			"Get": func() (string, error) { return rdb.Get(t.Context(), "k").Result() },
			"Do":  func() (string, error) { return rdb.Do(t.Context(), "GET", "k").Text() },
			"DoRaw": func() (string, error) {
				raw, err := rdb.DoRaw(t.Context(), "GET", "k").Result()
				return strings.TrimSuffix(strings.TrimPrefix(string(raw), "$5\r\n"), "\r\n"), err
			},
			"DoRawWriteTo": func() (string, error) {
				var b strings.Builder
				err := rdb.DoRawWriteTo(t.Context(), &b, "GET", "k").Err()
				return strings.TrimSuffix(strings.TrimPrefix(b.String(), "$5\r\n"), "\r\n"), err
			},
			"Pipelined": func() (string, error) {
				cmds, err := rdb.Pipelined(t.Context(), func(p redis.Pipeliner) error {
					p.Ping(t.Context())
					return p.Get(t.Context(), "k").Err()
				})
				return cmds[1].(*redis.StringCmd).Val(), err
			},
			"TxPipelined": func() (string, error) {
				cmds, err := rdb.TxPipelined(t.Context(), func(p redis.Pipeliner) error { return p.Get(t.Context(), "k").Err() })
				return cmds[0].(*redis.StringCmd).Val(), err
			},
			"Conn": func() (string, error) {
				cn := rdb.Conn()
				defer cn.Close()
				return cn.Get(t.Context(), "k").Result()
			},
			"Watch": func() (v string, err error) {
				err = rdb.Watch(t.Context(), func(tx *redis.Tx) error {
					v, err = tx.Get(t.Context(), "k").Result()
					return err
				}, "k")
				return v, err
			},
			"AutoPipeline": func() (string, error) {
				p, err := rdb.AutoPipeline()
				if err != nil {
					return "", err
				}
				defer p.Close()
				return p.Get(t.Context(), "k").Result()
			},
		} {
			t.takeAll(2, time.Second)
			before := t.stats().WaitCount
			if v, err := get(); v != "value" || err != nil {
				t.Errorf("%s: %q, %v", name, v, err)
			}
			if t.stats().WaitCount == before {
				t.Errorf("%s hasn't waited", name)
			}
		}
	})
}

// A wait in Write never was.
func TestTheWaitForAConnectionIsNoTimeOfTheReplys(t *testing.T) {
	inLab(t, driver.Config{Pool: pooler.Config{MaxOpenConns: 1, SharedConns: -1}}, func(t *lab) {
		rdb := t.client(func(o *redis.Options) { o.ReadTimeout = 3 * time.Second })
		if err := rdb.Ping(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		t.takeAll(1, 2*time.Second)
		t.f.Handle("INCR", func(*testkit.FakeConn, []string) []byte {
			time.Sleep(2 * time.Second)
			return []byte(":1\r\n")
		})
		if err := rdb.Incr(t.Context(), "n").Err(); err != nil {
			t.Error(err)
		}
	})
}

// Nor does it move the deadline of the caller's context, where replies go by that.
func TestTheWaitForAConnectionMovesNoDeadlineOfTheCallers(t *testing.T) {
	for leaves, want := range map[bool]time.Duration{false: 4 * time.Second, true: 5 * time.Second} {
		t.Run(fmt.Sprint("LeaveContextTimeout ", leaves), func(t *testing.T) {
			cfg := driver.Config{LeaveContextTimeout: leaves, Pool: pooler.Config{MaxOpenConns: 1, SharedConns: -1}}
			inLab(t, cfg, func(t *lab) {
				rdb := t.client(func(o *redis.Options) { o.ReadTimeout, o.MaxRetries = 3*time.Second, -1 })
				if err := rdb.Ping(t.Context()).Err(); err != nil {
					t.Fatal(err)
				}
				free := t.takeAll(1, 2*time.Second)
				t.f.Handle("INCR", func(*testkit.FakeConn, []string) []byte {
					time.Sleep(20 * time.Second)
					return []byte(":1\r\n")
				})
				ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
				defer cancel()
				began := time.Now()
				err := rdb.Incr(ctx, "n").Err()
				if took := time.Since(began); took != want || !errors.Is(err, pooler.ErrUnknownOutcome) {
					t.Errorf("after %v: %v", took, err)
				}
				free()
			})
		})
	}
}

// What must not fail in Write waits in Read once more, for the same caller.
func TestACanceledTransactionLeavesItsSecondWaitAtOnce(t *testing.T) {
	inLab(t, driver.Config{Pool: pooler.Config{MaxOpenConns: 1, SharedConns: -1}}, func(t *lab) {
		rdb := t.client(func(o *redis.Options) { o.WriteTimeout, o.ReadTimeout = 2*time.Second, 3*time.Second })
		if err := rdb.Ping(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		free := t.takeAll(1, 10*time.Second)
		t.f.ResetLog()
		ctx := cancels(t.Context(), 3*time.Second)
		began := time.Now()
		_, err := rdb.TxPipelined(ctx, func(p redis.Pipeliner) error { return p.Incr(ctx, "n").Err() })
		if took := time.Since(began); took != 3*time.Second || !errors.Is(err, context.Canceled) {
			t.Errorf("after %v: %v", took, err)
		}
		t.wantRan()
		free()
	})
}

// What has gone out may have run.
func TestACancellationEndsNoCallThatIsBeingSent(t *testing.T) {
	inLab(t, driver.Config{Pool: pooler.Config{MaxOpenConns: 1, SharedConns: -1}}, func(t *lab) {
		rdb := t.client()
		if err := rdb.Ping(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		var frozen sync.WaitGroup
		defer frozen.Wait()
		t.f.Handle("INCR", func(*testkit.FakeConn, []string) []byte {
			t.f.Freeze(true) // with what follows on its way
			frozen.Go(func() {
				time.Sleep(time.Second)
				t.f.Freeze(false)
			})
			return []byte(":1\r\n")
		})
		for i := range 10 { // in some all of it is in the server's hands at once
			t.takeAll(1, time.Second)
			ctx := cancels(t.Context(), 1500*time.Millisecond)
			_, err := rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
				p.Incr(ctx, "n")
				return p.Set(ctx, "k", make([]byte, 40_000), 0).Err()
			})
			if n := t.f.Count("SET"); err != nil || n != i+1 {
				t.Errorf("%v, %d SETs", err, n)
			}
			frozen.Wait()
		}
	}, testkit.WithBuffer(1_000))
}

// First come, first served, though Read is where they wait.
func TestCallersOfAFullPoolAreServedInTheirOrder(t *testing.T) {
	inLab(t, driver.Config{Pool: pooler.Config{MaxOpenConns: 1, SharedConns: -1}}, func(t *lab) {
		rdb := t.client()
		if err := rdb.Ping(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		free := t.takeAll(1, time.Second)
		var want, ran []string
		var wg sync.WaitGroup
		for i := range 20 {
			want = append(want, fmt.Sprint(i))
			wg.Go(func() {
				if err := rdb.Set(cancels(t.Context(), time.Minute), "k", i, 0).Err(); err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
		}
		free()
		wg.Wait()
		for _, line := range t.ran() {
			if _, i, ok := strings.Cut(line, " SET k "); ok {
				ran = append(ran, i)
			}
		}
		if !slices.Equal(ran, want) {
			t.Errorf("ran in the order %v", ran)
		}
	})
}

// A cancellation that comes as a connection does ends the call or lets it run, not both.
func TestACancellationAtTheMomentOfAConnection(t *testing.T) {
	inLab(t, driver.Config{Pool: pooler.Config{MaxOpenConns: 2, SharedConns: -1}}, func(t *lab) {
		rdb := t.client()
		if err := rdb.Ping(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		acknowledged := 0
		for range 100 {
			free := t.takeAll(2, time.Second)
			err := rdb.Incr(cancels(t.Context(), time.Second), "n").Err()
			switch {
			case err == nil:
				acknowledged++
			case !errors.Is(err, context.Canceled):
				t.Error(err)
			}
			free()
		}
		n, err := rdb.Get(t.Context(), "n").Int()
		if err != nil && !errors.Is(err, redis.Nil) || n != acknowledged {
			t.Errorf("%d, %v, acknowledged %d", n, err, acknowledged)
		}
	})
}
