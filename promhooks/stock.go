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
	node   string
	max    float64 // NaN: not known
	descs  *poolDescs

	single bool // it is one node's, not several nodes'

	scraping sync.Mutex // see Pool
	counters counters
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
	p := &StockPool{client: s, max: math.NaN(), descs: newPoolDescs(client, &cfg)}
	if c, ok := s.(interface{ Options() *redis.Options }); ok {
		o := c.Options()
		p.single = true
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
	parts, err := read(func() []poolview.Part { return poolview.Parts(p.client) })
	if err != nil {
		ch <- prometheus.NewInvalidMetric(p.descs.connections, err)
		return
	}
	s, d := &scrape{ch: ch, counters: &p.counters}, p.descs
	p.counters.Begin()
	var sum stockTotal
	if len(parts) == 0 { // nothing yet
		p.count(s, &stockTotal{})
	}
	for _, part := range parts {
		t := total(part.Stats)
		s.source, s.sum = poolview.Source{Of: part.Of}, part.Sum
		p.count(s, &t)
		sum.open += t.open
		sum.idle += t.idle
		sum.waiting += t.waiting
	}
	s.end(d)
	idle, used := float64(sum.idle), float64(sum.open-sum.idle)
	s.gauge(d.connections, idle, p.node, "idle")
	s.gauge(d.connections, used, p.node, "used")
	if p.single { // go-redis doesn't tell it of others
		s.gauge(d.waiting, float64(sum.waiting), p.node)
	}
	if !math.IsNaN(p.max) {
		s.gauge(d.max, p.max, p.node)
		s.gauge(d.maxSize, p.max)
	}
	s.gauge(d.idle, idle)
	s.gauge(d.active, used)
	s.gauge(d.size, float64(sum.open), p.node)
	s.gauge(d.sizeActive, used, p.node)
	s.gauge(d.sizeIdle, idle, p.node)
}

// count takes in the counters of one part.
func (p *StockPool) count(s *scrape, t *stockTotal) {
	d := p.descs
	s.counter(d.waits, t.waits, p.node)
	s.counter(d.waitSeconds, int64(t.waited), p.node)
	s.counter(d.timeouts, t.timeouts, p.node)
	s.counter(d.closes, t.stale, p.node, "stale")
	s.counter(d.requests, t.taken, p.node, "leased")
}

// stockTotal is both pools together.
type stockTotal struct {
	open, idle, waiting           int64
	taken, waits, timeouts, stale int64
	waited                        time.Duration
}

func total(s *redis.PoolStats) (t stockTotal) {
	t.add(s)
	if s.PipelineStats != nil {
		t.add((*redis.PoolStats)(s.PipelineStats))
	}
	return t
}

func (t *stockTotal) add(s *redis.PoolStats) {
	t.open += int64(s.TotalConns)
	t.idle += int64(min(s.IdleConns, s.TotalConns)) // they aren't read at one moment
	t.waiting += int64(s.PendingRequests)
	t.taken += int64(s.Hits) + int64(s.Misses)
	t.waits += int64(s.WaitCount)
	t.timeouts += int64(s.Timeouts)
	t.stale += int64(s.StaleConns)
	t.waited += time.Duration(s.WaitDurationNs)
}
