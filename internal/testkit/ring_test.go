package testkit_test

import (
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/internal/testkit"
)

func TestRingGoesOnWithoutAKilledShard(t *testing.T) {
	eachKind(t, func(t *testing.T, kind testkit.Kind) {
		r := testkit.StartRing(t, kind, 3)
		rdb := redis.NewRing(&redis.RingOptions{Addrs: r.Addrs()})
		defer rdb.Close()
		if err := setAndGet(t, rdb); err != nil {
			t.Fatal(err)
		}
		for _, s := range r.Shards() {
			if s.Do(t, "DBSIZE") == "0" {
				t.Errorf("%s has no key", s.Addr)
			}
		}
		r.Shard("shard2").Kill()
		awaitService(t, rdb)
		r.Shard("shard2").Restart(t)
		testkit.Await(t, "the shard is used again", func() bool {
			_ = setAndGet(t, rdb)
			return r.Shard("shard2").Do(t, "DBSIZE") != "0"
		})
		if r.Shard("none") != nil {
			t.Error("there is a shard too many")
		}
	})
}
