package hooks_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/hooks"
	"github.com/everpool/everpool/internal/testkit"
)

func TestAttachNamesWhatIsWrong(t *testing.T) {
	h := newHook(t, new(recorder))
	for name, c := range map[string]redis.UniversalClient{
		"nil": nil, "nil client": (*redis.Client)(nil), "nil cluster": (*redis.ClusterClient)(nil), "nil ring": (*redis.Ring)(nil),
		"nil DB": (*driver.DB)(nil), "empty DB": &driver.DB{},
	} {
		if detach, err := h.Attach(c); detach != nil || err == nil || !strings.Contains(err.Error(), "client is nil") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// unreachable fails the test for a dial.
func unreachable(t *testing.T) func(context.Context, string, string) (net.Conn, error) {
	return func(context.Context, string, string) (net.Conn, error) {
		t.Error("a dial")
		return nil, errors.New("unreachable")
	}
}

func TestAttachToEachKindOfClientTwiceFailsUntilDetachedAndDialsNothing(t *testing.T) {
	h := newHook(t, new(recorder))
	for name, c := range map[string]redis.UniversalClient{
		"client":   redis.NewClient(&redis.Options{Dialer: unreachable(t)}),
		"failover": redis.NewFailoverClient(&redis.FailoverOptions{MasterName: "m", SentinelAddrs: []string{"s:1"}, Protocol: 2, Dialer: unreachable(t)}),
		"cluster":  redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{"h:1"}, Protocol: 2, Dialer: unreachable(t)}),
		"ring":     redis.NewRing(&redis.RingOptions{Addrs: map[string]string{"a": "h:1"}, Protocol: 2, Dialer: unreachable(t)}),
		"DB":       &driver.DB{UniversalClient: redis.NewClient(&redis.Options{Dialer: unreachable(t)})},
	} {
		for range 3 {
			detach, err := h.Attach(c)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if _, err := h.Attach(c); err == nil {
				t.Errorf("%s: twice", name)
			}
			if _, err := newHook(t).Attach(c); err != nil {
				t.Errorf("%s: another hook: %v", name, err)
			}
			detach()
			if again, err := h.Attach(c); err != nil {
				t.Errorf("%s: %v", name, err)
			} else {
				detach() // the first one's, which is over
				if _, err := h.Attach(c); err == nil {
					t.Errorf("%s: detached by a detach that was used up", name)
				}
				again()
			}
		}
		if db, ok := c.(*driver.DB); ok {
			c = db.UniversalClient
		}
		_ = c.Close()
	}
}

func TestADriversDBIsWatchedWithoutDialsOfItsHandles(t *testing.T) {
	s := miniredis.RunT(t)
	db, err := driver.Open("redis://" + s.Addr() + "/2")
	if err != nil {
		t.Fatal(err)
	}
	r := new(recorder)
	detach := attach(t, db, r)
	if err := db.Set(t.Context(), "k", "v", 0).Err(); err != nil {
		t.Error(err)
	}
	op := r.one(t)
	if op.Name != "SET" || op.Target.Addr != s.Addr() || op.Target.DB != 2 || op.Peer != s.Addr() {
		t.Errorf("%+v", op)
	}
	if got := r.dialed(); len(got) != 0 {
		t.Errorf("told of %v", got)
	}
	if len(r.shook()) == 0 {
		t.Error("told of no handshake")
	}
	detach()
	if err := db.Close(); err != nil {
		t.Error(err)
	}
}

func TestAStockClientsDialsAreToldOf(t *testing.T) {
	s := miniredis.RunT(t)
	r := new(recorder)
	rdb := client(t, &redis.Options{Addr: s.Addr()})
	attach(t, rdb, r)
	rdb.Get(t.Context(), "k")
	if got := r.dialed(); !slices.Equal(got, []dialed{{"tcp", s.Addr(), ""}}) {
		t.Errorf("told of %v", got)
	}
}

// universal is a client of some other make.
type universal struct{ redis.UniversalClient }

func TestAnyOtherClientIsWatchedByItsAddHook(t *testing.T) {
	s := miniredis.RunT(t)
	r := new(recorder)
	c := universal{client(t, &redis.Options{Addr: s.Addr()})}
	detach := attach(t, c, r)
	c.Get(t.Context(), "k")
	if op := r.one(t); op.Name != "GET" || op.Target != (hooks.Target{}) || op.Peer != "" {
		t.Errorf("%+v", op)
	}
	detach()
	c.Get(t.Context(), "k")
	if ops, _ := r.take(); len(ops) != 0 {
		t.Errorf("after detach: %v", opNames(ops))
	}
}

func TestAttachAndDetachUnderTraffic(t *testing.T) {
	rdb, keys := ring(t, &redis.RingOptions{})
	one := client(t, &redis.Options{Addr: slices.Collect(mapKeys(keys))[0]})
	var stop atomic.Bool
	var wg sync.WaitGroup
	for _, c := range []redis.UniversalClient{rdb, one} {
		for range 2 {
			wg.Go(func() {
				for !stop.Load() {
					if err := c.Set(context.Background(), "k", "v", 0).Err(); err != nil {
						t.Error(err)
					}
					_, _ = c.Pipelined(context.Background(), func(p redis.Pipeliner) error {
						for _, key := range keys {
							p.Get(context.Background(), key)
						}
						return nil
					})
				}
			})
		}
	}
	r := new(recorder)
	h := newHook(t, r)
	for range 20 {
		for _, c := range []redis.UniversalClient{rdb, one} {
			detach, err := h.Attach(c)
			if err != nil {
				t.Fatal(err)
			}
			c.Get(context.Background(), "k")
			detach()
		}
	}
	stop.Store(true)
	wg.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.begun < 40 || r.begun != len(r.ended) {
		t.Errorf("%d begun, %d ended", r.begun, len(r.ended))
	}
}

