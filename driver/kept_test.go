package driver_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/pooler"
)

// keepers are calls whose requests all have the same handle: should it fail go-redis has
// no other for them, however often it tries.
var keepers = map[string]func(context.Context, *redis.Client) error{
	"Watch": func(ctx context.Context, rdb *redis.Client) error {
		return rdb.Watch(ctx, func(*redis.Tx) error { return nil }, "k")
	},
	"Conn": func(ctx context.Context, rdb *redis.Client) error {
		cn := rdb.Conn()
		defer func() { _ = cn.Close() }()
		if err := cn.BLPop(ctx, time.Second, "q").Err(); !errors.Is(err, redis.Nil) {
			return err
		}
		return nil
	},
}

// With the stock client a Watch waits for its connection as often as any command.
func TestWhatKeepsItsHandleWaitsForAConnectionAsOftenAsGoRedisTries(t *testing.T) {
	const wait = 200 * time.Millisecond
	for name, c := range map[string]struct {
		retries int
		write   time.Duration // the timeout of the socket, 0: the default
		free    time.Duration // after which there is a connection
		took    time.Duration // 0: it gets that
	}{
		"in the first wait":                 {retries: 3, free: wait / 2},
		"in the last wait":                  {retries: 3, free: 4*wait - 1},
		"never":                             {retries: 3, took: 4 * wait},
		"never, without retries":            {retries: -1, took: wait},
		"never, with less time for a write": {retries: 3, write: wait / 2, took: 4 * wait},
	} {
		for kind, call := range keepers {
			t.Run(kind+" "+name, func(t *testing.T) {
				inBothLabs(t, one(), func(t *lab) {
					rdb := t.client(func(o *redis.Options) {
						o.MaxRetries, o.PoolTimeout, o.WriteTimeout, o.MinRetryBackoff = c.retries, wait, c.write, -1
					})
					if err := rdb.Ping(t.Context()).Err(); err != nil {
						t.Fatal(err)
					}
					holder := t.handle()
					holder.do("WATCH k", "+OK")
					if c.free > 0 {
						time.AfterFunc(c.free, func() { holder.do("UNWATCH", "+OK") })
					}
					began := time.Now()
					err := call(t.Context(), rdb)
					switch took := time.Since(began); {
					case c.took == 0 && err != nil:
						t.Error(err)
					case c.took != 0 && (took != c.took || err == nil):
						t.Errorf("%v after %v, want an error after %v", err, took, c.took)
					case c.took != 0:
						t.wantErr(err, pooler.ErrWaitTimeout)
					}
				})
			})
		}
	}
}

// What OnConnect does is tried again by go-redis, on another handle.
func TestOnConnectWaitsForAConnectionOnlyAsOftenAsGoRedisTries(t *testing.T) {
	inBothLabs(t, one(), func(t *lab) {
		holder := t.handle()
		holder.do("WATCH k", "+OK")
		const wait = 200 * time.Millisecond
		rdb := t.client(func(o *redis.Options) {
			o.MaxRetries, o.PoolTimeout, o.MinRetryBackoff = 1, wait, -1
			o.OnConnect = func(ctx context.Context, cn *redis.Conn) error { return cn.BLPop(ctx, time.Second, "q").Err() }
		})
		began := time.Now()
		t.wantErr(rdb.Ping(t.Context()).Err(), pooler.ErrWaitTimeout)
		if took := time.Since(began); took != 2*wait {
			t.Errorf("after %v, want two waits of %v", took, wait)
		}
	})
}

// Rings never try a Watch again, and neither does what waits for them.
func TestAWatchOfARingWaitsForAConnectionOnce(t *testing.T) {
	inBothLabs(t, one(), func(t *lab) {
		const wait = 200 * time.Millisecond
		ring := t.ring(&redis.RingOptions{Addrs: map[string]string{"a": labAddr}, MaxRetries: 3, PoolTimeout: wait, MinRetryBackoff: -1})
		if err := ring.Ping(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		holder := t.handle()
		holder.do("WATCH k", "+OK")
		began := time.Now()
		t.wantErr(ring.Watch(t.Context(), func(*redis.Tx) error { return nil }, "k"), pooler.ErrWaitTimeout)
		if took := time.Since(began); took != wait {
			t.Errorf("after %v, want %v", took, wait)
		}
	})
}
