package driver_test

import (
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
	"github.com/everpool/everpool/hooks"
	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/pooler"
)

// gathering is a configuration that gathers as soon as two callers are inside.
func gathering() driver.Config {
	return driver.Config{Gather: driver.GatherConfig{From: 2, Flights: 1}}
}

func (l *lab) gather(c redis.UniversalClient) (detach func()) {
	l.Helper()
	detach, err := l.d.Gather(c)
	if err != nil {
		l.Fatal(err)
	}
	return detach
}

// crowd has n callers call at the same time: the server stands still until all have
// come.
func (l *lab) crowd(n int, call func(i int) error) []error {
	l.f.Freeze(true)
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { errs[i] = call(i) })
	}
	synctest.Wait()
	l.f.Freeze(false)
	wg.Wait()
	return errs
}

// Callers' commands run together, and each has its own value, error or redis.Nil; as in
// stock, their keys stay strangers to each other.
func TestGatheredCallersHaveTheirOwn(t *testing.T) {
	inLab(t, gathering(), func(t *lab) {
		rdb := t.client()
		detach := t.gather(rdb)
		for i := range 9 {
			rdb.Set(t.Context(), fmt.Sprint("key:", i), i, 0)
		}
		rdb.LPush(t.Context(), "key:9", "not a string")
		got := make([]string, 11)
		errs := t.crowd(11, func(i int) (err error) {
			got[i], err = rdb.Get(t.Context(), fmt.Sprint("key:", i)).Result()
			return err
		})
		for i := range 9 {
			if got[i] != fmt.Sprint(i) || errs[i] != nil {
				t.Errorf("key %d is %q, %v", i, got[i], errs[i])
			}
		}
		if errs[9] == nil || !strings.HasPrefix(errs[9].Error(), "WRONGTYPE") || !errors.Is(errs[10], redis.Nil) {
			t.Errorf("%v and %v", errs[9], errs[10])
		}
		before := t.d.GatherStats()
		if before.Gathered < 9 || before.Batches != 2 || before.Calls != 21 {
			t.Errorf("%+v", before)
		}
		detach()
		detach()
		t.crowd(5, func(int) error { return rdb.Get(t.Context(), "key:1").Err() })
		if after := t.d.GatherStats(); after.Gathered != before.Gathered {
			t.Errorf("gathered when detached: %+v", after)
		}
	})
}

// What isn't the client itself is left as it is: Conn, Tx, clones with other timeouts,
// pipelines, transactions. They run beside it, and their commands are in no batch.
func TestOnlyTheClientItselfIsGathered(t *testing.T) {
	inLab(t, gathering(), func(t *lab) {
		rdb := t.client()
		t.gather(rdb)
		clone := rdb.WithTimeout(3 * time.Second)
		conn := rdb.Conn()
		defer conn.Close()
		for name, call := range map[string]func() error{
			"clone": func() error { return clone.Get(t.Context(), "key").Err() },
			"conn":  func() error { return conn.Get(t.Context(), "key").Err() },
			"watch": func() error {
				return rdb.Watch(t.Context(), func(tx *redis.Tx) error { return tx.Get(t.Context(), "key").Err() }, "key")
			},
			"pipeline": func() error {
				_, err := rdb.Pipelined(t.Context(), func(p redis.Pipeliner) error { return p.Get(t.Context(), "key").Err() })
				return err
			},
			"transaction": func() error {
				_, err := rdb.TxPipelined(t.Context(), func(p redis.Pipeliner) error { return p.Get(t.Context(), "key").Err() })
				return err
			},
		} {
			for _, err := range t.crowd(4, func(int) error { return call() }) {
				if !errors.Is(err, redis.Nil) {
					t.Errorf("%s: %v", name, err)
				}
			}
			if n := t.d.GatherStats().Calls; n != 0 {
				t.Fatalf("%s: %d calls came where the client's are gathered", name, n)
			}
		}
	})
}

// Hooks that were there before see single commands, of their own types; hooks that come
// later turn gathering off, and see all.
func TestHooksSeeSingleCommands(t *testing.T) {
	inLab(t, gathering(), func(t *lab) {
		var before, after atomic.Int64
		count := func(n *atomic.Int64) redis.Hook {
			return hooks.Adapter{
				Process: func(next redis.ProcessHook) redis.ProcessHook {
					return func(ctx context.Context, cmd redis.Cmder) error {
						if _, ok := cmd.(*redis.StringCmd); ok {
							n.Add(1)
						}
						return next(ctx, cmd)
					}
				},
				Pipeline: func(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
					return func(ctx context.Context, cmds []redis.Cmder) error {
						if cmds[0].Name() == "get" { // and not of a handshake
							t.Error("a hook was shown a batch")
						}
						return next(ctx, cmds)
					}
				},
			}
		}
		rdb := t.client()
		rdb.AddHook(count(&before))
		t.gather(rdb)
		get := func(int) error { return rdb.Get(t.Context(), "key").Err() }
		t.crowd(6, get)
		if n := t.d.GatherStats(); before.Load() != 6 || n.Gathered != 5 && n.Gathered != 4 {
			t.Errorf("%d seen, %+v", before.Load(), n)
		}
		was := t.d.GatherStats().Calls
		rdb.AddHook(count(&after))
		t.crowd(6, get)
		if before.Load() != 12 || after.Load() != 6 || t.d.GatherStats().Calls != was {
			t.Errorf("%d and %d seen, %d calls came", before.Load(), after.Load(), t.d.GatherStats().Calls-was)
		}
	})
}

