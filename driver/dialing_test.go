package driver_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"runtime"
	"slices"
	"sync"
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

// outages are the ways in which a node may be away when a call comes.
var outages = map[string]func(t *lab, rdb *redis.Client){
	"never answered, refuses": func(t *lab, _ *redis.Client) { t.f.DownRefused() },
	"never answered, silent":  func(t *lab, _ *redis.Client) { t.f.HangDials(true) },
	"was well, refuses":       func(t *lab, rdb *redis.Client) { t.lose(rdb) },
}

// lose has the client's node go away after it was well.
func (l *lab) lose(rdb *redis.Client) {
	l.Helper()
	if err := rdb.Ping(l.Context()).Err(); err != nil {
		l.Fatal(err)
	}
	l.goAway()
}

// vanish has the client's node go away after it was well, and nobody know it yet.
func (l *lab) vanish(rdb *redis.Client) {
	l.Helper()
	if err := rdb.Ping(l.Context()).Err(); err != nil {
		l.Fatal(err)
	}
	l.f.DownRefused()
}

// goAway has the node refuse everybody, and the pool know it.
func (l *lab) goAway() {
	l.Helper()
	// One finds the connection dead, the next one that there is no other.
	handles := []*virtual{l.handle(), l.handle()}
	l.f.DownRefused()
	l.f.ResetAll()
	for _, v := range handles {
		time.AfterFunc(50*time.Millisecond, func() { _ = v.Close() })
		_, _ = v.Write([]byte(frames("GET k")))
	}
	time.Sleep(50 * time.Millisecond)
	if s := l.stats(); s.State == pooler.StateUp || s.OpenConnections != 0 {
		l.Fatalf("the outage wasn't noticed: %v, %d connections", s.State, s.OpenConnections)
	}
}

// calls are the ways in which go-redis comes to a connection.
var calls = map[string]func(ctx context.Context, rdb *redis.Client) error{
	"Get": func(ctx context.Context, rdb *redis.Client) error {
		if err := rdb.Get(ctx, "k").Err(); !errors.Is(err, redis.Nil) {
			return err
		}
		return nil
	},
	"Pipelined": func(ctx context.Context, rdb *redis.Client) error {
		_, err := rdb.Pipelined(ctx, func(p redis.Pipeliner) error { p.Incr(ctx, "n"); return nil })
		return err
	},
	"TxPipelined": func(ctx context.Context, rdb *redis.Client) error {
		_, err := rdb.TxPipelined(ctx, func(p redis.Pipeliner) error { p.Incr(ctx, "n"); return nil })
		return err
	},
}

// inEveryOutage runs the test for each kind of call in each kind of outage.
func inEveryOutage(t *testing.T, cfg driver.Config, run func(t *lab, rdb *redis.Client, call func(context.Context, *redis.Client) error), change ...func(*redis.Options)) {
	inOutages(t, outages, cfg, run, change...)
}

// inOutages is inEveryOutage, of those.
func inOutages(t *testing.T, outages map[string]func(*lab, *redis.Client), cfg driver.Config, run func(t *lab, rdb *redis.Client, call func(context.Context, *redis.Client) error), change ...func(*redis.Options)) {
	for outage, begin := range outages {
		for name, call := range calls {
			t.Run(outage+", "+name, func(t *testing.T) {
				inLab(t, cfg, func(t *lab) {
					rdb := t.client(change...)
					begin(t, rdb)
					run(t, rdb, call)
				})
			})
		}
	}
}

// Whatever ContextTimeoutEnabled is: go-redis lets a caller go that waits for a dial.
func TestAContextEndsTheWaitForANodeThatIsAway(t *testing.T) {
	if !driver.Vetoes {
		t.Skip("callers wait in Write, where only deadlines are seen")
	}
	for name, end := range map[string]func(context.Context) (context.Context, context.CancelFunc){
		"deadline": func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, 200*time.Millisecond)
		},
		"cancellation": func(ctx context.Context) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(ctx)
			time.AfterFunc(200*time.Millisecond, cancel)
			return ctx, cancel
		},
	} {
		t.Run(name, func(t *testing.T) {
			inEveryOutage(t, driver.Config{LeaveContextTimeout: true}, func(t *lab, rdb *redis.Client, call func(context.Context, *redis.Client) error) {
				ctx, cancel := end(t.Context())
				defer cancel()
				began := time.Now()
				err := call(ctx, rdb)
				if took := time.Since(began); took != 200*time.Millisecond || !errors.Is(err, context.Cause(ctx)) {
					t.Errorf("%v after %v, want %v after 200ms", err, took, context.Cause(ctx))
				}
				t.f.HangDials(false)
				t.f.Up()
			})
		})
	}
}

