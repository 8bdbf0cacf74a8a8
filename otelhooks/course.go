package otelhooks

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/instrumentation"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/everpool/everpool/hooks"
	"github.com/everpool/everpool/internal/wiring"
	"github.com/everpool/everpool/pooler"
)

// The names of the events that a span has when its request has waited for a connection,
// when it went on another one before anything of it was run, and when it was sent a second
// time. They are there with [Option].
const (
	WaitedEvent = "everpool.waited"
	MovedEvent  = "everpool.moved"
	ResentEvent = "everpool.resent"
)

const (
	waitDuration = attribute.Key("everpool.wait.duration")
	retryCount   = attribute.Key("everpool.retry.count")
)

// addCourse adds events to the span of the command whose context it is. Only a span that
// was made here is one: the command may have none, and what is in its context then is the
// caller's own.
func addCourse(ctx context.Context, c wiring.Course) {
	span := trace.SpanFromContext(ctx)
	if made, ok := span.(interface {
		InstrumentationScope() instrumentation.Scope
	}); !ok || made.InstrumentationScope().Name != ScopeName || !span.IsRecording() {
		return
	}
	if c.Waited > 0 {
		addWait(span, c.Waited)
	}
	if c.Moved > 0 {
		span.AddEvent(MovedEvent, trace.WithAttributes(retryCount.Int(c.Moved)))
	}
	if c.Resent > 0 {
		span.AddEvent(ResentEvent, trace.WithAttributes(retryCount.Int(c.Resent)))
	}
}

func addWait(span trace.Span, d time.Duration, more ...attribute.KeyValue) {
	span.AddEvent(WaitedEvent, trace.WithAttributes(append(more, waitDuration.Float64(d.Seconds()))...))
}

// addVainWait adds how long an operation has waited that has failed for it.
func addVainWait(span trace.Span, op *hooks.Operation) {
	var e *pooler.Error
	if op.ErrorType == hooks.ErrorWaitTimeout && errors.As(op.Err, &e) && e.Waited > 0 {
		addWait(span, e.Waited, semconv.ErrorTypeKey.String(op.ErrorType))
	}
}
