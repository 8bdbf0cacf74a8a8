package otelhooks_test

import (
	"context"
	"testing"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/everpool/everpool/otelhooks"
)

// stuck is an exporter that doesn't return until it is told to.
type stuck struct {
	entered, release chan struct{}
	exported         int
}

func (s *stuck) ExportSpans(_ context.Context, spans []sdktrace.ReadOnlySpan) error {
	if s.exported == 0 {
		close(s.entered)
	}
	<-s.release
	s.exported += len(spans)
	return nil
}

func (s *stuck) Shutdown(context.Context) error { return nil }

func TestAnExporterThatIsStuckHoldsUpNoCommand(tt *testing.T) {
	t := newTester(tt)
	exporter := &stuck{entered: make(chan struct{}), release: make(chan struct{})}
	const queue = 8
	tracers := sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter,
		sdktrace.WithMaxQueueSize(queue), sdktrace.WithMaxExportBatchSize(1), sdktrace.WithExportTimeout(0)))
	c, _ := t.client(t.tracing(otelhooks.WithTracerProvider(tracers)))
	t.must(c.Ping(t.ctx).Err())
	<-exporter.entered
	for range 10 * queue { // many more than there is room for
		t.must(c.Ping(t.ctx).Err())
	}
	close(exporter.release)
	t.must(tracers.Shutdown(context.Background()))
	if exporter.exported < queue || exporter.exported > 2*queue {
		t.Errorf("%d spans were exported; the queue holds %d", exporter.exported, queue)
	}
}
