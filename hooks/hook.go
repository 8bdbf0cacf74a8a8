package hooks

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/internal/guard"
)

// maxObservers is how many a hook can have.
const maxObservers = 16

// Hook feeds observers: it looks at each operation once, takes the time once, and
// tells all of them. Make one with [New]; one may be attached to any number of
// clients, with [Hook.Attach] or, if the observers needn't know the server's
// address, with the client's AddHook. It is safe for concurrent use.
type Hook struct {
	all        []*observer
	attempts   []*observer
	handshakes []*observer
	dials      []*observer
	bare       attached // for AddHook
	clients    clients
}

// observer is one with what the hook knows of it.
type observer struct {
	Observer
	index    int                   // among all of the hook
	keep     func(*Operation) bool // nil: all
	panicked atomic.Bool           // that was logged
}

var _ redis.Hook = (*Hook)(nil)

// New returns a hook that tells the observers, in this order when an operation
// begins and in the opposite order when it ends. Tracing comes before what should
// see the span, as metrics with exemplars do. It fails for an observer that is
// nil and for more than 16 of them.
func New(observers ...Observer) (*Hook, error) {
	var errs []error
	if len(observers) > maxObservers {
		errs = append(errs, fmt.Errorf("hooks: %d observers; at most %d are allowed", len(observers), maxObservers))
	}
	h := &Hook{}
	for i, o := range observers {
		kept := &observer{Observer: o}
		for f, ok := kept.Observer.(*filtered); ok; f, ok = kept.Observer.(*filtered) {
			kept.Observer, kept.keep = f.Observer, both(kept.keep, f.keep)
		}
		if kept.Observer == nil {
			errs = append(errs, fmt.Errorf("hooks: observer %d is nil", i))
			continue
		}
		h.add(kept)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	h.bare = attached{hook: h, target: &Target{}}
	return h, nil
}

func (h *Hook) add(o *observer) {
	o.index = len(h.all)
	h.all = append(h.all, o)
	if _, ok := o.Observer.(AttemptObserver); ok {
		h.attempts = append(h.attempts, o)
	}
	if _, ok := o.Observer.(HandshakeObserver); ok {
		h.handshakes = append(h.handshakes, o)
	}
	if _, ok := o.Observer.(DialObserver); ok {
		h.dials = append(h.dials, o)
	}
}

func both(a, b func(*Operation) bool) func(*Operation) bool {
	if a == nil {
		return b
	}
	return func(op *Operation) bool { return a(op) && b(op) }
}

// DialHook is for go-redis.
func (h *Hook) DialHook(next redis.DialHook) redis.DialHook { return h.bare.DialHook(next) }

// ProcessHook is for go-redis.
func (h *Hook) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return h.bare.ProcessHook(next) }

// ProcessPipelineHook is for go-redis.
func (h *Hook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return h.bare.ProcessPipelineHook(next)
}

// role is what the client is to its user.
type role uint8

const (
	alone   role = iota
	logical      // a cluster or a ring: its nodes have hooks too
	node         // one of those nodes
)

// attached is a hook as one client has it.
type attached struct {
	hook   *Hook
	target *Target
	kept   kept // by observers, for what the client does
	role   role
	off    *atomic.Bool // nil: never; the same for a group and its nodes
	nodes  *nodes       // of a group
}

func (a *attached) isOff() bool { return a.off != nil && a.off.Load() }

func (a *attached) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) (err error) {
		if a.isOff() {
			return next(ctx, cmd)
		}
		if a.role == node {
			c, f := CommandOf(cmd), a.frameOf(ctx)
			switch {
			case f != nil && (!c.handshake && !c.internal || f.asks(c)):
				return a.attempt(ctx, f, Single, []redis.Cmder{cmd}, func(ctx context.Context) error { return next(ctx, cmd) })
			case c.internal:
				return next(ctx, cmd)
			}
		}
		f := a.newFrame()
		f.one[0] = cmd
		if !f.op.beginCommand(f.one[:], a.target) {
			f.free()
			err := next(ctx, cmd)
			a.shook(ctx, cmd, err) // go-redis gives it to the command later
			return err
		}
		err = errPanic // if it does
		defer f.end(&err)
		err = next(f.begin(ctx), cmd)
		return err
	}
}

func (a *attached) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) (err error) {
		if len(cmds) == 0 || a.isOff() {
			return next(ctx, cmds)
		}
		if a.role == node {
			f, first := a.frameOf(ctx), CommandOf(cmds[0])
			if f != nil && (!first.handshake || f.asks(first) || !allHandshake(cmds)) {
				return a.attempt(ctx, f, Pipeline, cmds, func(ctx context.Context) error { return next(ctx, cmds) })
			}
		}
		f := a.newFrame()
		if !f.op.beginBatch(cmds, a.target) {
			f.free()
			err := next(ctx, cmds)
			for _, cmd := range cmds {
				a.shook(ctx, cmd, cmd.Err())
			}
			return err
		}
		err = errPanic
		defer f.end(&err)
		err = next(f.begin(ctx), cmds)
		return err
	}
}

// shook tells of a command of a handshake. One that a user sends through a group
// is told of by the node that gets it.
func (a *attached) shook(ctx context.Context, cmd redis.Cmder, err error) {
	if len(a.hook.handshakes) == 0 || a.role == logical {
		return
	}
	c, errorType := CommandOf(cmd), ErrorType(err)
	for _, o := range a.hook.handshakes {
		o.guard(func() { o.Observer.(HandshakeObserver).Handshake(ctx, c, errorType) })
	}
}

