package promhooks

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/everpool/everpool/hooks"
	"github.com/everpool/everpool/internal/endings"
)

// Values of the label pool of redis_client_dial_duration_seconds. It is there so
// that a Metrics and a Pool of one client don't claim the same series.
const (
	poolGoRedis  = "go-redis"
	poolEverpool = "everpool"
)

// Metrics are those of a client's operations. It is an observer for hooks.New, of
// attempts, handshakes and dials too, and a collector to be registered once in each registry
// that shall have it. The package's documentation lists the metrics.
type Metrics struct {
	count         *prometheus.CounterVec
	duration      *prometheus.HistogramVec
	blocking      *prometheus.HistogramVec
	errors        *prometheus.CounterVec
	batchDuration *prometheus.HistogramVec
	batchSize     *prometheus.HistogramVec
	dial          *prometheus.HistogramVec
	handshake     *prometheus.CounterVec
	attempts      *attemptCounts
	inFlight      atomic.Int64

	collectors []prometheus.Collector // all of the above, and the presets'
	exemplars  bool
	commands   []commandSeries // by hooks.Command.Index
	batches    [numBatchKinds]batchSeries
	dials      [2]*series // ok and error
	baseplate  *baseplate // nil without the setting
}

var (
	_ hooks.AttemptObserver   = (*Metrics)(nil)
	_ hooks.HandshakeObserver = (*Metrics)(nil)
	_ hooks.DialObserver      = (*Metrics)(nil)
	_ prometheus.Collector    = (*Metrics)(nil)
)

// NewMetrics returns the metrics of a client. client is the value of the label of that
// name, required; it must not be a URL, which may hold a password. The error names
// all that is wrong with it and with the settings.
func NewMetrics(client string, settings ...Setting) (*Metrics, error) {
	cfg, err := newConfig(client, settings)
	if err != nil {
		return nil, err
	}
	constant := prometheus.Labels{"client": client}
	m := &Metrics{
		exemplars: cfg.exemplars,
		commands:  make([]commandSeries, hooks.NumCommands()),
		count: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "redis_client_commands_total", ConstLabels: constant,
			Help: "Commands, alone or in a batch, by how they have ended.",
		}, []string{"command", "outcome"}),
		duration: prometheus.NewHistogramVec(cfg.histogram("redis_client_command_duration_seconds",
			"Time that a command took that doesn't block, retries included.", constant, cfg.buckets), []string{"command", "outcome"}),
		blocking: prometheus.NewHistogramVec(cfg.histogram("redis_client_blocking_seconds",
			"Time that a command took that may wait for as long as its arguments say.", constant, blockingBuckets), []string{"command", "outcome"}),
		errors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "redis_client_command_errors_total", ConstLabels: constant,
			Help: "Commands that have ended with an error, alone or in a batch, by its type.",
		}, []string{"command", "error_type"}),
		batchDuration: prometheus.NewHistogramVec(cfg.histogram("redis_client_batch_duration_seconds",
			"Time that a pipeline or a transaction took, retries included.", constant, cfg.buckets), []string{"kind", "outcome"}),
		batchSize: prometheus.NewHistogramVec(cfg.histogram("redis_client_batch_size",
			"Commands in a pipeline or a transaction.", constant, sizeBuckets), []string{"kind"}),
		dial: newDials(&cfg, client, poolGoRedis),
		handshake: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "redis_client_handshake_errors_total", ConstLabels: constant,
			Help: "Commands of connections' handshakes that the server has refused.",
		}, []string{"command"}),
		attempts: newAttemptCounts(constant),
	}
	inFlight := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "redis_client_commands_in_flight", ConstLabels: constant,
		Help: "Commands, pipelines and transactions that are under way.",
	}, func() float64 { return float64(m.inFlight.Load()) })
	m.collectors = []prometheus.Collector{
		m.count, m.duration, m.blocking, m.errors, inFlight, m.batchDuration, m.batchSize, m.dial, m.handshake, m.attempts,
	}
	for kind, name := range batchKinds {
		m.batches[kind].size = newSeries(m.batchSize.WithLabelValues(name))
		for _, end := range []endings.Ending{endings.OK, endings.Error} { // there from the beginning, so that the first is an increase
			find(&m.batches[kind].durations[end], m.batchDuration, name, end)
		}
	}
	m.dials = [2]*series{newSeries(m.dial.WithLabelValues("ok")), newSeries(m.dial.WithLabelValues("error"))}
	if cfg.baseplate {
		m.baseplate = newBaseplate(client, cfg.redisType)
		m.collectors = append(m.collectors, m.baseplate.latency, m.baseplate.requests, m.baseplate.active)
	}
	return m, nil
}

// newDials returns the histogram of the dials of one kind of pool.
func newDials(cfg *config, client, pool string) *prometheus.HistogramVec {
	return prometheus.NewHistogramVec(cfg.histogram("redis_client_dial_duration_seconds",
		"Time that it took to open a connection, or to fail to.",
		prometheus.Labels{"client": client, "pool": pool}, cfg.buckets), []string{"outcome"})
}

// Describe is for Prometheus.
func (m *Metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range m.collectors {
		c.Describe(ch)
	}
}

// Collect is for Prometheus.
func (m *Metrics) Collect(ch chan<- prometheus.Metric) {
	for _, c := range m.collectors {
		c.Collect(ch)
	}
}

// Begin is for package hooks.
func (m *Metrics) Begin(ctx context.Context, op *hooks.Operation) context.Context {
	if m.baseplate != nil {
		m.baseplate.begin(op)
	}
	m.inFlight.Add(1)
	return ctx
}

// End is for package hooks.
func (m *Metrics) End(ctx context.Context, op *hooks.Operation) {
	m.inFlight.Add(-1)
	seconds := op.Duration.Seconds()
	if op.Kind == hooks.Single {
		m.single(op).observe(ctx, seconds, m.exemplars)
	} else {
		duration, size := m.batch(op)
		duration.observe(ctx, seconds, m.exemplars)
		size.observer.Observe(float64(len(op.Cmds)))
	}
	if m.baseplate != nil {
		m.baseplate.end(op, seconds)
	}
}

// Handshake is for package hooks. What is counted are the server's refusals: of a node that
// is away each call has a handshake that fails, and is told so itself.
func (m *Metrics) Handshake(_ context.Context, c *hooks.Command, errorType string) {
	if hooks.IsReply(errorType) || errorType == hooks.ErrorOther {
		m.handshake.WithLabelValues(c.Name).Inc()
	}
}

// Dial is for package hooks. Those of everpool are told to a [Pool].
func (m *Metrics) Dial(_ context.Context, _, _ string, d time.Duration, errorType string) {
	s := m.dials[0]
	if errorType != "" {
		s = m.dials[1]
	}
	s.observer.Observe(d.Seconds())
}
