package conformance

import (
	"fmt"

	"github.com/redis/go-redis/v9"
)

const scanned = 1000

var scanGuarantees = []guarantee{
	{name: "SCAN's iterator sees every key, in several goroutines", check: func(w *world) {
		var pairs []any
		for i := range scanned {
			pairs = append(pairs, w.key(fmt.Sprint(i)), i)
		}
		ok(w, w.rdb.MSet(w.ctx, pairs...).Err())
		each(w, 4, func(int) error {
			return complete(w, w.node(w.rdb).Scan(w.ctx, 0, w.key("*"), 200).Iterator(), scanned)
		})
	}},
	{name: "HSCAN's iterator sees every field and value", check: func(w *world) {
		k := w.key("h")
		_, err := w.rdb.Pipelined(w.ctx, func(p redis.Pipeliner) error {
			for i := range scanned {
				p.HSet(w.ctx, k, fmt.Sprint("f", i), fmt.Sprint("v", i))
			}
			return nil
		})
		ok(w, err)
		ok(w, complete(w, w.rdb.HScan(w.ctx, k, 0, "", 100).Iterator(), 2*scanned))
	}},
	{name: "SSCAN's iterator sees every member", check: func(w *world) {
		k := w.key("s")
		_, err := w.rdb.Pipelined(w.ctx, func(p redis.Pipeliner) error {
			for i := range scanned {
				p.SAdd(w.ctx, k, fmt.Sprint("m", i))
			}
			return nil
		})
		ok(w, err)
		ok(w, complete(w, w.rdb.SScan(w.ctx, k, 0, "", 100).Iterator(), scanned))
	}},
	{name: "ZSCAN's iterator sees every member and score", check: func(w *world) {
		k := w.key("z")
		_, err := w.rdb.Pipelined(w.ctx, func(p redis.Pipeliner) error {
			for i := range scanned {
				p.ZAdd(w.ctx, k, redis.Z{Score: float64(i) + 0.5, Member: fmt.Sprint("m", i)})
			}
			return nil
		})
		ok(w, err)
		ok(w, complete(w, w.rdb.ZScan(w.ctx, k, 0, "", 100).Iterator(), 2*scanned))
	}},
	{name: "SORT orders, limits and stores", check: func(w *world) {
		k := w.key("l")
		ok(w, w.rdb.RPush(w.ctx, k, "3", "1", "2").Err())
		want(w, []string{"1", "2", "3"})(w.rdb.Sort(w.ctx, k, &redis.Sort{}).Result())
		want(w, []string{"3", "2"})(w.rdb.Sort(w.ctx, k, &redis.Sort{Order: "DESC", Count: 2}).Result())
		want(w, int64(3))(w.rdb.SortStore(w.ctx, k, w.key("sorted"), &redis.Sort{}).Result())
	}},
	{name: "SORT looks values up", check: func(w *world) {
		k := w.key("l")
		ok(w, w.rdb.RPush(w.ctx, k, "3", "1", "2").Err())
		ok(w, w.rdb.Set(w.ctx, w.key("name-1"), "one", 0).Err())
		want(w, []any{"one", nil})(w.rdb.SortInterfaces(w.ctx, k, &redis.Sort{Get: []string{w.key("name-*")}, Count: 2}).Result())
	}},
	{name: "OBJECT tells how a value is kept", check: func(w *world) {
		k := w.key("k")
		ok(w, w.rdb.Set(w.ctx, k, "12345", 0).Err())
		want(w, "int")(w.rdb.ObjectEncoding(w.ctx, k).Result())
		want(w, int64(1))(w.rdb.ObjectRefCount(w.ctx, k).Result())
		wantErr(w, w.rdb.ObjectEncoding(w.ctx, w.key("none")).Err(), redis.Nil)
	}},
}

// complete iterates to the end and compares the number of distinct values.
func complete(w *world, it *redis.ScanIterator, n int) error {
	seen := map[string]bool{}
	for it.Next(w.ctx) {
		seen[it.Val()] = true
	}
	if err := it.Err(); err != nil {
		return err
	}
	if len(seen) != n {
		return wrongf("iterator saw %d distinct values, want %d", len(seen), n)
	}
	return nil
}
