package promhooks

import (
	"context"
	"encoding/hex"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"
)

const (
	// maxNativeBuckets bounds the memory of a native histogram, as Prometheus's
	// own documentation recommends.
	maxNativeBuckets = 160
	// nativeReset is how often at most one that got too wide may begin anew.
	nativeReset = time.Hour
)

// Buckets of what isn't the duration of a request.
var (
	sizeBuckets = []float64{1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000}
	// blockingBuckets go by how long programs have commands block.
	blockingBuckets = []float64{.001, .01, .1, .5, 1, 2, 5, 10, 30, 60, 300}
	healBuckets     = []float64{.01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600}
	// baseplateBuckets are those of Baseplate: 100 µs to 14.9 s.
	baseplateBuckets = prometheus.ExponentialBuckets(.0001, 2.5, 14)
)

// histogram returns a histogram with the configured native buckets. classic are
// the others; if they are switched off, a histogram of our own choice has none
// either.
func (c *config) histogram(name, help string, constant prometheus.Labels, classic []float64) prometheus.HistogramOpts {
	o := prometheus.HistogramOpts{Name: name, Help: help, ConstLabels: constant, Buckets: classic}
	if len(c.buckets) == 0 {
		o.Buckets = nil
	}
	if c.factor != nativeOff {
		o.NativeHistogramBucketFactor = c.factor
		o.NativeHistogramMaxBucketNumber = maxNativeBuckets
		o.NativeHistogramMinResetDuration = nativeReset
	}
	return o
}

// series is one series of a histogram, as it is kept at hand.
type series struct {
	observer prometheus.Observer
	exemplar prometheus.ExemplarObserver // the same
}

func newSeries(o prometheus.Observer) *series {
	// A histogram of client_golang is both.
	exemplar, _ := o.(prometheus.ExemplarObserver)
	return &series{observer: o, exemplar: exemplar}
}

// observe adds a value, with an exemplar if that is wanted, the context's span is
// sampled and the series can have one.
func (s *series) observe(ctx context.Context, value float64, exemplars bool) {
	if exemplars && s.exemplar != nil {
		if span := trace.SpanContextFromContext(ctx); span.IsSampled() {
			traceID, spanID := span.TraceID(), span.SpanID()
			s.exemplar.ObserveWithExemplar(value, prometheus.Labels{"trace_id": hexOf(traceID[:]), "span_id": hexOf(spanID[:])})
			return
		}
	}
	s.observer.Observe(value)
}

// hexOf is what an identifier's String is, for one allocation instead of two.
func hexOf(id []byte) string {
	var buf [32]byte
	return string(buf[:hex.Encode(buf[:], id)])
}
