package handle

import (
	"bytes"
	"errors"
	"os"
	"slices"
	"time"

	"github.com/everpool/everpool/internal/command"
	"github.com/everpool/everpool/internal/resp"
	"github.com/everpool/everpool/internal/session"
	"github.com/everpool/everpool/pooler"
)

// Read returns bytes of the replies, in the order of the requests. It blocks
// while there are none, until the read deadline. After a timeout the handle goes
// on as before.
func (h *handle) Read(p []byte) (n int, err error) {
	if len(p) == 0 {
		return 0, nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.take(&h.reading, h.readBy.Time); err != nil {
		if errors.Is(err, os.ErrDeadlineExceeded) {
			err = h.deadlineError("read")
		}
		return 0, err
	}
	defer h.reading.end()
	first, answered := !h.b.got, h.b.answered
	mixed, reads := first && h.isMixedLocked(), first && h.onlyReadsLocked()
	lone := reads && replies(h.b.pending())+replies(h.b.plan) == 1 // the plan's may be sent by this Read
	for n == 0 && err == nil {
		n, err = h.readSome(p)
	}
	switch {
	case mixed && bytes.HasPrefix(p[:n], tryAgain):
		n = putMoved(p, n, h.moved(plain, 0, h.dialed))
	case reads && bytes.HasPrefix(p[:n], masterDown):
		n = h.leaveStaleLocked(p, n, lone)
	}
	if done := h.settle(&h.receiving); done != nil {
		h.put(done, pooler.Answered)
	}
	// Not before: the next step would have another connection dialed for the state
	// that this one is in.
	h.shake.arrive()
	if pause := h.pauseOfLocked(p[:n], first, answered); pause > 0 {
		return h.holdBack(p, n, pause)
	}
	return n, err
}

// readSome does the next step towards bytes of replies.
func (h *handle) readSome(p []byte) (n int, err error) {
	passed := h.readBy.fix()
	h.tellCourseLocked()
	switch {
	case h.b.refusal != nil:
		h.passOn()
		return 0, nil
	case passed && !(h.b.got && h.b.unanswered()):
		return 0, h.lateLocked() // as on a socket, whatever has come
	case h.b.hasOut():
		n = copy(p, h.b.out[h.b.outRead:])
		h.b.outRead += n
		return n, nil
	case h.err != nil:
		h.held = held{}
		return 0, h.err
	case h.held.any():
		err = h.sendHeld()
	case h.mayReceiveLocked():
		by, first := h.firstBy()
		n, err = h.receive(h.wayLocked(), p, by)
		h.received.open()
		if c := h.lease; first && c != nil && h.err == nil && errors.Is(err, os.ErrDeadlineExceeded) {
			c.Fail(pooler.CloseSilence, errNoStream) // which the next step meets
			return 0, nil
		}
	default:
		err = h.waitAt(&h.toRead, h.readBy.Time)
		if h.err != nil {
			return 0, nil // what it has ended with is seen next, after what is to be read
		}
	}
	if errors.Is(err, os.ErrDeadlineExceeded) && h.err == nil {
		if h.putOffLocked() {
			return n, nil
		}
		err = h.lateLocked()
	}
	return n, err
}

// errNoStream is why the connection of a stream is closed that hasn't begun in time.
var errNoStream = errors.New("everpool: no reply to what asked for a stream")

// firstBy is by when something is to be received. Nobody who subscribes bounds the wait for
// the first reply: with the stock pool the handshake of a new socket has proved before that the
// server is there. first says that it is bounded for that, as a dial is.
func (h *handle) firstBy() (by time.Time, first bool) {
	if c := h.lease; !h.readBy.IsZero() || c == nil || c.Mode() != pooler.Stream || h.b.got {
		return h.readBy.Time, false
	}
	return time.Now().Add(h.node.Pool.Config().Limits().DialTimeout), true
}

// mayReceiveLocked reports whether there is something to receive, now or later, and
// nothing that has to be over before.
func (h *handle) mayReceiveLocked() bool {
	switch {
	case h.sending:
		return false
	case h.ride.under:
		return !h.receiving // Write does, to get off
	}
	return h.lease != nil && (h.b.unanswered() || h.lease.Mode() != pooler.Counted)
}

// receive receives from the way, by that time. A batch that was lost may be under way
// again then, with nothing received.
func (h *handle) receive(w way, p []byte, by time.Time) (int, error) {
	h.receiving = true
	owed := len(h.b.owed)
	n, done, err := h.receiveFrom(w, p, by)
	c, isLeased := w.(leased)
	if err == nil && h.err == nil {
		h.b.got = true
		if isLeased {
			n = h.noteRepliesLocked(c.Conn, p, n, done)
			h.sizeLocked(n)
		}
	}
	if isLeased {
		c.Withdraw() // p is the caller's again
	}
	h.receiving = false
	switch {
	case h.err != nil:
		h.quit()
		return 0, h.err
	case err == nil:
		// A Write may have submitted more since the rider was done.
		if done && h.ride.under && !h.sending && (len(h.b.owed) == owed || h.ride.Idle()) {
			h.arriveLocked()
		}
		return n, nil
	case errors.Is(err, pooler.ErrInterrupted):
		return 0, nil // another deadline
	case errors.Is(err, os.ErrDeadlineExceeded):
		return 0, os.ErrDeadlineExceeded
	}
	ran, why := w.lost(err)
	return 0, h.lost(why, ran || h.b.got)
}

// noteRepliesLocked takes note of p[:n], and of whole replies, and pushes that are passed
// on, that have come with it, which it adds: go-redis looks at the socket alone for more.
func (h *handle) noteRepliesLocked(c *pooler.Conn, p []byte, n int, done bool) int {
	h.noteLocked(c, p[:n], done)
	for n < len(p) && (h.b.unanswered() || c.Mode() == pooler.Pushes) && c.Buffered() {
		m, done, err := c.ReceiveBuffered(p[n:])
		if err != nil || m == 0 {
			break // the next Read meets it again
		}
		h.noteLocked(c, p[n:n+m], done)
		n += m
	}
	return n
}

// sizeLocked takes note of n bytes of replies, and of how large all were when these are
// the last.
func (h *handle) sizeLocked(n int) {
	if h.b.size += int64(n); h.b.large && !h.b.unanswered() {
		h.ride.shared.Answered(h.ride.Rider, h.b.size)
		h.b.large = false
	}
}

// noteLocked takes note of bytes of a reply, and of its end.
func (h *handle) noteLocked(c *pooler.Conn, b []byte, done bool) {
	if !h.b.unanswered() {
		return // a push, or a stream
	}
	r := &h.b.owed[h.b.answered]
	switch {
	case r.frame != nil && len(h.b.reply) <= session.MaxReply:
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
	switch r.kind {
	case session_:
		h.shakenLocked(c, r, failed)
	case pinning:
		h.pinnedLocked(c, r, failed)
	case local:
		h.forwardedLocked(c, r)
	}
	if err := h.carried.note(r.kind, failed, h.b.reply); err != nil {
		c.Fail(pooler.CloseState, err)
	}
	h.b.reply = h.b.reply[:0]
}

// execHead is how much of the reply to EXEC is enough to know a refusal by.
const execHead = 48

// pinnedLocked takes note of the reply to a command that pins.
func (h *handle) pinnedLocked(c *pooler.Conn, r *run, failed bool) {
	h.carried.firm = h.carried.firm || !failed
	// One that comes later in the batch may succeed.
	if !slices.ContainsFunc(h.b.pending(), pins) && h.carried.refused(r) {
		if r.remembered() && resp.UnknownCommand(h.b.reply) {
			h.shake.memory.Refuse(h.shake.in, r.frame, h.b.reply)
		}
		c.SetMode(pooler.Counted)
	}
	if r.remembered() {
		h.shake.land()
	}
}

func pins(r run) bool { return r.kind == pinning }

// forwardedLocked takes note of a QUIT or RESET that was among other commands,
// so that the server had to answer it: the connection won't be used again.
func (h *handle) forwardedLocked(c *pooler.Conn, r *run) {
	if r.pin != command.PinReset {
		c.Fail(pooler.CloseState, errQuit)
		h.b.quits = true
		return
	}
	h.carried.inMulti, h.carried.watching, h.carried.asking = false, false, false
	h.shake.enter(h.shake.memory.Root())
	h.carried.hold(command.PinReset)
}

// lateLocked is the error of a reply that didn't come in time. The connection
// lives: if the handle is closed now, its pool waits for the reply a little.
func (h *handle) lateLocked() error {
	if h.err != nil {
		return h.err
	}
	if h.b.flushed && h.b.idle() { // it has been answered, and its caller waits for a reply more
		return h.deadlineError("read")
	}
	l := h.lossLocked(late, (h.b.flushed || h.sending) && h.b.unanswered())
	f := l.decide(h.client.Retry)
	if f == tellUnknown {
		h.unknownLocked()
	}
	_, err := h.verdictLocked(f, l, os.ErrDeadlineExceeded)
	return err
}

// lost deals with a batch whose connection was lost, for that reason; ran
// says whether the server may have run some of it. It goes on another connection,
// and lost returns nil, or its caller is told.
func (h *handle) lost(cause error, ran bool) error {
	l := h.lossLocked(causeOf(cause), ran)
	if l.free = l.free && !h.sending && h.writing.try(); l.free {
		defer h.writing.end()
	}
	f := l.decide(h.client.Retry)
	var err error
	switch f {
	case move:
		h.b.moves++
		err = h.repeat(pooler.Move)
	case resend:
		h.b.resent = true
		err = h.repeat(pooler.Resend)
	default:
		return h.tell(f, l, cause)
	}
	if err == nil || h.err != nil {
		return h.err
	}
	l = h.lossLocked(causeOf(err), ran)
	l.free = false
	return h.tellOrRedirect(l, err)
}

// repeat sends the batch, all of which is here, another time, by the read deadline.
func (h *handle) repeat(why pooler.Again) error {
	h.writing.ofRead = true
	if h.ride.under {
		h.ride.shared.Again(h.ride.Rider, why)
		x := h.b.exchange(h.b.owed, 0)
		x.Leaves = x.Reads
		switch shared, err := h.submit(h.b.owed, &x); {
		case shared || err != nil:
			return err
		case !h.b.large:
			return pooler.ErrNotShared
		}
		h.ride.under = false
		if err := h.acquire(h.requestLocked(h.b.owed)); err != nil {
			return err
		}
	} else if err := h.replace(h.requestLocked(h.b.pending()), why); err != nil {
		return err
	}
	replies := replies(h.b.pending())
	c := h.lease
	c.Owe(replies)
	_, err := h.sendOn(c, h.b.req)
	if err != nil && h.err == nil {
		c.Fail(pooler.CloseWrite, err)
	}
	return err
}
