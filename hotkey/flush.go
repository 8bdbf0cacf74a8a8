package hotkey

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// membersPerTop bounds a set: so many members for each of the top N.
const membersPerTop = 10

// flushes flushes from time to time, on a goroutine of its own, and once more
// after the last window.
func (t *Tracker) flushes() {
	timer := time.NewTimer(t.pause())
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
			t.flush()
			timer.Reset(t.pause())
		case <-t.rolled:
			t.flush()
			return
		}
	}
}

// pause is FlushInterval, give or take a fifth.
func (t *Tracker) pause() time.Duration {
	return time.Duration(float64(t.cfg.FlushInterval) * (0.8 + 0.4*rand.Float64()))
}

// flush adds what waits to the sets.
func (t *Tracker) flush() {
	b := t.pending.take()
	if b.empty() {
		return
	}
	ctx, cancel := context.WithTimeout(t.base, t.cfg.FlushTimeout)
	defer cancel()
	f := newFlushing(t, b)
	f.settle(f.run(ctx))
}

// set is the name of a class's sorted set.
func (t *Tracker) set(class Class) string {
	if class == Reads {
		return t.cfg.ReadsKey
	}
	return t.cfg.WritesKey
}

// ErrNoSink is what [Tracker.Global] fails with if the tracker has no sink.
var ErrNoSink = errors.New("hotkey: the tracker has no sink")

// Global returns up to n keys of a class that have the highest scores in Redis,
// which is what all trackers with the same set have flushed since it was last
// empty: Key and Count are set, in samples with FlushSamples. It is a round trip
// of FlushTimeout at most, if the sink obeys its context. It fails with
// [ErrNoSink], and with the error of the sink.
func (t *Tracker) Global(ctx context.Context, class Class, n int) ([]Count, error) {
	switch {
	case t.cfg.Sink == nil:
		return nil, ErrNoSink
	case class >= numClasses || n <= 0:
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(context.WithValue(ctx, ownKey{}, true), t.cfg.FlushTimeout)
	defer cancel()
	members, err := t.cfg.Sink.ZRevRangeWithScores(ctx, t.set(class), 0, int64(n)-1).Result()
	if err != nil {
		return nil, fmt.Errorf("hotkey: reading the set of %v: %w", class, err)
	}
	counts := make([]Count, len(members))
	for i, m := range members {
		counts[i] = Count{Key: fmt.Sprint(m.Member), Count: scaled(max(0, m.Score), 1)}
	}
	return counts, nil
}
