package hooks

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"weak"

	"github.com/redis/go-redis/v9"
)

// Attach has the hook watch a client: a [redis.Client], also one that follows a
// sentinel; a [redis.ClusterClient] or a [redis.Ring], with the nodes that it has
// and will have; or anything else with an AddHook. For the latter three its user's
// calls are the operations, and what the nodes get are attempts; calls that a
// user makes on a node's client are operations too.
//
// detach ends that; go-redis has no way to remove a hook, so one that does
// nothing stays behind. It may be called again. Attach fails if client is nil,
// or if the hook is attached to it already. It does no network I/O.
func (h *Hook) Attach(client redis.UniversalClient) (detach func(), err error) {
	off := new(atomic.Bool)
	switch c := client.(type) {
	case nil:
		return nil, errors.New("hooks: Attach: client is nil")
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
	c.AddHook(&attached{hook: h, target: &Target{Network: "tcp"}, role: logical, off: off})
	var nodes clients // a node may be new and be in the list too
	add := func(n *redis.Client) {
		if !off.Load() && nodes.enter(n) {
			n.AddHook(&attached{hook: h, target: targetOf(n), role: node, off: off})
		}
	}
	c.OnNewNode(add)
	// With a context that is over it lists the nodes that are known already. That
	// there are none yet is no error.
	over, cancel := context.WithCancel(context.Background())
	cancel()
	_ = c.ForEachShard(over, func(_ context.Context, n *redis.Client) error {
		add(n)
		return nil
	})
	return func() {
		if off.CompareAndSwap(false, true) {
			h.clients.leave(c)
		}
	}, nil
}

// targetOf is what the client was made for.
func targetOf(c *redis.Client) *Target {
	o := c.Options()
	if o.Addr == "FailoverClient" { // what go-redis calls it
		return &Target{Network: o.Network, DB: o.DB}
	}
	return newTarget(o.Network, o.Addr, o.DB)
}

// internal reports whether go-redis sends the command to a node for itself.
func (c *Command) internal() bool {
	switch c.Name {
	case "CLUSTER SLOTS", "CLUSTER SHARDS", "COMMAND", "ASKING":
		return true
	}
	return false
}

// clients is a set of clients that doesn't keep them alive.
type clients struct {
	mu  sync.Mutex
	set map[any]struct{} // weak pointers
}

// enter reports whether the client wasn't in the set.
func (s *clients) enter(c any) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.set == nil {
		s.set = make(map[any]struct{})
	}
	key := weakOf(c)
	_, in := s.set[key]
	s.set[key] = struct{}{}
	return !in
}

func (s *clients) leave(c any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.set, weakOf(c))
}

func weakOf(c any) any {
	switch c := c.(type) {
	case *redis.Client:
		return weak.Make(c)
	case *redis.ClusterClient:
		return weak.Make(c)
	case *redis.Ring:
		return weak.Make(c)
	}
	panic(fmt.Sprintf("hooks: %T", c))
}
