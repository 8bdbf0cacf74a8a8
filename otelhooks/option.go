package otelhooks

import (
	"errors"
	"fmt"
	"math"
	"runtime/debug"
	"slices"
	"sync"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/everpool/everpool/hooks"
)

// ScopeName is that of the instrumentation scope of all spans and metrics.
const ScopeName = "github.com/everpool/everpool/otelhooks"

// TracingOption changes what [NewTracing] makes.
type TracingOption interface{ applyTracing(*tracingConfig) error }

// MetricsOption changes what [NewMetrics] makes.
type MetricsOption interface{ applyMetrics(*metricsConfig) error }

// PoolOption changes what [NewPoolMetrics] and [RegisterStockPool] make.
type PoolOption interface{ applyPool(*poolConfig) error }

// MeterOption is for everything that makes metrics.
type MeterOption interface {
	MetricsOption
	PoolOption
}

type tracingConfig struct {
	provider     trace.TracerProvider
	queryText    bool
	queryKeys    bool
	childrenOnly bool
	keep         func(*hooks.Operation) bool
	name         func(*hooks.Operation) string
	attributes   func(*hooks.Operation) []attribute.KeyValue
}

// meterConfig is what all metrics have.
type meterConfig struct {
	provider   metric.MeterProvider
	attributes []attribute.KeyValue
	buckets    []float64
}

type metricsConfig struct {
	meterConfig
	keep func(*hooks.Operation) bool
}

type poolConfig struct {
	meterConfig
	poolName func(addr string) string
}

type tracingOption func(*tracingConfig) error

func (f tracingOption) applyTracing(c *tracingConfig) error { return f(c) }

type metricsOption func(*metricsConfig) error

func (f metricsOption) applyMetrics(c *metricsConfig) error { return f(c) }

type poolOption func(*poolConfig) error

func (f poolOption) applyPool(c *poolConfig) error { return f(c) }

type meterOption func(*meterConfig) error

func (f meterOption) applyMetrics(c *metricsConfig) error { return f(&c.meterConfig) }
func (f meterOption) applyPool(c *poolConfig) error       { return f(&c.meterConfig) }

// WithTracerProvider sets where the spans go. By default that is the global
// provider, also if it is set later.
func WithTracerProvider(p trace.TracerProvider) TracingOption {
	return tracingOption(func(c *tracingConfig) error {
		if p == nil {
			return errors.New("otelhooks: WithTracerProvider: the provider is nil; leave the option out for the global one")
		}
		c.provider = p
		return nil
	})
}

// WithQueryText adds db.query.text to spans: the command with every argument
// replaced by a "?", as in "SET ? ?"; the commands of a batch separated by "; ",
// up to 2048 bytes and 32 commands. By default there is none. It is made for
// every span, sampled or not.
func WithQueryText(on bool) TracingOption {
	return tracingOption(func(c *tracingConfig) error {
		c.queryText = on
		return nil
	})
}

// WithQueryKeys leaves the keys in db.query.text, as in "SET user:1 ?": each up to
// 128 bytes, quoted where they have spaces or the like. It needs WithQueryText.
// By default keys are replaced like all arguments.
func WithQueryKeys(on bool) TracingOption {
	return tracingOption(func(c *tracingConfig) error {
		c.queryKeys = on
		return nil
	})
}

// WithSpanFilter makes spans only of the operations for which keep returns true
// when they begin. By default all have one. keep is called on the caller's
// goroutine, concurrently.
func WithSpanFilter(keep func(*hooks.Operation) bool) TracingOption {
	return tracingOption(func(c *tracingConfig) error {
		c.keep = keep
		return notNil("WithSpanFilter", keep == nil)
	})
}

// WithSpanName has name choose the span's name. By default, and where it returns
// "", it is the operation's: see [hooks.Operation]. Names should be few, and must
// not have arguments in them. name is called on the caller's goroutine,
// concurrently.
func WithSpanName(name func(*hooks.Operation) string) TracingOption {
	return tracingOption(func(c *tracingConfig) error {
		c.name = name
		return notNil("WithSpanName", name == nil)
	})
}

// WithAttributes adds what attributes returns to the span when it starts; where
// the keys are the same, they prevail. By default nothing is added. attributes is
// called for every span, sampled or not, on the caller's goroutine, concurrently.
func WithAttributes(attributes func(*hooks.Operation) []attribute.KeyValue) TracingOption {
	return tracingOption(func(c *tracingConfig) error {
		c.attributes = attributes
		return notNil("WithAttributes", attributes == nil)
	})
}

// WithRootSpans says whether an operation whose context has no span gets one, a
// trace of its own. By default it does. Without it a program's own background
// work, and what runs before a request's span begins, leaves no traces.
func WithRootSpans(on bool) TracingOption {
	return tracingOption(func(c *tracingConfig) error {
		c.childrenOnly = !on
		return nil
	})
}

