package hooks_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/hooks"
	"github.com/everpool/everpool/internal/testkit"
)

// startCluster starts a cluster of one node.
func startCluster(t *testing.T) *testkit.Server {
	s := testkit.Start(t, testkit.Redis, testkit.WithCluster(), testkit.WithArgs("--cluster-announce-ip", "127.0.0.1"))
	rdb := redis.NewClient(&redis.Options{Addr: s.Addr})
	defer rdb.Close()
	if err := rdb.Do(t.Context(), "CLUSTER", "ADDSLOTSRANGE", 0, 16383).Err(); err != nil {
		t.Fatal(err)
	}
	for !strings.Contains(rdb.ClusterInfo(t.Context()).Val(), "cluster_state:ok") {
		if t.Context().Err() != nil {
			t.Fatal("the cluster doesn't come up")
		}
	}
	return s
}

func clusterClient(t *testing.T, o *redis.ClusterOptions) *redis.ClusterClient {
	o.MaintNotificationsConfig = noMaint()
	c := redis.NewClusterClient(o)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestAClusterClientsCallsAreOperationsWithAttempts(t *testing.T) {
	s := startCluster(t)
	ctx := t.Context()
	for name, warm := range map[string]bool{"attached before use": false, "attached to nodes that are there": true} {
		t.Run(name, func(t *testing.T) {
			c := clusterClient(t, &redis.ClusterOptions{Addrs: []string{s.Addr}})
			if warm {
				if err := c.Set(ctx, "k", "v", 0).Err(); err != nil {
					t.Fatal(err)
				}
			}
			r := new(recorder)
			detach := attach(t, c, r)
			check := func(what string, want seen, cmds ...string) {
				t.Helper()
				ops, attempts := r.take()
				if len(ops) != 1 || ops[0].Name != want.Name || ops[0].Outcome != want.Outcome || ops[0].ErrorType != want.ErrorType ||
					ops[0].Peer != s.Addr || ops[0].Target != (hooks.Target{Network: "tcp"}) {
					t.Errorf("%s: %+v, want %+v", what, ops, want)
				}
				if len(attempts) != 1 || attempts[0].Peer != s.Addr || !slices.Equal(attempts[0].Cmds, cmds) ||
					attempts[0].Outcome != want.Outcome || attempts[0].ErrorType != want.ErrorType {
					t.Errorf("%s: attempts %+v, want %v", what, attempts, cmds)
				}
			}
			c.Get(ctx, "missing")
			check("a miss", seen{Name: "GET", Outcome: hooks.Miss}, "GET")
			c.LPush(ctx, "k", "x")
			c.Del(ctx, "k")
			r.take()
			c.Set(ctx, "k", "v", 0)
			check("a write", seen{Name: "SET"}, "SET")
			c.LPush(ctx, "k", "x")
			check("an error", seen{Name: "LPUSH", Outcome: hooks.Error, ErrorType: "WRONGTYPE"}, "LPUSH")
			_, _ = c.Pipelined(ctx, func(p redis.Pipeliner) error { p.Get(ctx, "missing"); p.LPush(ctx, "k", "x"); return nil })
			check("a batch", seen{Name: "PIPELINE", Outcome: hooks.Error, ErrorType: "WRONGTYPE"}, "GET", "LPUSH")
			_, _ = c.TxPipelined(ctx, func(p redis.Pipeliner) error { p.Get(ctx, "missing"); p.Get(ctx, "missing"); return nil })
			check("a transaction", seen{Name: "MULTI GET", Outcome: hooks.Miss}, "MULTI", "GET", "GET", "EXEC")
			// What go-redis asks of nodes by itself is an attempt if a user asks it.
			c.Ping(ctx)
			check("PING", seen{Name: "PING"}, "PING")
			c.ClusterSlots(ctx)
			check("CLUSTER SLOTS", seen{Name: "CLUSTER SLOTS"}, "CLUSTER SLOTS")
			_ = c.Watch(ctx, func(tx *redis.Tx) error { return tx.Get(ctx, "{k}1").Err() }, "{k}1")
			if ops, attempts := r.take(); len(attempts) != 0 || len(ops) < 2 || ops[0].Name != "WATCH" || ops[1].Name != "GET" || ops[0].Target.Addr != s.Addr {
				t.Errorf("Watch: %v %v", ops, attempts)
			}
			_ = c.ForEachShard(ctx, func(ctx context.Context, n *redis.Client) error { return n.Echo(ctx, "x").Err() })
			if op := r.one(t); op.Name != "ECHO" || op.Peer != s.Addr || op.Target.Addr != s.Addr {
				t.Errorf("a call of a node's client: %+v", op)
			}
			_ = c.ForEachShard(ctx, func(ctx context.Context, n *redis.Client) error { return n.Ping(ctx).Err() })
			if ops, _ := r.take(); len(ops) != 0 {
				t.Errorf("PING of a node's client: %v", opNames(ops))
			}
			detach()
			c.Get(ctx, "k")
			if ops, attempts := r.take(); len(ops)+len(attempts) != 0 {
				t.Errorf("after detach: %v %v", ops, attempts)
			}
		})
	}
}

// fakes are nodes of a cluster that tell their slots as the test likes.
type fakes struct {
	mu    sync.Mutex
	nodes map[string]*testkit.Fake
	owner string // of all slots
	dials atomic.Int32
}

func newFakes(addrs ...string) *fakes {
	f := &fakes{nodes: map[string]*testkit.Fake{}, owner: addrs[0]}
	for _, addr := range addrs {
		n := testkit.NewFake()
		n.Handle("CLUSTER SLOTS", func(*testkit.FakeConn, []string) []byte {
			f.mu.Lock()
			defer f.mu.Unlock()
			host, port, _ := strings.Cut(f.owner, ":")
			return fmt.Appendf(nil, "*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$%d\r\n%s\r\n:%s\r\n", len(host), host, port)
		})
		n.Handle("COMMAND", func(*testkit.FakeConn, []string) []byte { return []byte("*0\r\n") })
		n.Handle("ASKING", func(*testkit.FakeConn, []string) []byte { return []byte("+OK\r\n") })
		f.nodes[addr] = n
	}
	return f
}

func (f *fakes) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	f.dials.Add(1)
	f.mu.Lock()
	n := f.nodes[addr]
	f.mu.Unlock()
	return n.Dial(ctx, network, addr)
}

