package driver

import (
	"errors"
	"net"
	"os"
	"time"

	"github.com/everpool/everpool/internal/command"
	"github.com/everpool/everpool/pooler"
)

// maxShared is how many commands of a pipeline may go on a shared connection at a
// time. More would keep everybody behind them waiting.
const maxShared = 1000

// mayShareLocked reports whether the planned commands may go on a shared
// connection: they are complete, leave nothing behind, don't block, and are no
// more than others can wait for. A whole transaction is one piece.
func (h *handle) mayShareLocked() bool {
	if h.node.sharer == nil || h.lease != nil || len(h.plan) == 0 || h.partial || h.keepsLocked() {
		return false
	}
	if len(h.req)-h.sent > gatherUpTo || h.scanned != len(h.req) {
		return false
	}
	inner := h.plan
	if n := len(h.plan); n > 2 && h.plan[0].kind == multi && h.plan[n-1].kind == exec {
		inner = h.plan[1 : n-1]
	}
	replies := 0
	for i := range inner {
		r := &inner[i]
		if r.kind != plain || !r.share {
			return false
		}
		replies += int(r.n)
	}
	return replies <= maxShared
}

// shareLocked sends the planned commands on a shared connection. It reports false
// if there is no sharing here.
func (h *handle) shareLocked() (bool, error) {
	for i := range h.plan {
		h.effect = max(h.effect, h.plan[i].effect)
	}
	if h.flushed || h.plan[0].kind == multi {
		h.resend = false // not all of the batch is in req, or it is a transaction
	}
	h.whole = !h.flushed && h.sent == 0
	x := h.exchangeLocked(h.plan, h.sent, h.writeBy)
	x.Follows = h.riding
	if shared, err := h.submitLocked(h.plan, &x); !shared || err != nil {
		return shared, err
	}
	if len(h.owed) == 0 {
		h.owed, h.plan = h.plan, h.owed
	} else {
		h.owed = append(h.owed, h.plan...)
		h.plan = h.plan[:0]
	}
	h.flushed, h.riding = true, true
	h.sent = len(h.req)
	if !h.whole {
		h.req, h.sent, h.scanned = h.req[:0], 0, 0
	}
	return true, nil
}

// exchangeLocked is the exchange of the commands, which begin at req[from].
func (h *handle) exchangeLocked(runs []run, from int, by time.Time) pooler.Exchange {
	x := pooler.Exchange{
		Request: h.req[from:], First: int(runs[0].first) - from, Deadline: by,
		Transaction: runs[0].kind == multi, Again: h.resend && !h.resent && h.effect == command.Read,
	}
	for i := range runs {
		x.Replies += int(runs[i].n)
		x.Slow = x.Slow || runs[i].slow
	}
	return x
}

// submitLocked finds a shared connection and submits the exchange of the commands,
// without the lock.
func (h *handle) submitLocked(runs []run, x *pooler.Exchange) (bool, error) {
	for {
		if h.shared == nil || h.sharedIn != h.session {
			if shared, err := h.findSharedLocked(runs, x.Deadline); !shared || err != nil {
				return shared, err
			}
		}
		h.sending = true
		h.mu.Unlock()
		err := h.shared.Submit(h.rider, *x)
		h.mu.Lock()
		h.sending = false
		if gone := h.usableLocked(); gone != nil {
			return true, gone
		}
		switch {
		case err == nil:
			h.signal()
			return true, nil
		case errors.Is(err, os.ErrDeadlineExceeded):
			return true, h.deadlineError("write")
		case errors.Is(err, net.ErrClosed):
			return true, closedError(h.node.key.network)
		case x.Follows:
			// What went before is there, and its replies come first.
			if err := h.alightLocked(); err != nil {
				return true, err
			}
			x.Follows = false
		}
		h.shared = nil
	}
}

// findSharedLocked gets the shared connections of the handle's session.
func (h *handle) findSharedLocked(runs []run, by time.Time) (bool, error) {
	req := h.requestLocked(runs)
	req.Deadline = by
	s, err := obtainLocked(h, req, h.askForSharedLocked)
	if err != nil {
		return true, err
	}
	h.shared, h.sharedIn = s, h.session
	return s != nil, nil
}

func (h *handle) askForSharedLocked(req pooler.Request) (*pooler.Shared, error) {
	h.mu.Unlock()
	defer h.mu.Lock() // whatever a user's code in there does
	return h.node.sharer.Share(&h.caller, req)
}