func TestAHookForgetsClientsThatHaveGone(t *testing.T) {
	h := newHook(t, new(recorder))
	kept := client(t, &redis.Options{Addr: "kept:1", Protocol: 2})
	if _, err := h.Attach(kept); err != nil {
		t.Fatal(err)
	}
	for range 200 {
		c := redis.NewClient(&redis.Options{Protocol: 2, PoolSize: 1, PipelinePoolSize: -1})
		if _, err := h.Attach(c); err != nil {
			t.Fatal(err)
		}
		_ = c.Close()
		if h.Remembered() == 60 {
			runtime.GC()
		}
	}
	if n := h.Remembered(); n > 150 {
		t.Errorf("%d clients are remembered, one is left", n)
	}
	if _, err := h.Attach(kept); err == nil {
		t.Error("forgot one that is there")
	}
}

func mapKeys(m map[string]string) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// Whatever happens at the same time, an operation's observers see its own.
func TestNothingOfAnOperationIsInAnother(t *testing.T) {
	type mark struct{}
	var bad atomic.Int32
	var h *hooks.Hook
	check := func(ok bool, format string, args ...any) {
		if !ok && bad.Add(1) < 5 {
			t.Errorf(format, args...)
		}
	}
	observer := func() hooks.Observer {
		return hooks.Func{
			OnBegin: func(ctx context.Context, op *hooks.Operation) context.Context {
				check(op.Err == nil && op.ErrorType == "" && op.Outcome == hooks.OK && op.Duration == 0, "at the beginning: %v %q", op.Err, op.ErrorType)
				return context.WithValue(ctx, mark{}, fmt.Sprint(op.Cmds[0].Args()[1]))
			},
			OnEnd: func(ctx context.Context, op *hooks.Operation) {
				id := fmt.Sprint(op.Cmds[0].Args()[1])
				n, _ := strconv.Atoi(id)
				check(ctx.Value(mark{}) == id, "the context is %v's, the operation %s", ctx.Value(mark{}), id)
				check((n%3 == 0) == (op.Err == nil), "%s: %v", id, op.Err)
				check(op.Err == nil || op.Err.Error() == "ERR "+id, "%s: %v", id, op.Err)
				check((n%2 == 0) == (op.Kind == hooks.Single), "%s: %s", id, op.Kind)
			},
		}
	}
	h = newHook(t, observer(), hooks.Filter(observer(), func(op *hooks.Operation) bool { return op.Kind == hooks.Pipeline }), observer())
	result := func(id string) error {
		if n, _ := strconv.Atoi(id); n%3 == 0 {
			return nil
		}
		return replied("ERR " + id)
	}
	one := h.ProcessHook(func(_ context.Context, c redis.Cmder) error { return result(fmt.Sprint(c.Args()[1])) })
	many := h.ProcessPipelineHook(func(_ context.Context, c []redis.Cmder) error { return result(fmt.Sprint(c[0].Args()[1])) })
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 2000 {
				c := cmd("get", g*10000+i)
				if i%2 == 0 {
					_ = one(context.Background(), c)
				} else {
					_ = many(context.Background(), []redis.Cmder{c, c})
				}
			}
		})
	}
	wg.Wait()
}

func TestAnOperationDoesNotAllocate(t *testing.T) {
	if testkit.Race {
		t.Skip("the race detector allocates")
	}
	h := newHook(t, hooks.Func{}, hooks.Func{}, hooks.Filter(hooks.Func{}, func(*hooks.Operation) bool { return true }), hooks.Func{})
	ctx := context.Background()
	one, many := h.ProcessHook(answering(nil)), h.ProcessPipelineHook(answers())
	get, gets := cmd("get", "k"), batch("get a", "get b", "get c")
	for name, run := range map[string]func(){
		"command": func() { _ = one(ctx, get) },
		"batch":   func() { _ = many(ctx, gets) },
	} {
		if n := testing.AllocsPerRun(1000, run); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
	s := miniredis.RunT(t)
	rdb := client(t, &redis.Options{Addr: s.Addr()})
	bare := testing.AllocsPerRun(200, func() { rdb.Get(ctx, "k") })
	attach(t, rdb, hooks.Func{}, hooks.Func{}, hooks.Func{}, hooks.Func{})
	if n := testing.AllocsPerRun(200, func() { rdb.Get(ctx, "k") }); n > bare {
		t.Errorf("GET: %v allocations with 4 observers, %v without", n, bare)
	}
}

// A user who attaches a hook to each node by hand, as other libraries want it, is
// told that it is there already; otherwise each command would count twice.
func TestAttachToANodeOfAnAttachedGroupIsAnError(t *testing.T) {
	a := miniredis.RunT(t)
	ring := redis.NewRing(&redis.RingOptions{Addrs: map[string]string{"a": a.Addr()}})
	defer ring.Close()
	operations := 0
	h, err := hooks.New(hooks.Func{OnEnd: func(context.Context, *hooks.Operation) { operations++ }})
	if err != nil {
		t.Fatal(err)
	}
	detach, err := h.Attach(ring)
	if err != nil {
		t.Fatal(err)
	}
	shard := ring.GetShardClients()[0]
	if _, err := h.Attach(shard); err == nil {
		t.Error("attached to a shard of a ring that it is attached to")
	}
	if err := ring.Set(t.Context(), "key", "value", 0).Err(); err != nil {
		t.Fatal(err)
	}
	if operations != 1 {
		t.Errorf("a SET was %d operations; want 1", operations)
	}
	detach()
	if _, err := h.Attach(shard); err != nil {
		t.Errorf("after the ring was left: %v", err)
	}
}
