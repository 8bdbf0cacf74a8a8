package promhooks

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/everpool/everpool/hooks"
	"github.com/everpool/everpool/internal/attempts"
)

// attemptCounts are read at each scrape.
type attemptCounts struct {
	attempts.Counts
	desc *prometheus.Desc
}

func newAttemptCounts(constant prometheus.Labels) *attemptCounts {
	return &attemptCounts{desc: prometheus.NewDesc("redis_client_attempts_total",
		"What nodes of a cluster or a ring had of operations, by how it has ended.", []string{"node", "result"}, constant)}
}

// Attempt is for package hooks. Only clusters and rings have attempts.
func (m *Metrics) Attempt(_ context.Context, a *hooks.Attempt) {
	m.attempts.Of(a.Peer, a.ErrorType).Add(1)
}

// Describe is for Prometheus.
func (c *attemptCounts) Describe(ch chan<- *prometheus.Desc) { ch <- c.desc }

// Collect is for Prometheus.
func (c *attemptCounts) Collect(ch chan<- prometheus.Metric) {
	c.Each(func(peer *hooks.Target, errorType string, n int64) {
		result := errorType
		if result == "" {
			result = "ok"
		}
		ch <- prometheus.MustNewConstMetric(c.desc, prometheus.CounterValue, float64(n), peer.Addr, result)
	})
}