// receiveSharedLocked receives from a shared connection, without the lock.
func (h *handle) receiveSharedLocked(p []byte) (int, error) {
	h.readingC = true
	by := h.readBy
	h.mu.Unlock()
	n, done, err := h.rider.Receive(p, by)
	h.mu.Lock()
	h.readingC = false
	if h.readerGone != nil {
		select {
		case h.readerGone <- struct{}{}:
		default:
		}
	}
	if gone := h.usableLocked(); gone != nil {
		return 0, gone
	}
	switch {
	case err == nil:
		h.got = true
		if done {
			h.settleSharedLocked()
		}
		return n, nil
	case errors.Is(err, pooler.ErrInterrupted):
		return 0, nil // another deadline
	case errors.Is(err, os.ErrDeadlineExceeded):
		err := h.lateLocked(nil)
		if h.late && !h.lateTold {
			h.lateTold = true
			h.shared.Unknown()
		}
		return 0, err
	}
	return 0, h.sharedAgainLocked(err)
}

// settleSharedLocked ends the batch when all replies were received.
func (h *handle) settleSharedLocked() {
	h.riding, h.answered = false, len(h.owed)
	if h.effect != command.Read {
		h.lastWrite, h.wroteIn = h.rider.Conn(), h.session
	}
}

// sharedAgainLocked sends a batch again whose shared connection was lost, if
// that is right: it was not sent, or it only reads and nothing of a reply was
// seen.
func (h *handle) sharedAgainLocked(err error) error {
	ran, cause := h.rider.Lost()
	if cause == nil {
		cause = err
	}
	again := h.whole && h.sent == len(h.req) && !h.got && (!ran || h.resend && !h.resent && h.effect == command.Read)
	if !again || !h.writing.TryLock() {
		return h.lostSharedLocked(cause)
	}
	defer h.writing.Unlock()
	why := pooler.Move
	if ran {
		h.resent, why = true, pooler.Resend
	} else if h.moves++; h.moves > maxMoves {
		return h.lostSharedLocked(cause)
	}
	x := h.exchangeLocked(h.owed, 0, h.readBy)
	h.rider.Forgive()
	h.shared.Again(why)
	if shared, err := h.submitLocked(h.owed, &x); err != nil {
		return h.failLocked(err)
	} else if !shared {
		return h.lostSharedLocked(cause)
	}
	return nil
}

// lostSharedLocked is the error of a batch whose shared connection was lost.
func (h *handle) lostSharedLocked(cause error) error {
	ran, _ := h.rider.Lost()
	var err error = &lostError{h.node.key.addr, cause}
	switch {
	case (ran || h.got) && !h.bound.retry.mayRepeat(h.effect):
		err = unknownOutcome(h.node.key.addr, cause)
		if !h.lateTold {
			h.shared.Unknown()
		}
	case errors.Is(cause, pooler.ErrClosed):
		err = adapt(cause)
	}
	if h.err == nil {
		h.err = err
	}
	h.signal()
	return err
}

// alightLocked waits until all replies that the handle is owed by a shared
// connection are here, so that what follows can go on a connection of its own
// without its replies overtaking them.
func (h *handle) alightLocked() error {
	for h.riding {
		if h.readingC {
			if err := h.awaitReaderLocked(); err != nil {
				return err
			}
			continue
		}
		var buf [4 << 10]byte
		h.readingC = true
		by := h.writeBy
		h.mu.Unlock()
		n, done, err := h.rider.Receive(buf[:], by)
		h.mu.Lock()
		h.readingC = false
		if gone := h.usableLocked(); gone != nil {
			return gone
		}
		switch {
		case err == nil:
			h.got = true
			h.out = append(h.out, buf[:n]...)
			h.signal()
			if done {
				h.settleSharedLocked()
			}
		case errors.Is(err, pooler.ErrInterrupted):
		case errors.Is(err, os.ErrDeadlineExceeded):
			return h.deadlineError("write")
		default:
			if err := h.sharedAgainLocked(err); err != nil {
				return err
			}
		}
	}
	return nil
}

// awaitReaderLocked waits, without the lock, until the Read that is under way on a
// shared connection has returned.
func (h *handle) awaitReaderLocked() error {
	if h.readerGone == nil {
		h.readerGone = make(chan struct{}, 1)
	}
	err := h.awaitLocked(h.readerGone, h.writeBy)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return h.deadlineError("write")
	}
	return err
}
