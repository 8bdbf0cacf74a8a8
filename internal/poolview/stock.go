package poolview

import (
	"context"
	"sync"
	"time"
	"weak"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/internal/safeaddr"
	"github.com/everpool/everpool/pooler"
)

// Statser is a client of go-redis with the pool that it brings along.
type Statser interface{ PoolStats() *redis.PoolStats }

// Stock is what is known of a stock client's pool besides its statistics.
type Stock struct {
	Group     bool // it is of several nodes, of which go-redis doesn't tell bounds
	Pipelines bool // it is the one that go-redis has for pipelines
	MaxIdle   int  // 0: no bound
	MinIdle   int
}

// stockStale is a reason for closing that only go-redis's own pool has.
const stockStale pooler.CloseReason = "stale"

// OptionsOf returns the options of a client of a single node, or nil.
func OptionsOf(c Statser) *redis.Options {
	if single, ok := c.(interface{ Options() *redis.Options }); ok {
		return single.Options()
	}
	return nil
}

// StockPools reads the pools of a stock client, of each of its nodes, and the separate
// ones for pipelines. There is always one, if only of zeros.
func StockPools(c Statser) []Pool {
	o := OptionsOf(c)
	var pools []Pool
	for _, part := range partsOf(c) {
		pools = append(pools, stockPool(o, part, part.stats, false))
		if p := part.stats.PipelineStats; p != nil {
			pools = append(pools, stockPool(o, part, (*redis.PoolStats)(p), true))
		}
	}
	if pools == nil {
		pools = []Pool{stockPool(o, part{}, &redis.PoolStats{}, false)}
	}
	return pools
}

func stockPool(o *redis.Options, part part, s *redis.PoolStats, pipelines bool) Pool {
	// go-redis reads the two one after the other, so that there may seem to be more
	// that are idle than there are.
	idle := min(s.IdleConns, s.TotalConns)
	p := Pool{
		Source: Source{Of: part.of}, Sum: part.sum, Stock: &Stock{Group: o == nil, Pipelines: pipelines},
		NodeStatus: pooler.NodeStatus{Stats: pooler.Stats{
			OpenConnections: int(s.TotalConns), Idle: int(idle), InUse: int(s.TotalConns - idle),
			Waiting: int(s.PendingRequests), WaitCount: int64(s.WaitCount), WaitDuration: time.Duration(s.WaitDurationNs),
			WaitTimeouts: int64(s.Timeouts), Leased: int64(s.Hits) + int64(s.Misses),
			Closes: map[pooler.CloseReason]int64{stockStale: int64(s.StaleConns)},
		}},
	}
	if pipelines {
		p.Source.Nth = 1
	}
	if o == nil {
		return p
	}
	if o.Addr != "FailoverClient" { // what go-redis calls a sentinel's
		p.Addr = safeaddr.Of(o.Addr)
	}
	if p.Stats.MaxOpenConnections = stockBound(o, pipelines); !pipelines {
		p.Stock.MaxIdle, p.Stock.MinIdle = o.MaxIdleConns, o.MinIdleConns
	}
	return p
}

// stockBound is the most connections of a stock client's pool, subscriptions apart: no
// more than PoolSize are in use at a time, whatever MaxActiveConns allows.
func stockBound(o *redis.Options, pipelines bool) int {
	switch {
	case pipelines && o.PipelinePoolSize == 0:
		return redis.DefaultPipelinePoolSize
	case pipelines:
		return o.PipelinePoolSize
	case o.MaxActiveConns > 0:
		return min(o.PoolSize, o.MaxActiveConns)
	}
	return o.PoolSize
}

// part is what a stock client says of one of its nodes, or of all of them together.
type part struct {
	of    any // what tells it apart, and keeps nothing alive
	sum   bool
	stats *redis.PoolStats
}

// partsOf reads a stock client: each node of a cluster or a ring, whose sums go back when
// nodes leave and forth when they come back. A client of another make may be a sum of
// anything. They are nil if there are no statistics.
func partsOf(c Statser) []part {
	switch c := c.(type) {
	case *redis.Client:
		return partOf(weak.Make(c), false, c.PoolStats())
	case *redis.ClusterClient:
		if c.Options().ClusterSlots == nil { // which would be called each time
			return partsOfNodes(c)
		}
	case *redis.Ring:
		return partsOfNodes(c)
	}
	return partOf(nil, true, c.PoolStats())
}

func partOf(of any, sum bool, stats *redis.PoolStats) []part {
	if stats == nil {
		return nil
	}
	return []part{{of, sum, stats}}
}

// partsOfNodes lists the nodes that go-redis knows: with a context that is over it doesn't
// ask the network.
func partsOfNodes(c interface {
	ForEachShard(context.Context, func(context.Context, *redis.Client) error) error
},
) []part {
	over, cancel := context.WithCancel(context.Background())
	cancel()
	var mu sync.Mutex
	var all []part
	_ = c.ForEachShard(over, func(_ context.Context, n *redis.Client) error {
		mu.Lock()
		defer mu.Unlock()
		all = append(all, partOf(weak.Make(n), false, n.PoolStats())...)
		return nil
	})
	return all
}
