package driver

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"github.com/everpool/everpool/internal/command"
	"github.com/everpool/everpool/internal/resp"
	"github.com/everpool/everpool/pooler"
)

const (
	// gatherUpTo is how many bytes of a request are gathered before they are
	// sent, and kept to be sent again. What is larger streams through.
	gatherUpTo = 64 << 10

	// gatherAtOnce is how much of a single Write is copied before it is looked
	// at. It is go-redis's buffer for pipelines.
	gatherAtOnce = 128 << 10

	// keepBuffer is the largest buffer that an idle handle keeps.
	keepBuffer = 4 << 10

	// largeBuffer holds whatever a handle gathers at a time.
	largeBuffer = gatherUpTo + gatherAtOnce
)

// handle is a virtual connection: what go-redis holds in the place of a socket.
// It has no socket of its own. Each request leases a physical connection for as
// long as its replies take, and longer only when it leaves state there.
//
// A batch is everything that is written from one moment without an outstanding
// reply to the next: one command, or a pipeline. It is the unit of leasing, of
// sending again, and of telling what a lost connection means: go-redis repeats
// a pipeline as a whole.
//
// Write, Read, Close and the deadlines may be used from several goroutines.
// Lock order: writing or reading, then mu. mu is never held while waiting.
type handle struct {
	node   *node
	bound  *binding
	caller pooler.Caller // leaves when the handle is closed

	writing sync.Mutex // held by Write
	reading sync.Mutex // held by Read

	mu       sync.Mutex
	closed   bool
	err      error // the handle is of no more use
	session  *session
	lease    *pooler.Conn
	outcome  pooler.Outcome // of the lease, when err is set
	sending  bool           // Write is using the lease
	readingC bool           // Read is using the lease
	waiting  bool           // Read waits for wake
	wake     chan struct{}
	readBy   time.Time
	writeBy  time.Time

	out  []byte // replies that the handle gives itself, before those of the lease
	outR int

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

	// The batch under way.
	scan     resp.RequestScanner
	req      []byte // what was written and not sent yet, or may be sent again
	sent     int    // of req
	scanned  int    // of req: the beginning of the unfinished command
	plan     []run  // commands in req[sent:]
	owed     []run  // commands that were sent and not answered
	answered int    // of owed: runs that are done
	effect   command.Effect
	resend   bool // req is all of the batch and may be sent again
	resent   bool
	flushed  bool // something of the batch was sent
	late     bool // the caller was told that the outcome is unknown
	lateTold bool // and that was counted
	whole    bool // req is all of the batch, as it went on a shared connection
	moves    int  // to another shared connection, unsent
	got      bool // bytes of a reply were handed to the reader
	stale    bool // somebody else's, if it isn't over
	shaking  bool // the batch is part of go-redis's handshake
	partial  bool // a command was sent in part
	partialF command.Facts
	reply    []byte // of the session command that is being answered
	flight   *flight

	// What most batches need is here, next to the rest: with many handles
	// each separate piece of memory is a cache miss.
	run0 [2]run
	req0 [256]byte
}

// flight is a handshake that this handle makes for all who wait for it.
type flight struct {
	from  *session
	frame []byte
}

func newHandle(n *node, b *binding) *handle {
	h := &handle{node: n, bound: b, session: n.memory.root, wake: make(chan struct{}, 1), rider: pooler.NewRider()}
	h.plan, h.owed, h.req = h.run0[:0:1], h.run0[1:1:2], h.req0[:0]
	n.memory.enter(h.session)
	return h
}

