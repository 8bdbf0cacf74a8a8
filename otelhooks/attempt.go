package otelhooks

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"

	"go.opentelemetry.io/otel/metric"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"

	"github.com/everpool/everpool/hooks"
	"github.com/everpool/everpool/internal/attempts"
)

// attemptCounts are read at collection, as commandCounts are.
type attemptCounts struct {
	attempts.Counts
	instrument metric.Int64Observable
}

// Attempt counts what a node of a cluster or a ring had of an operation.
func (m *Metrics) Attempt(ctx context.Context, a *hooks.Attempt) {
	n := m.attempts.Of(a.Peer, a.ErrorType)
	if m.keep == nil {
		n.Add(1)
		return
	}
	if u, _ := ctx.Value(undecidedKey{m}).(*undecided); u != nil {
		u.add(n)
	}
}

// observeAttempts is called at each collection.
func (m *Metrics) observeAttempts(to metric.Observer) {
	m.attempts.Each(func(peer *hooks.Target, errorType string, n int64) {
		attrs := appendServer(append(slices.Clip(m.extra), semconv.DBSystemNameRedis), peer)
		if errorType != "" {
			attrs = append(attrs, semconv.ErrorTypeKey.String(errorType))
		}
		to.ObserveInt64(m.attempts.instrument, n, metric.WithAttributes(attrs...))
	})
}

// undecided is the context of an operation of which it isn't known whether its attempts
// count: a filter of metrics decides when the operation has ended.
type undecided struct {
	context.Context
	metrics *Metrics

	mu     sync.Mutex // a batch has attempts at once
	counts []*atomic.Int64
}

type undecidedKey struct{ *Metrics }

// Value finds the context itself.
func (u *undecided) Value(key any) any {
	if key == (undecidedKey{u.metrics}) {
		return u
	}
	return u.Context.Value(key)
}

func (u *undecided) add(n *atomic.Int64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.counts = append(u.counts, n)
}

// keepAttempts counts those of an operation that is kept.
func (m *Metrics) keepAttempts(ctx context.Context) {
	u, _ := ctx.Value(undecidedKey{m}).(*undecided)
	if u == nil {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, n := range u.counts {
		n.Add(1)
	}
}
