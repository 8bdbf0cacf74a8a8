package driver

import (
	"errors"
	"net"
	"os"
	"time"

	"github.com/everpool/everpool/internal/command"
	"github.com/everpool/everpool/pooler"
)

// shareLocked sends the planned commands on a shared connection. It reports false
// if there is no sharing here.
func (h *handle) shareLocked() (bool, error) {
	b := &h.b
	for i := range b.plan {
		b.effect = max(b.effect, b.plan[i].effect)
	}
	b.all = b.untouched()
	x := b.exchange(b.plan, b.sent, h.writeBy)
	x.Follows = h.riding
	if shared, err := h.submitLocked(b.plan, &x); !shared || err != nil {
		return shared, err
	}
	b.owe()
	b.flushed, h.riding = true, true
	b.sent = len(b.req)
	if !b.all {
		b.req, b.sent, b.scanned = b.req[:0], 0, 0
	}
	if b.got && !h.receiving {
		h.settleSharedLocked() // a Read may have had the replies before the sending was over
	}
	return true, nil
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
		switch {
		case h.closed && err != nil && !h.b.flushed:
			h.err = closedError(h.node.key.network) // nothing was sent
			return true, h.err
		case h.err != nil:
			return true, h.err
		case errors.Is(err, pooler.ErrLost) && !x.Follows:
			return true, err
		case err == nil:
			h.signal()
			return true, nil
		case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, net.ErrClosed):
			return true, err
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
	n, err := h.rideLocked(p, h.readBy)
	if h.readerGone != nil {
		select {
		case h.readerGone <- struct{}{}:
		default:
		}
	}
	if errors.Is(err, os.ErrDeadlineExceeded) && h.err == nil {
		err = h.lateLocked()
	}
	return n, err
}

// rideLocked receives what comes next from a shared connection, by that time. A
// batch that was lost may be under way again then, with nothing received.
func (h *handle) rideLocked(p []byte, by time.Time) (int, error) {
	h.receiving = true
	h.mu.Unlock()
	n, done, err := h.rider.Receive(p, by)
	h.mu.Lock()
	h.receiving = false
	switch {
	case h.err != nil:
		return 0, h.err
	case err == nil:
		h.b.got = true
		if done {
			h.settleSharedLocked()
		}
		return n, nil
	case errors.Is(err, pooler.ErrInterrupted):
		return 0, nil // another deadline
	case errors.Is(err, os.ErrDeadlineExceeded):
		return 0, err
	}
	ran, cause := h.rider.Lost()
	if cause == nil {
		cause = err
	}
	return 0, h.lostLocked(cause, ran || h.b.got)
}

// settleSharedLocked ends the batch if all replies were received. A Write may have
// submitted more since the reader was told so; then the batch goes on.
func (h *handle) settleSharedLocked() {
	if h.sending || !h.rider.Idle() {
		return
	}
	h.riding, h.b.answered = false, len(h.b.owed)
	if h.b.effect != command.Read {
		h.lastWrite, h.wroteIn = h.rider.Conn(), h.session
	}
}

// rideAgainLocked submits the batch, all of which is here, again after its shared
// connection was lost.
func (h *handle) rideAgainLocked(why pooler.Again) error {
	x := h.b.exchange(h.b.owed, 0, h.readBy)
	h.rider.Forgive()
	h.shared.Again(why)
	shared, err := h.submitLocked(h.b.owed, &x)
	if err == nil && !shared {
		err = pooler.ErrNotShared
	}
	return err
}

// alightLocked waits until all replies that the handle is owed by a shared
// connection are here, so that what follows can go on a connection of its own
// without its replies overtaking them.
func (h *handle) alightLocked() error {
	var buf [4 << 10]byte
	for h.riding {
		if h.receiving {
			if err := h.awaitReaderLocked(); err != nil {
				return err
			}
			continue
		}
		n, err := h.rideLocked(buf[:], h.writeBy)
		if err != nil {
			return err
		}
		h.b.out = append(h.b.out, buf[:n]...)
		h.signal()
	}
	return nil
}

// awaitReaderLocked waits, without the lock, until the Read that is under way on a
// shared connection has returned.
func (h *handle) awaitReaderLocked() error {
	if h.readerGone == nil {
		h.readerGone = make(chan struct{}, 1)
	}
	return h.awaitLocked(h.readerGone, h.writeBy)
}