func (f *fakes) close() {
	for _, n := range f.nodes {
		n.Close()
	}
}

func reply(s string) testkit.Handler {
	return func(*testkit.FakeConn, []string) []byte { return []byte(s) }
}

func TestRedirectionsAreAttemptsOfOneOperation(t *testing.T) {
	ctx := t.Context()
	for name, c := range map[string]struct {
		first string // what a answers
		run   func(*redis.ClusterClient) error
		op    string
		want  []tried
	}{
		"MOVED": {
			"-MOVED 1 b:2\r\n", func(c *redis.ClusterClient) error { return c.Get(ctx, "k").Err() }, "GET",
			[]tried{{Peer: "a:1", Cmds: []string{"GET"}, Outcome: hooks.Error, ErrorType: "MOVED"}, {Peer: "b:2", Cmds: []string{"GET"}}},
		},
		"ASK": {
			"-ASK 1 b:2\r\n", func(c *redis.ClusterClient) error { return c.Get(ctx, "k").Err() }, "GET",
			[]tried{{Peer: "a:1", Cmds: []string{"GET"}, Outcome: hooks.Error, ErrorType: "ASK"}, {Peer: "b:2", Cmds: []string{"ASKING", "GET"}}},
		},
		"MOVED in a batch": {
			"-MOVED 1 b:2\r\n", func(c *redis.ClusterClient) error {
				_, err := c.Pipelined(ctx, func(p redis.Pipeliner) error { p.Set(ctx, "k", "v", 0); p.Get(ctx, "k"); return nil })
				return err
			}, "PIPELINE",
			[]tried{{Peer: "a:1", Cmds: []string{"SET", "GET"}, Outcome: hooks.Error, ErrorType: "MOVED"}, {Peer: "b:2", Cmds: []string{"GET"}}},
		},
		"MOVED in a batch of one": {
			"-MOVED 1 b:2\r\n", func(c *redis.ClusterClient) error {
				_, err := c.Pipelined(ctx, func(p redis.Pipeliner) error { p.Get(ctx, "k"); return nil })
				return err
			}, "GET",
			[]tried{{Peer: "a:1", Cmds: []string{"GET"}, Outcome: hooks.Error, ErrorType: "MOVED"}, {Peer: "b:2", Cmds: []string{"GET"}}},
		},
		"LOADING": {
			"-TRYAGAIN x\r\n", func(c *redis.ClusterClient) error { return c.Get(ctx, "k").Err() }, "GET",
			[]tried{{Peer: "a:1", Cmds: []string{"GET"}, Outcome: hooks.Error, ErrorType: "TRYAGAIN"}, {Peer: "a:1", Cmds: []string{"GET"}, Outcome: hooks.Miss}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFakes("a:1", "b:2")
			var asked atomic.Int32
			f.nodes["a:1"].Handle("GET", func(*testkit.FakeConn, []string) []byte {
				if asked.Add(1) == 1 {
					return []byte(c.first)
				}
				return []byte("$-1\r\n")
			})
			f.nodes["b:2"].Handle("GET", reply("+there\r\n"))
			rdb := clusterClient(t, &redis.ClusterOptions{Addrs: []string{"a:1"}, Dialer: f.Dial})
			r, other := new(recorder), new(recorder)
			attach(t, rdb, r)
			attach(t, rdb, other) // another hook, with frames of its own
			// Its node was made when the first hook was attached, and go-redis
			// doesn't list it yet: it is found after the first operation.
			if err := rdb.Set(ctx, "k", "v", 0).Err(); err != nil {
				t.Fatal(err)
			}
			if op := other.one(t); op.Name != "SET" {
				t.Errorf("%+v", op)
			}
			if op := r.one(t); op.Peer != "a:1" {
				t.Errorf("%+v", op)
			}
			err := c.run(rdb)
			if len(r.shook()) == 0 {
				t.Error("told of no handshake")
			}
			for _, r := range []*recorder{r, other} {
				ops, attempts := r.take()
				for i := range attempts {
					if i > 0 && attempts[i].Start.Before(attempts[i-1].Start) {
						t.Errorf("out of order: %+v", attempts)
					}
					attempts[i].Start = time.Time{}
				}
				if d := cmp.Diff(c.want, attempts); d != "" {
					t.Errorf("attempts -want +got\n%s", d)
				}
				if len(ops) != 1 || ops[0].Name != c.op || ops[0].Peer != c.want[len(c.want)-1].Peer || (ops[0].Outcome == hooks.Miss) != errors.Is(err, redis.Nil) || ops[0].Outcome == hooks.Error {
					t.Errorf("%v: %+v", err, ops)
				}
			}
			_ = rdb.Close()
			f.close()
		})
	}
}