// attempt runs a node's part of the operation in f.
func (a *attached) attempt(ctx context.Context, f *frame, kind Kind, cmds []redis.Cmder, next func(context.Context) error) error {
	start := time.Now()
	err := next(ctx)
	f.op.peer.Store(a.target)
	if len(a.hook.attempts) == 0 {
		return err
	}
	at := Attempt{Peer: a.target, Cmds: cmds, Start: start, Duration: time.Since(start)}
	if at.Outcome, at.ErrorType = Classify(err); at.Outcome != Error && kind != Single {
		// A cluster's batch succeeds though some of its commands were redirected.
		at.Outcome, at.ErrorType = outcomeOf(at.Outcome, cmds)
	}
	for _, o := range a.hook.attempts {
		if f.ctxs[o.index] == nil { // it doesn't watch the operation
			continue
		}
		o.guard(func() { o.Observer.(AttemptObserver).Attempt(ctx, &at) })
	}
	return err
}

func (a *attached) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		if len(a.hook.dials) == 0 || a.isOff() {
			return next(ctx, network, addr)
		}
		start := time.Now()
		conn, err := next(ctx, network, addr)
		d := time.Since(start)
		if isVirtual(conn, err) {
			return conn, err
		}
		errorType := ErrorType(err)
		for _, o := range a.hook.dials {
			o.guard(func() { o.Observer.(DialObserver).Dial(ctx, network, addr, d, errorType) })
		}
		return conn, err
	}
}

// isVirtual reports whether there was no network in a dial: what it has brought, or
// how it has failed, is a pool's own.
func isVirtual(conn net.Conn, err error) bool {
	if _, handle := conn.(interface{ IsVirtual() }); handle {
		return true
	}
	var wait interface{ IsVirtual() }
	return errors.As(err, &wait)
}

// frame is an operation with what the hook needs until its end.
type frame struct {
	op   Operation
	hook *Hook
	ctxs [maxObservers]context.Context // nil: the observer doesn't watch it
	// group is nil unless the client is one. Such a frame isn't used again: a
	// node's goroutine may still hold it.
	group *atomic.Bool
	nodes *nodes
	one   [1]redis.Cmder
}

// frameKey finds the frame of a cluster's or ring's operation in the contexts of
// its attempts: there may be another group's, or another hook's, around it.
type frameKey struct{ group *atomic.Bool }

// frameOf is the frame of the operation that a node works for, or nil.
func (a *attached) frameOf(ctx context.Context) *frame {
	f, _ := ctx.Value(frameKey{a.off}).(*frame)
	return f
}

// asks reports whether the operation has the command, which go-redis sends of its
// own accord too.
func (f *frame) asks(c *Command) bool {
	for _, cmd := range f.op.Cmds {
		if CommandOf(cmd) == c {
			return true
		}
	}
	return false
}

var frames = sync.Pool{New: func() any { return new(frame) }}

func (a *attached) newFrame() *frame {
	var f *frame
	if a.role == logical {
		f = &frame{group: a.off, nodes: a.nodes}
	} else {
		f = frames.Get().(*frame)
	}
	f.hook, f.op.kept = a.hook, &a.kept
	return f
}

// free forgets everything, so that nothing is kept alive, and gives f back.
func (f *frame) free() {
	if f.group != nil {
		return
	}
	clear(f.ctxs[:len(f.hook.all)])
	f.hook, f.one[0] = nil, nil
	op := &f.op
	op.Command, op.Cmds, op.Target, op.Err, op.ErrorType, op.Outcome = nil, nil, nil, nil, "", OK
	op.Start, op.Duration, op.kept, op.blocks = time.Time{}, 0, nil, notAsked
	frames.Put(f)
}

// begin tells the observers and returns the operation's context.
func (f *frame) begin(ctx context.Context) context.Context {
	f.op.Start = time.Now()
	if f.group != nil {
		ctx = context.WithValue(ctx, frameKey{f.group}, f)
	}
	for i, o := range f.hook.all {
		if next := o.begin(ctx, &f.op); next != nil {
			f.ctxs[i], ctx = next, next
		}
	}
	return ctx
}

// end tells the observers what came of it.
func (f *frame) end(err *error) {
	f.op.end(*err)
	for i, o := range slices.Backward(f.hook.all) {
		if ctx := f.ctxs[i]; ctx != nil {
			o.end(ctx, &f.op)
		}
	}
	if f.nodes != nil && f.op.peer.Load() == nil {
		f.nodes.missed(*err)
	}
	f.free()
}

// errPanic is the error of an operation during which go-redis, or a hook inside,
// has panicked, or the goroutine was ended.
var errPanic = errors.New("hooks: the operation has panicked")

// begin returns nil if the observer doesn't watch the operation.
func (o *observer) begin(ctx context.Context, op *Operation) (next context.Context) {
	defer o.recovered()
	if o.keep != nil && !o.keep(op) {
		return nil
	}
	if next = o.Observer.Begin(ctx, op); next == nil {
		return ctx
	}
	return next
}

func (o *observer) end(ctx context.Context, op *Operation) {
	defer o.recovered()
	o.Observer.End(ctx, op)
}

func (o *observer) guard(f func()) {
	defer o.recovered()
	f()
}

// recovered ends a panic of an observer. The first is logged.
func (o *observer) recovered() {
	v := recover()
	if v == nil || !o.panicked.CompareAndSwap(false, true) {
		return
	}
	slog.Default().Error("hooks: an observer has panicked; it goes on, and this is logged once",
		slog.String("observer", fmt.Sprintf("%T", o.Observer)), slog.String("panic", guard.PanicText(v)), slog.String("stack", string(debug.Stack())))
}
