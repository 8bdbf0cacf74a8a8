package hooks

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"time"
	"weak"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/internal/guard"
)

// Attach has the hook watch a client: a [redis.Client], also one that follows a
// sentinel; a [redis.ClusterClient] or a [redis.Ring], with the nodes that it has
// and will have; a driver.DB of these; or anything else with an AddHook. For a
// cluster and a ring its user's calls are the operations, and what the nodes get
// are attempts. Calls that a user makes on a node's client are operations too, but
// for PING, COMMAND, CLUSTER SLOTS and CLUSTER SHARDS, by which go-redis itself
// keeps an eye on the nodes.
//
// detach ends that; go-redis has no way to remove a hook, so one that does
// nothing stays behind. It may be called again. Attach fails if client is nil,
// or if it is of go-redis and the hook is attached to it already, as it is to the
// nodes of what it is attached to. Don't add a hook with AddHook as well: every
// operation would count twice. Attach does no
// network I/O, but a cluster client whose ClusterSlots is set has it called. It may
// be called while the client is used; operations that have begun aren't told.
func (h *Hook) Attach(client redis.UniversalClient) (detach func(), err error) {
	if guard.IsNil(client) {
		return nil, errors.New("hooks: Attach: client is nil")
	}
	off := new(atomic.Bool)
	switch c := client.(type) {
	case *redis.Client:
		if !h.clients.enter(c) {
			return nil, errAttached
		}
		c.AddHook(&attached{hook: h, target: targetOf(c), off: off})
		return func() {
			if off.CompareAndSwap(false, true) {
				h.clients.leave(c)
			}
		}, nil
	case *redis.ClusterClient:
		return h.attachGroup(c, off)
	case *redis.Ring:
		return h.attachGroup(c, off)
	case interface{ Unwrap() redis.UniversalClient }: // a driver.DB
		return h.Attach(c.Unwrap())
	}
	client.AddHook(&attached{hook: h, target: &Target{}, off: off})
	return func() { off.Store(true) }, nil
}

var errAttached = errors.New("hooks: Attach: the hook is attached to this client already")

// group is a client of several nodes.
type group interface {
	AddHook(redis.Hook)
	OnNewNode(func(*redis.Client))
	ForEachShard(context.Context, func(context.Context, *redis.Client) error) error
}

func (h *Hook) attachGroup(c group, off *atomic.Bool) (func(), error) {
	if !h.clients.enter(c) {
		return nil, errAttached
	}
	target := &Target{Network: "tcp"}
	if ring, ok := c.(*redis.Ring); ok {
		target.DB = ring.Options().DB
	}
	known := &nodes{group: c, hook: h, off: off}
	c.AddHook(&attached{hook: h, target: target, role: logical, off: off, nodes: known})
	c.OnNewNode(known.add)
	known.list()
	return func() {
		if off.CompareAndSwap(false, true) {
			h.clients.leave(c)
			h.clients.leaveAll(&known.known)
		}
	}, nil
}

// nodes are those of a group.
type nodes struct {
	group group
	hook  *Hook
	off   *atomic.Bool
	known clients // a node may be new and be in the list too

	mu     sync.Mutex
	listed time.Time
}

func (s *nodes) add(n *redis.Client) {
	if !s.off.Load() && s.known.enter(n) && s.hook.clients.enter(n) {
		n.AddHook(&attached{hook: s.hook, target: targetOf(n), role: node, off: s.off})
	}
}

// list adds the nodes that go-redis has. With a context that is over it names
// those that it knows already; that there are none yet is no error.
func (s *nodes) list() {
	over, cancel := context.WithCancel(context.Background())
	cancel()
	_ = s.group.ForEachShard(over, func(_ context.Context, n *redis.Client) error {
		s.add(n)
		return nil
	})
}

// missed is called after an operation that no node has told of. It has gone to one
// that go-redis didn't list: a shard that was down, or a node that was made before
// go-redis knew of the cluster's slots. It may also be that a hook has answered, so
// this isn't done for each.
func (s *nodes) missed(err error) {
	var reply redis.Error
	if err != nil && !errors.As(err, &reply) || !s.mu.TryLock() {
		return
	}
	defer s.mu.Unlock()
	if !s.listed.IsZero() && time.Since(s.listed) < time.Second {
		return
	}
	s.listed = time.Now()
	s.list()
}

// targetOf is what the client was made for.
func targetOf(c *redis.Client) *Target {
	o := c.Options()
	if o.Addr == "FailoverClient" { // what go-redis calls it
		return &Target{Network: o.Network, DB: o.DB}
	}
	return newTarget(o.Network, o.Addr, o.DB)
}

// clients is a set of clients that doesn't keep them alive.
type clients struct {
	mu    sync.Mutex
	set   map[weakClient]struct{}
	sweep int // the size at which those that have gone are taken out
}

// weakClient is a weakOf.
type weakClient interface{ gone() bool }

type weakOf[T any] struct{ weak.Pointer[T] }

func (w weakOf[T]) gone() bool { return w.Value() == nil }

// leaveAll takes out all that the other set has.
func (s *clients) leaveAll(other *clients) {
	other.mu.Lock()
	defer other.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	for w := range other.set {
		delete(s.set, w)
	}
}

func weakly(c any) weakClient {
	switch c := c.(type) {
	case *redis.Client:
		return weakOf[redis.Client]{weak.Make(c)}
	case *redis.ClusterClient:
		return weakOf[redis.ClusterClient]{weak.Make(c)}
	case *redis.Ring:
		return weakOf[redis.Ring]{weak.Make(c)}
	}
	panic(fmt.Sprintf("hooks: %T", c)) // Attach knows no other
}

// enter reports whether the client wasn't in the set.
func (s *clients) enter(c any) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.set == nil {
		s.set, s.sweep = make(map[weakClient]struct{}), 64
	}
	if len(s.set) >= s.sweep {
		maps.DeleteFunc(s.set, func(w weakClient, _ struct{}) bool { return w.gone() })
		s.sweep = max(64, 2*len(s.set))
	}
	key := weakly(c)
	_, in := s.set[key]
	s.set[key] = struct{}{}
	return !in
}

func (s *clients) leave(c any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.set, weakly(c))
}
