package hooks_test

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/hooks"
)

// ring makes one of two shards, and a key on each.
func ring(t *testing.T, o *redis.RingOptions) (r *redis.Ring, keys map[string]string) {
	a, b := miniredis.RunT(t), miniredis.RunT(t)
	o.Addrs = map[string]string{"a": a.Addr(), "b": b.Addr()}
	r = redis.NewRing(o)
	t.Cleanup(func() { _ = r.Close() })
	keys = map[string]string{}
	for i := 0; len(keys) < 2; i++ {
		key := strconv.Itoa(i)
		c, err := r.GetShardClientForKey(key)
		if err != nil {
			t.Fatal(err)
		}
		keys[c.Options().Addr] = key
	}
	return r, keys
}

func TestARingsCallsAreOperationsWithAttempts(t *testing.T) {
	r := new(recorder)
	rdb, keys := ring(t, &redis.RingOptions{DB: 1})
	detach := attach(t, rdb, r)
	ctx := t.Context()
	for addr, key := range keys {
		if err := rdb.Set(ctx, key, "v", 0).Err(); err != nil {
			t.Fatal(err)
		}
		ops, attempts := r.take()
		if len(ops) != 1 || ops[0].Name != "SET" || ops[0].Peer != addr || ops[0].Target != (hooks.Target{Network: "tcp", DB: 1}) {
			t.Errorf("%+v", ops)
		}
		if len(attempts) != 1 || attempts[0].Peer != addr || !slices.Equal(attempts[0].Cmds, []string{"SET"}) {
			t.Errorf("%+v", attempts)
		}
	}
	for _, run := range []func(context.Context, func(redis.Pipeliner) error) ([]redis.Cmder, error){rdb.Pipelined, rdb.TxPipelined} {
		_, err := run(ctx, func(p redis.Pipeliner) error {
			for _, key := range keys {
				p.Get(ctx, key)
				p.Set(ctx, key, "w", 0)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		ops, attempts := r.take()
		if len(ops) != 1 || len(ops[0].Cmds) != 4 || len(attempts) != 2 {
			t.Errorf("%+v %+v", ops, attempts)
		}
		var peers []string
		for _, a := range attempts {
			peers = append(peers, a.Peer)
		}
		if slices.Sort(peers); !slices.Equal(peers, slices.Sorted(maps.Keys(keys))) {
			t.Errorf("attempts at %v", peers)
		}
	}
	// Its user's own business with a shard.
	for addr, key := range keys {
		shard, _ := rdb.GetShardClientForKey(key)
		shard.Get(ctx, key)
		ops, attempts := r.take()
		if len(ops) != 1 || len(attempts) != 0 || ops[0].Name != "GET" || ops[0].Peer != addr || ops[0].Target.Addr != addr || ops[0].Target.DB != 1 {
			t.Errorf("%+v %+v", ops, attempts)
		}
		_, _ = shard.Pipelined(ctx, func(p redis.Pipeliner) error { p.Get(ctx, key); return nil })
		if op := r.one(t); op.Name != "GET" || op.Kind != hooks.Single || op.Peer != addr {
			t.Errorf("%+v", op)
		}
	}
	// A handshake command of a user is told of once.
	told := len(r.shook())
	rdb.Do(ctx, "SELECT", 1)
	if ops, attempts := r.take(); len(ops)+len(attempts) != 0 || len(r.shook()) != told+1 {
		t.Errorf("%v %v, told of %v", ops, attempts, r.shook()[told:])
	}
	detach()
	rdb.Get(ctx, "k")
	if ops, attempts := r.take(); len(ops)+len(attempts) != 0 {
		t.Errorf("after detach: %v %v", ops, attempts)
	}
	again := attach(t, rdb, r)
	rdb.Get(ctx, "k")
	if ops, attempts := r.take(); len(ops) != 1 || len(attempts) != 1 {
		t.Errorf("attached again: %v %v", ops, attempts)
	}
	again()
}

func TestShardsThatComeLaterAreWatchedAndHeartbeatsAreNot(t *testing.T) {
	beats := make(chan bool)
	rdb, _ := ring(t, &redis.RingOptions{HeartbeatFrequency: time.Millisecond, HeartbeatFn: func(ctx context.Context, c *redis.Client) bool {
		err := c.Ping(ctx).Err()
		select {
		case beats <- err == nil:
		case <-ctx.Done():
		}
		return err == nil
	}})
	ctx := t.Context()
	r := new(recorder)
	attach(t, rdb, r)
	s := miniredis.RunT(t)
	rdb.SetAddrs(map[string]string{"c": s.Addr()})
	for range 6 {
		<-beats
	}
	if ops, _ := r.take(); len(ops) != 0 {
		t.Errorf("operations %v", opNames(ops))
	}
	rdb.Ping(ctx)
	ops, attempts := r.take()
	if len(ops) != 1 || ops[0].Peer != s.Addr() || len(attempts) != 1 || attempts[0].Cmds[0] != "PING" {
		t.Errorf("%v %v", ops, attempts)
	}
}

func TestAShardThatWasDownWhenTheHookWasAttachedIsWatchedOnceItIsUp(t *testing.T) {
	var up atomic.Bool
	beats := make(chan struct{})
	rdb, keys := ring(t, &redis.RingOptions{HeartbeatFrequency: time.Millisecond, HeartbeatFn: func(ctx context.Context, c *redis.Client) bool {
		select {
		case beats <- struct{}{}:
		case <-ctx.Done():
		}
		return up.Load()
	}})
	wait := func(shards int) {
		for len(rdb.GetShardClients()) != shards {
			<-beats
		}
	}
	wait(0)
	r := new(recorder)
	attach(t, rdb, r)
	up.Store(true)
	wait(2)
	for addr, key := range keys {
		// That a shard is up comes before its keys do.
		for c, err := rdb.GetShardClientForKey(key); err != nil || c.Options().Addr != addr; c, err = rdb.GetShardClientForKey(key) {
			<-beats
		}
	}
	for addr, key := range keys {
		rdb.Get(t.Context(), key)
		rdb.Get(t.Context(), key)
		if ops, attempts := r.take(); len(ops) != 2 || ops[1].Peer != addr || len(attempts) == 0 {
			t.Errorf("%v %v", ops, attempts)
		}
	}
}