// Write takes a request, or several, or part of one. It returns when they are
// sent or answered from memory, or when sending needs the rest of a command. It
// blocks while there is no connection for it, until the write deadline or the
// pool's WaitTimeout.
func (h *handle) Write(p []byte) (int, error) {
	h.writing.Lock()
	defer h.writing.Unlock()
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.usableLocked(); err != nil {
		return 0, err
	}
	if h.lease != nil && h.lease.Mode() == pooler.Stream {
		return h.streamLocked(p)
	}
	if h.lease != nil && !h.lease.Unpark() {
		// Never sent, so go-redis may try it on another handle.
		err := &net.OpError{Op: "dial", Net: h.node.key.network, Err: poolError{&pooler.Error{Err: pooler.ErrConnGone, Node: h.node.key.addr}}}
		h.endLocked(err, pooler.Failed)
		return 0, h.failLocked(err)
	}
	if h.idleLocked() {
		h.beginLocked()
	} else if h.stale {
		err := &lostError{h.node.key.addr, errors.New("an earlier caller left replies unread")}
		h.endLocked(err, pooler.Abandoned)
		return 0, h.failLocked(err)
	}
	for rest := p; len(rest) > 0; {
		before := h.flushed
		n, err := h.gatherLocked(rest)
		if err == nil {
			err = h.flushLocked()
		}
		if err != nil {
			if before {
				err = h.amidLocked(err)
			}
			return 0, h.failLocked(err)
		}
		rest = rest[n:]
	}
	if done := h.settleLocked(); done != nil { // all was read before the sending was over
		h.putLocked(done, pooler.Answered)
	}
	return len(p), nil
}

// amidLocked is the error of a batch of which some was sent before: whatever has
// become of the rest, go-redis would repeat all of it.
func (h *handle) amidLocked(err error) error {
	var known *lateError
	switch {
	case h.closed, h.bound.retry.mayRepeat(h.effect), errors.Is(err, pooler.ErrUnknownOutcome), errors.As(err, &known):
		return err
	case errors.Is(err, os.ErrDeadlineExceeded):
		h.late = true
		return &lateError{h.node.key.addr}
	}
	return unknownOutcome(h.node.key.addr, err)
}

// usableLocked returns why the handle can't be used, or nil.
func (h *handle) usableLocked() error {
	if h.closed {
		return closedError(h.node.key.network)
	}
	return h.err
}

// idleLocked reports whether nothing is under way.
func (h *handle) idleLocked() bool {
	return h.answered == len(h.owed) && len(h.plan) == 0 && !h.partial && h.sent == len(h.req) && h.outR == len(h.out)
}

// beginLocked begins a new batch.
func (h *handle) beginLocked() {
	h.shrinkLocked()
	if cap(h.out) > keepBuffer {
		h.out = nil
	}
	if cap(h.owed)+cap(h.plan) > 64 {
		h.plan, h.owed = h.run0[:0:1], h.run0[1:1:2]
	}
	h.req, h.out, h.plan, h.owed = h.req[:0], h.out[:0], h.plan[:0], h.owed[:0]
	h.sent, h.scanned, h.outR, h.answered = 0, 0, 0, 0
	h.effect = command.Read
	h.resend, h.resent, h.flushed, h.got, h.late, h.shaking = true, false, false, false, false, false
	h.lateTold, h.whole, h.moves = false, false, 0
}

// growLocked makes room for n bytes more of the batch. Large batches borrow one of
// the node's buffers.
func (h *handle) growLocked(n int) {
	if n += len(h.req); n <= cap(h.req) || n <= keepBuffer || n > largeBuffer {
		return // there is room, or append makes it
	}
	large, _ := h.node.buffers.Get().(*[largeBuffer]byte)
	if large == nil {
		large = new([largeBuffer]byte)
	}
	h.req = append(large[:0], h.req...)
}

// shrinkLocked gives a large buffer back. What is in it is over.
func (h *handle) shrinkLocked() {
	if cap(h.req) <= keepBuffer {
		return
	}
	if cap(h.req) == largeBuffer {
		h.node.buffers.Put((*[largeBuffer]byte)(h.req[:largeBuffer]))
	}
	h.req, h.sent, h.scanned = h.req0[:0], 0, 0
}

// failLocked ends the handle: go-redis must not use it any more.
func (h *handle) failLocked(err error) error {
	if h.shaking {
		err = handshakeError{err}
	}
	if h.err == nil {
		h.err = err
	}
	h.land()
	h.signal()
	return err
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
// the handle is closed meanwhile, or with os.ErrDeadlineExceeded.
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
		return closedError(h.node.key.network)
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
	return h.pin != "" || h.inMulti || h.watching || h.asking || h.partial
}