// Where a wait in Write can't see a context it sees its deadline.
func TestADeadlineEndsTheWaitInAFullPool(t *testing.T) {
	inBothLabs(t, one(), func(t *lab) {
		rdb := t.client()
		holder := t.handle()
		holder.do("WATCH k", "+OK")
		for name, call := range calls {
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			began := time.Now()
			err := call(ctx, rdb)
			cancel()
			if took := time.Since(began); took > 300*time.Millisecond || err == nil {
				t.Errorf("%s: %v after %v", name, err, took)
			}
		}
	})
}

func TestTheLongestCallInAnEndlessOutageIsFailFastAfter(t *testing.T) {
	const failFast = time.Second
	// A call waits for a probe of its own where that is answered at once, a pipeline,
	// which go-redis tries on handles of two pools, for two.
	probes := 2 * pooler.Config{}.Limits().BackoffMin
	ways := maps.Clone(outages)
	// Nobody knows of it before a dial is given up, which may have more time than callers.
	ways["was well, silent"] = func(t *lab, rdb *redis.Client) {
		if err := rdb.Ping(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		t.f.HangDials(true)
		t.f.ResetAll()
	}
	for _, dialTimeout := range []time.Duration{100 * time.Millisecond, time.Second, 5 * time.Second, time.Minute} {
		t.Run(fmt.Sprint("DialTimeout ", dialTimeout), func(t *testing.T) {
			cfg := driver.Config{Pool: pooler.Config{FailFastAfter: failFast}}
			inOutages(t, ways, cfg, func(t *lab, rdb *redis.Client, call func(context.Context, *redis.Client) error) {
				for i := range 4 {
					began := time.Now()
					err := call(t.Context(), rdb)
					took := time.Since(began)
					if took > failFast+failFast/5 || i > 0 && took > probes {
						t.Errorf("call %d took %v: %v", i, took, err)
					}
					t.wantErr(err, pooler.ErrNodeDown)
				}
				t.f.HangDials(false)
				t.f.Up()
			}, func(o *redis.Options) { o.DialTimeout, o.MaxRetries = dialTimeout, 3 })
		})
	}
}

func TestAnOutageOfSecondsFailsNoCall(t *testing.T) {
	inEveryOutage(t, driver.Config{}, func(t *lab, rdb *redis.Client, call func(context.Context, *redis.Client) error) {
		const outage = 1500 * time.Millisecond
		began := time.Now()
		time.AfterFunc(outage, func() { t.f.HangDials(false); t.f.Up() })
		if err := call(t.Context(), rdb); err != nil {
			t.Errorf("%v after %v", err, time.Since(began))
		}
	})
}

// Each that waits has its turn in the order of arrival, and nobody who comes
// later goes before. The order of their requests is what the server sees.
func TestThoseWhoAwaitANodeAreServedInTheOrderOfArrival(t *testing.T) {
	const callers = 40
	inLab(t, driver.Config{Pool: pooler.Config{SharedConns: 1}}, func(t *lab) {
		rdb := t.client()
		t.lose(rdb)
		done := make(chan error, callers)
		for i := range callers {
			go func() { done <- rdb.Set(context.Background(), fmt.Sprint("key-", i), "v", 0).Err() }()
			time.Sleep(time.Millisecond)
		}
		if s := t.stats(); s.Awaiting+s.Waiting != callers || s.Waiting != 0 && driver.Vetoes {
			t.Errorf("%d await the node, %d wait for a connection; want %d and 0", s.Awaiting, s.Waiting, callers)
		}
		if n := t.d.Nodes()[0].Handles; n < callers {
			t.Errorf("%d handles: a dial that waits is one", n)
		}
		before := t.stats().Admitted
		t.f.Up()
		for range callers {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		if s := t.stats(); s.Awaiting != 0 || s.Admitted-before > callers+2 {
			t.Errorf("%d await, %d requests for %d calls", s.Awaiting, s.Admitted-before, callers)
		}
		if n := t.stats().Lanes; n > 1 {
			t.Errorf("%d shared connections", n)
		}
	})
}

// All that wait for a node have their connections from the prober's and from those that
// sharing opens; not one each.
func TestThoseWhoAwaitANodeShareWhatIsDialedWhenItIsBack(t *testing.T) {
	const callers = 200
	inLab(t, driver.Config{}, func(t *lab) {
		rdb := t.client()
		t.lose(rdb)
		done := make(chan error, callers)
		for i := range callers {
			go func() { done <- rdb.Set(t.Context(), fmt.Sprint("key-", i), "v", 0).Err() }()
		}
		synctest.Wait()
		before := t.f.Accepted()
		t.f.Up()
		for range callers {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		time.Sleep(time.Second)
		if n := t.f.Accepted() - before; n > 8 {
			t.Errorf("%d sockets for %d callers, want at most the 8 that may be shared", n, callers)
		}
	})
}

// go-redis closes a handle that it was brought too late, or keeps it for others. Callers
// beyond its handles wait for a handle, and leave it as they do with the stock pool.
func TestDialsWhoseCallersHaveLeftAreBoundedAndEnd(t *testing.T) {
	if !driver.Vetoes {
		t.Skip("callers wait in Write")
	}
	const handles, callers = 100, 250
	inLab(t, driver.Config{Pool: pooler.Config{FailFastAfter: 2 * time.Second}}, func(t *lab) {
		rdb := t.few(handles, handles)
		t.f.DownRefused()
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		var late atomic.Int64
		for range callers {
			go func() {
				if errors.Is(rdb.Get(ctx, "k").Err(), context.DeadlineExceeded) {
					late.Add(1)
				}
			}()
		}
		synctest.Wait()
		time.Sleep(200 * time.Millisecond)
		if n := late.Load(); n != callers {
			t.Errorf("%d of %d callers left in time", n, callers)
		}
		if n := t.stats().Awaiting; n != handles {
			t.Errorf("%d await the node, want those %d whose callers have left", n, handles)
		}
		time.Sleep(2 * time.Second)
		if s := t.stats(); s.Awaiting != 0 {
			t.Errorf("%d still await it after FailFastAfter", s.Awaiting)
		}
		t.f.Up()
		time.Sleep(time.Second)
		if err := rdb.Set(t.Context(), "k", "v", 0).Err(); err != nil {
			t.Errorf("when it is back: %v", err)
		}
	})
}

// few returns a client with so many handles, of which it dials so many at a time.
func (l *lab) few(handles, dials int) *redis.Client {
	o := l.d.Options(&redis.Options{Addr: labAddr, MaxRetries: -1, PipelinePoolSize: -1})
	o.PoolSize, o.MaxConcurrentDials = handles, dials
	rdb := redis.NewClient(o)
	l.Cleanup(func() { _ = rdb.Close() })
	return rdb
}

// The handle that a caller has left goes to one that still waits.
func TestAHandleWhoseCallerHasLeftServesAnother(t *testing.T) {
	if !driver.Vetoes {
		t.Skip("callers wait in Write")
	}
	inLab(t, driver.Config{}, func(t *lab) {
		rdb := t.few(2, 1)
		t.f.DownRefused()
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		gone, stays := make(chan error, 1), make(chan error, 1)
		go func() { gone <- rdb.Set(ctx, "gone", "v", 0).Err() }()
		time.Sleep(time.Millisecond)
		go func() { stays <- rdb.Set(t.Context(), "stays", "v", 0).Err() }()
		time.Sleep(time.Second)
		t.f.Up()
		t.wantErr(<-gone, context.DeadlineExceeded)
		if err := <-stays; err != nil {
			t.Error(err)
		}
	})
}

func TestClosingTheDriverEndsTheDialsThatWait(t *testing.T) {
	inEveryOutage(t, driver.Config{}, func(t *lab, rdb *redis.Client, call func(context.Context, *redis.Client) error) {
		done := make(chan error, 1)
		began := time.Now()
		go func() { done <- call(context.Background(), rdb) }()
		time.Sleep(100 * time.Millisecond)
		if err := t.d.Close(); err != nil {
			t.Error(err)
		}
		err := <-done
		t.wantErr(err, redis.ErrClosed)
		if took := time.Since(began); took > 200*time.Millisecond {
			t.Errorf("took %v", took)
		}
	})
}

// go-redis holds the lock of its PubSub while it dials for it.
func TestASubscriptionWaitsASecondAtMostAndIsNotLost(t *testing.T) {
	unnoticed := "was well, and nobody knows"
	ways := maps.Clone(outages)
	ways[unnoticed] = func(t *lab, rdb *redis.Client) { t.vanish(rdb) }
	for outage, begin := range ways {
		t.Run(outage, func(t *testing.T) {
			inLab(t, driver.Config{}, func(t *lab) {
				rdb := t.client()
				begin(t, rdb)
				began := time.Now()
				ps := rdb.Subscribe(t.Context(), "news")
				defer ps.Close()
				if took := time.Since(began); took > time.Second {
					t.Errorf("Subscribe took %v", took)
				}
				if err := ps.PSubscribe(t.Context(), "n*"); err == nil && driver.Vetoes && outage != unnoticed {
					t.Error("the second one has worked")
				}
				ch := ps.Channel(redis.WithChannelHealthCheckInterval(0))
				time.Sleep(3 * time.Second)
				t.f.HangDials(false)
				t.f.Up()
				time.Sleep(3 * time.Second) // go-redis's pauses, and a dial that hung
				if n := t.f.Publish("news", "hello"); n != 2 {
					t.Errorf("%d subscriptions, want both", n)
				}
				for range 2 {
					select {
					case m := <-ch:
						if m.Payload != "hello" {
							t.Errorf("message %v", m)
						}
					case <-time.After(time.Second):
						t.Error("no message")
					}
				}
			})
		})
	}
}

// Who closes a PubSub, or asks it for something, waits for its lock, which go-redis holds
// while it dials for what was subscribed before. With the stock pool dials are refused at once.
func TestASubscriptionThatDialsAgainHoldsUpNobodyForLong(t *testing.T) {
	inLab(t, driver.Config{}, func(t *lab) {
		var mu sync.Mutex
		var dials []time.Duration
		o := *t.client().Options()
		dial := o.Dialer
		o.Dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
			began := time.Now()
			defer func() {
				mu.Lock()
				dials = append(dials, time.Since(began))
				mu.Unlock()
			}()
			return dial(ctx, network, addr)
		}
		rdb := redis.NewClient(&o)
		defer rdb.Close()
		ps := rdb.Subscribe(t.Context(), "news")
		if _, err := ps.Receive(t.Context()); err != nil {
			t.Fatal(err)
		}
		ps.Channel(redis.WithChannelHealthCheckInterval(0))
		t.goAway()
		mu.Lock()
		dials = nil
		mu.Unlock()
		time.Sleep(3 * time.Second)
		t.f.Up()
		time.Sleep(time.Second)
		if err := ps.Close(); err != nil { // what waits for a mutex stops the clock
			t.Error(err)
		}
		mu.Lock()
		defer mu.Unlock()
		if len(dials) < 10 || slices.Max(dials) > 100*time.Millisecond {
			t.Errorf("dials that take %v, for a lock that others wait for", dials)
		}
	})
}

func TestASubscriptionsOwnContextEndsItsWait(t *testing.T) {
	inLab(t, driver.Config{}, func(t *lab) {
		rdb := t.client()
		t.f.DownRefused()
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		began := time.Now()
		ps := rdb.Subscribe(t.Context())
		t.wantErr(ps.Subscribe(ctx, "news"), context.DeadlineExceeded)
		if took := time.Since(began); took != 100*time.Millisecond {
			t.Errorf("took %v", took)
		}
		_ = ps.Close()
	})
}

// go-redis's pool remembers failed dials; a subscription's must not be among them.
func TestTheFailedDialOfASubscriptionIsNobodyElses(t *testing.T) {
	inLab(t, driver.Config{}, func(t *lab) {
		rdb := t.few(1, 1)
		t.f.DownRefused()
		for range 3 {
			ps := rdb.Subscribe(t.Context(), "news")
			_ = ps.Close()
		}
		t.f.Up()
		time.Sleep(time.Second)
		if err := rdb.Set(t.Context(), "k", "v", 0).Err(); err != nil {
			t.Error(err)
		}
	})
}

func TestWhileCallsFailFastTheCredentialsAreAskedForOnceASecond(t *testing.T) {
	inLab(t, driver.Config{Pool: pooler.Config{FailFastAfter: 100 * time.Millisecond}}, func(t *lab) {
		asked := 0
		rdb := t.client(func(o *redis.Options) {
			o.CredentialsProviderContext = func(context.Context) (string, string, error) {
				asked++
				return "", "", nil
			}
		})
		t.f.DownRefused()
		_ = rdb.Ping(t.Context()).Err()
		asked = 0
		for began := time.Now(); time.Since(began) < 2*time.Second; time.Sleep(2 * time.Millisecond) {
			t.wantErr(rdb.Ping(t.Context()).Err(), pooler.ErrNodeDown)
		}
		if asked > 3 {
			t.Errorf("asked %d times in 2 s", asked)
		}
		t.f.Up()
		time.Sleep(2 * time.Second)
		before := asked
		if err := rdb.Ping(t.Context()).Err(); err != nil || asked != before+1 {
			t.Errorf("%v; asked %d times for a live handshake", err, asked-before)
		}
	})
}

// go-redis makes a connection, buffers and all, of every handle. It keeps those of a client
// that the server has let in before.
func TestFailingFastCostsLittleMemory(t *testing.T) {
	for name, call := range calls {
		for _, letIn := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/let in %t", name, letIn), func(t *testing.T) {
				inLab(t, driver.Config{Pool: pooler.Config{FailFastAfter: 100 * time.Millisecond}}, func(t *lab) {
					rdb := t.client()
					if letIn {
						_ = call(t.Context(), rdb)
					}
					t.f.DownRefused()
					_ = call(t.Context(), rdb)
					const n = 200
					var before, after runtime.MemStats
					runtime.ReadMemStats(&before)
					for range n {
						t.wantErr(call(t.Context(), rdb), pooler.ErrNodeDown)
					}
					runtime.ReadMemStats(&after)
					atMost := uint64(16 << 10)
					switch {
					case letIn:
					case name == "Get":
						atMost = 20 << 10
					default: // go-redis tries a pipeline on handles of two pools, one of them with larger buffers
						atMost = 160 << 10
					}
					if per := (after.TotalAlloc - before.TotalAlloc) / n; per > atMost {
						t.Errorf("%d bytes a call, want %d at most", per, atMost)
					}
				})
			})
		}
	}
}

