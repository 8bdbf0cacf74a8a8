package conformance

import (
	"fmt"

	"github.com/redis/go-redis/v9"
)

var cacheGuarantees = []guarantee{
	{name: "the client-side cache answers and sees another client's write", check: func(w *world) {
		k := w.key("k")
		c := w.client(withCache)
		ok(w, w.rdb.Set(w.ctx, k, "v0", 0).Err())
		w.eventually("an answer from the cache", func() bool {
			want(w, "v0")(c.Get(w.ctx, k).Result())
			return w.node(c).CSCStats().Hits > 0
		})
		for i := range 5 {
			v := fmt.Sprintf("v%d", i+1)
			ok(w, w.rdb.Set(w.ctx, k, v, 0).Err())
			// The cache has no maximum age here: only the server's
			// invalidation can make the client ask again. And nobody else
			// uses this client: it has to be noticed on an idle connection.
			w.eventually("the invalidation", func() bool {
				got, err := c.Get(w.ctx, k).Result()
				ok(w, err)
				return got == v
			})
		}
	}},
	{name: "the client-side cache keeps a missing key until it is there", check: func(w *world) {
		k := w.key("k")
		c := w.client(withCache)
		w.eventually("an answer from the cache", func() bool {
			wantErr(w, c.Get(w.ctx, k).Err(), redis.Nil)
			return w.node(c).CSCStats().Hits > 0
		})
		ok(w, w.rdb.Set(w.ctx, k, "created", 0).Err())
		w.eventually("the invalidation", func() bool { return c.Get(w.ctx, k).Val() == "created" })
	}},
	{name: "invalidations don't disturb replies", check: func(w *world) {
		c := w.client(withCache)
		each(w, 8, func(i int) error {
			k := w.key(fmt.Sprint(i))
			for n := range 25 {
				if err := w.rdb.Set(w.ctx, k, n, 0).Err(); err != nil {
					return err
				}
				if _, err := c.Get(w.ctx, k).Result(); err != nil {
					return err
				}
				v := fmt.Sprintf("%d.%d", i, n)
				got, err := c.Echo(w.ctx, v).Result()
				if err := answer("ECHO among invalidations", got, err, v); err != nil {
					return err
				}
			}
			return nil
		})
	}},
	{name: "a connection that dies takes its cached values with it", check: func(w *world) {
		k := w.key("k")
		c := w.named("cached", withCache)
		ok(w, w.rdb.Set(w.ctx, k, "v0", 0).Err())
		w.eventually("an answer from the cache", func() bool {
			want(w, "v0")(c.Get(w.ctx, k).Result())
			return w.node(c).CSCStats().Hits > 0
		})
		for _, conn := range w.conns("cached") {
			conn.kill(w)
		}
		// Nobody is left whom the server would tell of this write.
		ok(w, w.rdb.Set(w.ctx, k, "v1", 0).Err())
		w.eventually("the new value", func() bool { return c.Get(w.ctx, k).Val() == "v1" })
	}},
}

// withCache turns on client-side caching. It exists only over RESP3 and in
// database 0, without a credentials provider.
func withCache(o *redis.Options) {
	o.ClientSideCacheConfig = &redis.ClientSideCacheConfig{MaxEntries: 1000}
}
