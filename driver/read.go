package driver

import (
	"errors"
	"os"
	"slices"

	"github.com/everpool/everpool/internal/command"
	"github.com/everpool/everpool/internal/resp"
	"github.com/everpool/everpool/pooler"
)

// Read returns bytes of the replies, in the order of the requests. It blocks
// while there are none, until the read deadline. After a timeout the handle goes
// on as before.
func (h *handle) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	h.reading.Lock()
	defer h.reading.Unlock()
	h.mu.Lock()
	n, err := h.readLocked(p)
	done := h.settleLocked()
	h.mu.Unlock()
	if done != nil {
		h.node.pool.Put(done, pooler.Answered)
	}
	return n, err
}

// readLocked waits for bytes of replies and copies them to p.
func (h *handle) readLocked(p []byte) (int, error) {
	for {
		if h.outR < len(h.out) {
			n := copy(p, h.out[h.outR:])
			h.outR += n
			return n, nil
		}
		if err := h.usableLocked(); err != nil {
			return 0, err
		}
		if h.riding && !h.sending && !h.readingC {
			if n, err := h.receiveSharedLocked(p); n > 0 || err != nil {
				return n, err
			}
			continue
		}
		c := h.lease
		if c == nil || h.sending || h.answered == len(h.owed) && c.Mode() == pooler.Counted {
			if err := h.awaitReplyLocked(); err != nil {
				return 0, err
			}
			continue
		}
		n, err := h.receiveLocked(c, p)
		if n > 0 || err != nil {
			return n, err
		}
	}
}

// awaitReplyLocked waits until there may be something to receive.
func (h *handle) awaitReplyLocked() error {
	h.waiting = true
	err := h.awaitLocked(h.wake, h.readBy)
	h.waiting = false
	select {
	case <-h.wake: // what it said is seen now
	default:
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return h.deadlineError("read")
	}
	return nil // whether the handle was closed is looked at next
}

// receiveLocked receives from the lease, without the lock while that may block.
func (h *handle) receiveLocked(c *pooler.Conn, p []byte) (int, error) {
	h.readingC = true
	by := h.readBy
	h.mu.Unlock()
	n, done, err := c.Receive(p, by)
	h.mu.Lock()
	if err == nil && h.usableLocked() == nil {
		n = h.receivedLocked(c, p, n, done)
	}
	h.readingC = false
	if gone := h.usableLocked(); gone != nil {
		h.quitLocked()
		return 0, gone
	}
	switch {
	case err == nil:
	case errors.Is(err, pooler.ErrInterrupted):
		return 0, nil // another deadline
	case errors.Is(err, os.ErrDeadlineExceeded):
		return 0, h.lateLocked(c)
	default:
		if again, err := h.tryAgainLocked(c); again || err != nil {
			return 0, err
		}
		return 0, h.lostLocked(c, err)
	}
	return n, nil
}

// receivedLocked takes note of p[:n], and of whole replies that have come with
// it, which it adds. The lock may be released meanwhile, so the lease must be
// marked as being read from.
func (h *handle) receivedLocked(c *pooler.Conn, p []byte, n int, done bool) int {
	h.got = true
	h.noteLocked(c, p[:n], done)
	// Whole replies that have come already go with it.
	for n < len(p) && h.usableLocked() == nil && h.answered < len(h.owed) && c.Buffered() {
		m, done, err := c.ReceiveBuffered(p[n:])
		if err != nil || m == 0 {
			break // the next Read meets it again
		}
		h.noteLocked(c, p[n:n+m], done)
		n += m
	}
	return n
}

// noteLocked takes note of bytes of a reply, and of its end.
func (h *handle) noteLocked(c *pooler.Conn, b []byte, done bool) {
	if h.answered == len(h.owed) {
		return // a push, or a stream
	}
	r := &h.owed[h.answered]
	if r.frame != nil && len(h.reply) <= maxReply {
		h.reply = append(h.reply, b...)
	}
	if !done {
		return
	}
	if r.n--; r.n == 0 {
		h.answered++
	}
	failed := c.Kind() == '-' || c.Kind() == '!'
	if r.kind != asking {
		h.asking = false
	}
	switch r.kind {
	case session_:
		h.shakenLocked(c, r, failed)
	case pinning:
		h.pinnedLocked(c, r, failed)
	case multi:
		h.inMulti = h.inMulti || !failed
	case exec, discard:
		// EXEC ends a transaction even if it is refused.
		if h.inMulti && (r.kind == exec || !failed) {
			h.inMulti, h.watching = false, false
		}
	case watch:
		h.watching = h.watching || !failed && !h.inMulti
	case unwatch:
		h.watching = h.watching && (failed || h.inMulti)
	case asking:
		h.asking = !failed
	case local:
		h.forwardedLocked(c, r)
	}
	if r.frame != nil {
		h.reply = h.reply[:0]
	}
}

