package driver

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"github.com/everpool/everpool/internal/command"
	"github.com/everpool/everpool/pooler"
)

// handle is a virtual connection: what go-redis holds in the place of a socket.
// It has no socket of its own. Each request leases a physical connection for as
// long as its replies take, and longer only when it leaves state there.
//
// Write, Read, Close and the deadlines may be used from several goroutines.
// Lock order: writing or reading, then mu. mu is never held while waiting.
type handle struct {
	node   *node
	bound  *binding
	caller pooler.Caller // leaves when the handle is closed

	writing sync.Mutex // held by Write, and by a Read that sends
	reading sync.Mutex // held by Read

	mu        sync.Mutex
	closed    bool
	err       error // the handle is of no more use
	b         batch // under way
	held      bool  // Write has accepted the batch unsent; Read sends it, or tells
	stale     bool  // the batch is somebody else's, if it isn't over
	session   *session
	lease     *pooler.Conn
	outcome   pooler.Outcome // of the lease, when err is set
	sending   bool           // Write is using the lease
	receiving bool           // Read is using the lease
	waiting   bool           // Read waits for wake
	wake      chan struct{}
	readBy    time.Time
	writeBy   time.Time

	rider      *pooler.Rider  // its place on shared connections
	shared     *pooler.Shared // those of the session sharedIn
	sharedIn   *session
	riding     bool          // what is under way is there
	readerGone chan struct{} // tells a Write that waits for Read to return; nil until one does

	// What the connection is known to carry, by the replies so far.
	pin      string // for life, if not empty
	firm     bool   // a command that pins has succeeded
	noted    bool   // the pool knows of a transaction that keeps the lease
	inMulti  bool
	watching bool
	asking   bool

	lastWrite *pooler.Conn // carried the last batch that wrote
	wroteIn   *session     // the session that it was written in

	flight *flight
}

// flight is a handshake that this handle makes for all who wait for it.
type flight struct {
	from  *session
	frame []byte
}

func newHandle(n *node, b *binding) *handle {
	h := &handle{node: n, bound: b, session: n.memory.root, wake: make(chan struct{}, 1), rider: pooler.NewRider()}
	h.b.init()
	n.memory.enter(h.session)
	return h
}

// Write takes a request, or several, or part of one. It returns when they are
// sent or answered from memory, or when sending needs the rest of a command. It
// blocks while there is no connection for it, until the write deadline or the
// pool's WaitTimeout. A transaction or pipeline that can't be sent by then, and a
// subscription that can't be made, are accepted all the same: Read gets over it, or
// tells.
func (h *handle) Write(p []byte) (int, error) {
	h.writing.Lock()
	defer h.writing.Unlock()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.err != nil {
		return h.toldByReadLocked(p, h.err)
	}
	if h.lease != nil && h.lease.Mode() == pooler.Stream {
		return h.streamLocked(p)
	}
	if h.b.idle() {
		h.b.begin(&h.node.buffers)
	} else if h.stale {
		// Read tells: of a transaction go-redis would keep what Write does.
		_ = h.failLocked(&lostError{h.node.key.addr, errStale}, pooler.Abandoned)
		return len(p), nil
	}
	for rest := p; len(rest) > 0; {
		n, err := h.gatherLocked(rest)
		if err == nil && !h.held {
			err = h.flushLocked()
		}
		if err != nil {
			if err = h.unsentLocked(err); err != nil || h.err != nil {
				return h.toldByReadLocked(p, err)
			}
		}
		rest = rest[n:]
	}
	if done := h.settleLocked(); done != nil { // all was read before the sending was over
		h.putLocked(done, pooler.Answered)
	}
	return len(p), nil
}

// toldByReadLocked is what Write returns of the error of a handle that has ended. A
// subscription is accepted: go-redis records a channel after it has written the
// command, and on an error connects anew before that, without the channel.
func (h *handle) toldByReadLocked(p []byte, err error) (int, error) {
	if !h.closed && (h.pin == command.PinPubSub.String() || h.b.any(subscribes)) {
		return len(p), nil
	}
	return 0, err
}

// errStale: go-redis leaves a refused transaction after its first reply.
var errStale = errors.New("everpool: an earlier caller left replies unread")

