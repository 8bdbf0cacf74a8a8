package handle

import (
	"cmp"
	"context"
	"errors"
	"net"
	"os"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/push"

	"github.com/everpool/everpool/pooler"
)

// A wait for a connection is to end with its caller's context, a cancellation included,
// as it does on the stock pool. In Write the context isn't known, and nothing that go-redis
// calls before it has it. In Read it can be asked for: by a push of RESP3 in front of the
// reply, which go-redis hands on with the context of the command (see courses). So where
// Write would have to wait it accepts the batch unsent, and Read waits.

// contextName is what the push is called that asks for the caller's context.
const contextName = "everpool:context"

var askForContext = []byte(">1\r\n+" + contextName + "\r\n")

// holding says what Write has left to Read.
type holding uint8

const (
	nothing  holding = iota
	toBeSent         // Write has waited in vain; Read sends it, or tells
	toAskFor         // Write would have had to wait; Read asks for the context first
	toAwait          // it was asked for; Read waits, as Write would have
)

// held is a batch that Write has accepted unsent.
type held struct {
	holding
	of *callerContext // nil: not known
}

// callerContext is that of a held batch.
type callerContext struct {
	context.Context
	keeps bool // the handle is one that a Conn has used before
}

// Deadline is the context's, none if that isn't known.
func (c *callerContext) Deadline() (by time.Time, ok bool) {
	if c == nil {
		return by, false
	}
	return c.Context.Deadline()
}

// stays reports whether the batch waits on though its context has ended: a Conn is of no more
// use after that, and on the stock pool it waits for nobody once it has its socket, which is lost
// in an outage alone.
func (c *callerContext) stays(h *handle) bool { return c.keeps && h.node.Pool.Serves() }

func (h *held) any() bool { return h.holding != nothing }

// mayHoldLocked reports whether Write may leave a wait to Read: nothing of the batch was sent,
// no argument is on its way that had better stream through, and the caller surely takes a
// push out of what it reads.
func (h *handle) mayHoldLocked() bool {
	b := &h.b
	return h.mayAskLocked() && !h.held.any() && !h.writing.ofRead && !h.ride.under && !h.carried.keeps() &&
		!b.flushed && !b.got && !b.hasOut() && !b.shaking && b.scan.BodyRemaining() < gatherUpTo
}

// mayAskLocked reports whether the caller surely takes a push out of what it reads.
func (h *handle) mayAskLocked() bool {
	return h.client.Courses.answer() && h.shake.in.RESP3 && !h.client.Tracks
}

// holdLocked leaves to Read what becomes of the batch.
func (h *handle) holdLocked(as holding) {
	h.held.holding = as
	h.toRead.open()
}

// sendHeld does what Write has left to Read.
func (h *handle) sendHeld() error {
	if h.held.holding == toAskFor {
		h.held.holding = toAwait
		h.b.push(askForContext)
		return nil
	}
	if err := h.take(&h.writing, h.readBy.Time); err != nil { // Write may have more of it
		return err
	}
	defer h.writing.end()
	switch {
	case h.err != nil:
		return h.err
	case h.held.holding == toAwait:
		return h.sendForCaller()
	case !h.held.any():
		return nil
	}
	h.held.holding = nothing
	h.writing.ofRead = true
	err := h.flushForCaller()
	if err == nil || h.err != nil {
		return h.err
	}
	l := h.lossLocked(causeOf(err), h.b.flushed)
	l.free = false
	return h.tellOrRedirect(l, err)
}

// sendForCaller does what Write would have done, until the caller's context ends. The wait
// is no time of the reply's.
func (h *handle) sendForCaller() error {
	_ = h.writeByLocked() // fixes it
	began, of := time.Now(), h.held.of
	h.endByContextLocked(of, &h.writeBy)
	err := h.flushForCaller()
	h.laterLocked(&h.readBy, time.Since(began), of)
	if err == nil || h.err != nil {
		return h.err
	}
	if err = h.unsent(err); h.held.any() {
		h.held.of = of // who waits on
	}
	return err
}

// flushForCaller is flush, until the caller's context ends, as far as that is known.
func (h *handle) flushForCaller() error {
	if of := h.held.of; of != nil {
		stop := context.AfterFunc(of, func() { h.callerLeft(of) })
		defer stop()
	}
	err := h.flush()
	h.held = held{}
	return err
}

// laterLocked puts a deadline off by what a wait has taken, but not until after that of the
// caller's context.
func (h *handle) laterLocked(d *deadline, wait time.Duration, of *callerContext) {
	if d.ofContext || d.IsZero() {
		return
	}
	d.Time, d.waited = d.Add(wait), d.waited+wait
	h.endByContextLocked(of, d)
}

