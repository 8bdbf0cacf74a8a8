package handle

import (
	"errors"
	"fmt"
	"os"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/internal/callers"
	"github.com/everpool/everpool/internal/command"
	"github.com/everpool/everpool/pooler"
)

// requestError: what was written is no request, or one that can't be passed on. The
// server would close the connection for it, or not answer.
type requestError struct{ err error }

func (e *requestError) Error() string { return fmt.Sprintf("everpool: %v", e.err) }
func (e *requestError) Unwrap() error { return e.err }

// errKeptGone: the connection that the handle keeps was closed while nothing was
// under way on it.
var errKeptGone = errors.New("everpool: the connection that was kept is gone")

// errQuit: what comes after a QUIT would run in the state that its connection was in.
var errQuit = errors.New("everpool: QUIT")

// errUnread: go-redis leaves a refused transaction after its first reply.
var errUnread = errors.New("everpool: an earlier caller left replies unread")

// Write takes a request, or several, or part of one. It returns when they are
// sent or answered from memory, or when sending needs the rest of a command. It
// blocks while there is no connection for it, until the write deadline or the
// pool's WaitTimeout. A transaction or pipeline that can't be sent by then, and a
// subscription that can't be made, are accepted all the same: Read gets over it, or
// tells.
func (h *handle) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.takeWriting(); err != nil {
		return 0, err
	}
	defer h.writing.end()
	if h.err != nil {
		h.reviveLocked()
	}
	switch {
	case h.err != nil:
		return h.toldByReadLocked(p, h.err)
	case h.lease != nil && h.lease.Mode() == pooler.Stream:
		return h.stream(p)
	case h.b.idle() && h.spentLocked() != nil:
		// Where go-redis didn't look. Read tells, for the reason below.
		_ = h.fail(&lostError{h.node.Addr, h.spentLocked()}, pooler.Answered)
		return len(p), nil
	case h.b.idle():
		h.b.begin()
		h.batches++
	case h.unread:
		// Read tells: of a transaction go-redis would keep what Write does.
		_ = h.fail(&lostError{h.node.Addr, errUnread}, pooler.Abandoned)
		return len(p), nil
	}
	for rest := p; len(rest) > 0; {
		n, err := h.gather(rest)
		if err == nil && !h.held.any() {
			err = h.flush()
		}
		if err != nil {
			if err = h.unsent(err); err != nil || h.err != nil {
				return h.toldByReadLocked(p, err)
			}
		}
		rest = rest[n:]
	}
	if done := h.settle(&h.sending); done != nil { // all was read before the sending was over
		h.put(done, pooler.Answered)
	}
	return len(p), nil
}

// takeWriting waits for a Read that sends, until the write deadline.
func (h *handle) takeWriting() error {
	if h.writing.try() {
		return nil
	}
	h.writeBy.fix()
	err := h.take(&h.writing, h.writeBy.Time)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = h.deadlineError("write")
	}
	return err
}

// reviveLocked makes a handle that has ended one for further requests: go-redis asks none
// before its next use that a Conn keeps, or a client with a cache, and none on Windows.
func (h *handle) reviveLocked() {
	if !h.mayReviveLocked() {
		return
	}
	h.err = nil
	h.b.scan.Reset()
	h.b.begin()
}

func (h *handle) mayReviveLocked() bool {
	if h.closed || h.b.shaking || h.sending || h.receiving || h.lease != nil || h.ride.under || h.carried.keeps() {
		return false
	}
	return h.bornAwayLocked() || !h.held.any() && isKeptAfter(h.err) // what is held hasn't been told
}

// bornAwayLocked reports whether the handle was dialed in an outage, for a caller that
// then had left, and the node is back.
func (h *handle) bornAwayLocked() bool {
	return isInHandshake(h.err) && h.node.Pool.Serves()
}

// isKeptAfter reports whether go-redis keeps a handle after the error: the word of a
// server, as LOADING, or that there is none.
func isKeptAfter(err error) bool {
	_, kept := errors.AsType[redis.Error](err)
	return kept || isDown(err)
}

func isDown(err error) bool {
	_, down := errors.AsType[downError](err)
	return down
}

