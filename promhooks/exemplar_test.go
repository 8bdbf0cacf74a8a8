package promhooks_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"
	"github.com/redis/go-redis/v9"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/everpool/everpool/hooks"
	"github.com/everpool/everpool/promhooks"
)

// exemplars of the classic and of the native buckets of a gather.
func exemplars(tb testing.TB, m *promhooks.Metrics) (classic, native []*dto.Exemplar) {
	tb.Helper()
	for _, f := range families(tb, registry(tb, m)) {
		for _, metric := range f.GetMetric() {
			native = append(native, metric.GetHistogram().GetExemplars()...)
			for _, b := range metric.GetHistogram().GetBucket() {
				if b.GetExemplar() != nil {
					classic = append(classic, b.GetExemplar())
				}
			}
		}
	}
	return classic, native
}

// An exemplar names the span of the operation: one that a tracing observer has
// begun before, if it is sampled and exemplars are wanted.
func TestExemplarsOfSampledSpansOnly(t *testing.T) {
	for _, c := range []struct {
		name    string
		sampler sdktrace.Sampler
		on      bool
		want    int
	}{
		{"sampled", sdktrace.AlwaysSample(), true, 2},
		{"not sampled", sdktrace.NeverSample(), true, 0},
		{"switched off", sdktrace.AlwaysSample(), false, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			provider := sdktrace.NewTracerProvider(sdktrace.WithSampler(c.sampler))
			var spans []trace.SpanContext
			tracing := hooks.Func{OnBegin: func(ctx context.Context, op *hooks.Operation) context.Context {
				ctx, span := provider.Tracer("test").Start(ctx, op.Name)
				spans = append(spans, span.SpanContext())
				return ctx
			}}
			m := must(promhooks.NewMetrics("test", promhooks.WithExemplars(c.on)))(t)
			hook := must(hooks.New(tracing, m))(t)
			cmd := redis.NewStringCmd(t.Context(), "get", "k")
			_ = hook.ProcessHook(func(context.Context, redis.Cmder) error { return nil })(t.Context(), cmd)
			_ = hook.ProcessPipelineHook(func(context.Context, []redis.Cmder) error { return nil })(t.Context(), []redis.Cmder{cmd, cmd})

			classic, native := exemplars(t, m)
			if len(classic) != c.want || len(native) != c.want {
				t.Fatalf("%d exemplars at classic and %d at native buckets, want %d", len(classic), len(native), c.want)
			}
			seen := make(map[string]bool)
			for _, e := range classic {
				for _, l := range e.GetLabel() {
					seen[l.GetName()+"="+l.GetValue()] = true
				}
			}
			for _, s := range spans {
				if c.want > 0 && !(seen["trace_id="+s.TraceID().String()] && seen["span_id="+s.SpanID().String()]) {
					t.Errorf("span %s of trace %s isn't among %v", s.SpanID(), s.TraceID(), seen)
				}
			}
			// Either way the operations are counted.
			gather(t, registry(t, m)).want(t, samples{
				`redis_client_command_duration_seconds_count{command="GET",outcome="ok"}`: 1,
				`redis_client_batch_duration_seconds_count{kind="pipeline",outcome="ok"}`: 1,
			})
		})
	}
}

// A scrape in the OpenMetrics format has them.
func TestExemplarsAreInOpenMetrics(t *testing.T) {
	provider := sdktrace.NewTracerProvider()
	ctx, span := provider.Tracer("test").Start(t.Context(), "request")
	m := must(promhooks.NewMetrics("test", promhooks.WithExemplars(true)))(t)
	_ = hooked(t, m, func(context.Context, redis.Cmder) error { return nil })(ctx, redis.NewStringCmd(ctx, "get", "k"))

	request := httptest.NewRequest(http.MethodGet, "/metrics", nil)
	request.Header.Set("Accept", "application/openmetrics-text; version=1.0.0")
	response := httptest.NewRecorder()
	promhttp.HandlerFor(registry(t, m), promhttp.HandlerOpts{EnableOpenMetrics: true}).ServeHTTP(response, request)
	if want := `trace_id="` + span.SpanContext().TraceID().String() + `"`; !strings.Contains(response.Body.String(), want) {
		t.Errorf("%s isn't in:\n%s", want, response.Body)
	}
}
