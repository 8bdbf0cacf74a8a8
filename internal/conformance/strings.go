package conformance

import (
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

var stringGuarantees = []guarantee{
	{name: "strings are set, read, changed and deleted", check: func(w *world) {
		k := w.key("k")
		want(w, "OK")(w.rdb.Set(w.ctx, k, "hello", 0).Result())
		want(w, "hello")(w.rdb.Get(w.ctx, k).Result())
		want(w, int64(11))(w.rdb.Append(w.ctx, k, " world").Result())
		want(w, "world")(w.rdb.GetRange(w.ctx, k, 6, -1).Result())
		want(w, "hello world")(w.rdb.GetSet(w.ctx, k, "x").Result())
		want(w, int64(1))(w.rdb.StrLen(w.ctx, k).Result())
		want(w, "x")(w.rdb.GetDel(w.ctx, k).Result())
		want(w, int64(0))(w.rdb.Exists(w.ctx, k).Result())
	}},
	{name: "SET options decide whether the value is written", check: func(w *world) {
		k := w.key("k")
		want(w, true)(w.rdb.SetNX(w.ctx, k, "a", time.Minute).Result())
		want(w, false)(w.rdb.SetNX(w.ctx, k, "b", time.Minute).Result())
		want(w, true)(w.rdb.SetXX(w.ctx, k, "c", redis.KeepTTL).Result())
		want(w, "c")(w.rdb.SetArgs(w.ctx, k, "d", redis.SetArgs{Get: true}).Result())
		want(w, "d")(w.rdb.Get(w.ctx, k).Result())
	}},
	{name: "expiry is set, read and removed", check: func(w *world) {
		k := w.key("k")
		want(w, "OK")(w.rdb.Set(w.ctx, k, "v", time.Hour).Result())
		if d := w.rdb.TTL(w.ctx, k).Val(); d <= 0 || d > time.Hour {
			w.Fatalf("TTL %v, want up to an hour", d)
		}
		want(w, true)(w.rdb.Persist(w.ctx, k).Result())
		want(w, time.Duration(-1))(w.rdb.TTL(w.ctx, k).Result())
		want(w, time.Duration(-2))(w.rdb.TTL(w.ctx, w.key("none")).Result())
	}},
	{name: "many keys are written and read in one command", check: func(w *world) {
		a, b, none := w.key("a"), w.key("b"), w.key("none")
		want(w, "OK")(w.rdb.MSet(w.ctx, a, "1", b, "2").Result())
		want(w, []any{"1", nil, "2"})(w.rdb.MGet(w.ctx, a, none, b).Result())
		want(w, int64(2))(w.rdb.Del(w.ctx, a, b, none).Result())
	}},
	{name: "a missing key is redis.Nil and the connection goes on", check: func(w *world) {
		k := w.key("none")
		each(w, 16, func(i int) error {
			for range 20 {
				if err := w.rdb.Get(w.ctx, k).Err(); err != redis.Nil { //nolint:errorlint // users compare with ==, so it must be the bare value
					return wrongf("GET of a missing key: %v, want redis.Nil itself", err)
				}
				v := fmt.Sprintf("echo-%d", i)
				got, err := w.rdb.Echo(w.ctx, v).Result()
				if err := answer("ECHO", got, err, v); err != nil {
					return err
				}
			}
			return nil
		})
		wantErr(w, w.rdb.HGet(w.ctx, k, "f").Err(), redis.Nil)
		wantErr(w, w.rdb.LPop(w.ctx, k).Err(), redis.Nil)
		wantErr(w, w.rdb.ZScore(w.ctx, k, "m").Err(), redis.Nil)
		wantErr(w, w.rdb.SPop(w.ctx, k).Err(), redis.Nil)
		want(w, []string{})(w.rdb.LRange(w.ctx, k, 0, -1).Result())
		want(w, map[string]string{})(w.rdb.HGetAll(w.ctx, k).Result())
	}},
	{name: "counters lose no increment under 32 goroutines", works: true, check: func(w *world) {
		k := w.key("n")
		each(w, 32, func(int) error {
			for range 25 {
				if err := w.rdb.Incr(w.ctx, k).Err(); err != nil {
					return err
				}
			}
			return nil
		})
		want(w, int64(800))(w.rdb.Get(w.ctx, k).Int64())
		want(w, int64(790))(w.rdb.DecrBy(w.ctx, k, 10).Result())
		want(w, 790.5)(w.rdb.IncrByFloat(w.ctx, k, 0.5).Result())
	}},
	{name: "bits are set, counted and combined", check: func(w *world) {
		a, b, d := w.key("a"), w.key("b"), w.key("d")
		want(w, int64(0))(w.rdb.SetBit(w.ctx, a, 7, 1).Result())
		want(w, int64(1))(w.rdb.GetBit(w.ctx, a, 7).Result())
		want(w, "OK")(w.rdb.Set(w.ctx, b, "\x03", 0).Result())
		want(w, int64(1))(w.rdb.BitOpAnd(w.ctx, d, a, b).Result())
		want(w, "\x01")(w.rdb.Get(w.ctx, d).Result())
		want(w, int64(2))(w.rdb.BitCount(w.ctx, b, nil).Result())
		want(w, int64(7))(w.rdb.BitPos(w.ctx, a, 1).Result())
	}},
	{name: "HyperLogLogs count and merge", check: func(w *world) {
		a, b, m := w.key("a"), w.key("b"), w.key("m")
		want(w, int64(1))(w.rdb.PFAdd(w.ctx, a, "1", "2", "3").Result())
		want(w, int64(1))(w.rdb.PFAdd(w.ctx, b, "3", "4").Result())
		want(w, "OK")(w.rdb.PFMerge(w.ctx, m, a, b).Result())
		want(w, int64(4))(w.rdb.PFCount(w.ctx, m).Result())
	}},
	{name: "keys are renamed, copied, typed and counted", check: func(w *world) {
		a, b := w.key("a"), w.key("b")
		ok(w, w.rdb.Set(w.ctx, a, "v", 0).Err())
		want(w, "string")(w.rdb.Type(w.ctx, a).Result())
		want(w, "OK")(w.rdb.Rename(w.ctx, a, b).Result())
		want(w, int64(1))(w.rdb.Copy(w.ctx, b, a, 0, false).Result())
		want(w, int64(2))(w.rdb.Exists(w.ctx, a, b).Result())
		want(w, int64(2))(w.rdb.Unlink(w.ctx, a, b).Result())
		want(w, "none")(w.rdb.Type(w.ctx, a).Result())
	}},
}