func TestWhileCallsFailFastTheirHandlesAreKept(t *testing.T) {
	for name, call := range calls {
		t.Run(name, func(t *testing.T) {
			inLab(t, driver.Config{Pool: pooler.Config{FailFastAfter: 100 * time.Millisecond}}, func(t *lab) {
				rdb := t.client()
				own := rdb.Conn()
				defer own.Close()
				if err := errors.Join(call(t.Context(), rdb), own.Ping(t.Context()).Err()); err != nil {
					t.Fatal(err)
				}
				t.f.DownRefused()
				t.wantErr(call(t.Context(), rdb), pooler.ErrNodeDown)
				t.wantErr(call(t.Context(), rdb), pooler.ErrNodeDown)
				before := rdb.PoolStats()
				for range 100 {
					err := call(t.Context(), rdb)
					t.wantErr(err, pooler.ErrNodeDown)
					if word, ok := errors.AsType[redis.Error](err); ok {
						t.Fatalf("the caller is told a server's word: %v", word)
					}
					t.wantErr(own.Ping(t.Context()).Err(), pooler.ErrNodeDown)
				}
				after := rdb.PoolStats()
				if d := after.Misses - before.Misses; d > 0 {
					t.Errorf("%d handles were dialed for 100 calls", d)
				}
				t.f.Up()
				if err := errors.Join(call(t.Context(), rdb), own.Ping(t.Context()).Err()); err != nil {
					t.Errorf("the server is back: %v", err)
				}
			})
		})
	}
}

