package hooks

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"
)

// Observer watches operations. Its methods are called on the caller's goroutine
// and their time is added to the operation's, so they should be short and must
// not block. They are called concurrently. A panic in one is caught: the
// operation goes on without that observer.
type Observer interface {
	// Begin is called before the operation. What it returns, ctx or one made of
	// it, goes on to the observers that come after it and to go-redis.
	Begin(ctx context.Context, op *Operation) context.Context
	// End is called after the operation, also when that has panicked, in the
	// opposite order, with the context that this observer's Begin has returned.
	End(ctx context.Context, op *Operation)
}

// AttemptObserver is an [Observer] that also wants to know what an operation of a
// cluster or a ring has sent to which node: at least one attempt, more when it
// was redirected or tried again; a batch goes to several nodes, concurrently.
type AttemptObserver interface {
	Observer
	// Attempt is called after it, with a context made of the one that all
	// observers' Begin have seen.
	Attempt(ctx context.Context, a *Attempt)
}

// Attempt is what one node of a cluster or a ring had of an operation. It must
// neither be changed nor be kept.
type Attempt struct {
	Peer      *Target
	Cmds      []redis.Cmder // with MULTI, EXEC and ASKING, if any
	Start     time.Time
	Duration  time.Duration
	Outcome   Outcome // as of an operation
	ErrorType string  // MOVED and ASK among them
}

// Reached reports whether it is certain that the node got it, as
// [Operation.Reached] does.
func (a *Attempt) Reached() bool { return reached(a.Outcome, a.ErrorType) }

// HandshakeObserver is an [Observer] that also wants to know of the commands by
// which go-redis opens a connection (HELLO, AUTH, SELECT, CLIENT SETINFO, ...).
// They run in the course of a user's operation, or on their own when connections
// are opened ahead, and are no operations. A user's own calls of these commands
// can't be told apart from them.
type HandshakeObserver interface {
	Observer
	// Handshake is called after each; errorType is "" if it has succeeded.
	Handshake(ctx context.Context, c *Command, errorType string)
}

// DialObserver is an [Observer] that also wants to know of connections that are
// dialed. Handles of everpool aren't: they have no socket, and the pool tells of
// its own dials by its events.
type DialObserver interface {
	Observer
	// Dial is called after it; errorType is "" if it has succeeded. The context
	// is not that of an operation: go-redis dials on goroutines of its own.
	Dial(ctx context.Context, network, addr string, d time.Duration, errorType string)
}

// Func makes an [Observer] of functions, each of which may be nil.
type Func struct {
	OnBegin func(ctx context.Context, op *Operation) context.Context
	OnEnd   func(ctx context.Context, op *Operation)
}

// Begin calls OnBegin.
func (f Func) Begin(ctx context.Context, op *Operation) context.Context {
	if f.OnBegin == nil {
		return ctx
	}
	return f.OnBegin(ctx, op)
}

// End calls OnEnd.
func (f Func) End(ctx context.Context, op *Operation) {
	if f.OnEnd != nil {
		f.OnEnd(ctx, op)
	}
}

// Filter returns an observer that o is behind, for the operations for which keep
// returns true when they begin, with their attempts. Dials and handshakes aren't filtered.
// keep is called on the caller's goroutine, concurrently.
func Filter(o Observer, keep func(*Operation) bool) Observer {
	if keep == nil {
		return o
	}
	return &filtered{o, keep}
}

// filtered is taken apart by [New]: whether an operation is kept is decided once.
type filtered struct {
	Observer
	keep func(*Operation) bool
}

// Begin and End are for observers that call others, which New doesn't see. The
// decision is kept in the context.
func (f *filtered) Begin(ctx context.Context, op *Operation) context.Context {
	kept := f.keep(op)
	if kept {
		if next := f.Observer.Begin(ctx, op); next != nil {
			ctx = next
		}
	}
	return context.WithValue(ctx, f, kept)
}

func (f *filtered) End(ctx context.Context, op *Operation) {
	if kept, _ := ctx.Value(f).(bool); kept {
		f.Observer.End(ctx, op)
	}
}