// endByContextLocked has a deadline be that of the caller's context where this is earlier.
func (h *handle) endByContextLocked(ctx context.Context, d *deadline) {
	if by, ok := ctx.Deadline(); ok && h.client.ContextTimeout && by.Before(d.Time) {
		*d = deadline{Time: by, ofContext: true}
	}
}

// callerLeft ends the wait of a caller whose context has ended. A deadline ends it by itself,
// in its own words, unless handles don't know of it.
func (h *handle) callerLeft(of *callerContext) {
	if h.giveUpHeld(of) {
		h.caller.Leave()
	}
}

// waitByLocked is by when a wait for a connection, or for room on one, is to be over, and
// whether that is the end of its request. In Write it is the time for writing; in Read, where
// the context is known, that begins after the wait, as it does on the stock pool.
func (h *handle) waitByLocked() (by time.Time, final bool) {
	if d := h.sendByLocked(); h.held.holding != toAwait || d.ofContext {
		return h.writeByLocked(), d.ofContext
	}
	if h.client.ContextTimeout {
		by, final = h.held.of.Deadline()
	}
	return by, final
}

// waitedLocked notes how long a wait in Read has taken, which is no time of the socket's.
func (h *handle) waitedLocked(began time.Time) {
	h.laterLocked(&h.writeBy, time.Since(began), h.held.of)
}

// boardForCaller is board in Read. The wait for room on a shared connection is bounded as that
// for a connection is.
func (h *handle) boardForCaller(x *pooler.Exchange) error {
	began := time.Now()
	x.Deadline, x.Final = h.waitByLocked()
	if limit := h.waitLimit(); limit > 0 && (x.Deadline.IsZero() || began.Add(limit).Before(x.Deadline)) {
		x.Deadline, x.Final = began.Add(limit), false
	}
	of := h.held.of
	if of != nil && !of.stays(h) {
		x.Left = of.Done()
	}
	err := h.submitTo(h.ride.shared, x)
	h.waitedLocked(began)
	switch {
	case errors.Is(err, context.Canceled) && h.err == nil:
		return h.fail(of.Err(), pooler.Failed)
	case errors.Is(err, os.ErrDeadlineExceeded):
		err = &pooler.Error{Err: pooler.ErrWaitTimeout, Node: h.node.Addr, Waited: time.Since(began)}
	}
	return err
}

// waitLimit bounds a wait for a connection, 0: nothing but the deadline does.
func (h *handle) waitLimit() time.Duration {
	return cmp.Or(h.client.Wait, h.node.Pool.Config().Limits().WaitTimeout)
}

// giveUpHeld reports false if the batch waits no more, or waits on.
func (h *handle) giveUpHeld(of *callerContext) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.held.of != of || h.err != nil || h.sending || h.b.flushed || h.lease != nil:
		return false
	case of.stays(h):
		return false
	case h.writeBy.ofContext && errors.Is(of.Err(), context.DeadlineExceeded):
		return false
	}
	_ = h.fail(of.Err(), pooler.Failed)
	return true
}

// answer reports whether the clients tell contexts.
func (s *Courses) answer() bool { return s != nil && s.answers.Load() }

// knowCaller notes the context of the batch that waits, or whose refusal does.
func (h *handle) knowCaller(ctx context.Context, ofConn bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case ctx.Done() == nil:
	case h.b.refusal != nil:
		h.b.refusal.of = ctx
	case h.held.holding == toAwait:
		h.held.of = &callerContext{ctx, ofConn && h.batches > 1}
	default:
		h.endByContextLocked(ctx, &h.readBy)
	}
}

// contexts hands the context of a command to the handle that has asked for it.
type contexts struct{}

// HandlePushNotification is for go-redis, which calls it on the goroutine of the command,
// in the middle of reading.
func (contexts) HandlePushNotification(ctx context.Context, at push.NotificationHandlerContext, _ []any) error {
	if cn, ok := at.Conn.(interface{ GetNetConn() net.Conn }); ok {
		if h, ok := cn.GetNetConn().(*handle); ok {
			_, ofConn := at.ConnPool.(interface{ DiscardOnClose() }) // go-redis's pool of one connection
			h.knowCaller(ctx, ofConn)
		}
	}
	return nil
}

// OnConnect is a client's OnConnect, by which the client answers handles that ask for a
// caller's context, too.
func (s *Courses) OnConnect(f func(context.Context, *redis.Conn) error) func(context.Context, *redis.Conn) error {
	if s == nil {
		return f
	}
	return func(ctx context.Context, cn *redis.Conn) error {
		if cn.RegisterPushNotificationHandler(contextName, contexts{}, false) == nil { // the first of a client
			s.answers.Store(true)
		}
		if f == nil {
			return nil
		}
		return f(ctx, cn)
	}
}