// A handle whose session didn't come about in an outage isn't one that is kept: it would tell
// that the node is down for ever.
func TestWhatASessionCommandIsToldInAnOutageIsNotToldAfterIt(t *testing.T) {
	rename := func(ctx context.Context, c interface {
		Do(ctx context.Context, args ...any) *redis.Cmd
	}, name string,
	) error {
		return c.Do(ctx, "CLIENT", "SETNAME", name).Err()
	}
	for name, outage := range map[string]func(t *lab, rdb *redis.Client){
		"of the client": func(t *lab, rdb *redis.Client) {
			t.wantErr(rdb.Ping(t.Context()).Err(), pooler.ErrNodeDown) // on a handle that is kept
			t.wantErr(rename(t.Context(), rdb, "new"), pooler.ErrNodeDown)
		},
		"of a Conn": func(t *lab, rdb *redis.Client) {
			own := rdb.Conn()
			defer own.Close()
			t.wantErr(own.Ping(t.Context()).Err(), pooler.ErrNodeDown)
			t.wantErr(rename(t.Context(), own, "new"), pooler.ErrNodeDown)
		},
		"of an OnConnect that looks at no error": func(t *lab, rdb *redis.Client) {
			for range 3 {
				t.wantErr(rdb.Ping(t.Context()).Err(), pooler.ErrNodeDown)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBothLabs(t, driver.Config{Pool: pooler.Config{FailFastAfter: 100 * time.Millisecond}}, func(t *lab) {
				connected := 0
				rdb := t.client(func(o *redis.Options) {
					o.OnConnect = func(ctx context.Context, cn *redis.Conn) error {
						connected++ // so that it isn't remembered
						_ = rename(ctx, cn, fmt.Sprint("name-", connected))
						return nil
					}
				})
				if err := rdb.Ping(t.Context()).Err(); err != nil {
					t.Fatal(err)
				}
				t.f.DownRefused()
				t.wantErr(rdb.Ping(t.Context()).Err(), pooler.ErrNodeDown)
				outage(t, rdb)
				t.f.Up()
				time.Sleep(5 * time.Second)
				for range 3 {
					if err := rdb.Ping(t.Context()).Err(); err != nil {
						t.Errorf("the server is back: %v", err)
					}
				}
			})
		})
	}
}

