package driver

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"
	"time"

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
	// Each shard is a part of the data: one that can't be dialed isn't made up for.
	b := d.completeBy(flat, badAddrs(flat.Network, slices.Sorted(maps.Values(c.Addrs)), d.cfg.Dial != nil || flat.Dialer != nil))
	if b == nil {
		return &c
	}
	transfer(&c, flat)
	b.late = func() *redis.Options { return flatten(&c) }
	if c.HeartbeatFn == nil {
		shards := &shards{beats: make(map[string]map[*redis.Client]beat)}
		b.places = shards
		every := cmp.Or(c.HeartbeatFrequency, defaultHeartbeat)
		c.HeartbeatFn = func(ctx context.Context, c *redis.Client) bool { return shards.beat(ctx, b, c, every) }
	}
	return &c
}

// defaultHeartbeat is go-redis's.
const defaultHeartbeat = 500 * time.Millisecond

// outAfter is how many heartbeats in a row fail until go-redis takes a shard out.
const outAfter = 3

// shards are the places of a ring, or of several that were made with the same options,
// each of which has clients of its own for the shards: a shard's keys are elsewhere when
// it is out of all of them.
type shards struct {
	mu    sync.Mutex
	beats map[string]map[*redis.Client]beat // by the address
}

// beat is how the heartbeats of a ring for a shard are.
type beat struct {
	noes int // that have failed in a row
	at   time.Time
}

// Here reports whether the shard of the address is in a ring.
func (s *shards) Here(addr string, _ int, _ pooler.Illness) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.inLocked(addr)
}

func (s *shards) inLocked(addr string) bool {
	for _, b := range s.beats[addr] {
		if b.noes < outAfter {
			return true
		}
	}
	return len(s.beats[addr]) == 0
}

// note takes note of a heartbeat, and reports whether the shard has gone out of the last
// ring by it. Rings that aren't heard of any more are closed.
func (s *shards) note(addr string, c *redis.Client, well bool, every time.Duration) (out bool) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	was := s.inLocked(addr)
	of := s.beats[addr]
	if of == nil {
		of = make(map[*redis.Client]beat)
		s.beats[addr] = of
	}
	noes := of[c].noes + 1
	if well {
		noes = 0
	}
	of[c] = beat{noes, now}
	maps.DeleteFunc(of, func(_ *redis.Client, b beat) bool { return now.Sub(b.at) > 2*outAfter*every })
	return was && !s.inLocked(addr)
}

// beat is a heartbeat of a shard, of which there is one every so often.
func (s *shards) beat(ctx context.Context, b *binding, c *redis.Client, every time.Duration) bool {
	addr := c.Options().Addr
	n := b.driver.known(b, c.Options().Network, addr)
	if n == nil {
		return c.Ping(ctx).Err() == nil // the first one makes the node known
	}
	well := !n.pool.Illness().Ill()
	if s.note(addr, c, well, every) {
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
