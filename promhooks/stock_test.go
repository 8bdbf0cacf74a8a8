package promhooks_test

import (
	"context"
	"math"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/promhooks"
)

// What go-redis's own pool knows has the names that everpool's has.
func TestTheStockPoolHasTheSameNames(t *testing.T) {
	s := testkit.Start(t, testkit.Redis)
	rdb := redis.NewClient(&redis.Options{Addr: s.Addr, PoolSize: 5, PipelinePoolSize: 3})
	defer rdb.Close()
	reg := registry(t, must(promhooks.NewStockPool("test", rdb, promhooks.WithBaseplateNames(), promhooks.WithRedisManagerNames()))(t))
	rdb.Ping(t.Context())
	rdb.Ping(t.Context())
	if _, err := rdb.Pipelined(t.Context(), func(p redis.Pipeliner) error { return p.Ping(t.Context()).Err() }); err != nil {
		t.Fatal(err)
	}
	node := `node="` + s.Addr + `"`
	gather(t, reg).want(t, samples{
		`redis_client_pool_connections{` + node + `,state="idle"}`:    2, // one of them in the pool for pipelines
		`redis_client_pool_connections{` + node + `,state="used"}`:    0,
		`redis_client_pool_max_connections{` + node + `}`:             8,
		`redis_client_pool_waits_total{` + node + `}`:                 0,
		`redis_client_pool_timeouts_total{` + node + `}`:              0,
		`redis_client_pool_requests_total{` + node + `,way="leased"}`: 3,
		`redis_client_pool_max_size{redis_pool="test"}`:               8,
		`redis_client_pool_idle_connections{redis_pool="test"}`:       2,
		`redis_pool_size{node_redis_url="` + s.Addr + `"}`:            2,
		`redis_client_pool_node_up{` + node + `}`:                     math.NaN(), // nobody knows
	})
}

// Statistics of both pools are added up, and counters never fall.
func TestStockCountersNeverFall(t *testing.T) {
	stats := &stockStats{stats: redis.PoolStats{
		Hits: 10, Misses: 2, Timeouts: 3, WaitCount: 4, WaitDurationNs: int64(time.Second), TotalConns: 5, IdleConns: 2, StaleConns: 6,
	}}
	reg := registry(t, must(promhooks.NewStockPool("test", stats))(t))
	want := samples{
		`redis_client_pool_connections{node="",state="used"}`:    3,
		`redis_client_pool_requests_total{node="",way="leased"}`: 12,
		`redis_client_pool_timeouts_total{node=""}`:              3,
		`redis_client_pool_waits_total{node=""}`:                 4,
		`redis_client_pool_wait_seconds_total{node=""}`:          1,
		`redis_client_pool_closes_total{node="",reason="stale"}`: 6,
		`redis_client_pool_max_connections{node=""}`:             math.NaN(), // not known
	}
	gather(t, reg).want(t, want)
	stats.stats.Hits, stats.stats.WaitCount, stats.stats.TotalConns = 1, 0, 2 // a node has left the cluster
	want[`redis_client_pool_connections{node="",state="used"}`] = 0
	gather(t, reg).want(t, want)
}

// A cluster's client has no address, and its bound is for each node.
func TestAGroupOfNodesHasNoAddress(t *testing.T) {
	ring := redis.NewRing(&redis.RingOptions{Addrs: map[string]string{"a": "127.0.0.1:1"}})
	defer ring.Close()
	sentinel := redis.NewFailoverClient(&redis.FailoverOptions{MasterName: "m", SentinelAddrs: []string{"127.0.0.1:1"}})
	defer sentinel.Close()
	for _, c := range []promhooks.PoolStatser{ring, sentinel} {
		got := gather(t, registry(t, must(promhooks.NewStockPool("test", c))(t)))
		got.want(t, samples{`redis_client_pool_connections{node="",state="idle"}`: 0})
	}
}

// The bound is that of both pools, with go-redis's defaults.
func TestTheStockPoolsBound(t *testing.T) {
	for _, c := range []struct {
		options redis.Options
		want    float64
	}{
		{redis.Options{PoolSize: 5}, 5 + redis.DefaultPipelinePoolSize},
		{redis.Options{PoolSize: 5, PipelinePoolSize: 3}, 8},
		{redis.Options{PoolSize: 5, PipelinePoolSize: -1}, 5},
		{redis.Options{PoolSize: 5, PipelinePoolSize: -1, MaxActiveConns: 9}, 5},
		{redis.Options{PoolSize: 5, PipelinePoolSize: -1, MaxActiveConns: 3}, 3},
		{redis.Options{PoolSize: 5, PipelinePoolSize: 3, MaxActiveConns: 9}, 8},
	} {
		c.options.Addr = "a:1"
		rdb := redis.NewClient(&c.options)
		defer rdb.Close()
		gather(t, registry(t, must(promhooks.NewStockPool("test", rdb))(t))).want(t, samples{`redis_client_pool_max_connections{node="a:1"}`: c.want})
	}
}

// A node that leaves a group and comes back has what it had: nothing is counted twice,
// and what others do meanwhile is counted.
func TestANodeThatComesBackIsNoSurplus(t *testing.T) {
	one, two := testkit.Start(t, testkit.Redis), testkit.Start(t, testkit.Redis)
	ring := redis.NewRing(&redis.RingOptions{Addrs: map[string]string{"a": one.Addr, "b": two.Addr}})
	defer ring.Close()
	reg := registry(t, must(promhooks.NewStockPool("test", ring))(t))
	const taken = `redis_client_pool_requests_total{node="",way="leased"}`
	ping := func() {
		if err := ring.ForEachShard(t.Context(), func(ctx context.Context, c *redis.Client) error { return c.Ping(ctx).Err() }); err != nil {
			t.Fatal(err)
		}
	}
	sum := func() float64 {
		s := ring.PoolStats()
		return float64(s.Hits + s.Misses)
	}
	ping()
	before := gather(t, reg)[taken]
	if before < 2 || before != sum() {
		t.Fatalf("%v requests, go-redis says %v", before, sum())
	}
	ring.SetAddrs(map[string]string{"b": two.Addr})
	ping()
	ping()
	if got := gather(t, reg)[taken]; got < before+2 {
		t.Errorf("%v after a node has left, %v before", got, before)
	}
}

// The same of a client of which only sums are known: what falls and rises again is what
// was counted before.
func TestASumThatComesBackIsNoSurplus(t *testing.T) {
	stats := &stockStats{}
	reg := registry(t, must(promhooks.NewStockPool("test", stats))(t))
	for _, step := range []struct{ raw, want uint32 }{{100, 100}, {60, 100}, {100, 100}, {110, 110}} {
		stats.stats.Timeouts = step.raw
		gather(t, reg).want(t, samples{`redis_client_pool_timeouts_total{node=""}`: float64(step.want)})
	}
}
