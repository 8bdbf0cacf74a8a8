package driver

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/internal/topology"
	"github.com/everpool/everpool/pooler"
)

// silentOracle says that slots are as it was told last, and counts.
type silentOracle struct {
	slots atomic.Pointer[[]redis.ClusterSlot]
	asked atomic.Int64
}

func (o *silentOracle) Ask(context.Context, topology.Inquiry) *topology.View {
	o.asked.Add(1)
	if s := o.slots.Load(); s != nil {
		return topology.ViewOf(*s, "", time.Now())
	}
	return nil
}

// say has the oracle say that the address has all slots.
func (o *silentOracle) say(owner string) {
	o.slots.Store(&[]redis.ClusterSlot{{End: topology.Slots - 1, Nodes: []redis.ClusterNode{{Addr: owner}}}})
}

// A node that nobody uses any more, and that is in nobody's view, is forgotten.
func TestANodeThatHasLeftIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, err := New(Config{Logger: slog.New(slog.DiscardHandler), Dial: nobody})
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		o := &silentOracle{}
		o.say("10.0.0.1:1")
		flat := &redis.Options{}
		b := d.complete(flat)
		b.WaitsInDial = false
		b.belong(topology.New(d.home(), "cluster", o, topology.Ways{}))
		for _, addr := range []string{"10.0.0.1:1", "10.0.0.2:1"} {
			nc, err := b.connect(t.Context(), "tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			_ = nc.Close()
		}
		time.Sleep(10 * time.Second)
		nodes := d.Nodes()
		if len(nodes) != 1 || nodes[0].Addr != "10.0.0.1:1" {
			t.Errorf("%v are left, want the one that the cluster knows", nodes)
		}
	})
}

// nobody is a dialer that reaches nobody.
func nobody(context.Context, string, string) (net.Conn, error) {
	return nil, errors.New("nobody is there")
}

// Rings that were made with the same options count their heartbeats each for itself: a
// shard is elsewhere once it is out of all of them.
func TestAShardIsOutWhenItIsOutOfAllRings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const every = time.Second
		s := &shards{beats: make(map[string]map[*redis.Client]beat)}
		a, b := new(redis.Client), new(redis.Client)
		if !s.Here("s:1", -1, pooler.Illness{}) {
			t.Error("out before a heartbeat")
		}
		s.note("s:1", b, true, 0, every)
		for i := range 3 {
			if s.note("s:1", a, false, 0, every) || !s.Here("s:1", -1, pooler.Illness{}) {
				t.Errorf("out of the other ring too, at heartbeat %d of one", i+1)
			}
		}
		for i := range 3 {
			if out := s.note("s:1", b, false, 0, every); out != (i == 2) || s.Here("s:1", -1, pooler.Illness{}) == (i == 2) {
				t.Errorf("heartbeat %d of the other: out %v", i+1, out)
			}
		}
		if s.note("s:1", a, true, 0, every); !s.Here("s:1", -1, pooler.Illness{}) {
			t.Error("out, though a ring has it back")
		}
		for range 8 { // the other ring is closed
			time.Sleep(every)
			s.note("s:1", b, false, 0, every)
		}
		if s.Here("s:1", -1, pooler.Illness{}) {
			t.Error("in, of a ring that isn't heard of any more")
		}
	})
}

// A topology whose clients are closed is told nothing any more, and is again when one
// comes back. While a node is away they may not be closed, for all that is known.
func TestATopologyWithoutHandlesLeavesItsNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, err := New(Config{
			Logger: slog.New(slog.DiscardHandler),
			Dial:   func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("nobody is there") },
		})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = d.Close() }()
		b := bindingOf(d.ClusterOptions(&redis.ClusterOptions{Addrs: []string{"10.0.0.1:1"}}).Dialer)
		told := func(n *node) int {
			n.mu.Lock()
			defer n.mu.Unlock()
			return len(n.topologies)
		}
		for range 2 {
			var handles [2]net.Conn
			var n *node
			for i := range handles {
				if n, err = d.node(b, "tcp", "10.0.0.1:1"); err != nil {
					t.Fatal(err)
				}
				handles[i] = b.handleOn(n, n.key.addr)
			}
			time.Sleep(time.Minute)
			if got := told(n); got != 1 {
				t.Errorf("%d topologies are told, want 1", got)
			}
			_ = handles[0].Close()
			time.Sleep(time.Minute)
			if got := told(n); got != 1 {
				t.Errorf("with a handle left %d topologies are told, want 1", got)
			}
			_ = handles[1].Close()
			time.Sleep(topology.Expected - time.Second)
			if got := told(n); got != 1 {
				t.Errorf("without handles %d topologies are told of a node that is away, want 1", got)
			}
			time.Sleep(2*topology.Linger + time.Second)
			if got := told(n); got != 0 {
				t.Errorf("without handles %d topologies are told, want none", got)
			}
		}
	})
}

// While handles for a node that is away are made on its heir, the node is looked for, and
// the members are asked whether it still is.
func TestANodeWithAnHeirIsLookedForWhenItIsDialed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const node, heir = "10.0.0.1:1", "10.0.0.2:1"
		var dials atomic.Int64 // of the node
		d, err := New(Config{
			Logger: slog.New(slog.DiscardHandler),
			Dial: func(_ context.Context, _, addr string) (net.Conn, error) {
				if addr == node {
					dials.Add(1)
				}
				return nil, errors.New("nobody is there")
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = d.Close() }()
		b := bindingOf(d.ClusterOptions(&redis.ClusterOptions{Addrs: []string{node}}).Dialer)
		oracle := new(silentOracle)
		oracle.say(node)
		b.belong(topology.New(d.home(), "cluster", oracle, topology.Ways{}))
		n, err := d.node(b, "tcp", node)
		if err != nil {
			t.Fatal(err)
		}
		nudge(n)
		time.Sleep(time.Hour) // nobody asks for it any more
		oracle.say(heir)
		b.topology().Review()
		time.Sleep(time.Minute)
		before, asked := dials.Load(), oracle.asked.Load()
		got, err := b.nodeFor("tcp", node)
		if err != nil || got.key.addr != heir {
			t.Fatalf("the handle is on %v: %v", got, err)
		}
		time.Sleep(time.Second)
		if dials.Load() == before {
			t.Error("the node isn't looked for")
		}
		if oracle.asked.Load() == asked {
			t.Error("nobody is asked")
		}
		got.drop(&b.Client)
		n.drop(&b.Client)
	})
}
