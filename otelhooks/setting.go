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
	"github.com/everpool/everpool/internal/safeaddr"
)

// ScopeName is that of the instrumentation scope of all spans and metrics.
const ScopeName = "github.com/everpool/everpool/otelhooks"

// Setting changes what [Option], [NewTracing], [NewMetrics], [NewPool] and
// [NewStockPool] make. One list may be given to all of them: each takes what concerns it.
type Setting interface{ apply(*config) error }

// config is what the settings say.
type config struct {
	// Of spans.
	tracers      trace.TracerProvider
	queryText    bool
	queryKeys    bool
	childrenOnly bool
	keepSpans    func(*hooks.Operation) bool // of Option
	spanName     func(*hooks.Operation) string
	attributes   func(*hooks.Operation) []attribute.KeyValue

	// Of metrics.
	meters           metric.MeterProvider
	metricAttributes []attribute.KeyValue
	buckets          []float64
	keepMetrics      func(*hooks.Operation) bool
	poolName         func(addr string) string
	baseplate        string // the client's name; "": without Baseplate's names
}

type setting func(*config) error

func (f setting) apply(c *config) error { return f(c) }

// WithTracerProvider sets where the spans go. By default that is the global
// provider, also if it is set later.
func WithTracerProvider(p trace.TracerProvider) Setting {
	return setting(func(c *config) error {
		if p == nil {
			return errors.New("otelhooks: WithTracerProvider: the provider is nil; leave the option out for the global one")
		}
		c.tracers = p
		return nil
	})
}

// WithQueryText adds db.query.text to spans: the command with every argument
// replaced by a "?", as in "SET ? ?"; the commands of a batch separated by "; ",
// up to 2048 bytes and 32 commands. By default there is none. It is made for
// every span, sampled or not.
func WithQueryText(on bool) Setting {
	return setting(func(c *config) error {
		c.queryText = on
		return nil
	})
}

// WithQueryKeys leaves the keys in db.query.text, as in "SET user:1 ?": each up to
// 128 bytes, quoted where they have spaces or the like. It needs WithQueryText.
// By default keys are replaced like all arguments.
func WithQueryKeys(on bool) Setting {
	return setting(func(c *config) error {
		c.queryKeys = on
		return nil
	})
}

// WithSpanFilter has [Option] make spans only of the operations for which keep returns
// true when they begin. By default all have one. keep is called on the caller's
// goroutine, concurrently. It is for Option only: it puts a [hooks.Filter] around the
// [Tracing], as you do with one of [NewTracing].
func WithSpanFilter(keep func(*hooks.Operation) bool) Setting {
	return setting(func(c *config) error {
		c.keepSpans = keep
		return notNil("WithSpanFilter", keep == nil)
	})
}

// WithSpanName has name choose the span's name. By default, and where it returns
// "", it is the operation's: see [hooks.Operation]. Names should be few, and must
// not have arguments in them. name is called on the caller's goroutine,
// concurrently.
func WithSpanName(name func(*hooks.Operation) string) Setting {
	return setting(func(c *config) error {
		c.spanName = name
		return notNil("WithSpanName", name == nil)
	})
}

// WithAttributes adds what attributes returns to the span when it starts; where
// the keys are the same, they prevail. By default nothing is added. attributes is
// called for every span, sampled or not, on the caller's goroutine, concurrently.
func WithAttributes(attributes func(*hooks.Operation) []attribute.KeyValue) Setting {
	return setting(func(c *config) error {
		c.attributes = attributes
		return notNil("WithAttributes", attributes == nil)
	})
}

// WithRootSpans says whether an operation whose context has no span gets one, a
// trace of its own. By default it does. Without it a program's own background
// work, and what runs before a request's span begins, leaves no traces.
func WithRootSpans(on bool) Setting {
	return setting(func(c *config) error {
		c.childrenOnly = !on
		return nil
	})
}

// WithMeterProvider sets where metrics go. By default that is the global
// provider, also if it is set later.
func WithMeterProvider(p metric.MeterProvider) Setting {
	return setting(func(c *config) error {
		if p == nil {
			return errors.New("otelhooks: WithMeterProvider: the provider is nil; leave the option out for the global one")
		}
		c.meters = p
		return nil
	})
}

// WithMetricAttributes adds attributes to all that is recorded, to tell clients
// of the same server apart. Those that this package sets itself prevail. By
// default there are none.
func WithMetricAttributes(attributes ...attribute.KeyValue) Setting {
	attributes = slices.Clone(attributes)
	return setting(func(c *config) error {
		for i, a := range attributes {
			if !a.Valid() {
				return fmt.Errorf("otelhooks: WithMetricAttributes: attribute %d, %q, is not valid; it needs a key and a value", i, a.Key)
			}
		}
		c.metricAttributes = attributes
		return nil
	})
}

// WithBuckets sets the upper bounds of the histograms' buckets, in seconds. By
// default they are .001, .005, .01, .05, .1, .5, 1, 5 and 10, those of the
// semantic conventions. A view of the SDK overrides either.
func WithBuckets(seconds ...float64) Setting {
	seconds = slices.Clone(seconds)
	return setting(func(c *config) error {
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
// go by their outcome, on the caller's goroutine, concurrently. Attempts count with their
// operation.
func WithMetricsFilter(keep func(*hooks.Operation) bool) Setting {
	return setting(func(c *config) error {
		c.keepMetrics = keep
		return notNil("WithMetricsFilter", keep == nil)
	})
}

// WithPoolName has name choose db.client.connection.pool.name by the node's
// address, as [hooks.SafeAddr] has it. By default it is that. Where it returns the
// same for several nodes, they are added up. It is called concurrently, and must
// return the same for the same address. Should it panic, the collection fails; what
// is recorded as it happens then has the address. It doesn't apply to stock pools.
func WithPoolName(name func(addr string) string) Setting {
	return setting(func(c *config) error {
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

// WithBaseplateNames adds what Baseplate's Python package reports of a pool, so that a
// dashboard made for it keeps working: runtime.pool.size, runtime.pool.in_use and
// runtime.pool.open_and_available, with the attribute client, which is the given name,
// and must not be a URL, which may hold a password. By default they aren't there.
func WithBaseplateNames(client string) Setting {
	return setting(func(c *config) error {
		c.baseplate = client
		if client == "" || safeaddr.MaybeURL(client) {
			return errors.New(`otelhooks: WithBaseplateNames: client is "" or has :// or @ in it, as URLs have; a name is required, since a URL may hold a password`)
		}
		return nil
	})
}

// newConfig applies the settings, and joins what is wrong with them.
func newConfig(settings []Setting) (config, error) {
	c := config{
		tracers: otel.GetTracerProvider(), meters: otel.GetMeterProvider(),
		buckets:  []float64{.001, .005, .01, .05, .1, .5, 1, 5, 10},
		poolName: func(addr string) string { return addr },
	}
	var errs []error
	for i, s := range settings {
		if s == nil {
			errs = append(errs, fmt.Errorf("otelhooks: setting %d is nil", i))
			continue
		}
		errs = append(errs, s.apply(&c))
	}
	if c.queryKeys && !c.queryText {
		errs = append(errs, errors.New("otelhooks: WithQueryKeys is true; it needs WithQueryText(true), whose keys it is about"))
	}
	return c, errors.Join(errs...)
}

func (c *config) meter() metric.Meter {
	return c.meters.Meter(ScopeName, metric.WithInstrumentationVersion(version()), metric.WithSchemaURL(semconv.SchemaURL))
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