// As the socket is, with a server. What came behind it was told of the outage.
func TestAConnIsAtItsEndAfterQUITInAnOutage(t *testing.T) {
	inBothLabs(t, driver.Config{Pool: pooler.Config{FailFastAfter: 100 * time.Millisecond}}, func(t *lab) {
		rdb := t.client()
		own := rdb.Conn()
		defer own.Close()
		if err := own.Ping(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		t.f.DownRefused()
		t.wantErr(rdb.Ping(t.Context()).Err(), pooler.ErrNodeDown)
		_, err := own.Pipelined(t.Context(), func(p redis.Pipeliner) error {
			p.Do(t.Context(), "QUIT")
			return p.Get(t.Context(), "k").Err()
		})
		t.wantErr(err, pooler.ErrNodeDown)
		t.f.Up()
		if err := rdb.Ping(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		if err := own.Ping(t.Context()).Err(); err == nil {
			t.Error("it goes on")
		}
	})
}

// go-redis keeps what it has dialed for a caller who then had left, and looks at it before
// it is used: what the caller was to be told is nobody else's.
func TestAHandleOfAnEarlierOutageWaitsInTheNext(t *testing.T) {
	inLab(t, driver.Config{Pool: pooler.Config{FailFastAfter: time.Second}}, func(t *lab) {
		rdb := t.client(func(o *redis.Options) { o.Protocol = 2 })
		if err := rdb.Ping(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		t.f.DownRefused()
		t.wantErr(rdb.Ping(t.Context()).Err(), pooler.ErrNodeDown)
		unused := t.handleOf(rdb.Options())
		t.f.Up()
		if err := rdb.Ping(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		if _, err := unused.Conn.(syscall.Conn).SyscallConn(); err != nil {
			t.Fatal(err)
		}
		t.f.DownRefused()
		go func() {
			time.Sleep(500 * time.Millisecond)
			t.f.Up()
		}()
		go func() { _ = rdb.Ping(t.Context()).Err() }() // by which the outage is known
		time.Sleep(100 * time.Millisecond)
		unused.do("SET k v", "+OK")
	})
}

// With client-side caching go-redis looks through SyscallConn for invalidations.
func TestHandlesOfACachingClientHaveNoSocketToShow(t *testing.T) {
	inLab(t, driver.Config{}, func(t *lab) {
		plain := t.handle()
		if _, ok := plain.Conn.(syscall.Conn); !ok {
			t.Error("go-redis can't ask a handle whether it may be used again")
		}
		caching := t.handle(func(o *redis.Options) { o.Protocol, o.ClientSideCacheConfig = 3, &redis.ClientSideCacheConfig{} })
		if _, ok := caching.Conn.(syscall.Conn); ok {
			t.Error("a handle of a client with a cache shows a socket")
		}
		for _, v := range []*virtual{plain, caching} {
			if _, ok := v.Conn.(interface{ IsVirtual() }); !ok {
				t.Errorf("%T isn't known as virtual", v.Conn)
			}
		}
	})
}

// What go-redis peeks for through SyscallConn isn't there, and isn't an error.
func TestAHandlesSocketShowsNothing(t *testing.T) {
	inLab(t, driver.Config{}, func(t *lab) {
		raw, err := t.handle().Conn.(syscall.Conn).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		seen := false
		if err := errors.Join(raw.Read(func(uintptr) bool { seen = true; return true }),
			raw.Write(func(uintptr) bool { seen = true; return true }), raw.Control(func(uintptr) { seen = true })); err != nil || seen {
			t.Errorf("%v, called %t", err, seen)
		}
	})
}

// A request on it would be told that the connection is gone; a new handle has one.
func TestAHandleWhoseKeptConnectionWasTakenIsRefused(t *testing.T) {
	if !driver.Vetoes {
		t.Skip("handles aren't refused in this build")
	}
	inBothLabs(t, one(), func(t *lab) {
		t.answers(":7\r\n", "CLIENT ID")
		keeps := t.handle()
		keeps.do("CLIENT ID", ":7")
		ask := func() error { _, err := keeps.Conn.(syscall.Conn).SyscallConn(); return err }
		if err := ask(); err != nil {
			t.Errorf("while it is kept: %v", err)
		}
		t.handle().do("GET k", "$-1") // in its room
		if err := ask(); err == nil {
			t.Error("go-redis would use it again")
		}
	})
}

// A server that accepts nobody more serves on the connections that there are.
func TestWhileConnectionsAreLeftThatServeNobodyAwaitsTheNode(t *testing.T) {
	f := testkit.NewFake()
	defer f.Close()
	var full atomic.Bool
	cfg := driver.Config{Pool: pooler.Config{FailFastAfter: time.Second}, Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
		if full.Load() {
			return nil, errors.New("no more connections")
		}
		return f.Dial(ctx, network, addr)
	}}
	inLab(t, cfg, func(t *lab) {
		rdb := t.client()
		if err := rdb.Set(t.Context(), "k", "v", 0).Err(); err != nil {
			t.Fatal(err)
		}
		full.Store(true)
		for range 100 {
			t.wantErr(rdb.BLPop(t.Context(), time.Millisecond, "q").Err(), pooler.ErrNodeDown)
			if err := rdb.Get(t.Context(), "k").Err(); err != nil {
				t.Fatalf("GET on the connection that serves: %v", err)
			}
			time.Sleep(50 * time.Millisecond)
		}
		if s := t.stats(); s.OpenConnections != 1 || s.State == pooler.StateUp {
			t.Errorf("%d connections, the node is %v", s.OpenConnections, s.State)
		}
	})
}
