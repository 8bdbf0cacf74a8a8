package driver

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/everpool/everpool/pooler"
)

// RingOptions returns a copy of o with which [redis.NewRing] makes a client on this
// driver. o isn't changed. Its fields do what those of the same name do in
// [Driver.Options], for each shard.
//
// Where HeartbeatFn isn't set a shard is up as long as its node is, as far as its pool
// knows, which asks it with a PING where nothing was answered since the last heartbeat: a
// heartbeat waits for 50 ms at most, for that or for a dial of one that is away, so that
// one shard doesn't hold up the others. One that is silent counts as up until it says
// nothing on a new connection either.
// At the third that fails go-redis takes the shard out of the ring, and who waits for it
// goes to where its keys are then. It is looked for until it is back. With a HeartbeatFn a
// shard is up as long as that says so. While the node is away its context ends after
// 50 ms: what it asks the shard would wait for that. Nodes of shards that SetAddrs takes
// out are forgotten after six heartbeats, while the ring has others.
//
// The shards' clients are made without maintenance notifications, unless NewClient sets
// them in the options that it is given.
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
	b := d.completeBy(flat, d.badAddrs(flat, slices.Sorted(maps.Values(c.Addrs))))
	if b == nil {
		return &c
	}
	transfer(&c, flat)
	c.NewClient = quietClients(c.NewClient)
	b.Ring, b.late = true, func() *redis.Options { return flatten(&c) }
	shards := &shards{beats: make(map[string]map[*redis.Client]beat), asks: c.HeartbeatFn}
	b.Places = shards
	every := cmp.Or(c.HeartbeatFrequency, defaultHeartbeat)
	c.HeartbeatFn = func(ctx context.Context, c *redis.Client) bool { return shards.beat(ctx, b, c, every) }
	return &c
}

// quietClients has the shards' clients made without maintenance notifications, which the
// options of a ring have no field for. A function of the user's can switch them on.
func quietClients(newClient func(*redis.Options) *redis.Client) func(*redis.Options) *redis.Client {
	if newClient == nil {
		newClient = redis.NewClient
	}
	return func(o *redis.Options) *redis.Client {
		if o.MaintNotificationsConfig == nil {
			o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
		}
		return newClient(o)
	}
}

// defaultHeartbeat is go-redis's.
const defaultHeartbeat = 500 * time.Millisecond

// outAfter is how many heartbeats in a row fail until go-redis takes a shard out.
const outAfter = 3

// shards are the places of a ring, or of several that were made with the same options,
// each of which has clients of its own for the shards: a shard's keys are elsewhere when
// it is out of all of them.
type shards struct {
	asks func(context.Context, *redis.Client) bool // the user's HeartbeatFn, or nil

	mu    sync.Mutex
	beats map[string]map[*redis.Client]beat // by the address
}

// beat is how the heartbeats of a ring for a shard are.
type beat struct {
	noes     int // that have failed in a row
	at       time.Time
	answered int64 // by the node until then
}

// isOver reports whether the ring is closed, or has the shard no more: by then it would
// have been out twice.
func (b beat) isOver(now time.Time, every time.Duration) bool {
	return now.Sub(b.at) > 2*outAfter*every
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
func (s *shards) note(addr string, c *redis.Client, well bool, answered int64, every time.Duration) (out bool) {
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
	of[c] = beat{noes, now, answered}
	maps.DeleteFunc(of, func(_ *redis.Client, b beat) bool { return b.isOver(now, every) })
	return was && !s.inLocked(addr)
}

// isQuiet reports whether the node has answered nothing since the last heartbeat.
func (s *shards) isQuiet(addr string, c *redis.Client, answered int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.beats[addr][c].answered == answered
}

// left returns the shards of which no ring has a heartbeat any more: go-redis says nothing
// else of shards that SetAddrs takes out.
func (s *shards) left(every time.Duration) (addrs []string) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	for addr, of := range s.beats {
		lives := func(b beat) bool { return !b.isOver(now, every) }
		if !slices.ContainsFunc(slices.Collect(maps.Values(of)), lives) {
			addrs = append(addrs, addr)
		}
	}
	return addrs
}

// drop forgets a shard.
func (s *shards) drop(addr string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.beats, addr)
}

// leaveBehind has the driver forget the node of a shard that has left, if these rings have
// made it and nobody uses it. It reports false if it has handles still.
func (d *Driver) leaveBehind(s *shards, b *binding, network, addr string) bool {
	n := d.known(b, network, addr)
	if n == nil || n.first.Places != s {
		return true
	}
	return d.forget(n)
}

// beat is a heartbeat of a shard, of which there is one every so often.
func (s *shards) beat(ctx context.Context, b *binding, c *redis.Client, every time.Duration) bool {
	addr := c.Options().Addr
	n := b.driver.known(b, c.Options().Network, addr)
	if n == nil {
		well := s.first(ctx, c)
		s.note(addr, c, well, 0, every)
		return well
	}
	well := knownState(n) == pooler.StateUp // silent, too: it may be this machine that is slow
	if !well {
		n.expect() // the ring is there
		well = backSoon(ctx, n)
	}
	switch {
	case s.asks != nil:
		well = s.ask(ctx, n, c)
	case well && s.isQuiet(addr, c, n.Pool.Stats().Answered): // its pool may not know
		pingSoon(ctx, c)
		well = knownState(n) == pooler.StateUp
	}
	if s.note(addr, c, well, n.Pool.Stats().Answered, every) {
		n.Pool.Release(s)
	}
	for _, addr := range s.left(every) {
		if b.driver.leaveBehind(s, b, c.Options().Network, addr) {
			s.drop(addr)
		}
	}
	return well
}

// first is a heartbeat of a shard whose node isn't known yet. A PING makes it known.
func (s *shards) first(ctx context.Context, c *redis.Client) bool {
	if s.asks != nil {
		return s.asks(ctx, c)
	}
	return c.Ping(ctx).Err() == nil
}

// ask asks the user's HeartbeatFn. What that asks the shard waits for its node, which is not
// to hold up the heartbeats of other shards: once the node is away its context ends.
func (s *shards) ask(ctx context.Context, n *node, c *redis.Client) bool {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		look := time.NewTicker(beatWait)
		defer look.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-look.C:
				if knownState(n) != pooler.StateUp {
					cancel()
				}
			}
		}
	}()
	return s.asks(ctx, c)
}

// beatWait is how long a heartbeat of a shard that is away waits for a dial, which takes
// less where the shard is back: without it the next heartbeat were the first to know.
const beatWait = 50 * time.Millisecond

// pingSoon asks the shard, which tells its pool whether it is there.
func pingSoon(ctx context.Context, c *redis.Client) {
	ctx, cancel := context.WithTimeout(ctx, beatWait)
	defer cancel()
	_ = c.Ping(ctx).Err()
}

// backSoon has the node looked for, and reports whether that finds it.
func backSoon(ctx context.Context, n *node) bool {
	ctx, cancel := context.WithTimeout(ctx, beatWait)
	defer cancel()
	_ = n.Await(ctx, nil, 0)
	return knownState(n) == pooler.StateUp
}

// nudge has the node looked for though nobody asks for it.
func nudge(n *node) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = n.Await(ctx, nil, 0)
}

// known returns the binding's node of that address, or nil.
func (d *Driver) known(b *binding, network, addr string) *node {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.knownLocked(b, network, addr)
}

func (d *Driver) knownLocked(b *binding, network, addr string) *node {
	key, _ := d.keyLocked(b, network, addr)
	return d.nodes[key]
}
