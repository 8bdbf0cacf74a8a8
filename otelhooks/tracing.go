package otelhooks

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/everpool/everpool/hooks"
)

// Tracing makes a span of every operation. It is a [hooks.AttemptObserver], to be
// given to [hooks.New], before what should see the span. Make it with
// [NewTracing]. It is safe for concurrent use and holds nothing to be closed.
type Tracing struct {
	cfg    config
	tracer trace.Tracer
	starts byOperation[startOptions]
}

var _ hooks.AttemptObserver = (*Tracing)(nil)

// NewTracing returns an observer that makes spans. It fails if a setting is
// wrong, with everything that is wrong joined in one error.
func NewTracing(settings ...Setting) (*Tracing, error) {
	cfg, err := newConfig(settings)
	if cfg.keepSpans != nil {
		err = errors.Join(err, errors.New("otelhooks: NewTracing: WithSpanFilter is for Option; put a hooks.Filter around the Tracing"))
	}
	if err != nil {
		return nil, err
	}
	return newTracing(cfg), nil
}

func newTracing(cfg config) *Tracing {
	return &Tracing{
		cfg:    cfg,
		tracer: cfg.tracers.Tracer(ScopeName, trace.WithInstrumentationVersion(version()), trace.WithSchemaURL(semconv.SchemaURL)),
		starts: byOperation[startOptions]{newStartOptions},
	}
}

// startOptions are the same for all operations of a name and a client.
type startOptions struct {
	options []trace.SpanStartOption
	peer    []attribute.KeyValue // of a client of one server: for those that have reached it
}

func newStartOptions(op *hooks.Operation) *startOptions {
	s := &startOptions{options: []trace.SpanStartOption{
		trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(describe(nil, op)...),
	}}
	if op.Target.IsAddress() {
		s.peer = appendPeer(nil, op.Target)
	}
	return s
}

// Begin starts the span.
func (t *Tracing) Begin(ctx context.Context, op *hooks.Operation) context.Context {
	if !t.wants(ctx) {
		return &scope{Context: ctx, tracing: t}
	}
	name := op.Name
	if t.cfg.spanName != nil {
		if own := t.cfg.spanName(op); own != "" {
			name = own
		}
	}
	ctx, span := t.tracer.Start(ctx, name, t.options(op)...)
	if hasAttempts(op.Target) { // they have to find it
		return &scope{Context: ctx, tracing: t, span: span}
	}
	return ctx
}

// hasAttempts reports whether the target may be a group of servers: it has no
// address, and yet isn't unknown.
func hasAttempts(t *hooks.Target) bool { return t.Addr == "" && t.Network != "" }

func (t *Tracing) wants(ctx context.Context) bool {
	return !t.cfg.childrenOnly || trace.SpanContextFromContext(ctx).IsValid()
}

// options are those that the span starts with: its own, and then what the user
// has asked for, which so prevails.
func (t *Tracing) options(op *hooks.Operation) []trace.SpanStartOption {
	opts := t.starts.of(op).options
	if !t.cfg.queryText && t.cfg.attributes == nil {
		return opts
	}
	var extra []attribute.KeyValue
	if t.cfg.queryText {
		extra = append(extra, semconv.DBQueryText(queryText(op.Cmds, t.cfg.queryKeys)))
	}
	if t.cfg.attributes != nil {
		extra = append(extra, t.cfg.attributes(op)...)
	}
	return append(slices.Clip(opts), trace.WithAttributes(extra...))
}

// End ends the span.
func (t *Tracing) End(ctx context.Context, op *hooks.Operation) {
	var span trace.Span
	if s, ok := ctx.(*scope); ok && s.tracing == t {
		if span = s.span; span == nil {
			return
		}
	} else {
		span = trace.SpanFromContext(ctx)
	}
	if !span.IsRecording() {
		span.End()
		return
	}
	if peer := t.starts.of(op).peer; peer != nil && op.Reached() {
		span.SetAttributes(peer...)
	}
	if attrs := ending(op); attrs != nil {
		span.SetAttributes(attrs...)
	}
	if op.Outcome == hooks.Error {
		addVainWait(span, op)
		span.SetStatus(codes.Error, op.ErrorType) // its text may have arguments in it
	}
	if started, ok := span.(interface{ StartTime() time.Time }); ok {
		endAt(span, started.StartTime().Add(op.Duration))
		return
	}
	span.End()
}

// endAt ends a span of the SDK so that it lasts as long as the operation did, to
// the nanosecond, and agrees with metrics. What the operation began at can't be
// given to it beforehand: that would be an allocation for every span, sampled or
// not. For the same reason the slice is used again; the SDK doesn't keep it.
func endAt(span trace.Span, end time.Time) {
	opts := endOptions.Get().(*[1]trace.SpanEndOption)
	opts[0] = trace.WithTimestamp(end)
	span.End(opts[:]...)
	opts[0] = nil
	endOptions.Put(opts)
}

var endOptions = sync.Pool{New: func() any { return new([1]trace.SpanEndOption) }}

// Attempt adds an event to the operation's span.
func (t *Tracing) Attempt(ctx context.Context, a *hooks.Attempt) {
	s, _ := ctx.Value(scopeKey{t}).(*scope)
	if s == nil || s.span == nil || !s.span.IsRecording() {
		return
	}
	attrs := make([]attribute.KeyValue, 0, 6)
	if a.Reached() {
		attrs = appendNode(attrs, a.Peer)
	} else {
		attrs = appendServer(attrs, a.Peer)
	}
	attrs = append(attrs, attemptDuration.Float64(a.Duration.Seconds()))
	if len(a.Cmds) >= 2 {
		attrs = append(attrs, semconv.DBOperationBatchSize(len(a.Cmds)))
	}
	s.span.AddEvent(AttemptEvent, trace.WithAttributes(appendError(attrs, a.ErrorType)...))
}

// AttemptEvent is the name of the event that a span has for every node that a
// part of its operation was sent to.
const AttemptEvent = "everpool.attempt"

const attemptDuration = attribute.Key("everpool.attempt.duration")

// scope is the context of an operation whose span can't just be taken from the
// context: it has none, so that the one found there is somebody else's; or it has
// attempts, in whose contexts there may be spans of others.
type scope struct {
	context.Context
	tracing *Tracing
	span    trace.Span // nil: none
}

type scopeKey struct{ *Tracing }

// Value finds the scope itself.
func (s *scope) Value(key any) any {
	if key == (scopeKey{s.tracing}) {
		return s
	}
	return s.Context.Value(key)
}