// toldByReadLocked is what Write returns of the error of a handle that has ended. A
// subscription is accepted: go-redis records a channel after it has written the
// command, and on an error connects anew before that, without the channel. So is what
// goes on another time, since go-redis's buffer keeps for ever what a Write has failed with.
func (h *handle) toldByReadLocked(p []byte, err error) (int, error) {
	switch {
	case h.closed:
		return 0, err
	case h.subscribesLocked():
		return len(p), nil
	case isKeptAfter(err):
		h.held.holding = toBeSent
		return len(p), nil
	}
	return 0, err
}

// subscribesLocked reports whether the handle is a subscription's, or is about to be.
func (h *handle) subscribesLocked() bool {
	return h.carried.pin == command.PinPubSub || h.b.any(subscribes)
}

func subscribes(r run) bool { return r.pin == command.PinPubSub }

func beginsTransaction(r run) bool { return r.kind == multi }

// stream passes p on, on a connection whose replies aren't counted.
func (h *handle) stream(p []byte) (int, error) {
	_, err := h.sendOn(h.lease, p)
	if err == nil {
		return len(p), nil
	}
	if h.err == nil {
		if errors.Is(err, os.ErrDeadlineExceeded) {
			err = h.deadlineError("write")
		}
		err = h.fail(err, pooler.Failed)
	}
	return h.toldByReadLocked(p, err)
}

// unsent settles what becomes of a batch that Write could not send, or not all of.
// It returns nil if that is Read's business.
func (h *handle) unsent(err error) error {
	if h.err != nil {
		return h.err // told already
	}
	if errors.Is(err, pooler.ErrWouldWait) {
		h.holdLocked(toAskFor)
		return nil
	}
	l := h.lossLocked(causeOf(err), h.b.flushed)
	l.write, l.free = true, false
	if l.sticks && h.b.streamed {
		l.cause = died // its beginning is gone
	}
	f := l.decide(h.client.Retry)
	var bad *requestError
	switch {
	case f == redirect:
		h.redirect()
		return nil
	case f == holdBack:
		h.holdLocked(toBeSent)
		return nil
	case f != tellUnknown && errors.As(err, &bad):
		return h.fail(bad, pooler.Failed)
	}
	return h.tell(f, l, err)
}

// gather takes bytes of p into the batch, finds the commands in them, and
// returns how many it has taken. It takes all of p but where a large argument
// streams through.
func (h *handle) gather(p []byte) (int, error) {
	b := &h.b
	if b.partial && b.sent == len(b.req) {
		if body := b.scan.BodyRemaining(); body > 0 {
			n := int(min(body, int64(len(p))))
			if err := h.sendPiece(p[:n]); err != nil {
				return 0, err
			}
			b.scan.Skip(int64(n))
			return n, nil
		}
	}
	p = p[:min(len(p), gatherAtOnce)]
	b.take(p)
	var known lookalikes
	l := &known[0]
	for {
		n, err := b.next(&known)
		if err != nil {
			return 0, h.malformedLocked(err)
		}
		if n == 0 {
			return len(p), nil
		}
		if l.facts.Info == nil && l.facts.Pin == command.PinUnknown && b.scan.Seen() > 0 {
			l.facts = h.clear(l.facts, b.req[b.scanned:])
		}
		if l.facts.Pin == command.PinClientID && callers.Include(callers.InitConn) {
			l.facts.Class, l.facts.Pin = command.Exclusive, command.PinNone
		}
		b.add(&l.facts, n)
	}
}

// malformedLocked refuses what isn't a request. The server would close the
// connection for it, or not answer, so it must not get there.
func (h *handle) malformedLocked(err error) error {
	if c := h.lease; c != nil && !h.sending && !h.receiving {
		c.Fail(pooler.CloseWrite, err)
	}
	return &requestError{fmt.Errorf("malformed request: %w", err)}
}

// flush sends what is due. Of a large request that may belong to another node nothing is
// sent before it is complete.
func (h *handle) flush() error {
	complete, part := h.b.due()
	if part && h.gathersLocked() {
		return nil
	}
	err := h.flushDue(complete, part)
	if part && errors.Is(err, pooler.ErrElsewhere) && h.gathersLocked() {
		return nil // the node has gone away meanwhile
	}
	return err
}

func (h *handle) flushDue(complete, part bool) error {
	if complete {
		if err := h.send(); err != nil {
			return err
		}
	}
	if part {
		return h.sendPart()
	}
	return nil
}
