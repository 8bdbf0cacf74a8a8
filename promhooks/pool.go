package promhooks

import (
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/everpool/everpool/hooks"
	"github.com/everpool/everpool/internal/guard"
	"github.com/everpool/everpool/internal/poolview"
	"github.com/everpool/everpool/pooler"
)

// Nodes is where a [Pool] has its statistics from: a driver.Driver, say.
type Nodes interface {
	// Nodes is called by each scrape. Should it panic, the scrape has an error.
	Nodes() []pooler.NodeStatus
}

// Pool are the metrics of a driver's pools, one for each node. It is a collector.
// Statistics are read at each scrape from what [Pool.Watch] was given; what they
// don't have, [Pool.OnEvent] is told. The package's documentation lists the
// metrics.
type Pool struct {
	nodes atomic.Pointer[Nodes]
	descs *poolDescs
	heals *prometheus.HistogramVec // by node, as known says
	known known
	dials *prometheus.HistogramVec
	ok    prometheus.Observer // of dials
	fail  prometheus.Observer

	latency *prometheus.HistogramVec // redis-manager's, by node; nil without the option

	// scraping is held by a scrape from before it reads the statistics: of two at
	// a time the later could have the older ones, and take that for a restart.
	scraping sync.Mutex
	counters counters
}

var _ prometheus.Collector = (*Pool)(nil)

// NewPool returns the metrics of a client's pools. client is as for [New]; the same
// name may be, and should be, used for both. Without [Pool.Watch] there are only
// those that events are counted for.
func NewPool(client string, opts ...Option) (*Pool, error) {
	cfg, err := newConfig(client, opts)
	if err != nil {
		return nil, err
	}
	constant := prometheus.Labels{"client": client}
	p := &Pool{
		descs: newPoolDescs(client, &cfg),
		dials: newDials(&cfg, client, poolEverpool),
		heals: prometheus.NewHistogramVec(cfg.histogram("redis_client_pool_heal_seconds",
			"Time from when a node couldn't be reached until it could again.", constant, healBuckets), []string{"node"}),
	}
	p.ok, p.fail = p.dials.WithLabelValues("ok"), p.dials.WithLabelValues("error")
	if cfg.redisManager {
		p.latency = prometheus.NewHistogramVec(cfg.histogram("redis_connection_latency_seconds",
			"Time that it took to open a connection (redis-manager's name).", constant, cfg.buckets), []string{nodeURL})
	}
	return p, nil
}

// Watch sets where statistics come from, in place of what was set before; nil: from
// nowhere. It may be called at any time, after the collector was registered too. A nil
// pointer to a type that has Nodes is a mistake, of which every scrape has an error.
func (p *Pool) Watch(nodes Nodes) {
	if nodes == nil {
		p.nodes.Store(nil)
		return
	}
	p.nodes.Store(&nodes)
}

// OnEvent counts an event. It is for pooler.Config.OnEvent, or to be called by what
// is set there. It doesn't block. What is kept by node ends with the node: at the
// first scrape in which Nodes doesn't have it. Of nodes that no scrape has seen yet
// it is kept for 1024; dials of others are counted, but not by node.
func (p *Pool) OnEvent(ev pooler.Event) {
	switch ev.Kind {
	case pooler.EventDial:
		if ev.Err != nil {
			p.fail.Observe(ev.Duration.Seconds())
			return
		}
		p.ok.Observe(ev.Duration.Seconds())
		if p.latency != nil {
			p.observe(p.latency, ev)
		}
	case pooler.EventState:
		if ev.State == pooler.StateUp && ev.Duration > 0 {
			p.observe(p.heals, ev)
		}
	case pooler.EventClose, pooler.EventPin, pooler.EventRetire: // in the statistics
	}
}

// observe counts an event by its node.
func (p *Pool) observe(vec *prometheus.HistogramVec, ev pooler.Event) {
	node := hooks.SafeAddr(ev.Node)
	p.known.tell(node, func() { vec.WithLabelValues(node).Observe(ev.Duration.Seconds()) })
}

// Describe is for Prometheus.
func (p *Pool) Describe(ch chan<- *prometheus.Desc) {
	p.descs.describePool(ch)
	p.heals.Describe(ch)
	p.dials.Describe(ch)
	if p.latency != nil {
		p.latency.Describe(ch)
	}
}

// Collect is for Prometheus.
func (p *Pool) Collect(ch chan<- prometheus.Metric) {
	p.scraping.Lock()
	defer p.scraping.Unlock()
	p.collectNodes(ch)
	p.heals.Collect(ch)
	p.dials.Collect(ch)
	if p.latency != nil {
		p.latency.Collect(ch)
	}
}

// collectNodes sends what the statistics say, and forgets the nodes that they don't
// have any more.
func (p *Pool) collectNodes(ch chan<- prometheus.Metric) {
	p.known.begin()
	there := make(map[string]bool)
	source := p.nodes.Load()
	if source != nil {
		all, err := p.read(*source)
		if err != nil {
			ch <- prometheus.NewInvalidMetric(p.descs.connections, err)
			return // nobody knows which nodes are gone
		}
		p.collect(ch, all, there)
	}
	p.known.end(there, source != nil, p.enter, p.leave)
}

func (p *Pool) read(source Nodes) ([]pooler.NodeStatus, error) {
	if guard.IsNil(source) {
		return nil, fmt.Errorf("promhooks: Watch was given a nil %T", source)
	}
	return read(source.Nodes)
}

// collect sends what the statistics say, and notes which nodes there are.
func (p *Pool) collect(ch chan<- prometheus.Metric, all []pooler.NodeStatus, there map[string]bool) {
	s := &scrape{ch: ch, counters: &p.counters}
	p.counters.Begin()
	for i, source := range poolview.Sources(nil, all) {
		s.source = source
		count(s, p.descs, &all[i])
	}
	s.end(p.descs)
	var sum nodeStats
	for _, n := range byNode(all) {
		n.collect(s, p.descs)
		there[n.node] = true
		sum.max += n.max
		sum.states.Idle += n.states.Idle
		sum.inUse += n.inUse
	}
	s.gauge(p.descs.maxSize, sum.max)
	s.gauge(p.descs.idle, float64(sum.states.Idle))
	s.gauge(p.descs.active, float64(sum.inUse))
}

// enter makes what is kept of a node, so that the first event is an increase.
func (p *Pool) enter(node string) {
	p.heals.WithLabelValues(node)
	if p.latency != nil {
		p.latency.WithLabelValues(node)
	}
}

// leave drops what is kept of a node.
func (p *Pool) leave(node string) {
	p.heals.DeleteLabelValues(node)
	if p.latency != nil {
		p.latency.DeleteLabelValues(node)
	}
}
