package promhooks

import (
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/everpool/everpool/internal/guard"
	"github.com/everpool/everpool/internal/poolview"
)

// counterKey is a counter that is exported.
type counterKey struct {
	desc        *prometheus.Desc
	node, label string
}

// counters are all of a collector. Statistics may go backwards, when one of two pools
// of an address is closed, say; a counter that does so looks like a restart, after
// which Prometheus adds all that is left of it once more.
type counters = poolview.Counters[poolview.Source, counterKey]

// scrape sends the metrics of one scrape.
type scrape struct {
	ch       chan<- prometheus.Metric
	counters *counters
	source   poolview.Source
	sum      bool // what is counted is itself a sum
}

func (s *scrape) gauge(d *prometheus.Desc, v float64, labels ...string) {
	s.send(d, prometheus.GaugeValue, v, labels)
}

// counter takes in a counter of the source; label is its second one, if it has two.
func (s *scrape) counter(d *prometheus.Desc, v int64, node string, label ...string) {
	if d == nil {
		return
	}
	s.counters.Count(s.source, counterKey{d, node, strings.Join(label, "")}, v, s.sum)
}

// end sends the counters. Times are counted in nanoseconds.
func (s *scrape) end(d *poolDescs) {
	s.counters.Each(func(k counterKey, total int64) {
		labels, v := []string{k.node}, float64(total)
		if k.label != "" {
			labels = append(labels, k.label)
		}
		if k.desc == d.waitSeconds {
			v = time.Duration(total).Seconds()
		}
		s.send(k.desc, prometheus.CounterValue, v, labels)
	})
	s.counters.End()
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
