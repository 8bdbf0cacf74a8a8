package promhooks

import (
	"maps"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/everpool/everpool/hooks"
	"github.com/everpool/everpool/internal/endings"
)

// commandSeries are a command's series, found without a lock and without hashing
// its labels. They are made when they are needed first. Two goroutines may do so
// at once: both get the same series from the vector.
type commandSeries struct {
	endings [endings.Num]atomic.Pointer[endingSeries]
	errors  atomic.Pointer[map[string]prometheus.Counter] // by type; never changed, replaced
}

// endingSeries are those of the commands that have ended so.
type endingSeries struct {
	count              prometheus.Counter
	duration, blocking atomic.Pointer[series] // nil until one ends outside of a batch
}

// counted counts a command that has ended so, alone or in a batch.
func (m *Metrics) counted(c *hooks.Command, end endings.Ending, errorType string) *endingSeries {
	at := &m.commands[c.Index].endings[end]
	s := at.Load()
	if s == nil {
		at.CompareAndSwap(nil, &endingSeries{count: m.count.WithLabelValues(c.Name, end.String())})
		s = at.Load()
	}
	s.count.Inc()
	if errorType != "" {
		m.failed(c, errorType)
	}
	return s
}

// single counts an operation that is one command.
func (m *Metrics) single(op *hooks.Operation) (duration *series) {
	end := endings.Of(op.Outcome, op.ErrorType)
	s := m.counted(op.Command, end, op.ErrorType)
	if op.Blocking() {
		return find(&s.blocking, m.blocking, op.Command.Name, end)
	}
	return find(&s.duration, m.duration, op.Command.Name, end)
}

// find returns the series that is kept there, or keeps it.
func find(at *atomic.Pointer[series], vec *prometheus.HistogramVec, what string, end endings.Ending) *series {
	s := at.Load()
	if s == nil {
		s = newSeries(vec.WithLabelValues(what, end.String()))
		at.Store(s)
	}
	return s
}

// failed counts a command that has failed.
func (m *Metrics) failed(c *hooks.Command, errorType string) {
	at := &m.commands[c.Index].errors
	known := at.Load()
	if known != nil {
		if n, ok := (*known)[errorType]; ok {
			n.Inc()
			return
		}
	}
	n := m.errors.WithLabelValues(c.Name, errorType)
	n.Inc()
	more := map[string]prometheus.Counter{errorType: n}
	if known != nil {
		maps.Copy(more, *known)
	}
	// If another was quicker this one is looked up once more next time.
	at.CompareAndSwap(known, &more)
}

// batchSeries are those of one kind of batch.
type batchSeries struct {
	durations [endings.Num]atomic.Pointer[series]
	size      *series
}

// The kinds of batches.
const (
	pipelines = iota
	transactions
	blockingPipelines // of which a command may hold up all others for as long as it likes
	numBatchKinds
)

var batchKinds = [numBatchKinds]string{"pipeline", "transaction", "blocking_pipeline"}

func batchKind(op *hooks.Operation) int {
	switch {
	case op.Kind == hooks.Transaction:
		return transactions
	case op.Blocking():
		return blockingPipelines
	}
	return pipelines
}

// batch counts an operation that is a batch, and its commands.
func (m *Metrics) batch(op *hooks.Operation) (duration, size *series) {
	endings.Each(op, func(c *hooks.Command, end endings.Ending, errorType string) { m.counted(c, end, errorType) })
	kind, end := batchKind(op), endings.Of(op.Outcome, op.ErrorType)
	b := &m.batches[kind]
	return find(&b.durations[end], m.batchDuration, batchKinds[kind], end), b.size
}
