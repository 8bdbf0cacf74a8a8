package main

import (
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/everpool/everpool/hooks"
)

// tally counts the calls of a driver's callers: each command, pipeline or transaction is
// a call.
type tally struct {
	latency histogram
	ok      atomic.Int64
	slowest atomic.Int64 // nanoseconds

	mu     sync.Mutex
	failed map[string]int64 // by hooks.ErrorType
}

// note counts a call that began then.
func (t *tally) note(began time.Time, err error) {
	took := time.Since(began)
	t.latency.record(took)
	for old := t.slowest.Load(); int64(took) > old && !t.slowest.CompareAndSwap(old, int64(took)); {
		old = t.slowest.Load()
	}
	t.count(err)
}

// count counts how a call ended.
func (t *tally) count(err error) {
	outcome, kind := hooks.Classify(err)
	if outcome != hooks.Error {
		t.ok.Add(1)
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.failed == nil {
		t.failed = make(map[string]int64)
	}
	t.failed[kind]++
}

// failures returns a copy of the counts of failed calls, by kind.
func (t *tally) failures() map[string]int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return maps.Clone(t.failed)
}

func sum(counts map[string]int64) (n int64) {
	for _, c := range counts {
		n += c
	}
	return n
}
