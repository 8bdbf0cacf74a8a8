package promhooks

import (
	"context"
	"maps"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/hooks"
)

// commandSeries are a command's series, found without a lock and without hashing
// its labels. They are made when they are needed first. Two goroutines may do so
// at once: both get the same series from the vector.
type commandSeries struct {
	outcomes [3]atomic.Pointer[series]                     // by hooks.Outcome
	errors   atomic.Pointer[map[string]prometheus.Counter] // by type; never changed, replaced
}

// batchSeries are those of pipelines, or of transactions.
type batchSeries struct {
	duration, size *series
}

// command returns the series of a command that has ended so.
func (m *Metrics) command(c *hooks.Command, outcome hooks.Outcome) *series {
	at := &m.commands[c.Index].outcomes[outcome]
	s := at.Load()
	if s == nil {
		s = newSeries(m.duration.WithLabelValues(c.Name, outcome.String()))
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

// batchFailed counts the commands of a batch that have failed. If none has, the
// batch as a whole did: go-redis has panicked, say.
func (m *Metrics) batchFailed(op *hooks.Operation) {
	some := false
	for _, cmd := range op.Cmds {
		if outcome, errorType := hooks.Classify(cmd.Err()); outcome == hooks.Error {
			m.failed(hooks.CommandOf(cmd), errorType)
			some = true
		}
	}
	if !some {
		c := op.Command
		if c == nil {
			c = otherCommand
		}
		m.failed(c, op.ErrorType)
	}
}

// otherCommand stands for all that aren't in the table, as one without a name does.
var otherCommand = hooks.CommandOf(redis.NewCmd(context.Background()))
