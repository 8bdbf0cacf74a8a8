package otelhooks

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/semconv/v1.43.0/dbconv"

	"github.com/everpool/everpool/hooks"
)

// Metrics records db.client.operation.duration, for every operation once. It is a
// [hooks.Observer], to be given to [hooks.New]: after [Tracing], if the histogram
// is to have exemplars. Make it with [NewMetrics]. It is safe for concurrent use
// and holds nothing to be closed.
type Metrics struct {
	keep     func(*hooks.Operation) bool // nil: all
	extra    []attribute.KeyValue
	duration metric.Float64Histogram
	series   *byOperation[series]
}

var _ hooks.Observer = (*Metrics)(nil)

// NewMetrics returns an observer that records durations. It fails if an option is
// wrong, with everything that is wrong joined in one error, or if the provider
// refuses the instrument.
func NewMetrics(opts ...MetricsOption) (*Metrics, error) {
	cfg, err := newMetricsConfig(opts)
	if err != nil {
		return nil, err
	}
	duration, err := dbconv.NewClientOperationDuration(cfg.meter(), metric.WithExplicitBucketBoundaries(cfg.buckets...))
	if err != nil {
		return nil, refused(err)
	}
	m := &Metrics{keep: cfg.keep, extra: cfg.attributes, duration: duration.Inst()}
	m.series = newByOperation(m.newSeries)
	return m, nil
}

// Begin does nothing.
func (m *Metrics) Begin(ctx context.Context, _ *hooks.Operation) context.Context { return ctx }

// End records the duration, with the context, for exemplars.
func (m *Metrics) End(ctx context.Context, op *hooks.Operation) {
	if !m.duration.Enabled(ctx) || m.keep != nil && !m.keep(op) {
		return
	}
	m.duration.Record(ctx, op.Duration.Seconds(), m.options(op)...)
}

// options are what is recorded with: made for this one if there is no room to keep
// them.
func (m *Metrics) options(op *hooks.Operation) []metric.RecordOption {
	if s := m.series.of(op); s != nil {
		return s.options(op.ErrorType)
	}
	return recordOptions(appendError(m.attributes(op), op.ErrorType))
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
	return describe(append([]attribute.KeyValue(nil), m.extra...), op)
}

// options are what is recorded with.
func (s *series) options(errorType string) []metric.RecordOption {
	if errorType == "" {
		return s.ok
	}
	if options, ok := s.errs.get(errorType); ok {
		return options
	}
	return s.failed(errorType)
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
