package hotkey

import (
	"context"
	"errors"
	"net"
	"slices"
	"strconv"
	"sync"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/hooks"
	"github.com/everpool/everpool/pooler"
)

// flushing is one flush. What is to be added is settled before the sink is called,
// so that a sink that never takes the commands, or takes them twice, neither loses
// nor doubles a count.
type flushing struct {
	t *Tracker

	mu        sync.Mutex // guards what follows: fn may be called anywhere, any time
	additions [numClasses][]*addition
	over      bool // the sink has returned
}

// addition is what is added to one score.
type addition struct {
	key    string
	by     uint64
	cmd    *increment // the one that was queued last; nil: none was
	unsure bool       // it may have been run, and the sink wanted it again
}

// increment is a ZINCRBY. Having been sent it may have been run, so go-redis must
// not send it again; what a cluster redirects wasn't run, and is.
type increment struct{ *redis.FloatCmd }

// NoRetry is for go-redis: a pipeline with such a command isn't retried.
func (*increment) NoRetry() bool { return true }

var (
	errPanicked = errors.New("hotkey: the sink has panicked")
	errNotTaken = errors.New("hotkey: the sink has not taken the commands")
	errTaken    = errors.New("hotkey: these commands were queued before and may have been run")
	errOver     = errors.New("hotkey: this flush is over")
)

func newFlushing(t *Tracker, b batch) *flushing {
	f := &flushing{t: t}
	for class, counts := range b {
		for key, n := range counts {
			f.additions[class] = append(f.additions[class], &addition{key: key, by: n})
		}
	}
	return f
}

// run sends all in one pipeline. A panic in the sink, of a hook of the user's,
// say, would end the program.
func (f *flushing) run(ctx context.Context) (cmds []redis.Cmder, err error) {
	defer func() {
		if recover() != nil {
			cmds, err = nil, errPanicked
		}
	}()
	return f.t.cfg.Sink.Pipelined(ctx, func(pipe redis.Pipeliner) error { return f.queue(ctx, pipe) })
}

// queue queues the commands. A sink that tries again calls it again.
func (f *flushing) queue(ctx context.Context, pipe redis.Pipeliner) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.over { // what has become of the counts is decided
		return errOver
	}
	queued := 0
	for class := range numClasses {
		queued += f.queueClass(ctx, pipe, class)
	}
	if queued == 0 {
		return errTaken
	}
	return nil
}

// queueClass queues a class's commands and returns the number of increments. The
// set is trimmed after it has grown, and its TTL set in the same pipeline: a set
// without one would stay for ever.
func (f *flushing) queueClass(ctx context.Context, pipe redis.Pipeliner, class Class) (queued int) {
	set := f.t.set(class)
	for _, a := range f.additions[class] {
		if a.cmd != nil && !surelyNot(a.cmd.Err()) {
			a.unsure = true
			continue
		}
		a.cmd = &increment{redis.NewFloatCmd(ctx, "zincrby", set, strconv.FormatUint(a.by, 10), a.key)}
		_ = pipe.Process(ctx, a.cmd) // of a pipeline: it only queues
		queued++
	}
	if queued > 0 {
		pipe.ZRemRangeByRank(ctx, set, 0, -int64(membersPerTop*f.t.cfg.TopN)-1)
		pipe.PExpire(ctx, set, f.t.cfg.TTL)
	}
	return queued
}

// settle finds out what has become of each addition. err is the pipeline's; each
// command that has failed has an error of its own, unless something between the
// tracker and the client has failed instead.
func (f *flushing) settle(cmds []redis.Cmder, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.over = true
	whole := err
	if !errors.Is(err, errPanicked) && f.failed(cmds) {
		whole = nil
	}
	var written, unknown uint64
	var kept batch
	for class, additions := range f.additions {
		for _, a := range additions {
			if a.cmd == nil && err == nil {
				err = errNotTaken
			}
			switch fate := a.fate(whole); {
			case a.unsure:
				unknown = saturating(unknown, a.by)
			case fate == nil:
				written = saturating(written, a.by)
			case surelyNot(fate):
				if kept[class] == nil {
					kept[class] = make(map[string]uint64)
				}
				kept[class][a.key] = a.by
			default:
				unknown = saturating(unknown, a.by)
			}
		}
	}
	f.t.pending.settle(written, unknown, kept, hooks.ErrorType(err))
}

// failed reports whether a command has an error of its own.
func (f *flushing) failed(cmds []redis.Cmder) bool {
	if slices.ContainsFunc(cmds, func(c redis.Cmder) bool { return c.Err() != nil }) {
		return true
	}
	for _, additions := range f.additions {
		if slices.ContainsFunc(additions, func(a *addition) bool { return !a.unsure && a.cmd != nil && a.cmd.Err() != nil }) {
			return true
		}
	}
	return false
}

// fate is the error that says what has become of it; whole is for commands that
// have none.
func (a *addition) fate(whole error) error {
	if a.cmd == nil {
		return errNotTaken
	}
	if err := a.cmd.Err(); err != nil {
		return err
	}
	return whole
}

// surelyNot reports whether the error says that the command wasn't run.
func surelyNot(err error) bool {
	return err != nil && (errors.Is(err, errNotTaken) || isReply(err) || neverSent(err))
}

// isReply reports whether the server has refused a command.
func isReply(err error) bool {
	var reply redis.Error
	return errors.As(err, &reply) && !errors.Is(err, pooler.ErrUnknownOutcome) && !errors.Is(err, redis.ErrClosed)
}

// neverSent reports whether the error says that nothing was sent.
func neverSent(err error) bool {
	for _, e := range []error{
		pooler.ErrNodeDown, pooler.ErrNotReady, pooler.ErrCredentials, pooler.ErrWaitTimeout, pooler.ErrPoolExhausted, pooler.ErrClosed,
		redis.ErrClosed, redis.ErrPoolTimeout, redis.ErrPoolExhausted,
	} {
		if errors.Is(err, e) {
			return !errors.Is(err, pooler.ErrUnknownOutcome)
		}
	}
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}
