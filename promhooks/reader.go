package promhooks

import (
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/everpool/everpool/internal/poolview"
)

// reader makes metrics of what pools say. [Pool] and [StockPool] describe the same ones
// alike: two clients in one registry may have pools of different kinds.
type reader struct {
	view  poolview.View
	descs map[*poolview.Metric]*prometheus.Desc
}

// nodeURL is redis-manager's label. Its value here is never a URL.
const nodeURL = "node_redis_url"

// poolMetrics are those of the table that are wanted and keep returns true for.
func (c *config) poolMetrics(keep func(*poolview.Metric) bool) []*poolview.Metric {
	wanted := map[poolview.Preset]bool{"": true, poolview.Baseplate: c.baseplate, poolview.RedisManager: c.redisManager}
	return poolview.Metrics(func(m *poolview.Metric) bool { return m.Prometheus != "" && wanted[m.Preset] && keep(m) })
}

// newReader reads those metrics that keep returns true for.
func newReader(client string, cfg *config, keep func(*poolview.Metric) bool) *reader {
	r := &reader{descs: make(map[*poolview.Metric]*prometheus.Desc)}
	r.view.Doing = "promhooks: reading the statistics"
	r.view.Metrics = cfg.poolMetrics(func(m *poolview.Metric) bool { return m.Kind != poolview.Histogram && keep(m) })
	for _, m := range r.view.Metrics {
		constant, labels := prometheus.Labels{"client": client}, []string{"node"}
		switch m.Preset {
		case poolview.Baseplate:
			constant, labels = prometheus.Labels{"redis_pool": client}, nil
		case poolview.RedisManager:
			labels = []string{nodeURL}
		}
		if m.Label != "" {
			labels = append(labels, m.Label)
		}
		r.descs[m] = prometheus.NewDesc(m.Prometheus, m.Text(), labels, constant)
	}
	return r
}

func (r *reader) describe(ch chan<- *prometheus.Desc) {
	for _, m := range r.view.Metrics {
		ch <- r.descs[m]
	}
}

// collect sends what the pools say, or why that can't be read, which is the error too.
func (r *reader) collect(ch chan<- prometheus.Metric, read func() []poolview.Pool, name func(*poolview.Pool) string) error {
	err := r.view.Collect(read, name, func(s poolview.Series, n int64) {
		kind := prometheus.GaugeValue
		if s.Kind == poolview.Counter {
			kind = prometheus.CounterValue
		}
		var labels []string
		if !s.Whole {
			labels = append(labels, strings.ToValidUTF8(s.Pool, "\uFFFD"))
		}
		if s.Label != "" {
			labels = append(labels, strings.ToValidUTF8(s.Value, "\uFFFD"))
		}
		m, err := prometheus.NewConstMetric(r.descs[s.Metric], kind, s.Float(n), labels...)
		if err != nil { // what can't be exported fails the scrape
			m = prometheus.NewInvalidMetric(r.descs[s.Metric], err)
		}
		ch <- m
	})
	if err != nil {
		ch <- prometheus.NewInvalidMetric(r.descs[r.view.Metrics[0]], err)
	}
	return err
}
