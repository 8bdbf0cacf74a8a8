package hotkey

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/hooks"
	"github.com/everpool/everpool/pooler"
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
	f := &flushing{t: t, batch: b}
	f.settle(f.run(ctx))
}

// flushing is one flush.
type flushing struct {
	t          *Tracker
	batch      batch
	increments []*increment
}

// increment is a ZINCRBY. Having been sent it may have been run, so go-redis must
// not send it again; what a cluster redirects wasn't run, and is.
type increment struct {
	*redis.FloatCmd
	class Class
	key   string
	by    uint64
}

// NoRetry is for go-redis: a pipeline with such a command isn't retried.
func (*increment) NoRetry() bool { return true }

var errPanicked = errors.New("hotkey: the sink has panicked")

// run sends the batch in one pipeline. A panic in the sink, of a hook of the
// user's, say, would end the program.
func (f *flushing) run(ctx context.Context) (cmds []redis.Cmder, err error) {
	defer func() {
		if recover() != nil {
			err = errPanicked
		}
	}()
	return f.t.cfg.Sink.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for class, counts := range f.batch {
			if len(counts) > 0 {
				f.add(ctx, pipe, Class(class), counts)
			}
		}
		return nil
	})
}

// add adds the commands for a class. The set is trimmed after it has grown, and
// its TTL set in the same pipeline: a set without one would stay for ever.
func (f *flushing) add(ctx context.Context, pipe redis.Pipeliner, class Class, counts map[string]uint64) {
	set := f.t.set(class)
	for key, n := range counts {
		i := &increment{class: class, key: key, by: n}
		i.FloatCmd = redis.NewFloatCmd(ctx, "zincrby", set, strconv.FormatUint(n, 10), key)
		f.increments = append(f.increments, i)
		_ = pipe.Process(ctx, i) // of a pipeline: it only queues
	}
	pipe.ZRemRangeByRank(ctx, set, 0, -int64(membersPerTop*f.t.cfg.TopN)-1)
	pipe.PExpire(ctx, set, f.t.cfg.TTL)
}

// set is the name of a class's sorted set.
func (t *Tracker) set(class Class) string {
	if class == Reads {
		return t.cfg.ReadsKey
	}
	return t.cfg.WritesKey
}

// settle finds out what has become of each increment. err is the pipeline's; each
// command that has failed has an error of its own, unless something between the
// tracker and the client has failed instead.
func (f *flushing) settle(cmds []redis.Cmder, err error) {
	var written, unknown uint64
	var kept batch
	all := err != nil && !slices.ContainsFunc(cmds, func(c redis.Cmder) bool { return c.Err() != nil })
	for _, i := range f.increments {
		fate := i.Err()
		if all {
			fate = err
		}
		switch {
		case fate == nil:
			written += i.by
		case isReply(fate), neverSent(fate):
			if kept[i.class] == nil {
				kept[i.class] = make(map[string]uint64)
			}
			kept[i.class][i.key] = i.by
		default:
			unknown += i.by
		}
	}
	f.t.pending.settle(written, unknown, kept, hooks.ErrorType(err))
}

// isReply reports whether the server has refused a command.
func isReply(err error) bool {
	var reply redis.Error
	return errors.As(err, &reply) && !errors.Is(err, pooler.ErrUnknownOutcome) && !errors.Is(err, redis.ErrClosed)
}

// neverSent reports whether the error says that nothing was sent.
func neverSent(err error) bool {
	for _, e := range []error{
		pooler.ErrNodeDown, pooler.ErrWaitTimeout, pooler.ErrPoolExhausted, pooler.ErrClosed,
		redis.ErrClosed, redis.ErrPoolTimeout, redis.ErrPoolExhausted,
	} {
		if errors.Is(err, e) {
			return !errors.Is(err, pooler.ErrUnknownOutcome)
		}
	}
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
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