// What a hook measures of a command in a batch is that caller's time, from its call on.
func TestHooksSeeTrueDurations(t *testing.T) {
	inLab(t, gathering(), func(t *lab) {
		var mu sync.Mutex
		took := make(map[string]time.Duration)
		rdb := t.client()
		rdb.AddHook(hooks.Adapter{Process: func(next redis.ProcessHook) redis.ProcessHook {
			return func(ctx context.Context, cmd redis.Cmder) error {
				began := time.Now()
				err := next(ctx, cmd)
				mu.Lock()
				defer mu.Unlock()
				took[fmt.Sprint(cmd.Args()[1])] = time.Since(began)
				return err
			}
		}})
		t.gather(rdb)
		t.crowd(6, func(int) error { return rdb.Get(t.Context(), "key").Err() })
		t.f.Freeze(true)
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() { rdb.Get(t.Context(), fmt.Sprint(i)) })
			time.Sleep(10 * time.Microsecond)
		}
		time.Sleep(100 * time.Microsecond)
		t.f.Freeze(false)
		wg.Wait()
		for i := range 20 {
			if got, want := took[fmt.Sprint(i)], time.Duration(300-10*i)*time.Microsecond; got != want {
				t.Errorf("call %d took %s, and a hook saw %s", i, want, got)
			}
		}
		if n := t.d.GatherStats(); n.Gathered < 15 {
			t.Errorf("%+v", n)
		}
	})
}

// go-redis's full-duplex pipelines write a command whatever a hook does with it: a hook
// that answers by itself would run it twice.
func TestAutoPipelinesRunOnce(t *testing.T) {
	for name, o := range map[string]*redis.AutoPipelineOptions{
		"half duplex": nil,
		"full duplex": {FullDuplex: true},
	} {
		t.Run(name, func(t *testing.T) {
			server := testkit.Start(t, testkit.Redis)
			d := newDriver(t, gathering())
			rdb := redis.NewClient(d.Options(&redis.Options{Addr: server.Addr}))
			t.Cleanup(func() { _ = rdb.Close() })
			if _, err := d.Gather(rdb); err != nil {
				t.Fatal(err)
			}
			ap, err := rdb.AutoPipelineWithOptions(o)
			if err != nil {
				t.Fatal(err)
			}
			const callers, each = 16, 50
			var wg sync.WaitGroup
			for range callers {
				wg.Go(func() {
					for range each {
						if err := ap.Incr(t.Context(), "counter").Err(); err != nil {
							t.Error(err)
						}
					}
				})
			}
			wg.Wait()
			if got := server.Do(t, "GET", "counter"); got != fmt.Sprint(callers*each) {
				t.Errorf("the counter is %s after %d calls", got, callers*each)
			}
		})
	}
}

// Clients whose commands another one of go-redis's features sees one by one go without.
func TestClientsThatGoWithout(t *testing.T) {
	inLab(t, gathering(), func(t *lab) {
		t.gather(t.client(func(o *redis.Options) { o.ClientSideCacheConfig = &redis.ClientSideCacheConfig{} }))
		t.gather(t.client(func(o *redis.Options) { o.Limiter = noLimit{} }))
		if n := t.d.GatherStats(); n.Off["client-side caching"] != 1 || n.Off["limiter"] != 1 || len(n.Off) != 2 {
			t.Errorf("%+v", n)
		}
	})
}

type noLimit struct{}

func (noLimit) Allow() error       { return nil }
func (noLimit) ReportResult(error) {}

// A refusal that passes is tried again for each caller, as go-redis does.
func TestGatheredCommandsAreTriedAgainAlone(t *testing.T) {
	inLab(t, gathering(), func(t *lab) {
		rdb := t.client(func(o *redis.Options) { o.MaxRetries = 3 })
		t.gather(rdb)
		var asked sync.Map
		t.f.Handle("GET", func(_ *testkit.FakeConn, args []string) []byte {
			if _, again := asked.LoadOrStore(args[1], true); !again {
				return []byte("-LOADING Redis is loading the dataset in memory\r\n")
			}
			return testkit.ReplyBulk("value")
		})
		for i, err := range t.crowd(8, func(i int) error { return rdb.Get(t.Context(), fmt.Sprint("key:", i)).Err() }) {
			if err != nil {
				t.Errorf("caller %d: %v", i, err)
			}
		}
		var tries sync.Map // of *atomic.Int64, by key
		t.f.Handle("GET", func(_ *testkit.FakeConn, args []string) []byte {
			n, _ := tries.LoadOrStore(args[1], new(atomic.Int64))
			n.(*atomic.Int64).Add(1)
			return []byte("-LOADING Redis is loading the dataset in memory\r\n")
		})
		t.crowd(8, func(i int) error { return rdb.Get(t.Context(), fmt.Sprint("key:", i)).Err() })
		tries.Range(func(key, n any) bool {
			if n := n.(*atomic.Int64).Load(); n != 4 {
				t.Errorf("%s was asked for %d times; go-redis has 4 tries", key, n)
			}
			return true
		})
	})
}

