package otelhooks

import (
	"errors"
	"strconv"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/hooks"
	"github.com/everpool/everpool/internal/guard"
	"github.com/everpool/everpool/internal/poolview"
	"github.com/everpool/everpool/internal/safeaddr"
)

// PoolStatser is a client of go-redis with the pool that it brings along.
type PoolStatser interface {
	// PoolStats is called at each collection. Should it panic, the collection fails.
	PoolStats() *redis.PoolStats
}

// StockPool are the metrics of a client on go-redis's own pool. They are collected
// until it is closed.
type StockPool struct {
	collector *collector
	once      sync.Once
	err       error
}

// NewStockPool reports the pool of a client that doesn't stand on everpool,
// by the semantic conventions' names, until it is closed. (One that does has no
// connections of its own: see [Pool].) name is the pool's, and has to be
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
// which may hold a password, if a setting is wrong, or if the provider refuses an
// instrument.
func NewStockPool(name string, client PoolStatser, settings ...Setting) (*StockPool, error) {
	cfg, err := newConfig(settings)
	if guard.IsNil(client) {
		return nil, errors.Join(err, errors.New("otelhooks: NewStockPool: client is nil"))
	}
	if safeaddr.MaybeURL(name) {
		err = errors.Join(err, errors.New("otelhooks: NewStockPool: name has :// or @ in it, as URLs have; a URL may hold a password, leave the name empty for the address"))
	}
	if o := poolview.OptionsOf(client); name == "" && o != nil {
		name = hooks.SafeAddr(o.Addr) + "/" + strconv.Itoa(o.DB)
	}
	if name == "" {
		err = errors.Join(err, errors.New(`otelhooks: NewStockPool: name is ""; only a redis.Client has one by default`))
	}
	if err != nil {
		return nil, err
	}
	// Of everpool's own names a stock pool has none.
	tells := func(m *poolview.Metric) bool { return m.Stock != nil && !strings.HasPrefix(m.OTel, "everpool.") }
	c, err := newCollector(&cfg, tells, func() []poolview.Pool { return poolview.StockPools(client) }, func(p *poolview.Pool) string {
		if p.Stock.Pipelines {
			return name + "/pipeline"
		}
		return name
	})
	if err != nil {
		return nil, err
	}
	return &StockPool{collector: c}, nil
}

// Close ends it: nothing is collected any more. It waits for a collection that is
// under way, and may be called again.
func (p *StockPool) Close() error {
	p.once.Do(func() { p.err = p.collector.registration.Unregister() })
	return p.err
}