func subscribes(r run) bool { return r.pin == command.PinPubSub }

// unsentLocked settles what becomes of a batch that Write could not send, or not
// all of. It returns nil if that is Read's business.
func (h *handle) unsentLocked(err error) error {
	if h.err != nil {
		return h.err // told already
	}
	l := h.lossLocked(causeOf(err), h.b.flushed)
	l.write, l.free = true, false
	if l.sticks && h.b.streamed {
		l.cause = died // its beginning is gone
	}
	f := l.decide(h.bound.retry)
	var bad *requestError
	switch {
	case f == holdBack:
		h.held = true
		h.signal()
		return nil
	case f != tellUnknown && errors.As(err, &bad):
		return h.failLocked(bad, pooler.Failed)
	}
	return h.tellLocked(f, l, err)
}

func beginsTransaction(r run) bool { return r.kind == multi }

// sendHeldLocked sends what Write has accepted unsent, by the read deadline.
func (h *handle) sendHeldLocked() error {
	h.mu.Unlock()
	h.writing.Lock() // Write may have more of it
	defer h.writing.Unlock()
	h.mu.Lock()
	if h.err != nil || !h.held {
		return h.err
	}
	h.held = false
	h.writeBy = h.readBy
	err := h.flushLocked()
	if err == nil || h.err != nil {
		return h.err
	}
	l := h.lossLocked(causeOf(err), h.b.flushed)
	l.free = false
	return h.tellLocked(l.decide(h.bound.retry), l, err)
}

// lossLocked is what is known of the batch when cause keeps it from going on.
func (h *handle) lossLocked(why cause, ran bool) loss {
	l := h.b.loss(why, ran)
	l.free = l.free && !h.keepsLocked() && h.b.moves < maxMoves
	if h.lease != nil && h.lease.Mode() == pooler.Stream {
		l.effect = command.Read // nothing is asked there any more
	}
	return l
}

// tellLocked ends the handle with what its caller is told.
func (h *handle) tellLocked(f fate, l loss, cause error) error {
	outcome, err := h.tell(f, l, cause)
	if c := h.lease; c != nil && (l.cause == died || l.cause == garbled) {
		c.Fail(pooler.CloseRead, cause)
	}
	return h.failLocked(err, outcome)
}

// failLocked ends the handle, for which err is the last word: go-redis must not use
// it any more. The lease goes back, unless the other direction is still using it:
// then that one sees to it.
func (h *handle) failLocked(err error, o pooler.Outcome) error {
	if h.b.shaking {
		err = inHandshake(err)
	}
	if h.err == nil {
		h.err, h.outcome = err, o
	}
	if o == pooler.Unknown {
		h.unknownLocked()
	}
	h.land()
	h.interruptLocked()
	h.quitLocked()
	h.signal()
	return err
}

// unknownLocked notes that the caller is told that the batch's outcome is unknown.
// That of a lease is counted when it goes back.
func (h *handle) unknownLocked() {
	if !h.b.unknown && h.riding && h.shared != nil {
		h.shared.Unknown()
	}
	h.b.unknown = true
}

// interruptLocked has whoever uses the lease look up.
func (h *handle) interruptLocked() {
	if c := h.lease; c != nil && h.sending {
		c.InterruptSend()
	}
	if c := h.lease; c != nil && h.receiving {
		c.InterruptReceive()
	}
}

// land ends the handshake that others wait for, whatever came of it.
func (h *handle) land() {
	if h.flight != nil {
		h.node.memory.finish(h.flight.from, h.flight.frame)
		h.flight = nil
	}
}

