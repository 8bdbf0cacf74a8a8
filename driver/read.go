package driver

import (
	"errors"
	"os"
	"time"

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
	var n int
	var err error
	if !h.readBy.IsZero() && !time.Now().Before(h.readBy) {
		err = h.lateLocked() // as on a socket, whatever has come
	} else {
		n, err = h.readLocked(p)
	}
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
		if h.b.hasOut() {
			n := copy(p, h.b.out[h.b.outRead:])
			h.b.outRead += n
			return n, nil
		}
		if h.err != nil {
			return 0, h.err
		}
		var n int
		var err error
		switch {
		case h.held:
			err = h.sendHeldLocked()
		case h.riding && !h.sending && !h.receiving:
			n, err = h.receiveSharedLocked(p)
		case h.lease == nil || h.sending || !h.b.unanswered() && h.lease.Mode() == pooler.Counted:
			err = h.awaitReplyLocked()
		default:
			n, err = h.receiveLocked(h.lease, p)
		}
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
	if err != nil && h.err == nil {
		return h.lateLocked()
	}
	return nil // whether the handle has ended is looked at next
}

// receiveLocked receives from the lease, without the lock while that may block.
func (h *handle) receiveLocked(c *pooler.Conn, p []byte) (int, error) {
	h.receiving = true
	by := h.readBy
	h.mu.Unlock()
	n, done, err := c.Receive(p, by)
	h.mu.Lock()
	if err == nil && h.err == nil {
		n = h.receivedLocked(c, p, n, done)
	}
	h.receiving = false
	if h.err != nil {
		h.quitLocked()
		return 0, h.err
	}
	switch {
	case err == nil:
		return n, nil
	case errors.Is(err, pooler.ErrInterrupted):
		return 0, nil // another deadline
	case errors.Is(err, os.ErrDeadlineExceeded):
		return 0, h.lateLocked()
	}
	if dead := c.Err(); dead != nil {
		err = dead
	}
	return 0, h.lostLocked(err, true)
}

// receivedLocked takes note of p[:n], and of whole replies that have come with
// it, which it adds. The lock may be released meanwhile, so the lease must be
// marked as being read from.
func (h *handle) receivedLocked(c *pooler.Conn, p []byte, n int, done bool) int {
	h.b.got = true
	h.noteLocked(c, p[:n], done)
	// Whole replies that have come already go with it.
	for n < len(p) && h.err == nil && h.b.unanswered() && c.Buffered() {
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
	if !h.b.unanswered() {
		return // a push, or a stream
	}
	r := &h.b.owed[h.b.answered]
	switch {
	case r.frame != nil && len(h.b.reply) <= maxReply:
		h.b.reply = append(h.b.reply, b...)
	case r.kind == exec && len(h.b.reply) < execHead:
		h.b.reply = append(h.b.reply, b[:min(len(b), execHead)]...)
	}
	if !done {
		return
	}
	if r.n--; r.n == 0 {
		h.b.answered++
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
		h.endedLocked(c, r, failed)
	case watch:
		h.watching = h.watching || !failed && !h.inMulti
	case unwatch:
		h.watching = h.watching && (failed || h.inMulti)
	case asking:
		h.asking = !failed
	case local:
		h.forwardedLocked(c, r)
	}
	h.b.reply = h.b.reply[:0]
}

// execHead is how much of the reply to EXEC is enough to know a refusal by.
const execHead = 48

// endedLocked takes note of the reply to EXEC or DISCARD. EXEC ends a transaction
// even if it is refused, unless it is no command there: then the connection is
// inside MULTI for ever, and isn't used again.
func (h *handle) endedLocked(c *pooler.Conn, r *run, failed bool) {
	if h.inMulti && failed && r.kind == exec && resp.UnknownCommand(h.b.reply) {
		c.Fail(pooler.CloseState, errors.New("everpool: EXEC was refused where MULTI was not"))
	}
	if h.inMulti && (r.kind == exec || !failed) {
		h.inMulti, h.watching = false, false
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
	case failed && resp.UnknownCommand(h.b.reply):
		m.refuse(h.session, r.frame, h.b.reply)
	case failed:
		// Nothing has changed, and the server may think otherwise next time.
	default:
		to := m.extend(h.session, r.frame, h.b.reply, r.slots)
		if to == nil {
			h.keepLocked(command.PinSession)
			break
		}
		h.enterLocked(to)
		c.SetSession(to.pool)
	}
	h.flight = nil
	if h.b.unanswered() && h.b.owed[h.b.answered].kind == session_ && !h.inMulti && h.pin == "" {
		// The next step is under way too: who waits for this one shall not
		// take it for missing.
		h.leadLocked(h.b.owed[h.b.answered].frame)
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
	for i := h.b.answered; i < len(h.b.owed); i++ {
		failed = failed && h.b.owed[i].kind != pinning // the next one may succeed
	}
	if failed && !h.firm && r.mode() == pooler.Pushes && h.pin == r.pin.String() && !h.inMulti {
		if r.remembered() && resp.UnknownCommand(h.b.reply) {
			h.node.memory.refuse(h.session, r.frame, h.b.reply)
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
func (h *handle) lateLocked() error {
	if h.err != nil {
		return h.err
	}
	l := h.lossLocked(late, (h.b.flushed || h.sending) && h.b.unanswered())
	f := l.decide(h.bound.retry)
	if f == tellUnknown {
		h.unknownLocked()
	}
	_, err := h.tell(f, l, os.ErrDeadlineExceeded)
	return err
}

// lostLocked deals with a batch whose connection was lost, for that reason; ran
// says whether the server may have run some of it. It goes on another connection,
// and lostLocked returns nil, or its caller is told.
func (h *handle) lostLocked(cause error, ran bool) error {
	l := h.lossLocked(causeOf(cause), ran)
	if l.free = l.free && !h.sending && h.writing.TryLock(); l.free {
		defer h.writing.Unlock()
	}
	f := l.decide(h.bound.retry)
	var err error
	switch f {
	case move:
		h.b.moves++
		err = h.repeatLocked(pooler.Move)
	case resend:
		h.b.resent = true
		err = h.repeatLocked(pooler.Resend)
	default:
		return h.tellLocked(f, l, cause)
	}
	if err == nil || h.err != nil {
		return h.err
	}
	l = h.lossLocked(causeOf(err), ran)
	l.free = false
	return h.tellLocked(l.decide(h.bound.retry), l, err)
}

// repeatLocked sends the batch, all of which is here, on another connection, by the
// read deadline.
func (h *handle) repeatLocked(why pooler.Again) error {
	h.writeBy = h.readBy
	if h.riding {
		return h.rideAgainLocked(why)
	}
	replies := h.b.replies()
	if err := h.replaceLocked(h.lease, h.requestLocked(h.b.pending()), why); err != nil {
		return err
	}
	c := h.lease
	c.Owe(replies)
	_, err := h.useLocked(c, h.b.req)
	if err != nil && h.err == nil {
		c.Fail(pooler.CloseWrite, err)
	}
	return err
}
