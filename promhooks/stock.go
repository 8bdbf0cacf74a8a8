package promhooks

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/internal/guard"
	"github.com/everpool/everpool/internal/poolview"
)

// PoolStatser is a client of go-redis: a redis.Client, ClusterClient or Ring.
type PoolStatser interface {
	PoolStats() *redis.PoolStats
}

// StockPool are the metrics of a client on go-redis's own pool, by the same names
// as those of [Pool] as far as it has them: connections (idle and used; those of
// subscriptions aren't in), max_connections, waits_total, wait_seconds_total,
// timeouts_total, closes_total (stale), requests_total (leased: how often a
// connection was taken, retries included). The separate pool that go-redis has for
// pipelines is added. It is a collector.
//
// The label node is the client's address; it is empty for a cluster, a ring or a
// sentinel's client, whose nodes are all counted together, and max_connections,
// which is for each node there, is left out. Counters are read of each node, so that
// nodes may leave and come back. Of a client of another make, and of a cluster's with
// ClusterSlots, there is only PoolStats: if its counters go back, those here stand still
// until they are overtaken. Should PoolStats panic, the scrape has an error.
//
// On everpool the stock pool's statistics count handles, not connections: use
// [Pool] there.
type StockPool struct {
	client PoolStatser
	reader *reader
}

var _ prometheus.Collector = (*StockPool)(nil)

// NewStockPool returns the metrics of s. client is as for [NewMetrics]; of one name there
// can be a Pool or a StockPool in a registry, not both. s must not be nil, nor a nil
// pointer.
func NewStockPool(client string, s PoolStatser, settings ...Setting) (*StockPool, error) {
	cfg, err := newConfig(client, settings)
	if guard.IsNil(s) {
		err = errors.Join(err, errors.New("promhooks: NewStockPool: s is nil; a client is required"))
	}
	if err != nil {
		return nil, err
	}
	return &StockPool{s, newReader(client, &cfg, func(m *poolview.Metric) bool { return m.Stock != nil })}, nil
}

// Describe is for Prometheus.
func (p *StockPool) Describe(ch chan<- *prometheus.Desc) { p.reader.describe(ch) }

// Collect is for Prometheus.
func (p *StockPool) Collect(ch chan<- prometheus.Metric) {
	_ = p.reader.collect(ch, func() []poolview.Pool { return poolview.StockPools(p.client) }, // which says of an error itself
		func(n *poolview.Pool) string { return n.Addr })
}