func TestNodesThatAClusterClientMeetsLaterAreWatchedOnce(t *testing.T) {
	ctx := t.Context()
	f := newFakes("a:1", "b:2")
	rdb := clusterClient(t, &redis.ClusterOptions{Addrs: []string{"a:1"}, Dialer: f.Dial})
	if err := rdb.Set(ctx, "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	r := new(recorder)
	h := newHook(t, r)
	detach, err := h.Attach(rdb)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.Attach(rdb); err == nil || !strings.Contains(err.Error(), "attached to this client already") {
		t.Errorf("again: %v", err)
	}
	set := func(want ...string) {
		t.Helper()
		if err := rdb.Set(ctx, "k", "v", 0).Err(); err != nil {
			t.Fatal(err)
		}
		ops, attempts := r.take()
		var peers []string
		for _, a := range attempts {
			peers = append(peers, a.Peer)
		}
		if len(ops) != len(want) || !slices.Equal(peers, want) {
			t.Errorf("%d operations, attempts at %v, want %v", len(ops), peers, want)
		}
	}
	set("a:1")
	f.mu.Lock()
	f.owner = "b:2"
	f.mu.Unlock()
	// ForEachShard has the slots loaded anew.
	if err := rdb.ForEachShard(ctx, func(context.Context, *redis.Client) error { return nil }); err != nil {
		t.Fatal(err)
	}
	set("b:2")
	detach()
	set()
	if detach, err = h.Attach(rdb); err != nil {
		t.Fatal(err)
	}
	set("b:2")
	detach()
	_ = rdb.Close()
	f.close()
}

func TestAttachingToAClusterClientDoesNoNetworkIO(t *testing.T) {
	ctx := t.Context()
	f := newFakes("a:1")
	rdb := clusterClient(t, &redis.ClusterOptions{Addrs: []string{"a:1"}, Dialer: f.Dial})
	detach := attach(t, rdb, new(recorder))
	detach()
	if n := f.dials.Load(); n != 0 {
		t.Errorf("%d dials", n)
	}
	if err := rdb.Set(ctx, "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	before, dials := f.nodes["a:1"].Count(""), f.dials.Load()
	asked := f.nodes["a:1"].Count("CLUSTER SLOTS")
	attach(t, rdb, new(recorder))
	if n := f.nodes["a:1"].Count("CLUSTER SLOTS"); n != asked || f.nodes["a:1"].Count("") != before || f.dials.Load() != dials {
		t.Errorf("asked for its slots %d times, %d before; %d dials", n, asked, f.dials.Load())
	}
	_ = rdb.Close()
	f.close()
}

// knowing makes a client that need not ask for its slots, and counts how often it
// wants to know them.
func knowing(t *testing.T, f *fakes) (*redis.ClusterClient, *atomic.Int32) {
	asked := new(atomic.Int32)
	return clusterClient(t, &redis.ClusterOptions{Dialer: f.Dial, ClusterSlots: func(context.Context) ([]redis.ClusterSlot, error) {
		asked.Add(1)
		return []redis.ClusterSlot{{End: 16383, Nodes: []redis.ClusterNode{{Addr: "a:1"}}}}, nil
	}}), asked
}

func TestANodeThatIsMetWhileTheNodesAreListedIsWatchedOnce(t *testing.T) {
	f := newFakes("a:1")
	rdb, _ := knowing(t, f)
	r := new(recorder)
	attach(t, rdb, r) // go-redis makes the node, and lists it
	if err := rdb.Set(t.Context(), "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	if ops, attempts := r.take(); len(ops) != 1 || len(attempts) != 1 {
		t.Errorf("%+v %+v", ops, attempts)
	}
	_ = rdb.Close()
	f.close()
}

func TestNodesAreLookedForOnceASecondAtMost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakes("a:1")
		rdb, asked := knowing(t, f)
		attach(t, rdb, new(recorder))
		// No node ever hears of these.
		var err error
		rdb.AddHook(hooks.Adapter{Process: func(redis.ProcessHook) redis.ProcessHook {
			return func(context.Context, redis.Cmder) error { return err }
		}})
		looked := func(what string, want int32) {
			t.Helper()
			asked.Store(0)
			for range 10 {
				rdb.Get(t.Context(), "k")
			}
			if n := asked.Load(); n != want {
				t.Errorf("%s: looked %d times, want %d", what, n, want)
			}
		}
		looked("at first", 1)
		time.Sleep(time.Second - 1)
		looked("too early", 0)
		time.Sleep(time.Second)
		looked("a second later", 1)
		time.Sleep(time.Second)
		err = errors.New("no node was reached")
		looked("nobody has answered", 0)
		err = replied("ERR x")
		looked("an error came from somewhere", 1)
		_ = rdb.Close()
	})
}
