package promhooks

import (
	"errors"
	"math"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/hooks"
	"github.com/everpool/everpool/internal/guard"
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
// which is for each node there, is left out. A scrape calls PoolStats, which may
// ask the network for a cluster's nodes; should it panic, the scrape has an error.
//
// On everpool the stock pool's statistics count handles, not connections: use
// [Pool] there.
type StockPool struct {
	client PoolStatser
	node   string
	max    float64 // NaN: not known
	descs  *poolDescs

	scraping sync.Mutex // see Pool
	history  history
}

var _ prometheus.Collector = (*StockPool)(nil)

// NewStockPool returns the metrics of s. client is as for [New]; of one name there
// can be a Pool or a StockPool in a registry, not both. s must not be nil, nor a nil
// pointer.
func NewStockPool(client string, s PoolStatser, opts ...Option) (*StockPool, error) {
	cfg, err := newConfig(client, opts)
	if guard.IsNil(s) {
		err = errors.Join(err, errors.New("promhooks: NewStockPool: s is nil; a client is required"))
	}
	if err != nil {
		return nil, err
	}
	p := &StockPool{client: s, max: math.NaN(), descs: newPoolDescs(client, &cfg), history: make(history)}
	if c, ok := s.(interface{ Options() *redis.Options }); ok {
		o := c.Options()
		p.max = stockMax(o)
		if o.Addr != "FailoverClient" { // what go-redis calls a sentinel's
			p.node = hooks.SafeAddr(o.Addr)
		}
	}
	return p, nil
}

// stockMax is the most connections that a client opens, subscriptions apart: no more
// than PoolSize are in use at a time, whatever MaxActiveConns allows.
func stockMax(o *redis.Options) float64 {
	most := o.PoolSize
	if o.MaxActiveConns > 0 {
		most = min(most, o.MaxActiveConns)
	}
	switch {
	case o.PipelinePoolSize > 0:
		most += o.PipelinePoolSize
	case o.PipelinePoolSize == 0:
		most += redis.DefaultPipelinePoolSize
	}
	return float64(most)
}

// Describe is for Prometheus.
func (p *StockPool) Describe(ch chan<- *prometheus.Desc) { p.descs.describeStock(ch) }

// Collect is for Prometheus.
func (p *StockPool) Collect(ch chan<- prometheus.Metric) {
	p.scraping.Lock()
	defer p.scraping.Unlock()
	stats, err := read(p.client.PoolStats)
	if err != nil {
		ch <- prometheus.NewInvalidMetric(p.descs.connections, err)
		return
	}
	t := total(stats)
	idle, used := float64(t.idle), float64(t.open-t.idle)
	s, d := &scrape{ch: ch, history: p.history}, p.descs
	s.gauge(d.connections, idle, p.node, "idle")
	s.gauge(d.connections, used, p.node, "used")
	s.counter(d.waits, float64(t.waits), p.node)
	s.counter(d.waitSeconds, t.waited.Seconds(), p.node)
	s.counter(d.timeouts, float64(t.timeouts), p.node)
	s.counter(d.closes, float64(t.stale), p.node, "stale")
	s.counter(d.requests, float64(t.taken), p.node, "leased")
	if !math.IsNaN(p.max) {
		s.gauge(d.max, p.max, p.node)
		s.gauge(d.maxSize, p.max)
	}
	s.gauge(d.idle, idle)
	s.gauge(d.active, used)
	s.gauge(d.size, float64(t.open), p.node)
	s.gauge(d.sizeActive, used, p.node)
	s.gauge(d.sizeIdle, idle, p.node)
}

// stockTotal is both pools together.
type stockTotal struct {
	open, idle                    int64
	taken, waits, timeouts, stale int64
	waited                        time.Duration
}

func total(s *redis.PoolStats) (t stockTotal) {
	if s == nil {
		return t
	}
	add := func(open, idle, hits, misses, waits, timeouts, stale uint32, waited int64) {
		t.open += int64(open)
		t.idle += int64(min(idle, open)) // they aren't read at one moment
		t.taken += int64(hits) + int64(misses)
		t.waits += int64(waits)
		t.timeouts += int64(timeouts)
		t.stale += int64(stale)
		t.waited += time.Duration(waited)
	}
	add(s.TotalConns, s.IdleConns, s.Hits, s.Misses, s.WaitCount, s.Timeouts, s.StaleConns, s.WaitDurationNs)
	if s := s.PipelineStats; s != nil {
		add(s.TotalConns, s.IdleConns, s.Hits, s.Misses, s.WaitCount, s.Timeouts, s.StaleConns, s.WaitDurationNs)
	}
	return t
}
