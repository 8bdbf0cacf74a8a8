package driver

import (
	"context"
	"maps"
	"slices"
	"sync"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/pooler"
)

// RingOptions returns a copy of o with which [redis.NewRing] makes a client on this
// driver. o isn't changed. Its fields do what those of the same name do in
// [Driver.Options], for each shard.
//
// Where HeartbeatFn isn't set a shard is up as long as its node is well, as far as its
// pool knows: a heartbeat doesn't wait, so that one shard doesn't hold up the others'.
// At the third that fails go-redis takes the shard out of the ring, and who waits for it
// goes to where its keys are then. It is looked for until it is back.
//
// If the options can't work every command fails with an error that names each mistake,
// as with Options.
func (d *Driver) RingOptions(o *redis.RingOptions) *redis.RingOptions {
	d = d.orUnmade()
	if o == nil {
		o = &redis.RingOptions{}
	}
	c := *o
	c.Addrs = maps.Clone(c.Addrs)
	flat := flatten(&c)
	b := d.complete(flat, slices.Sorted(maps.Values(c.Addrs))...)
	if b == nil {
		return &c
	}
	transfer(&c, flat)
	b.late = func() *redis.Options { return flatten(&c) }
	if c.HeartbeatFn == nil {
		shards := &shards{noes: make(map[string]int)}
		b.places = shards
		c.HeartbeatFn = func(ctx context.Context, c *redis.Client) bool { return shards.beat(ctx, b, c) }
	}
	return &c
}

// outAfter is how many heartbeats in a row fail until go-redis takes a shard out.
const outAfter = 3

// shards are the places of a ring: a shard's keys are elsewhere when it is out.
type shards struct {
	mu   sync.Mutex
	noes map[string]int // heartbeats that have failed in a row, by the address
}

// Here reports whether the shard of the address is in the ring.
func (s *shards) Here(addr string, _ int, _ pooler.Illness) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.noes[addr] < outAfter
}

// beat is a heartbeat of a shard.
func (s *shards) beat(ctx context.Context, b *binding, c *redis.Client) bool {
	addr := c.Options().Addr
	n := b.driver.known(b, c.Options().Network, addr)
	if n == nil {
		return c.Ping(ctx).Err() == nil // the first one makes the node known
	}
	well := !n.pool.Illness().Ill()
	s.mu.Lock()
	if s.noes[addr]++; well {
		s.noes[addr] = 0
	}
	out := s.noes[addr] == outAfter
	s.mu.Unlock()
	if out {
		n.pool.Release(s)
	}
	if !well {
		nudge(n)
	}
	return well
}

// nudge has the node looked for though nobody asks for it.
func nudge(n *node) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = n.await(ctx, nil, 0)
}

// known returns the binding's node of that address, or nil.
func (d *Driver) known(b *binding, network, addr string) *node {
	d.mu.Lock()
	defer d.mu.Unlock()
	key, _ := d.keyLocked(b, network, addr)
	return d.nodes[key]
}
