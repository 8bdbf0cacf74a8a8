package promhooks

import (
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/everpool/everpool/internal/guard"
)

// history is what was exported of each node's counters before. Statistics may go
// backwards, when one of two pools of an address is closed, say; a counter that
// does so looks like a restart, after which Prometheus adds all that is left of it
// once more. It isn't safe for concurrent use.
type history map[string]map[counterKey]*counter

// counterKey is a counter of a node.
type counterKey struct {
	desc  *prometheus.Desc
	label string
}

// counter is what was exported last, and by how much that is more than what the
// pools have said.
type counter struct{ last, more float64 }

// rising returns v, or what keeps the counter from falling.
func (h history) rising(node string, key counterKey, v float64) float64 {
	all := h[node]
	if all == nil {
		all = make(map[counterKey]*counter)
		h[node] = all
	}
	c := all[key]
	if c == nil {
		c = new(counter)
		all[key] = c
	}
	if v+c.more < c.last {
		c.more = c.last - v
	}
	c.last = v + c.more
	return c.last
}

// forget drops the nodes that aren't there any more.
func (h history) forget(there map[string]bool) {
	for node := range h {
		if !there[node] {
			delete(h, node)
		}
	}
}

// scrape sends the metrics of one scrape.
type scrape struct {
	ch      chan<- prometheus.Metric
	history history
}

func (s *scrape) gauge(d *prometheus.Desc, v float64, labels ...string) {
	s.send(d, prometheus.GaugeValue, v, labels)
}

// counter sends a counter of a node; label is its second one, if it has two.
func (s *scrape) counter(d *prometheus.Desc, v float64, node string, label ...string) {
	if d == nil {
		return
	}
	v = s.history.rising(node, counterKey{d, strings.Join(label, "")}, v)
	s.send(d, prometheus.CounterValue, v, append([]string{node}, label...))
}

// send leaves out what isn't described; what can't be exported fails the scrape.
func (s *scrape) send(d *prometheus.Desc, t prometheus.ValueType, v float64, labels []string) {
	if d == nil {
		return
	}
	for i, l := range labels {
		labels[i] = strings.ToValidUTF8(l, "\uFFFD")
	}
	m, err := prometheus.NewConstMetric(d, t, v, labels...)
	if err != nil {
		m = prometheus.NewInvalidMetric(d, err)
	}
	s.ch <- m
}

// read returns what source says; it is the user's, and so may panic. A failed scrape's
// answer has the error in it.
func read[T any](source func() T) (v T, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = guard.PanicError("promhooks: reading the statistics", p)
		}
	}()
	return source(), nil
}
