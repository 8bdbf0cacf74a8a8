package otelhooks

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/semconv/v1.43.0/dbconv"

	"github.com/everpool/everpool/hooks"
	"github.com/everpool/everpool/internal/guard"
	"github.com/everpool/everpool/internal/poolview"
	"github.com/everpool/everpool/pooler"
)

// Nodes is what has pools: a driver.Driver does.
type Nodes interface {
	// Nodes returns the state of every node. It is called at each collection and
	// should do no network I/O. Should it panic, the collection fails.
	Nodes() []pooler.NodeStatus
}

// PoolMetrics are the metrics of everpool's pools. Make it with [NewPoolMetrics];
// then there are two things to do:
//
//	cfg.Pool = pools.Instrument(cfg.Pool) // before the driver is made: how long dials and waits take
//	err := pools.Register(d)              // when it is made: everything else
//
// One is for one driver, or for several that end together. It is safe for
// concurrent use.
type PoolMetrics struct {
	cfg       poolConfig
	create    metric.Float64Histogram
	wait      metric.Float64Histogram
	outage    metric.Float64Histogram
	series    cache[string, *series] // by the node's address
	collector *collector

	mu     sync.Mutex // never held while others are called
	nodes  []Nodes
	closed atomic.Bool // set under mu
}

// maxNodes bounds the nodes that something is kept for.
const maxNodes = 1024

// errPoolsClosed is the error of registering with metrics that are closed.
var errPoolsClosed = errors.New("otelhooks: Register: the metrics are closed")

// NewPoolMetrics makes the instruments and registers them with the provider;
// nothing is reported until there is something. It fails if an option is wrong,
// with everything that is wrong joined in one error, or if the provider refuses
// an instrument.
func NewPoolMetrics(opts ...PoolOption) (*PoolMetrics, error) {
	cfg, err := newPoolConfig(opts)
	if err != nil {
		return nil, err
	}
	p := &PoolMetrics{cfg: cfg}
	p.series.max, p.series.make = maxNodes, p.newSeries
	if err := p.makeHistograms(); err != nil {
		return nil, refused(err)
	}
	if p.collector, err = newCollector(&cfg.meterConfig, nodeMetrics, p.read); err != nil {
		return nil, err
	}
	return p, nil
}

func (p *PoolMetrics) makeHistograms() error {
	meter, buckets := p.cfg.meter(), metric.WithExplicitBucketBoundaries(p.cfg.buckets...)
	create, err := dbconv.NewClientConnectionCreateTime(meter, buckets)
	wait, waitErr := dbconv.NewClientConnectionWaitTime(meter, buckets)
	outage, outageErr := meter.Float64Histogram("everpool.outage.duration", buckets, metric.WithUnit("s"),
		metric.WithDescription("How long nodes were away that have come back."))
	p.create, p.wait, p.outage = create.Inst(), wait.Inst(), outage
	return errors.Join(err, waitErr, outageErr)
}

// Register has the metrics tell of the pools of nodes, from the next collection
// until Close. It fails if nodes is nil, or a nil pointer, or registered already,
// and after Close.
func (p *PoolMetrics) Register(nodes Nodes) error {
	if guard.IsNil(nodes) {
		return errors.New("otelhooks: Register: nodes is nil")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed.Load() {
		return errPoolsClosed
	}
	if reflect.TypeOf(nodes).Comparable() && slices.Contains(p.nodes, nodes) {
		return errors.New("otelhooks: Register: the nodes are registered already; each would be counted twice")
	}
	p.nodes = append(p.nodes, nodes)
	return nil
}

// Close ends all of it: nothing is collected any more, and OnEvent and OnWait do
// nothing. It waits for a collection that is under way, and may be called again.
func (p *PoolMetrics) Close() error {
	p.mu.Lock()
	done := p.closed.Swap(true)
	p.nodes = nil
	p.mu.Unlock()
	if done {
		return nil
	}
	return p.collector.registration.Unregister()
}

// Instrument returns the configuration with OnEvent and OnWait set to those of p,
// which call what was there before as well.
func (p *PoolMetrics) Instrument(cfg pooler.Config) pooler.Config {
	onEvent, onWait := cfg.OnEvent, cfg.OnWait
	cfg.OnEvent, cfg.OnWait = p.OnEvent, p.OnWait
	if onEvent != nil {
		cfg.OnEvent = func(ev pooler.Event) {
			p.OnEvent(ev)
			onEvent(ev)
		}
	}
	if onWait != nil {
		cfg.OnWait = func(node string, d time.Duration, err error) {
			p.OnWait(node, d, err)
			onWait(node, d, err)
		}
	}
	return cfg
}

// OnEvent is for [pooler.Config]: it records how long dials take that succeed, and
// outages that are over.
func (p *PoolMetrics) OnEvent(ev pooler.Event) {
	switch {
	case ev.Kind == pooler.EventDial && ev.Err == nil:
		p.record(p.create, ev.Node, ev.Duration, "")
	case ev.Kind == pooler.EventState && ev.State == pooler.StateUp:
		p.record(p.outage, ev.Node, ev.Duration, "")
	}
}

// OnWait is for [pooler.Config]: it records how long requests wait for a
// connection, and the type of the error of those that have waited in vain.
func (p *PoolMetrics) OnWait(node string, d time.Duration, err error) {
	errorType := ""
	if err != nil { // ErrorType allocates
		errorType = hooks.ErrorType(err)
	}
	p.record(p.wait, node, d, errorType)
}

// record has no context: a dial is nobody's in particular, and of a wait the pool
// doesn't tell whose it was.
func (p *PoolMetrics) record(to metric.Float64Histogram, node string, d time.Duration, errorType string) {
	ctx := context.Background()
	if p.closed.Load() || !to.Enabled(ctx) {
		return
	}
	s, ok := p.series.get(node)
	if !ok { // there is no room
		s = p.newSeries(node)
	}
	to.Record(ctx, d.Seconds(), s.options(errorType)...)
}

func (p *PoolMetrics) newSeries(node string) *series {
	attrs := append([]attribute.KeyValue(nil), p.cfg.attributes...)
	return newSeries(append(attrs, poolName(p.nameOf(node))))
}

// nameOf is the pool's name. That of a function that panics is the address: what
// is told as it happens is told on the goroutines of the pool, which a panic would
// end. The next collection tells of it.
func (p *PoolMetrics) nameOf(node string) (name string) {
	addr := hooks.SafeAddr(node)
	defer func() {
		if recover() != nil {
			name = addr
		}
	}()
	return p.cfg.poolName(addr)
}

// read reads all nodes.
func (p *PoolMetrics) read(add addFunc) {
	p.mu.Lock()
	registered := slices.Clone(p.nodes)
	p.mu.Unlock()
	for i, of := range registered {
		nodes := of.Nodes()
		for j, from := range poolview.Sources(i, nodes) {
			pool := p.cfg.poolName(hooks.SafeAddr(nodes[j].Addr))
			readNode(&nodes[j], func(m *poolMetric, value string, v int64) { add(reading{m, pool, value}, from, false, v) })
		}
	}
}
