package promhooks

import (
	"maps"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/everpool/everpool/hooks"
)

// ending is how an operation has ended, as the label outcome says it. What no server
// has done wrong is no error there.
type ending uint8

const (
	endedOK ending = iota
	endedMiss
	endedError
	endedCanceled
	endedTxFailed
	numEndings = iota
)

var endingNames = [numEndings]string{"ok", "miss", "error", hooks.ErrorCanceled, hooks.ErrorTxFailed}

func endingOf(outcome hooks.Outcome, errorType string) ending {
	switch {
	case outcome != hooks.Error:
		return ending(outcome)
	case errorType == hooks.ErrorCanceled:
		return endedCanceled
	case errorType == hooks.ErrorTxFailed:
		return endedTxFailed
	}
	return endedError
}

// commandSeries are a command's series, found without a lock and without hashing
// its labels. They are made when they are needed first. Two goroutines may do so
// at once: both get the same series from the vector.
type commandSeries struct {
	endings [numEndings]atomic.Pointer[endingSeries]
	errors  atomic.Pointer[map[string]prometheus.Counter] // by type; never changed, replaced
}

// endingSeries are those of the commands that have ended so.
type endingSeries struct {
	count              prometheus.Counter
	duration, blocking atomic.Pointer[series] // nil until one ends outside of a batch
}

// counted counts a command that has ended so, alone or in a batch.
func (m *Metrics) counted(c *hooks.Command, outcome hooks.Outcome, errorType string) (*endingSeries, ending) {
	end := endingOf(outcome, errorType)
	at := &m.commands[c.Index].endings[end]
	s := at.Load()
	if s == nil {
		at.CompareAndSwap(nil, &endingSeries{count: m.count.WithLabelValues(c.Name, endingNames[end])})
		s = at.Load()
	}
	s.count.Inc()
	if outcome == hooks.Error {
		m.failed(c, errorType)
	}
	return s, end
}

// single counts an operation that is one command.
func (m *Metrics) single(op *hooks.Operation) *series {
	s, end := m.counted(op.Command, op.Outcome, op.ErrorType)
	if op.Blocking() {
		return find(&s.blocking, m.blocking, op.Command.Name, endingNames[end])
	}
	return find(&s.duration, m.duration, op.Command.Name, endingNames[end])
}

// find returns the series that is kept there, or keeps it.
func find(at *atomic.Pointer[series], vec *prometheus.HistogramVec, labels ...string) *series {
	s := at.Load()
	if s == nil {
		s = newSeries(vec.WithLabelValues(labels...))
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
	durations [numEndings]atomic.Pointer[series]
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
	// None of its commands may have an error when go-redis has panicked, say.
	whole := op.Outcome == hooks.Error && !anyFailed(op)
	for _, cmd := range op.Cmds {
		c := op.Command
		if c == nil {
			c = hooks.CommandOf(cmd)
		}
		outcome, errorType := op.Outcome, op.ErrorType
		if !whole {
			outcome, errorType = hooks.Classify(cmd.Err())
		}
		m.counted(c, outcome, errorType)
	}
	kind, end := batchKind(op), endingOf(op.Outcome, op.ErrorType)
	b := &m.batches[kind]
	return find(&b.durations[end], m.batchDuration, batchKinds[kind], endingNames[end]), b.size
}

func anyFailed(op *hooks.Operation) bool {
	for _, cmd := range op.Cmds {
		if err := cmd.Err(); err != nil {
			if outcome, _ := hooks.Classify(err); outcome == hooks.Error {
				return true
			}
		}
	}
	return false
}
