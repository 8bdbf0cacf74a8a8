package conformance

import (
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
)

var protocolGuarantees = []guarantee{
	{name: "RESP2 and RESP3 give the same values", check: func(w *world) {
		two := w.client(func(o *redis.Options) { o.Protocol = 2 })
		three := w.client(func(o *redis.Options) { o.Protocol = 3 })
		h, z, s, x, g := w.key("h"), w.key("z"), w.key("s"), w.key("x"), w.key("g")
		_, err := w.rdb.Pipelined(w.ctx, func(p redis.Pipeliner) error {
			p.HSet(w.ctx, h, "a", "1", "b", "2.5")
			p.ZAdd(w.ctx, z, redis.Z{Score: 1.25, Member: "a"}, redis.Z{Score: 2, Member: "b"})
			p.SAdd(w.ctx, s, "only")
			p.XAdd(w.ctx, &redis.XAddArgs{Stream: x, ID: "1-1", Values: []string{"f", "v"}})
			p.GeoAdd(w.ctx, g, &redis.GeoLocation{Name: "m", Longitude: 13.4, Latitude: 52.5})
			return nil
		})
		ok(w, err)
		same(w, two, three, "HGETALL", func(c redis.UniversalClient) (map[string]string, error) { return c.HGetAll(w.ctx, h).Result() })
		same(w, two, three, "HINCRBYFLOAT", func(c redis.UniversalClient) (float64, error) { return c.HIncrByFloat(w.ctx, h, "a", 0).Result() })
		same(w, two, three, "ZRANGE WITHSCORES", func(c redis.UniversalClient) ([]redis.Z, error) { return c.ZRangeWithScores(w.ctx, z, 0, -1).Result() })
		same(w, two, three, "ZSCORE", func(c redis.UniversalClient) (float64, error) { return c.ZScore(w.ctx, z, "a").Result() })
		same(w, two, three, "ZINCRBY", func(c redis.UniversalClient) (float64, error) { return c.ZIncrBy(w.ctx, z, 0, "a").Result() })
		same(w, two, three, "ZRANDMEMBER", func(c redis.UniversalClient) (int, error) {
			v, err := c.ZRandMemberWithScores(w.ctx, z, 2).Result()
			return len(v), err
		})
		same(w, two, three, "ZUNION WITHSCORES", func(c redis.UniversalClient) ([]redis.Z, error) {
			return c.ZUnionWithScores(w.ctx, redis.ZStore{Keys: []string{z, z}}).Result()
		})
		same(w, two, three, "SMEMBERS", func(c redis.UniversalClient) ([]string, error) { return c.SMembers(w.ctx, s).Result() })
		same(w, two, three, "SISMEMBER", func(c redis.UniversalClient) (bool, error) { return c.SIsMember(w.ctx, s, "only").Result() })
		same(w, two, three, "XRANGE", func(c redis.UniversalClient) ([]redis.XMessage, error) { return c.XRange(w.ctx, x, "-", "+").Result() })
		same(w, two, three, "XREAD", func(c redis.UniversalClient) ([]redis.XStream, error) {
			return c.XRead(w.ctx, &redis.XReadArgs{Streams: []string{x, "0"}, Block: -1}).Result()
		})
		same(w, two, three, "GEODIST", func(c redis.UniversalClient) (float64, error) { return c.GeoDist(w.ctx, g, "m", "m", "m").Result() })
		same(w, two, three, "GEOPOS", func(c redis.UniversalClient) ([]*redis.GeoPos, error) {
			return c.GeoPos(w.ctx, g, "m", "none").Result()
		})
		same(w, two, three, "EVAL", func(c redis.UniversalClient) (any, error) {
			return c.Eval(w.ctx, `return {1, "a", {"b"}}`, nil).Result()
		})
		wantErr(w, two.Get(w.ctx, w.key("none")).Err(), redis.Nil)
		wantErr(w, three.Get(w.ctx, w.key("none")).Err(), redis.Nil)
	}},
	{name: "RESP2 and RESP3 give the same values of server commands", check: func(w *world) {
		two := w.client(func(o *redis.Options) { o.Protocol = 2 })
		three := w.client(func(o *redis.Options) { o.Protocol = 3 })
		same(w, two, three, "CONFIG GET", func(c redis.UniversalClient) (map[string]string, error) {
			return c.ConfigGet(w.ctx, "maxmemory*").Result()
		})
		same(w, two, three, "COMMAND INFO", func(c redis.UniversalClient) (int, error) {
			v, err := c.Do(w.ctx, "COMMAND", "INFO", "get", "nosuch").Slice()
			return len(v), err
		})
		// Verbatim strings lose their format prefix.
		same(w, two, three, "LOLWUT", func(c redis.UniversalClient) (bool, error) {
			v, err := c.Do(w.ctx, "LOLWUT", "VERSION", "0").Text()
			return strings.Contains(v, "ver"), err
		})
		same(w, two, three, "INFO", func(c redis.UniversalClient) (bool, error) {
			v, err := c.Info(w.ctx, "server").Result()
			return strings.HasPrefix(v, "# Server"), err
		})
		same(w, two, three, "ACL GETUSER", func(c redis.UniversalClient) (bool, error) {
			v, err := c.Do(w.ctx, "ACL", "GETUSER", "default").Result()
			return v != nil, err
		})
	}},
	{name: "RESP3's own types arrive as Go values", check: func(w *world) {
		three := w.client(func(o *redis.Options) { o.Protocol = 3 })
		for _, reply := range []struct {
			lua  string
			want any
		}{
			{`return true`, true},
			{`return false`, false},
			{`return {double = 2.5}`, 2.5},
			{`return {map = {a = 1}}`, map[any]any{"a": int64(1)}},
			{`return {set = {a = true}}`, []any{"a"}},
			{`return {{double = -0.5}, {map = {}}, true, "s"}`, []any{-0.5, map[any]any{}, true, "s"}},
		} {
			got, err := three.Eval(w.ctx, "redis.setresp(3) "+reply.lua, nil).Result()
			ok(w, err)
			equal(w, got, reply.want)
		}
		wantErr(w, three.Eval(w.ctx, "redis.setresp(3) return nil", nil).Err(), redis.Nil)
		want(w, "on")(three.Echo(w.ctx, "on").Result())
	}},
}

// same compares what a command gives over RESP2 and RESP3.
func same[V any](t testing.TB, two, three redis.UniversalClient, what string, run func(redis.UniversalClient) (V, error)) {
	t.Helper()
	v2, err := run(two)
	if err != nil {
		t.Fatalf("%s over RESP2: %v", what, err)
	}
	v3, err := run(three)
	if err != nil {
		t.Fatalf("%s over RESP3: %v", what, err)
	}
	equal(t, v3, v2)
}