// WithMeterProvider sets where metrics go. By default that is the global
// provider, also if it is set later.
func WithMeterProvider(p metric.MeterProvider) MeterOption {
	return meterOption(func(c *meterConfig) error {
		if p == nil {
			return errors.New("otelhooks: WithMeterProvider: the provider is nil; leave the option out for the global one")
		}
		c.provider = p
		return nil
	})
}

// WithMetricAttributes adds attributes to all that is recorded, to tell clients
// of the same server apart. Those that this package sets itself prevail. By
// default there are none.
func WithMetricAttributes(attributes ...attribute.KeyValue) MeterOption {
	attributes = slices.Clone(attributes)
	return meterOption(func(c *meterConfig) error {
		for i, a := range attributes {
			if !a.Valid() {
				return fmt.Errorf("otelhooks: WithMetricAttributes: attribute %d, %q, is not valid; it needs a key and a value", i, a.Key)
			}
		}
		c.attributes = attributes
		return nil
	})
}

// WithBuckets sets the upper bounds of the histograms' buckets, in seconds. By
// default they are .001, .005, .01, .05, .1, .5, 1, 5 and 10, those of the
// semantic conventions. A view of the SDK overrides either.
func WithBuckets(seconds ...float64) MeterOption {
	seconds = slices.Clone(seconds)
	return meterOption(func(c *meterConfig) error {
		c.buckets = seconds
		if len(seconds) == 0 {
			return errors.New("otelhooks: WithBuckets: there are no bounds; at least one is needed")
		}
		last := 0.0
		for _, bound := range seconds {
			if !(bound > last) || math.IsInf(bound, 1) {
				return fmt.Errorf("otelhooks: WithBuckets: the bounds are %v; allowed are positive numbers, each greater than the one before", seconds)
			}
			last = bound
		}
		return nil
	})
}

// WithMetricsFilter records only the operations for which keep returns true. By
// default all are recorded. keep is called when they have ended, so that it may
// go by their outcome, on the caller's goroutine, concurrently.
func WithMetricsFilter(keep func(*hooks.Operation) bool) MetricsOption {
	return metricsOption(func(c *metricsConfig) error {
		c.keep = keep
		return notNil("WithMetricsFilter", keep == nil)
	})
}

// WithPoolName has name choose db.client.connection.pool.name by the node's
// address, as [hooks.SafeAddr] has it. By default it is that. Where it returns the
// same for several nodes, they are added up. It is called concurrently, and must
// return the same for the same address. Should it panic, the collection fails; what
// is recorded as it happens then has the address. It doesn't apply to stock pools.
func WithPoolName(name func(addr string) string) PoolOption {
	return poolOption(func(c *poolConfig) error {
		c.poolName = name
		return notNil("WithPoolName", name == nil)
	})
}

func notNil(option string, isNil bool) error {
	if !isNil {
		return nil
	}
	return fmt.Errorf("otelhooks: %s: the function is nil; leave the option out for the default", option)
}

// applyAll applies options and joins what is wrong with them.
func applyAll[O any](opts []O, apply func(O) error) error {
	var errs []error
	for i, o := range opts {
		if any(o) == nil {
			errs = append(errs, fmt.Errorf("otelhooks: option %d is nil", i))
			continue
		}
		errs = append(errs, apply(o))
	}
	return errors.Join(errs...)
}

func newTracingConfig(opts []TracingOption) (tracingConfig, error) {
	c := tracingConfig{provider: otel.GetTracerProvider()}
	err := applyAll(opts, func(o TracingOption) error { return o.applyTracing(&c) })
	if c.queryKeys && !c.queryText {
		err = errors.Join(err, errors.New("otelhooks: WithQueryKeys is true; it needs WithQueryText(true), whose keys it is about"))
	}
	return c, err
}

func newMetricsConfig(opts []MetricsOption) (metricsConfig, error) {
	c := metricsConfig{meterConfig: defaultMeter()}
	err := applyAll(opts, func(o MetricsOption) error { return o.applyMetrics(&c) })
	return c, err
}

func newPoolConfig(opts []PoolOption) (poolConfig, error) {
	c := poolConfig{meterConfig: defaultMeter(), poolName: func(addr string) string { return addr }}
	err := applyAll(opts, func(o PoolOption) error { return o.applyPool(&c) })
	return c, err
}

func defaultMeter() meterConfig {
	return meterConfig{
		provider: otel.GetMeterProvider(),
		buckets:  []float64{.001, .005, .01, .05, .1, .5, 1, 5, 10},
	}
}

func (c *meterConfig) meter() metric.Meter {
	return c.provider.Meter(ScopeName, metric.WithInstrumentationVersion(version()), metric.WithSchemaURL(semconv.SchemaURL))
}

// refused is the error of a provider that doesn't make an instrument.
func refused(err error) error {
	return fmt.Errorf("otelhooks: the meter provider refuses an instrument: %w", err)
}

// version is this module's, as the program was built with it; "" if unknown.
var version = sync.OnceValue(func() string {
	const module = "github.com/everpool/everpool"
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, m := range append([]*debug.Module{&info.Main}, info.Deps...) {
		if m.Path == module && m.Version != "(devel)" {
			return m.Version
		}
	}
	return ""
})
