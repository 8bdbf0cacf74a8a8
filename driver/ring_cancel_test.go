package driver_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
)

// A caller whose read is under way when its shard dies may be canceled: with the stock pool
// the next dial ends by that, on everpool those of single nodes and sentinels go to the
// dial, too, where it is seen.
func TestACanceledReadOfADeadShardEnds(t *testing.T) {
	if !driver.Vetoes {
		t.Skip("a handle that ends doesn't lead to the dial")
	}
	for _, name := range []string{"stock", "everpool"} {
		t.Run(name, func(t *testing.T) {
			inLab(t, driver.Config{}, func(t *lab) {
				o := &redis.RingOptions{Addrs: map[string]string{"one": labAddr}, HeartbeatFrequency: time.Hour, ReadTimeout: 3 * time.Second}
				o.Dialer = t.f.Dial
				if name == "everpool" {
					o.Dialer = nil
					o = t.d.RingOptions(o)
				}
				rdb := redis.NewRing(o)
				t.Cleanup(func() { _ = rdb.Close() })
				if err := rdb.Set(t.Context(), "k", 1, 0).Err(); err != nil {
					t.Fatal(err)
				}
				t.f.Freeze(true)
				ctx, cancel := context.WithCancel(t.Context())
				ended := make(chan error, 1)
				go func() { ended <- rdb.Get(ctx, "k").Err() }()
				synctest.Wait()
				t.f.DownRefused() // which loses the connection
				time.Sleep(500 * time.Millisecond)
				canceled := time.Now()
				cancel()
				err := <-ended
				if late := time.Since(canceled); late > 200*time.Millisecond {
					t.Errorf("canceled, and told %v after %v", err, late)
				}
				t.f.Freeze(false)
				t.f.Up()
				time.Sleep(time.Minute) // dials that nobody waits for any more end
			})
		})
	}
}

// The client of a shard, which code has from ForEachShard, has no retries: a command of its
// own waits for the shard to be back, whoever looks after the ring.
func TestACommandOfAShardsClientWaitsForTheShard(t *testing.T) {
	for name, beat := range map[string]func(context.Context, *redis.Client) bool{
		"heartbeat": nil, "HeartbeatFn": func(context.Context, *redis.Client) bool { return true },
	} {
		t.Run(name, func(t *testing.T) {
			inBothLabs(t, driver.Config{}, func(t *lab) {
				o := &redis.RingOptions{Addrs: map[string]string{"one": labAddr}, HeartbeatFrequency: time.Hour, HeartbeatFn: beat}
				rdb := redis.NewRing(t.d.RingOptions(o))
				t.Cleanup(func() { _ = rdb.Close() })
				if err := rdb.Set(t.Context(), "k", 1, 0).Err(); err != nil {
					t.Fatal(err)
				}
				t.f.DownRefused()
				time.AfterFunc(2*time.Second, t.f.Up)
				get := func(ctx context.Context, shard *redis.Client) error { return shard.Get(ctx, "k").Err() }
				if err := rdb.ForEachShard(t.Context(), get); err != nil {
					t.Error(err)
				}
			})
		})
	}
}