// shakenLocked takes note of the reply to a session command: where it has led
// is remembered for all, and whoever waits for it is woken.
func (h *handle) shakenLocked(c *pooler.Conn, r *run, failed bool) {
	m := h.node.memory
	flown := h.flight
	switch {
	case h.inMulti:
		h.keepLocked(command.PinSession) // it comes into force with EXEC
	case h.pin == command.PinSession.String():
		// The state that it was given in isn't known.
	case c.Mode() != pooler.Counted:
		h.firm = true // the reply may have a push in it, so it isn't remembered
	case failed && resp.UnknownCommand(h.reply):
		m.refuse(h.session, r.frame, h.reply)
	case failed:
		// Nothing has changed, and the server may think otherwise next time.
	default:
		to := m.extend(h.session, r.frame, h.reply, r.slots)
		if to == nil {
			h.keepLocked(command.PinSession)
			break
		}
		h.enterLocked(to)
		c.SetSession(to.pool)
	}
	h.flight = nil
	if h.answered < len(h.owed) && h.owed[h.answered].kind == session_ && !h.inMulti && h.pin == "" {
		// The next step is under way too: who waits for this one shall not
		// take it for missing.
		h.leadLocked(h.owed[h.answered].frame)
	}
	if flown != nil {
		m.finish(flown.from, flown.frame)
	}
}

// pinnedLocked takes note of the reply to a command that pins: if it was
// refused, it has left nothing behind.
func (h *handle) pinnedLocked(c *pooler.Conn, r *run, failed bool) {
	flown := h.flight
	h.firm = h.firm || !failed
	for i := h.answered; i < len(h.owed); i++ {
		failed = failed && h.owed[i].kind != pinning // the next one may succeed
	}
	if failed && !h.firm && r.mode() == pooler.Pushes && h.pin == r.pin.String() && !h.inMulti {
		if r.remembered() && resp.UnknownCommand(h.reply) {
			h.node.memory.refuse(h.session, r.frame, h.reply)
		}
		h.pin, h.noted = "", false // a transaction or WATCH is noted anew
		c.SetMode(pooler.Counted)
		h.notePinLocked("")
	}
	if flown != nil && r.remembered() {
		h.flight = nil
		h.node.memory.finish(flown.from, flown.frame)
	}
}

// forwardedLocked takes note of a QUIT or RESET that was among other commands,
// so that the server had to answer it: the connection won't be used again.
func (h *handle) forwardedLocked(c *pooler.Conn, r *run) {
	if r.pin != command.PinReset {
		c.Fail(pooler.CloseState, errors.New("everpool: QUIT"))
		return
	}
	h.inMulti, h.watching, h.asking = false, false, false
	h.enterLocked(h.node.memory.root)
	h.keepLocked(command.PinReset)
}

// keepLocked pins the handle for life.
func (h *handle) keepLocked(why command.Pin) {
	if h.pin == "" {
		h.pin = why.String()
		h.notePinLocked(h.pin)
	}
}

// lateLocked is the error of a reply that didn't come in time. The connection
// lives: if the handle is closed now, its pool waits for the reply a little.
func (h *handle) lateLocked(c *pooler.Conn) error {
	if h.answered == len(h.owed) || c != nil && c.Mode() == pooler.Stream || h.bound.retry.mayRepeat(h.effect) {
		return h.deadlineError("read")
	}
	h.late = true
	return &lateError{h.node.key.addr}
}

// tryAgainLocked sends the batch once more, on another connection, if it only
// reads and the caller has seen nothing of a reply. It reports whether it has.
func (h *handle) tryAgainLocked(c *pooler.Conn) (bool, error) {
	if !h.resend || h.resent || h.got || h.effect != command.Read || h.keepsLocked() || h.sending ||
		len(h.req) == 0 || h.sent != len(h.req) || !h.writing.TryLock() {
		return false, nil
	}
	defer h.writing.Unlock()
	h.resent = true
	replies := 0
	for i := h.answered; i < len(h.owed); i++ {
		replies += int(h.owed[i].n)
	}
	req := h.requestLocked(h.owed[h.answered:])
	req.Deadline = h.readBy
	if err := h.replaceLocked(c, req, pooler.Resend); err != nil {
		return false, h.failLocked(err)
	}
	next := h.lease
	next.Owe(replies)
	_, err := h.useLocked(next, h.req, h.readBy)
	if gone := h.usableLocked(); gone != nil {
		return false, gone
	}
	if err != nil {
		if errors.Is(err, os.ErrDeadlineExceeded) {
			next.Fail(pooler.CloseWrite, err)
			return false, h.dropLocked(h.deadlineError("read"))
		}
		return false, h.lostLocked(next, err)
	}
	return true, nil
}

// lostLocked is the error of a batch whose connection was lost. It is the
// decision about running it twice.
func (h *handle) lostLocked(c *pooler.Conn, cause error) error {
	if dead := c.Err(); dead != nil {
		cause = dead
	}
	node := h.node.key.addr
	stream := c.Mode() == pooler.Stream
	var err error
	outcome := pooler.Failed
	switch {
	case !stream && (h.answered < len(h.owed) || h.got || h.flushed) && !h.bound.retry.mayRepeat(h.effect):
		err, outcome = unknownOutcome(node, cause), pooler.Unknown
	case errors.Is(cause, pooler.ErrClosed):
		err = adapt(cause)
	case slices.ContainsFunc(h.owed[h.answered:], func(r run) bool { return r.afterWrite }):
		// On another connection it would ask about another's writes.
		err = poolError{&pooler.Error{Err: pooler.ErrConnGone, Node: node, Cause: cause}}
	default:
		err = &lostError{node, cause}
	}
	c.Fail(pooler.CloseRead, cause)
	if h.shaking {
		err = handshakeError{err}
	}
	h.land()
	h.endLocked(err, outcome)
	h.signal()
	return err
}