// settleLocked takes the lease from the handle when the batch is over and
// nothing keeps it. The caller gives it back to the pool.
func (h *handle) settleLocked() *pooler.Conn {
	c := h.lease
	if c == nil || h.sending || h.readingC || h.answered < len(h.owed) || len(h.plan) > 0 {
		return nil
	}
	if h.effect != command.Read {
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
	if !h.scan.InCommand() && h.sent == len(h.req) {
		h.shrinkLocked()
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
		return !h.inMulti && !h.watching && !h.asking && !h.partial
	}
	return false
}

// Close ends the handle. The replies that it still waits for are read and
// dropped by the pool. It doesn't block.
func (h *handle) Close() error {
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		return closedError(h.node.key.network)
	}
	h.closed = true
	h.land()
	if h.sending && h.lease != nil {
		h.lease.InterruptSend()
	}
	if h.readingC && !h.riding {
		h.lease.InterruptReceive()
	}
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

// outcomeLocked says how the lease of a handle that is being closed ends, and
// makes sure that a connection that carries anything isn't used again.
func (h *handle) outcomeLocked(c *pooler.Conn) pooler.Outcome {
	h.soilLocked(c)
	switch {
	case h.late && h.answered < len(h.owed):
		return pooler.Unknown
	case h.answered < len(h.owed) || h.partial:
		return pooler.Abandoned
	}
	return pooler.Answered
}

// soilLocked ends a connection in the middle of a command or a transaction.
func (h *handle) soilLocked(c *pooler.Conn) {
	if h.partial {
		c.Fail(pooler.CloseWrite, errors.New("everpool: the request was never finished"))
	}
	// What is still to be answered counts as if it had its effect: the state is
	// entered before the reply comes.
	inside, changed := h.inMulti, h.watching || h.asking
	for i := range h.owed[h.answered:] {
		switch r := &h.owed[h.answered+i]; r.kind {
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

// endLocked makes err the handle's last word and gives the lease back, unless
// the other direction is still using it: then that one does.
func (h *handle) endLocked(err error, o pooler.Outcome) {
	if h.err == nil {
		h.err = err
	}
	c := h.lease
	if c == nil {
		return
	}
	h.outcome = o
	if h.sending {
		c.InterruptSend()
	}
	if h.readingC {
		c.InterruptReceive()
	}
	h.quitLocked()
}

// quitLocked gives the lease back after the handle has come to its end. If one
// direction is still using the connection, it is called again by that.
func (h *handle) quitLocked() {
	c := h.lease
	if c == nil || h.sending || h.readingC {
		return
	}
	h.lease = nil
	o := h.outcome
	if h.err == nil {
		o = h.outcomeLocked(c)
	} else {
		h.soilLocked(c)
	}
	h.putLocked(c, o)
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
	h.stale = t.IsZero() && h.got && !h.idleLocked()
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
	if c == nil || c.Mode() != pooler.Stream || h.sending || h.readingC || h.usableLocked() != nil {
		return
	}
	o := h.outcomeLocked(c)
	h.lease, h.pin, h.noted = nil, "", false
	h.beginLocked()
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
	if h.readingC {
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

// brokenHandle is what go-redis gets when there can't be a handle. Each request
// says why.
type brokenHandle struct {
	err  error
	addr address
}

func (b *brokenHandle) Read([]byte) (int, error)         { return 0, handshakeError{b.err} }
func (b *brokenHandle) Write([]byte) (int, error)        { return 0, handshakeError{b.err} }
func (b *brokenHandle) Close() error                     { return nil }
func (b *brokenHandle) LocalAddr() net.Addr              { return b.addr }
func (b *brokenHandle) RemoteAddr() net.Addr             { return b.addr }
func (b *brokenHandle) SetDeadline(time.Time) error      { return nil }
func (b *brokenHandle) SetReadDeadline(time.Time) error  { return nil }
func (b *brokenHandle) SetWriteDeadline(time.Time) error { return nil }
