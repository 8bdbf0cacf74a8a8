package otelhooks

import (
	"cmp"
	"errors"
	"strconv"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/hooks"
	"github.com/everpool/everpool/internal/guard"
	"github.com/everpool/everpool/internal/poolview"
)

// StockPool is a client of go-redis with the pool that it brings along.
type StockPool interface {
	// PoolStats is called at each collection. Should it panic, the collection fails.
	PoolStats() *redis.PoolStats
}

// Registration is of metrics that are collected until it is closed.
type Registration struct {
	collector *collector
	once      sync.Once
	err       error
}

// Close ends it: nothing is collected any more. It waits for a collection that is
// under way, and may be called again.
func (r *Registration) Close() error {
	r.once.Do(func() { r.err = r.collector.registration.Unregister() })
	return r.err
}

// stockMetrics are what a stock pool can tell.
var stockMetrics = []*poolMetric{
	connectionCount, connectionMax, connectionIdleMax, connectionIdleMin, pendingRequests, connectionTimeouts,
}

// stockPool is one that is registered.
type stockPool struct {
	client  StockPool
	name    string
	options *redis.Options // nil if the client stands for several nodes
}

// RegisterStockPool reports the pool of a client that doesn't stand on everpool,
// by the semantic conventions' names, until it is closed. (One that does has no
// connections of its own: see [PoolMetrics].) name is the pool's, and has to be
// unique; if it is "", it is "address:port/db", for a [redis.Client], without what
// may be a password ([hooks.SafeAddr]). The separate pool for pipelines that
// go-redis makes is reported as name + "/pipeline".
//
// Of a [redis.ClusterClient] or a [redis.Ring] the sums over its nodes are
// reported, and neither bounds nor pending requests, which go-redis doesn't tell.
// Counters are read of each node, so that nodes may leave and come back. Of a client of
// another make, and of a ClusterClient with ClusterSlots, there is only PoolStats: if
// its counters go backwards, those here stand still until they are overtaken.
//
// It fails if client is nil, or a nil pointer, if there is no name or one like a URL's,
// which may hold a password, if an option is wrong, or if the provider refuses an
// instrument.
func RegisterStockPool(client StockPool, name string, opts ...PoolOption) (*Registration, error) {
	cfg, err := newPoolConfig(opts)
	if guard.IsNil(client) {
		return nil, errors.Join(err, errors.New("otelhooks: RegisterStockPool: client is nil"))
	}
	if strings.Contains(name, "://") || strings.Contains(name, "@") {
		err = errors.Join(err, errors.New("otelhooks: RegisterStockPool: name has :// or @ in it, as URLs have; a URL may hold a password, leave the name empty for the address"))
	}
	s := &stockPool{client: client, name: name}
	if single, ok := client.(interface{ Options() *redis.Options }); ok {
		s.options = single.Options()
	}
	if s.name == "" && s.options != nil {
		s.name = hooks.SafeAddr(s.options.Addr) + "/" + strconv.Itoa(s.options.DB)
	}
	if s.name == "" {
		err = errors.Join(err, errors.New(`otelhooks: RegisterStockPool: name is ""; only a redis.Client has one by default`))
	}
	if err != nil {
		return nil, err
	}
	c, err := newCollector(&cfg.meterConfig, stockMetrics, s.read)
	if err != nil {
		return nil, err
	}
	return &Registration{collector: c}, nil
}

// read reads the pool and the one for pipelines.
func (s *stockPool) read(add addFunc) {
	parts := poolview.Parts(s.client)
	pipelines := s.name + "/pipeline"
	both := false
	for _, part := range parts {
		s.readPool(part, part.Stats, s.name, add)
		if p := part.Stats.PipelineStats; p != nil {
			both = true
			s.readPool(part, (*redis.PoolStats)(p), pipelines, add)
		}
	}
	if o := s.options; o != nil && len(parts) > 0 {
		s.readBounds(add)
		if both {
			s.gauge(add, reading{of: connectionMax, pool: pipelines}, int64(cmp.Or(o.PipelinePoolSize, redis.DefaultPipelinePoolSize)))
		}
	}
}

func (s *stockPool) readPool(part poolview.Part, stats *redis.PoolStats, name string, add addFunc) {
	// go-redis reads the two one after the other, so that there may seem to be
	// more that are idle than there are.
	idle, all := int64(stats.IdleConns), int64(stats.TotalConns)
	s.gauge(add, reading{connectionCount, name, "idle"}, min(idle, all))
	s.gauge(add, reading{connectionCount, name, "used"}, max(0, all-idle))
	add(reading{of: connectionTimeouts, pool: name}, poolview.Source{Of: part.Of}, part.Sum, int64(stats.Timeouts))
	if s.options != nil {
		s.gauge(add, reading{of: pendingRequests, pool: name}, int64(stats.PendingRequests))
	}
}

// readBounds reads what is configured, where 0 is no bound.
func (s *stockPool) readBounds(add addFunc) {
	o := s.options
	most := o.PoolSize
	if o.MaxActiveConns > 0 {
		most = min(most, o.MaxActiveConns)
	}
	s.gauge(add, reading{of: connectionMax, pool: s.name}, int64(most))
	if o.MaxIdleConns > 0 {
		s.gauge(add, reading{of: connectionIdleMax, pool: s.name}, int64(o.MaxIdleConns))
	}
	s.gauge(add, reading{of: connectionIdleMin, pool: s.name}, int64(o.MinIdleConns))
}

func (*stockPool) gauge(add addFunc, r reading, v int64) { add(r, poolview.Source{}, false, v) }