// A caller whose context is canceled while the server says nothing returns at once, be it
// sent or not; what it had sent counts once.
func TestACanceledCallerReturnsAtOnce(t *testing.T) {
	inLab(t, gathering(), func(t *lab) {
		rdb := t.client()
		t.gather(rdb)
		rdb.Get(t.Context(), "key")
		// busy has two calls wait, so that all that come are gathered.
		busy := func() (wait func()) {
			t.f.Freeze(true)
			var wg sync.WaitGroup
			for range 2 {
				wg.Go(func() { rdb.Get(context.Background(), "key") })
			}
			synctest.Wait()
			return wg.Wait
		}
		// canceled has a call of its own end by its context.
		canceled := func(call func(ctx context.Context) error) error {
			ctx, cancel := context.WithCancel(context.Background())
			told := make(chan error, 1)
			go func() { told <- call(ctx) }()
			synctest.Wait()
			cancel()
			synctest.Wait()
			select {
			case err := <-told:
				return err
			default:
				t.Error("the caller still waits")
				return <-told
			}
		}
		wait := busy()
		get := func(ctx context.Context) error { return rdb.Get(ctx, "key").Err() }
		incr := func(ctx context.Context) error { return rdb.Incr(ctx, "n").Err() }
		if err := canceled(get); !errors.Is(err, context.Canceled) || errors.Is(err, pooler.ErrUnknownOutcome) {
			t.Errorf("a read behind a flight: %v", err)
		}
		if err := canceled(incr); !errors.Is(err, context.Canceled) || !errors.Is(err, pooler.ErrUnknownOutcome) {
			t.Errorf("an INCR in flight: %v", err)
		}
		if err := canceled(incr); !errors.Is(err, context.Canceled) || errors.Is(err, pooler.ErrUnknownOutcome) {
			t.Errorf("an INCR behind a flight: %v", err)
		}
		t.f.Freeze(false)
		wait()
		if n := rdb.Get(t.Context(), "n").Val(); n != "1" {
			t.Errorf("n is %s, of one INCR that was sent", n)
		}
	})
}

// The shards of a ring are gathered each for itself, those that come later too.
func TestARingIsGathered(t *testing.T) {
	inLab(t, gathering(), func(t *lab) {
		rdb := t.ring(&redis.RingOptions{Addrs: shardsAt(0, 1)})
		t.gather(rdb)
		get := func(i int) error { return rdb.Get(t.Context(), fmt.Sprint("key:", i)).Err() }
		for _, err := range t.crowd(8, get) {
			if !errors.Is(err, redis.Nil) {
				t.Error(err)
			}
		}
		one := t.d.GatherStats()
		if one.Gathered == 0 {
			t.Errorf("%+v", one)
		}
		rdb.SetAddrs(shardsAt(1, 1))
		t.crowd(8, get)
		if two := t.d.GatherStats(); two.Gathered <= one.Gathered {
			t.Errorf("%+v, then %+v", one, two)
		}
	})
}

func TestOpenGathersBelowTheHooks(t *testing.T) {
	inLab(t, driver.Config{}, func(t *lab) {
		var names []string
		var mu sync.Mutex
		watch, err := hooks.New(hooks.Func{OnEnd: func(_ context.Context, op *hooks.Operation) {
			mu.Lock()
			defer mu.Unlock()
			names = append(names, op.Name)
		}})
		if err != nil {
			t.Fatal(err)
		}
		cfg := gathering()
		cfg.Dial = t.f.Dial
		db, err := driver.Open("redis://"+labAddr, driver.WithGathering(), driver.WithConfig(cfg), driver.WithHooks(watch))
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		t.crowd(6, func(int) error { return db.Get(t.Context(), "key").Err() })
		n := db.Driver.GatherStats()
		if slices.ContainsFunc(names, func(name string) bool { return name != "GET" }) || len(names) != 6 || n.Gathered == 0 {
			t.Errorf("hooks saw %q; %+v", names, n)
		}
	})
}

func TestGatherRefusesWhatIsNotItsOwn(t *testing.T) {
	d := newDriver(t, driver.Config{})
	stock := redis.NewClient(&redis.Options{})
	t.Cleanup(func() { _ = stock.Close() })
	for name, c := range map[string]redis.UniversalClient{"a stock client": stock, "nil": nil} {
		if _, err := d.Gather(c); !errors.Is(err, pooler.ErrConfig) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := new(driver.Driver).Gather(stock); !errors.Is(err, pooler.ErrConfig) {
		t.Errorf("a driver that New hasn't made: %v", err)
	}
	_, err := driver.New(driver.Config{Gather: driver.GatherConfig{From: 1, Flights: -1, Largest: 1}})
	if err == nil || strings.Count(err.Error(), "Gather.") != 3 {
		t.Errorf("bad settings: %v", err)
	}
}
