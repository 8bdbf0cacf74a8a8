package hotkey

import (
	"context"
	_ "embed"
	"errors"
	"net"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/hooks"
	"github.com/everpool/everpool/pooler"
)

// addScript adds to a set and keeps it in bounds. It is a script because several
// programs do so at once: which member is to make room, and with which sum another
// gets in, can't be found out first and done later.
//
//go:embed add.lua
var addScript string

// evaluation is an EVAL. Having been sent it may have been run, so go-redis must
// not send it again; what a cluster redirects wasn't run, and is.
type evaluation struct{ *redis.Cmd }

// NoRetry is for go-redis: a pipeline with such a command isn't retried.
func (*evaluation) NoRetry() bool { return true }

// flushing is one flush: a command for each class that has something to add.
type flushing struct {
	counts batch
	cmds   [numClasses]*evaluation // nil: there is nothing to add, or nothing was sent
}

var (
	errPanicked = errors.New("hotkey: the sink has panicked")
	errNotTaken = errors.New("hotkey: the sink has not taken the commands")
	errNoReply  = errors.New("hotkey: the sink has returned no reply")
)

// run sends all in one pipeline. A panic in the sink, of a hook of the user's,
// say, would end the program.
func (f *flushing) run(ctx context.Context, t *Tracker) (err error) {
	defer func() {
		if recover() != nil {
			err = errPanicked
		}
	}()
	pipe := t.cfg.Sink.Pipeline()
	var cmds [numClasses]*evaluation
	for class, counts := range f.counts {
		if len(counts) > 0 {
			cmds[class] = t.addition(ctx, Class(class), counts)
			_ = pipe.Process(ctx, cmds[class]) // of a pipeline: it only queues
		}
	}
	f.cmds = cmds
	_, err = pipe.Exec(ctx)
	return err
}

// addition is the command that adds counts to the set of a class.
func (t *Tracker) addition(ctx context.Context, class Class, counts map[string]uint64) *evaluation {
	args := make([]any, 0, 9+2*len(counts))
	args = append(args, "eval", addScript, len(t.sets[class]))
	for _, key := range t.sets[class] {
		args = append(args, key)
	}
	args = append(args, max(0, t.cfg.MaxMembers), t.cfg.TTL.Milliseconds(), max(0, t.cfg.HalfLife.Milliseconds()))
	for key, n := range counts {
		args = append(args, key, strconv.FormatUint(n, 10))
	}
	return &evaluation{redis.NewCmd(ctx, args...)}
}

// outcome is what has become of a flush.
type outcome struct {
	written, unknown uint64
	kept             batch // surely not added
	refused          batch // there was no room for them
	errorType        string
}

// settle finds out what has become of the counts. err is the pipeline's.
func (f *flushing) settle(err error) outcome {
	o := outcome{errorType: hooks.ErrorType(err)}
	for class, counts := range f.counts {
		if len(counts) == 0 {
			continue
		}
		refused, fate := f.fate(Class(class), err)
		switch {
		case fate == nil:
			for _, key := range refused {
				if n, mine := counts[key]; mine {
					o.refused.set(Class(class), key, n)
					delete(counts, key)
				}
			}
			o.written = saturating(o.written, sum(counts))
			continue
		case surelyNot(fate):
			o.kept[class] = counts
		default:
			o.unknown = saturating(o.unknown, sum(counts))
		}
		if o.errorType == "" {
			o.errorType = hooks.ErrorType(fate)
		}
	}
	return o
}

// fate is what the command of a class has come to: its own error, or else that of
// the whole if no command has one, since something between the tracker and the
// client has failed then.
func (f *flushing) fate(class Class, whole error) (refused []string, err error) {
	cmd := f.cmds[class]
	if cmd == nil {
		return nil, errNotTaken
	}
	if err := cmd.Err(); err != nil {
		return nil, err
	}
	if whole != nil && (errors.Is(whole, errPanicked) || !f.failed()) {
		return nil, whole
	}
	refused, err = cmd.StringSlice()
	if err != nil {
		return nil, errNoReply
	}
	return refused, nil
}

// failed reports whether a command has an error of its own.
func (f *flushing) failed() bool {
	for _, cmd := range f.cmds {
		if cmd != nil && cmd.Err() != nil {
			return true
		}
	}
	return false
}

// surelyNot reports whether the error says that the command wasn't run.
func surelyNot(err error) bool {
	return err != nil && (errors.Is(err, errNotTaken) || isReply(err) || neverSent(err))
}

// isReply reports whether the server has refused a command. That a user lacks the
// right to one of those in the script may come out when others have been run.
func isReply(err error) bool {
	var reply redis.Error
	return errors.As(err, &reply) && !errors.Is(err, pooler.ErrUnknownOutcome) && !errors.Is(err, redis.ErrClosed) &&
		!strings.HasPrefix(reply.Error(), "NOPERM")
}

// neverSent reports whether the error says that nothing was sent.
func neverSent(err error) bool {
	for _, e := range []error{
		pooler.ErrNodeDown, pooler.ErrNotReady, pooler.ErrCredentials, pooler.ErrRefused, pooler.ErrWaitTimeout, pooler.ErrPoolExhausted, pooler.ErrClosed,
		redis.ErrClosed, redis.ErrPoolTimeout, redis.ErrPoolExhausted,
	} {
		if errors.Is(err, e) {
			return !errors.Is(err, pooler.ErrUnknownOutcome)
		}
	}
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}
