package otelhooks_test

import (
	"math"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/attribute"

	"github.com/everpool/everpool/hooks"
	"github.com/everpool/everpool/otelhooks"
)

func TestEverythingThatIsWrongIsSaidAtOnce(t *testing.T) {
	_, tracing := otelhooks.NewTracing(
		nil,
		otelhooks.WithTracerProvider(nil), otelhooks.WithSpanFilter(nil), otelhooks.WithSpanName(nil),
		otelhooks.WithAttributes(nil), otelhooks.WithQueryKeys(true),
	)
	_, filter := otelhooks.NewTracing(otelhooks.WithSpanFilter(func(*hooks.Operation) bool { return true }))
	_, metrics := otelhooks.NewMetrics(nil, otelhooks.WithMeterProvider(nil), otelhooks.WithMetricsFilter(nil),
		otelhooks.WithBuckets(), otelhooks.WithMetricAttributes(attribute.Int("good", 1), attribute.KeyValue{}))
	_, pools := otelhooks.NewPool(nil, otelhooks.WithMeterProvider(nil), otelhooks.WithPoolName(nil),
		otelhooks.WithBuckets(1, 1))
	for _, test := range []struct {
		err  error
		want []string
	}{
		{tracing, []string{"setting 0", "WithTracerProvider", "WithSpanFilter", "WithSpanName", "WithAttributes", "WithQueryKeys"}},
		{filter, []string{"WithSpanFilter is for Option", "hooks.Filter"}},
		{metrics, []string{"setting 0", "WithMeterProvider", "WithMetricsFilter", "WithBuckets", "WithMetricAttributes: attribute 1"}},
		{pools, []string{"setting 0", "WithMeterProvider", "WithPoolName", "[1 1]"}},
	} {
		for _, want := range test.want {
			if test.err == nil || !strings.Contains(test.err.Error(), want) {
				t.Errorf("%v\nwant it to have %q", test.err, want)
			}
		}
	}
}

func TestBucketsAreChecked(t *testing.T) {
	for _, bad := range [][]float64{{}, {0}, {-1}, {2, 1}, {1, 1}, {1, math.Inf(1)}, {math.NaN()}, {1, math.NaN()}} {
		if _, err := otelhooks.NewMetrics(otelhooks.WithBuckets(bad...)); err == nil {
			t.Errorf("%v was taken", bad)
		}
	}
	if _, err := otelhooks.NewMetrics(otelhooks.WithBuckets(.5, 1)); err != nil {
		t.Error(err)
	}
}