// signal wakes a Read that waits for something to read.
func (h *handle) signal() {
	if !h.waiting {
		return
	}
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

// awaitLocked waits, without the lock, until something comes from ch. It fails when
// the handle has ended meanwhile, or with os.ErrDeadlineExceeded.
func (h *handle) awaitLocked(ch <-chan struct{}, by time.Time) error {
	var timeout <-chan time.Time
	if !by.IsZero() {
		t := time.NewTimer(time.Until(by))
		defer t.Stop()
		timeout = t.C
	}
	late := false
	h.mu.Unlock()
	select {
	case <-ch:
	case <-h.caller.Done():
	case <-timeout:
		late = true
	}
	h.mu.Lock()
	switch {
	case h.closed:
		return h.err
	case late:
		return os.ErrDeadlineExceeded
	}
	return nil
}

// enterLocked changes the handle's session.
func (h *handle) enterLocked(s *session) {
	if s == h.session {
		return
	}
	m := h.node.memory
	m.enter(s)
	m.leave(h.session)
	h.session = s
}

// keepsLocked reports whether the lease outlasts the replies.
func (h *handle) keepsLocked() bool {
	return h.pin != "" || h.inMulti || h.watching || h.asking || h.b.partial
}

// settleLocked takes the lease from the handle when the batch is over and
// nothing keeps it. The caller gives it back to the pool.
func (h *handle) settleLocked() *pooler.Conn {
	c := h.lease
	if c == nil || h.sending || h.receiving || h.b.unanswered() || len(h.b.plan) > 0 {
		return nil
	}
	if h.b.effect != command.Read {
		h.lastWrite, h.wroteIn = c, h.session
	}
	if h.keepsLocked() {
		if !h.noted && (h.inMulti || h.watching) && h.pin == "" {
			h.noted = true
			why := command.PinWatch
			if h.inMulti {
				why = command.PinMulti
			}
			h.notePinLocked(why.String()) // a new batch may have begun meanwhile
		} else if h.mayLoseLocked() {
			c.Park()
		}
		return nil
	}
	if h.noted {
		h.noted = false
		h.notePinLocked("")
		return h.settleLocked() // the lock was not held for a moment
	}
	h.lease = nil
	if !h.b.scan.InCommand() && h.b.sent == len(h.b.req) {
		h.b.shrink(&h.node.buffers)
	}
	return c
}

// mayLoseLocked reports whether the connection that the handle keeps may be
// closed while the handle is idle, if others can't have one otherwise. What it
// carries is then lost, as if the server had closed it; nobody waits for
// anything from it meanwhile.
func (h *handle) mayLoseLocked() bool {
	switch h.pin {
	case command.PinClientID.String(), command.PinUnknown.String(), command.PinSession.String(),
		command.PinHImport.String(), command.PinReset.String():
		return !h.inMulti && !h.watching && !h.asking && !h.b.partial
	}
	return false
}

// Close ends the handle. The replies that it still waits for are read and
// dropped by the pool. It doesn't block. A Read that is under way fails: with
// ErrUnknownOutcome if what it waits for has been sent and must not run twice.
func (h *handle) Close() error {
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		return closedError(h.node.key.network)
	}
	h.closed = true
	h.leaveLocked()
	h.land()
	h.interruptLocked()
	h.quitLocked()
	s := h.session
	h.signal()
	h.mu.Unlock()
	h.rider.Close()
	h.caller.Leave()
	h.node.memory.leave(s)
	h.node.detach()
	return nil
}

// leaveLocked says what a caller is told whose handle go-redis closes, and how the
// lease ends.
func (h *handle) leaveLocked() {
	pending := h.b.unanswered()
	// A lease owes the replies before it is sent to; a shared connection is given
	// both at once.
	l := h.lossLocked(left, pending && (h.b.flushed || h.sending) || h.sending && h.lease == nil)
	l.free = false
	f := l.decide(h.bound.retry)
	if f == tellUnknown && (h.receiving || h.waiting) {
		h.unknownLocked()
	}
	if h.err != nil {
		return
	}
	_, h.err = h.tell(f, l, errLeft)
	switch {
	case h.b.unknown && pending:
		h.outcome = pooler.Unknown
	case pending || h.b.partial:
		h.outcome = pooler.Abandoned
	default:
		h.outcome = pooler.Answered
	}
}

var errLeft = errors.New("everpool: the client has closed the connection with the request under way")

