package otelhooks

import (
	"context"
	"slices"
	"sync/atomic"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/semconv/v1.43.0/dbconv"

	"github.com/everpool/everpool/hooks"
	"github.com/everpool/everpool/internal/endings"
)

// Metrics records db.client.operation.duration, for every operation once, and counts
// everpool.commands, in batches too, and everpool.attempts of clusters and rings. It is a
// [hooks.AttemptObserver], to be given to [hooks.New]: after [Tracing], if the histogram is
// to have exemplars. Make it with [NewMetrics], once for a provider, which keeps it until
// [Metrics.Close]. It is safe for concurrent use.
type Metrics struct {
	keep     func(*hooks.Operation) bool // nil: all
	extra    []attribute.KeyValue
	duration metric.Float64Histogram
	series   byOperation[series]
	commands commandCounts
	attempts attemptCounts

	registration metric.Registration
}

var _ hooks.AttemptObserver = (*Metrics)(nil)

// NewMetrics returns an observer that records durations. It fails if a setting is
// wrong, with everything that is wrong joined in one error, or if the provider
// refuses the instrument.
func NewMetrics(settings ...Setting) (*Metrics, error) {
	cfg, err := newConfig(settings)
	if err != nil {
		return nil, err
	}
	duration, err := dbconv.NewClientOperationDuration(cfg.meter(), metric.WithExplicitBucketBoundaries(cfg.buckets...))
	if err != nil {
		return nil, refused(err)
	}
	m := &Metrics{keep: cfg.keepMetrics, extra: cfg.metricAttributes, duration: duration.Inst()}
	m.series.make = m.newSeries
	m.commands.counts = make([][endings.Num]atomic.Int64, hooks.NumCommands())
	meter := cfg.meter()
	m.commands.instrument, err = meter.Int64ObservableCounter("everpool.commands", metric.WithUnit("{command}"),
		metric.WithDescription("The number of commands that have ended, alone or in a batch."))
	if err != nil {
		return nil, refused(err)
	}
	m.attempts.instrument, err = meter.Int64ObservableCounter("everpool.attempts", metric.WithUnit("{attempt}"),
		metric.WithDescription("What nodes of a cluster or a ring had of operations."))
	if err != nil {
		return nil, refused(err)
	}
	if m.registration, err = meter.RegisterCallback(m.observe, m.commands.instrument, m.attempts.instrument); err != nil {
		return nil, refused(err)
	}
	return m, nil
}

// Close ends everpool.commands and everpool.attempts: they aren't collected any more. It
// waits for a collection that is under way, and may be called again. What operations take
// is recorded on.
func (m *Metrics) Close() error { return m.registration.Unregister() }

// Begin does nothing, unless there is a filter and the operation may have attempts.
func (m *Metrics) Begin(ctx context.Context, op *hooks.Operation) context.Context {
	if m.keep == nil || !hasAttempts(op.Target) {
		return ctx
	}
	return &undecided{Context: ctx, metrics: m}
}

// End records the duration, with the context, for exemplars, and counts the commands.
func (m *Metrics) End(ctx context.Context, op *hooks.Operation) {
	if m.keep != nil && !m.keep(op) {
		return
	}
	endings.Each(op, m.commands.add)
	if m.keep != nil && hasAttempts(op.Target) { // else those in the context are of another, around it
		m.keepAttempts(ctx)
	}
	if m.duration.Enabled(ctx) {
		m.duration.Record(ctx, op.Duration.Seconds(), m.series.of(op).options(op.ErrorType)...)
	}
}

// commandCounts are the commands by [hooks.Command.Index] and ending. They are read at
// collection, since to record each would cost more than all else here.
type commandCounts struct {
	instrument metric.Int64Observable
	counts     [][endings.Num]atomic.Int64
}

func (n *commandCounts) add(c *hooks.Command, e endings.Ending, _ string) {
	n.counts[c.Index][e].Add(1)
}

// observe is called at each collection.
func (m *Metrics) observe(_ context.Context, to metric.Observer) error {
	for _, c := range hooks.Commands() {
		counts := &m.commands.counts[c.Index]
		for e := range counts {
			if n := counts[e].Load(); n > 0 {
				to.ObserveInt64(m.commands.instrument, n, metric.WithAttributes(append(slices.Clip(m.extra), semconv.DBSystemNameRedis,
					semconv.DBOperationName(c.Name), outcomeKey.String(endings.Ending(e).String()))...))
			}
		}
	}
	m.observeAttempts(to)
	return nil
}

// series are the attributes of what is recorded for one name of an operation and
// one target, made once for each type of error. The list of those is the hooks
// package's, and bounded.
type series struct {
	attrs []attribute.KeyValue
	ok    []metric.RecordOption
	errs  cache[string, []metric.RecordOption]
}

// maxErrorTypes is more than the hooks package has.
const maxErrorTypes = 128

func newSeries(attrs []attribute.KeyValue) *series {
	s := &series{attrs: attrs, ok: recordOptions(attrs)}
	s.errs.max, s.errs.make = maxErrorTypes, s.failed
	return s
}

func (m *Metrics) newSeries(op *hooks.Operation) *series { return newSeries(m.attributes(op)) }

func (m *Metrics) attributes(op *hooks.Operation) []attribute.KeyValue {
	attrs := describe(append([]attribute.KeyValue(nil), m.extra...), op)
	if op.Blocking() {
		attrs = append(attrs, blockingKey.Bool(true))
	}
	return attrs
}

// blockingKey marks what takes as long as its arguments say; it isn't there otherwise.
const blockingKey = attribute.Key("everpool.blocking")

// options are what is recorded with.
func (s *series) options(errorType string) []metric.RecordOption {
	if errorType == "" {
		return s.ok
	}
	return s.errs.get(errorType)
}

func (s *series) failed(errorType string) []metric.RecordOption {
	attrs := append([]attribute.KeyValue(nil), s.attrs...)
	return recordOptions(appendError(attrs, errorType))
}

// recordOptions is a slice, since to make one for each call would allocate.
func recordOptions(attrs []attribute.KeyValue) []metric.RecordOption {
	sorted := append([]attribute.KeyValue(nil), attrs...) // NewSet sorts in place
	return []metric.RecordOption{metric.WithAttributeSet(attribute.NewSet(sorted...))}
}

// poolName is the attribute that all metrics of pools have.
func poolName(name string) attribute.KeyValue { return semconv.DBClientConnectionPoolName(name) }
