package promhooks

import (
	"fmt"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/everpool/everpool/hooks"
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
// don't have, [Pool.OnEvent] is told. [Option] does all of it. The package's
// documentation lists the metrics.
type Pool struct {
	watched poolview.Watched
	reader  *reader
	heals   *prometheus.HistogramVec // by node, as known says
	known   known
	dials   *prometheus.HistogramVec
	ok      prometheus.Observer // of dials
	fail    prometheus.Observer

	latency *prometheus.HistogramVec // redis-manager's, by node; nil without the setting

	scraping sync.Mutex // held for all of a scrape: of two at a time the later could know older nodes
}

var _ prometheus.Collector = (*Pool)(nil)

// NewPool returns the metrics of a client's pools. client is as for [NewMetrics]; the
// same name may be, and should be, used for both. Without [Pool.Watch] there are only
// those that events are counted for.
func NewPool(client string, settings ...Setting) (*Pool, error) {
	cfg, err := newConfig(client, settings)
	if err != nil {
		return nil, err
	}
	p := &Pool{dials: newDials(&cfg, client, poolEverpool)}
	p.reader = newReader(client, &cfg, func(*poolview.Metric) bool { return true })
	p.ok, p.fail = p.dials.WithLabelValues("ok"), p.dials.WithLabelValues("error")
	constant := prometheus.Labels{"client": client}
	for _, m := range cfg.poolMetrics(func(m *poolview.Metric) bool { return m.Kind == poolview.Histogram }) {
		switch m.Prometheus {
		case "redis_client_pool_heal_seconds":
			p.heals = prometheus.NewHistogramVec(cfg.histogram(m.Prometheus, m.Text(), constant, healBuckets), []string{"node"})
		case "redis_connection_latency_seconds":
			p.latency = prometheus.NewHistogramVec(cfg.histogram(m.Prometheus, m.Text(), constant, cfg.buckets), []string{nodeURL})
		}
	}
	return p, nil
}

// Watch has the metrics tell of the pools of nodes until stop is called. It may be
// called at any time, after the collector was registered too. It fails if nodes is nil,
// or a nil pointer, or watched already.
func (p *Pool) Watch(nodes Nodes) (stop func(), err error) {
	if stop, err = p.watched.Add(nodes); err != nil {
		return nil, fmt.Errorf("promhooks: Watch: %w", err)
	}
	return stop, nil
}

// Instrument returns the configuration with OnEvent set to p's, which calls what
// was there before as well.
func (p *Pool) Instrument(cfg pooler.Config) pooler.Config {
	before := cfg.OnEvent
	cfg.OnEvent = func(ev pooler.Event) {
		p.OnEvent(ev)
		if before != nil {
			before(ev)
		}
	}
	return cfg
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
	p.reader.describe(ch)
	for _, h := range p.histograms() {
		h.Describe(ch)
	}
}

// Collect is for Prometheus.
func (p *Pool) Collect(ch chan<- prometheus.Metric) {
	p.scraping.Lock()
	defer p.scraping.Unlock()
	p.known.begin()
	there := make(map[string]bool)
	watched := p.watched.Any()
	err := p.reader.collect(ch, p.watched.Pools, func(n *poolview.Pool) string {
		node := hooks.SafeAddr(n.Addr)
		there[node] = true
		return node
	})
	if err == nil { // otherwise nobody knows which nodes are gone
		p.known.end(there, watched, p.enter, p.leave)
	}
	for _, h := range p.histograms() {
		h.Collect(ch)
	}
}

// histograms are those of events.
func (p *Pool) histograms() []*prometheus.HistogramVec {
	if p.latency == nil {
		return []*prometheus.HistogramVec{p.heals, p.dials}
	}
	return []*prometheus.HistogramVec{p.heals, p.dials, p.latency}
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