// soilLocked ends a connection in the middle of a command or a transaction.
func (h *handle) soilLocked(c *pooler.Conn) {
	if h.b.partial {
		c.Fail(pooler.CloseWrite, errors.New("everpool: the request was never finished"))
	}
	// What is still to be answered counts as if it had its effect: the state is
	// entered before the reply comes.
	inside, changed := h.inMulti, h.watching || h.asking
	for _, r := range h.b.pending() {
		switch r.kind {
		case plain:
			if r.blocking {
				// What it takes from a list while its reply is awaited would be lost.
				c.Fail(pooler.CloseAbandoned, errors.New("everpool: left while it blocked"))
			}
		case multi:
			inside = true
		case exec:
			inside = false
		default:
			changed = true
		}
	}
	if inside || changed {
		c.Fail(pooler.CloseState, errors.New("everpool: left inside a transaction or while the connection's state was being changed"))
	}
}

// quitLocked gives the lease back after the handle has come to its end. If one
// direction is still using the connection, it is called again by that.
func (h *handle) quitLocked() {
	c := h.lease
	if c == nil || h.sending || h.receiving {
		return
	}
	h.lease = nil
	h.soilLocked(c)
	h.putLocked(c, h.outcome)
}

// putLocked gives a lease back, without the lock.
func (h *handle) putLocked(c *pooler.Conn, o pooler.Outcome) {
	h.mu.Unlock()
	defer h.mu.Lock() // whatever a user's code in there does
	h.node.pool.Put(c, o)
}

// SetDeadline sets both deadlines. go-redis clears them when it gives the handle
// to another caller: if one has left replies unread (go-redis leaves a refused
// transaction after the first), they must not be the next one's.
func (h *handle) SetDeadline(t time.Time) error {
	if h.setDeadlines(t) {
		h.rider.Close() // nobody reads what is left, and nobody else has to wait for that
	}
	return nil
}

// setDeadlines reports whether what is left unread is on a shared connection.
func (h *handle) setDeadlines(t time.Time) (leave bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.stale = t.IsZero() && (h.b.got || h.held) && !h.b.idle()
	if t.IsZero() {
		h.unstreamLocked()
	}
	h.writeBy = t
	h.setReadByLocked(t)
	return h.stale && h.riding
}

// unstreamLocked gives up a connection that the last caller left streaming
// (monitoring, say): what comes from it is no reply to the next one's requests.
func (h *handle) unstreamLocked() {
	c := h.lease
	if c == nil || c.Mode() != pooler.Stream || h.sending || h.receiving || h.err != nil {
		return
	}
	o := pooler.Answered
	if h.b.unanswered() {
		o = pooler.Abandoned
	}
	h.soilLocked(c)
	h.lease, h.pin, h.noted = nil, "", false
	h.b.begin(&h.node.buffers)
	h.putLocked(c, o)
}

// SetReadDeadline bounds reading, that which is under way too.
func (h *handle) SetReadDeadline(t time.Time) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.setReadByLocked(t)
	return nil
}

func (h *handle) setReadByLocked(t time.Time) {
	if t.Equal(h.readBy) {
		return
	}
	h.readBy = t
	if h.receiving {
		// It reads on by the new deadline.
		if h.riding {
			h.rider.Interrupt()
		} else {
			h.lease.InterruptReceive()
		}
	}
	h.signal()
}

// SetWriteDeadline bounds writing, the wait for a connection included. A write
// that is under way keeps its deadline.
func (h *handle) SetWriteDeadline(t time.Time) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.writeBy = t
	return nil
}

// LocalAddr says that there is no local end.
func (h *handle) LocalAddr() net.Addr { return address{h.node.key.network, "everpool"} }

// RemoteAddr is the node's address as it was dialed.
func (h *handle) RemoteAddr() net.Addr { return address{h.node.key.network, h.node.key.addr} }

// Format prints the same whatever the verb: none may show what the handle holds,
// credentials among it.
func (h *handle) Format(f fmt.State, _ rune) {
	_, _ = fmt.Fprintf(f, "everpool handle to %s", h.node.key.addr)
}

// address is the address of a node.
type address struct{ network, addr string }

func (a address) Network() string { return a.network }
func (a address) String() string  { return a.addr }

// deadlineError is what a socket returns when its deadline has passed.
func (h *handle) deadlineError(op string) error {
	return &net.OpError{Op: op, Net: h.node.key.network, Addr: h.RemoteAddr(), Err: os.ErrDeadlineExceeded}
}
