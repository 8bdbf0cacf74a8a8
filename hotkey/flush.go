package hotkey

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// flushes flushes from time to time, on a goroutine of its own, and once more
// after the last window.
func (t *Tracker) flushes() {
	timer := time.NewTimer(t.pause())
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
			t.flush(false)
			timer.Reset(t.pause())
		case <-t.rolled:
			t.flush(true)
			return
		}
	}
}

// pause is FlushInterval, give or take a fifth.
func (t *Tracker) pause() time.Duration {
	return time.Duration(float64(t.cfg.FlushInterval) * (0.8 + 0.4*rand.Float64()))
}

// flush adds what waits to the sets.
func (t *Tracker) flush(last bool) {
	f := flushing{counts: t.pending.take()}
	if f.counts.empty() {
		return
	}
	ctx, cancel := context.WithTimeout(t.base, t.cfg.FlushTimeout)
	defer cancel()
	t.pending.settle(f.settle(f.run(ctx, t)), last)
}

// keysOf are the keys in Redis for a set: that itself, the sorted set of those that
// wait to get in, and the mark of the last halving. All are in one slot.
func keysOf(set string) [3]string {
	prefix := "{" + set + "}"
	if hasHashTag(set) {
		prefix = set
	}
	return [3]string{set, prefix + ":waiting", prefix + ":halved"}
}

// hasHashTag reports whether a cluster goes by a part of the key only: what is in
// the first braces.
func hasHashTag(key string) bool {
	_, rest, open := strings.Cut(key, "{")
	tag, _, closed := strings.Cut(rest, "}")
	return open && closed && tag != ""
}

// ErrNoSink is what [Tracker.Global] fails with if the tracker has no sink.
var ErrNoSink = errors.New("hotkey: the tracker has no sink")

// maxReads is how many reads of the sets run at a time: one that its sink doesn't end
// in time goes on without its caller.
const maxReads = 4

// Global returns up to n keys of a class that have the highest scores in Redis,
// which is what all trackers with the same set have flushed, halved with each
// half-life: Key and Count are set, in samples with FlushSamples. It ends in
// FlushTimeout at the latest, whatever the sink does. It fails with [ErrNoSink],
// with the error of the sink, and with the context's.
func (t *Tracker) Global(ctx context.Context, class Class, n int) ([]Count, error) {
	ctx, cancel := context.WithTimeout(ctx, t.cfg.FlushTimeout)
	defer cancel()
	return t.global(ctx, class, n)
}

func (t *Tracker) global(ctx context.Context, class Class, n int) ([]Count, error) {
	switch {
	case t.cfg.Sink == nil:
		return nil, ErrNoSink
	case class >= numClasses || n <= 0:
		return nil, nil
	}
	members, err := t.read(ctx, t.sets[class][0], n)
	if err != nil {
		return nil, fmt.Errorf("hotkey: reading the set of %v: %w", class, err)
	}
	counts := make([]Count, len(members))
	for i, m := range members {
		counts[i] = Count{Key: fmt.Sprint(m.Member), Count: scaled(max(0, m.Score), 1)}
	}
	return counts, nil
}

// read reads the first n of a set. go-redis obeys a context only if it is told to,
// so the sink is called on a goroutine of its own.
func (t *Tracker) read(ctx context.Context, set string, n int) ([]redis.Z, error) {
	select {
	case t.reads <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	type result struct {
		members []redis.Z
		err     error
	}
	done := make(chan result, 1)
	go func() {
		r := result{err: errPanicked}
		defer func() {
			_ = recover()
			<-t.reads
			done <- r
		}()
		r.members, r.err = t.cfg.Sink.ZRevRangeWithScores(context.WithValue(ctx, ownKey{}, true), set, 0, int64(n)-1).Result()
	}()
	select {
	case r := <-done:
		return r.members, r.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
