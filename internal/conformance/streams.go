package conformance

import (
	"fmt"

	"github.com/redis/go-redis/v9"
)

var streamGuarantees = []guarantee{
	{name: "streams are appended to, read by range and trimmed", check: func(w *world) {
		k := w.key("s")
		want(w, "1-1")(w.rdb.XAdd(w.ctx, &redis.XAddArgs{Stream: k, ID: "1-1", Values: []string{"a", "1"}}).Result())
		want(w, "1-2")(w.rdb.XAdd(w.ctx, &redis.XAddArgs{Stream: k, ID: "1-2", Values: []string{"a", "2"}}).Result())
		want(w, int64(2))(w.rdb.XLen(w.ctx, k).Result())
		one := redis.XMessage{ID: "1-1", Values: map[string]any{"a": "1"}}
		two := redis.XMessage{ID: "1-2", Values: map[string]any{"a": "2"}}
		want(w, []redis.XMessage{one, two})(w.rdb.XRange(w.ctx, k, "-", "+").Result())
		want(w, []redis.XMessage{two, one})(w.rdb.XRevRange(w.ctx, k, "+", "-").Result())
		want(w, []redis.XStream{{Stream: k, Messages: []redis.XMessage{two}}})(
			w.rdb.XRead(w.ctx, &redis.XReadArgs{Streams: []string{k, "1-1"}, Block: -1}).Result())
		want(w, int64(1))(w.rdb.XTrimMaxLen(w.ctx, k, 1).Result())
		want(w, int64(1))(w.rdb.XDel(w.ctx, k, "1-2").Result())
	}},
	{name: "a read without BLOCK at the end of a stream is redis.Nil", check: func(w *world) {
		k := w.key("s")
		ok(w, w.rdb.XAdd(w.ctx, &redis.XAddArgs{Stream: k, ID: "1-1", Values: []string{"a", "1"}}).Err())
		err := w.rdb.XRead(w.ctx, &redis.XReadArgs{Streams: []string{k, "1-1"}, Block: -1}).Err()
		wantErr(w, err, redis.Nil)
	}},
	{name: "a consumer group hands each message to one consumer", check: func(w *world) {
		k := w.key("s")
		want(w, "OK")(w.rdb.XGroupCreateMkStream(w.ctx, k, "g", "0").Result())
		const n = 60
		for i := range n {
			ok(w, w.rdb.XAdd(w.ctx, &redis.XAddArgs{Stream: k, ID: fmt.Sprintf("1-%d", i+1), Values: []any{"i", i}}).Err())
		}
		got := make(chan string, n)
		each(w, 6, func(i int) error {
			consumer := fmt.Sprintf("c%d", i)
			for range n / 6 {
				res, err := w.rdb.XReadGroup(w.ctx, &redis.XReadGroupArgs{
					Group: "g", Consumer: consumer, Streams: []string{k, ">"}, Count: 1, Block: -1,
				}).Result()
				if err != nil {
					return err
				}
				id := res[0].Messages[0].ID
				if acked, err := w.rdb.XAck(w.ctx, k, "g", id).Result(); err != nil || acked != 1 {
					return wrongf("XACK %s: %d, %v", id, acked, err)
				}
				got <- id
			}
			return nil
		})
		close(got)
		seen := map[string]bool{}
		for id := range got {
			seen[id] = true
		}
		equal(w, len(seen), n)
		pending, err := w.rdb.XPending(w.ctx, k, "g").Result()
		ok(w, err)
		equal(w, pending.Count, 0)
	}},
	{name: "the second creation of a group is BUSYGROUP", check: func(w *world) {
		k := w.key("s")
		ok(w, w.rdb.XGroupCreateMkStream(w.ctx, k, "g", "$").Err())
		wantPrefix(w, w.rdb.XGroupCreate(w.ctx, k, "g", "$").Err(), "BUSYGROUP")
	}},
}
