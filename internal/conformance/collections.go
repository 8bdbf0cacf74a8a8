package conformance

import (
	"fmt"
	"slices"

	"github.com/redis/go-redis/v9"
)

var collectionGuarantees = []guarantee{
	{name: "hashes hold fields", check: func(w *world) {
		k := w.key("h")
		want(w, int64(2))(w.rdb.HSet(w.ctx, k, "a", "1", "b", "2").Result())
		want(w, "1")(w.rdb.HGet(w.ctx, k, "a").Result())
		want(w, []any{"2", nil})(w.rdb.HMGet(w.ctx, k, "b", "none").Result())
		want(w, map[string]string{"a": "1", "b": "2"})(w.rdb.HGetAll(w.ctx, k).Result())
		want(w, int64(5))(w.rdb.HIncrBy(w.ctx, k, "a", 4).Result())
		want(w, 5.5)(w.rdb.HIncrByFloat(w.ctx, k, "a", 0.5).Result())
		want(w, false)(w.rdb.HSetNX(w.ctx, k, "a", "x").Result())
		want(w, true)(w.rdb.HExists(w.ctx, k, "b").Result())
		want(w, int64(2))(w.rdb.HLen(w.ctx, k).Result())
		want(w, int64(1))(w.rdb.HDel(w.ctx, k, "a", "none").Result())
		want(w, []string{"b"})(w.rdb.HKeys(w.ctx, k).Result())
		want(w, []string{"2"})(w.rdb.HVals(w.ctx, k).Result())
	}},
	{name: "hashes scan into structs", check: func(w *world) {
		k := w.key("h")
		ok(w, w.rdb.HSet(w.ctx, k, "name", "n", "count", 7).Err())
		var got struct {
			Name  string `redis:"name"`
			Count int    `redis:"count"`
		}
		ok(w, w.rdb.HGetAll(w.ctx, k).Scan(&got))
		equal(w, got.Name, "n")
		equal(w, got.Count, 7)
	}},
	{name: "lists keep their order", check: func(w *world) {
		k, d := w.key("l"), w.key("d")
		want(w, int64(3))(w.rdb.RPush(w.ctx, k, "b", "c", "d").Result())
		want(w, int64(4))(w.rdb.LPush(w.ctx, k, "a").Result())
		want(w, []string{"a", "b", "c", "d"})(w.rdb.LRange(w.ctx, k, 0, -1).Result())
		want(w, "b")(w.rdb.LIndex(w.ctx, k, 1).Result())
		want(w, "OK")(w.rdb.LSet(w.ctx, k, 1, "B").Result())
		want(w, int64(5))(w.rdb.LInsertAfter(w.ctx, k, "B", "x").Result())
		want(w, int64(1))(w.rdb.LRem(w.ctx, k, 0, "x").Result())
		want(w, "d")(w.rdb.RPopLPush(w.ctx, k, d).Result())
		want(w, "a")(w.rdb.LMove(w.ctx, k, d, "LEFT", "RIGHT").Result())
		want(w, []string{"d", "a"})(w.rdb.LPopCount(w.ctx, d, 9).Result())
		want(w, "OK")(w.rdb.LTrim(w.ctx, k, 0, 0).Result())
		want(w, int64(1))(w.rdb.LLen(w.ctx, k).Result())
		want(w, "B")(w.rdb.RPop(w.ctx, k).Result())
	}},
	{name: "sets answer membership and algebra", check: func(w *world) {
		a, b := w.key("a"), w.key("b")
		want(w, int64(3))(w.rdb.SAdd(w.ctx, a, "1", "2", "3").Result())
		want(w, int64(2))(w.rdb.SAdd(w.ctx, b, "3", "4").Result())
		want(w, true)(w.rdb.SIsMember(w.ctx, a, "1").Result())
		want(w, []bool{true, false})(w.rdb.SMIsMember(w.ctx, a, "1", "9").Result())
		want(w, []string{"3"})(w.rdb.SInter(w.ctx, a, b).Result())
		want(w, []string{"1", "2", "3", "4"})(sorted(w.rdb.SUnion(w.ctx, a, b).Result()))
		want(w, []string{"1", "2"})(sorted(w.rdb.SDiff(w.ctx, a, b).Result()))
		want(w, true)(w.rdb.SMove(w.ctx, a, b, "1").Result())
		want(w, int64(3))(w.rdb.SCard(w.ctx, b).Result())
		want(w, int64(1))(w.rdb.SRem(w.ctx, b, "1", "none").Result())
		want(w, map[string]struct{}{"2": {}, "3": {}})(w.rdb.SMembersMap(w.ctx, a).Result())
	}},
	{name: "sorted sets rank by score", check: func(w *world) {
		k := w.key("z")
		want(w, int64(3))(w.rdb.ZAdd(w.ctx, k, redis.Z{Score: 1, Member: "a"},
			redis.Z{Score: 2.5, Member: "b"}, redis.Z{Score: 3, Member: "c"}).Result())
		want(w, []string{"a", "b", "c"})(w.rdb.ZRange(w.ctx, k, 0, -1).Result())
		want(w, []redis.Z{{Score: 1, Member: "a"}, {Score: 2.5, Member: "b"}})(w.rdb.ZRangeWithScores(w.ctx, k, 0, 1).Result())
		want(w, []string{"b", "c"})(w.rdb.ZRangeByScore(w.ctx, k, &redis.ZRangeBy{Min: "2", Max: "+inf"}).Result())
		want(w, 2.5)(w.rdb.ZScore(w.ctx, k, "b").Result())
		want(w, int64(1))(w.rdb.ZRank(w.ctx, k, "b").Result())
		want(w, 4.5)(w.rdb.ZIncrBy(w.ctx, k, 2, "b").Result())
		want(w, int64(2))(w.rdb.ZCount(w.ctx, k, "2", "5").Result())
		want(w, []redis.Z{{Score: 1, Member: "a"}})(w.rdb.ZPopMin(w.ctx, k).Result())
		want(w, []redis.Z{{Score: 4.5, Member: "b"}})(w.rdb.ZPopMax(w.ctx, k).Result())
		want(w, int64(1))(w.rdb.ZCard(w.ctx, k).Result())
		want(w, int64(1))(w.rdb.ZRem(w.ctx, k, "c").Result())
	}},
	{name: "geo positions are stored and searched", check: func(w *world) {
		k := w.key("g")
		want(w, int64(2))(w.rdb.GeoAdd(w.ctx, k,
			&redis.GeoLocation{Name: "Palermo", Longitude: 13.361389, Latitude: 38.115556},
			&redis.GeoLocation{Name: "Catania", Longitude: 15.087269, Latitude: 37.502669}).Result())
		km, err := w.rdb.GeoDist(w.ctx, k, "Palermo", "Catania", "km").Result()
		ok(w, err)
		if km < 166 || km > 167 {
			w.Fatalf("distance %v km, want 166-167", km)
		}
		pos, err := w.rdb.GeoPos(w.ctx, k, "Palermo", "none").Result()
		ok(w, err)
		if len(pos) != 2 || pos[0] == nil || pos[1] != nil {
			w.Fatalf("positions %v, want one and a nil", pos)
		}
		want(w, []string{"Palermo"})(w.rdb.GeoSearch(w.ctx, k, &redis.GeoSearchQuery{
			Longitude: 13.4, Latitude: 38.1, Radius: 50, RadiusUnit: "km",
		}).Result())
	}},
	{name: "replies with 10,000 elements arrive whole, side by side", works: true, check: func(w *world) {
		const n = 10_000
		list, hash := w.key("list"), w.key("hash")
		keys, vals, pairs := make([]string, n), make([]any, n), make([]any, 0, 2*n)
		wantList, wantHash, wantVals := make([]string, n), map[string]string{}, make([]any, n)
		for i := range n {
			keys[i] = w.key(fmt.Sprint("s", i))
			v := fmt.Sprintf("value-%d", i)
			vals[i], wantList[i], wantVals[i] = v, v, v
			wantHash[keys[i]] = v
			pairs = append(pairs, keys[i], v)
		}
		want(w, int64(n))(w.rdb.RPush(w.ctx, list, vals...).Result())
		want(w, int64(n))(w.rdb.HSet(w.ctx, hash, pairs...).Result())
		want(w, "OK")(w.rdb.MSet(w.ctx, pairs...).Result())
		each(w, 6, func(i int) error {
			switch i % 3 {
			case 0:
				got, err := w.rdb.LRange(w.ctx, list, 0, -1).Result()
				if err != nil || !slices.Equal(got, wantList) {
					return wrongf("LRANGE: %d elements or their order wrong, error %v", len(got), err)
				}
			case 1:
				got, err := w.rdb.HGetAll(w.ctx, hash).Result()
				if err != nil || len(got) != n || got[keys[n-1]] != wantHash[keys[n-1]] {
					return wrongf("HGETALL: %d fields, error %v", len(got), err)
				}
			case 2:
				got, err := w.rdb.MGet(w.ctx, keys...).Result()
				if err != nil || !slices.Equal(got, wantVals) {
					return wrongf("MGET: %d elements or their order wrong, error %v", len(got), err)
				}
			}
			return nil
		})
	}},
}

// sorted orders a reply whose order the server leaves open.
func sorted(v []string, err error) ([]string, error) {
	slices.Sort(v)
	return v, err
}
