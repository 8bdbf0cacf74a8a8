package poolview

import (
	"context"
	"sync"
	"weak"

	"github.com/redis/go-redis/v9"
)

// Statser is a client of go-redis with the pool that it brings along.
type Statser interface{ PoolStats() *redis.PoolStats }

// Part is one pool of a stock client.
type Part struct {
	Of    any // what tells it apart, and keeps nothing alive
	Sum   bool
	Stats *redis.PoolStats
}

// Parts reads the pools of a stock client: those of each node of a cluster or a ring,
// whose sums go back when nodes leave and forth when they come back. A client of
// another make may be a sum of anything. They are nil if there are no statistics.
func Parts(c Statser) []Part {
	switch c := c.(type) {
	case *redis.Client:
		return part(weak.Make(c), false, c.PoolStats())
	case *redis.ClusterClient:
		if c.Options().ClusterSlots == nil { // which would be called each time
			return nodes(c)
		}
	case *redis.Ring:
		return nodes(c)
	}
	return part(nil, true, c.PoolStats())
}

func part(of any, sum bool, stats *redis.PoolStats) []Part {
	if stats == nil {
		return nil
	}
	return []Part{{Of: of, Sum: sum, Stats: stats}}
}

// nodes lists the nodes that go-redis knows: with a context that is over it doesn't ask
// the network.
func nodes(c interface {
	ForEachShard(context.Context, func(context.Context, *redis.Client) error) error
},
) []Part {
	over, cancel := context.WithCancel(context.Background())
	cancel()
	var mu sync.Mutex
	all := []Part{}
	_ = c.ForEachShard(over, func(_ context.Context, n *redis.Client) error {
		mu.Lock()
		defer mu.Unlock()
		all = append(all, part(weak.Make(n), false, n.PoolStats())...)
		return nil
	})
	return all
}
