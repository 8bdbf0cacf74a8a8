package otelhooks

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/everpool/everpool/hooks"
	"github.com/everpool/everpool/internal/poolview"
	"github.com/everpool/everpool/pooler"
)

// Nodes is what has pools: a driver.Driver does.
type Nodes interface {
	// Nodes returns the state of every node. It is called at each collection and
	// should do no network I/O. Should it panic, the collection fails.
	Nodes() []pooler.NodeStatus
}

// Pool are the metrics of everpool's pools. [Option] does all that there is to do. One
// that is made by [NewPool] has to be told of two things:
//
//	cfg.Pool = pool.Instrument(cfg.Pool) // before the driver is made: how long dials and waits take
//	stop, err := pool.Watch(d)           // when it is made: everything else
//
// One is for one driver, or for several. It is safe for concurrent use.
type Pool struct {
	cfg       config
	create    metric.Float64Histogram
	wait      metric.Float64Histogram
	outage    metric.Float64Histogram
	series    cache[string, *series] // by the node's address
	watched   poolview.Watched
	collector *collector
	closed    atomic.Bool
}

// maxNodes bounds the nodes that something is kept for: a program may see any number of
// addresses in its life.
const maxNodes = 1024

// NewPool makes the instruments and registers them with the provider; nothing is
// reported until there is something. It fails if a setting is wrong, with everything
// that is wrong joined in one error, or if the provider refuses an instrument.
func NewPool(settings ...Setting) (*Pool, error) {
	cfg, err := newConfig(settings)
	if err != nil {
		return nil, err
	}
	p := &Pool{cfg: cfg}
	p.series.max, p.series.make = maxNodes, p.newSeries
	for _, m := range poolview.Metrics(func(m *poolview.Metric) bool { return m.OTel != "" && m.Kind == poolview.Histogram }) {
		h, err := cfg.meter().Float64Histogram(m.OTel, metric.WithUnit(m.Unit), metric.WithDescription(m.Text()),
			metric.WithExplicitBucketBoundaries(cfg.buckets...))
		if err != nil {
			return nil, refused(err)
		}
		switch m.OTel {
		case "db.client.connection.create_time":
			p.create = h
		case "db.client.connection.wait_time":
			p.wait = h
		case "everpool.outage.duration":
			p.outage = h
		}
	}
	name := func(n *poolview.Pool) string { return p.cfg.poolName(hooks.SafeAddr(n.Addr)) }
	if p.collector, err = newCollector(&p.cfg, func(*poolview.Metric) bool { return true }, p.watched.Pools, name); err != nil {
		return nil, err
	}
	return p, nil
}

// Watch has the metrics tell of the pools of nodes, from the next collection until stop,
// or Close, is called. It fails if nodes is nil, or a nil pointer, or watched already,
// and after Close.
func (p *Pool) Watch(nodes Nodes) (stop func(), err error) {
	if p.closed.Load() {
		return nil, errors.New("otelhooks: Watch: the metrics are closed")
	}
	if stop, err = p.watched.Add(nodes); err != nil {
		return nil, fmt.Errorf("otelhooks: Watch: %w", err)
	}
	return stop, nil
}

// Close ends all of it: nothing is collected any more, and OnEvent and OnWait do
// nothing. It waits for a collection that is under way, and may be called again.
func (p *Pool) Close() error {
	if p.closed.Swap(true) {
		return nil
	}
	p.watched.Clear()
	return p.collector.registration.Unregister()
}

// Instrument returns the configuration with OnEvent and OnWait set to those of p,
// which call what was there before as well.
func (p *Pool) Instrument(cfg pooler.Config) pooler.Config {
	onEvent, onWait := cfg.OnEvent, cfg.OnWait
	cfg.OnEvent = func(ev pooler.Event) {
		p.OnEvent(ev)
		if onEvent != nil {
			onEvent(ev)
		}
	}
	cfg.OnWait = func(node string, d time.Duration, err error) {
		p.OnWait(node, d, err)
		if onWait != nil {
			onWait(node, d, err)
		}
	}
	return cfg
}

// OnEvent is for [pooler.Config]: it records how long dials take that succeed, and
// outages that are over.
func (p *Pool) OnEvent(ev pooler.Event) {
	switch {
	case ev.Kind == pooler.EventDial && ev.Err == nil:
		p.record(p.create, ev.Node, ev.Duration, "")
	case ev.Kind == pooler.EventState && ev.State == pooler.StateUp:
		p.record(p.outage, ev.Node, ev.Duration, "")
	}
}

// OnWait is for [pooler.Config]: it records how long requests wait for a
// connection, and the type of the error of those that have waited in vain.
func (p *Pool) OnWait(node string, d time.Duration, err error) {
	errorType := ""
	if err != nil { // ErrorType allocates
		errorType = hooks.ErrorType(err)
	}
	p.record(p.wait, node, d, errorType)
}

// record has no context: a dial is nobody's in particular, and of a wait the pool
// doesn't tell whose it was.
func (p *Pool) record(to metric.Float64Histogram, node string, d time.Duration, errorType string) {
	ctx := context.Background()
	if p.closed.Load() || !to.Enabled(ctx) {
		return
	}
	to.Record(ctx, d.Seconds(), p.series.get(node).options(errorType)...)
}

func (p *Pool) newSeries(node string) *series {
	attrs := append([]attribute.KeyValue(nil), p.cfg.metricAttributes...)
	return newSeries(append(attrs, poolName(p.nameOf(node))))
}

// nameOf is the pool's name. That of a function that panics is the address: what
// is told as it happens is told on the goroutines of the pool, which a panic would
// end. The next collection tells of it.
func (p *Pool) nameOf(node string) (name string) {
	addr := hooks.SafeAddr(node)
	defer func() {
		if recover() != nil {
			name = addr
		}
	}()
	return p.cfg.poolName(addr)
}
