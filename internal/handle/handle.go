package handle

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"github.com/everpool/everpool/internal/command"
	"github.com/everpool/everpool/internal/session"
	"github.com/everpool/everpool/pooler"
)

// handle is a virtual connection: what go-redis holds in the place of a socket.
// It has no socket of its own. Each request rides a shared connection or leases one
// for as long as its replies take, and longer only when it leaves state there.
//
// Write, Read, Close and the deadlines may be used from several goroutines.
//
// Methods without a lock of their own are called with mu. Those whose names end in
// Locked keep it. The others may go outside, where anything may happen to the
// handle: what is known afterwards is that its other direction has not touched what
// sending and receiving guard, and by err whether the handle has ended.
type handle struct {
	seat
	caller pooler.Caller // leaves when the handle is closed

	waited time.Duration // what the pool says of a wait; of whoever writes

	mu sync.Mutex
	ending
	writing   turn  // Write's, and that of a Read that sends
	reading   turn  // Read's
	down      error // what the first request that needs the node is told; nil: nothing is known
	unread    bool  // the batch is an earlier caller's, if it isn't over
	sending   bool  // something is being sent; the lease stays meanwhile
	receiving bool  // something is being received; the lease stays meanwhile
	held      held  // what Write has accepted unsent
	batches   int   // begun since go-redis has given the handle to its caller, the handshake excluded
	b         batch // under way
	shake     handshake
	carried   carried      // by the lease
	lease     *pooler.Conn // nil: none
	ride      ride
	wrote     wrote
	toRead    gate // Read waits for something to receive
	received  gate // Write waits for a Read to return
	readBy    deadline
	writeBy   deadline
}

// seat is what a handle was made for. It doesn't change.
type seat struct {
	node   *Node
	client *Client
	dialed string // the address that go-redis has dialed: the node's, or whose heir it is
}

// ending is how a handle has ended, if it has.
type ending struct {
	err     error          // it is of no more use; nil: it is
	outcome pooler.Outcome // of its lease
	closed  bool           // by go-redis
}

// wrote is what the last batch that wrote was carried by, for a command that asks about it.
type wrote struct {
	on *pooler.Conn
	in *session.State
}

func newHandle(n *Node, c *Client, dialed string) *handle {
	h := &handle{seat: seat{n, c, dialed}, ride: ride{Rider: pooler.NewRider()}}
	h.shake = handshake{memory: n.Memory, who: c.Identity, in: n.Memory.Root()}
	h.b.init()
	n.Memory.Enter(h.shake.in)
	return h
}

// outside runs f without the lock. Here, and in the two that follow, is where the
// handle lets go of it: what each request does goes through those, since a goroutine
// that was woken on another processor pays for the depth of its stack.
func (h *handle) outside(f func()) {
	h.mu.Unlock()
	defer h.mu.Lock() // whatever a user's code in there does
	f()
}

func (h *handle) submitTo(s *pooler.Lanes, x *pooler.Exchange) error {
	h.mu.Unlock()
	defer h.mu.Lock()
	return s.Submit(h.ride.Rider, *x)
}

func (h *handle) receiveFrom(w way, p []byte, by time.Time) (n int, done bool, err error) {
	h.mu.Unlock()
	defer h.mu.Lock()
	return w.Receive(p, by)
}

// wait waits until something comes from ch. It fails when the handle was closed
// meanwhile, or with os.ErrDeadlineExceeded.
func (h *handle) wait(ch <-chan struct{}, by time.Time) (err error) {
	h.outside(func() { err = h.waitFor(ch, by) })
	if h.closed {
		return h.err
	}
	return err
}

func (h *handle) waitFor(ch <-chan struct{}, by time.Time) error {
	var timeout <-chan time.Time
	if !by.IsZero() {
		t := time.NewTimer(time.Until(by))
		defer t.Stop()
		timeout = t.C
	}
	select {
	case <-ch:
	case <-h.caller.Done():
	case <-timeout:
		return os.ErrDeadlineExceeded
	}
	return nil
}

// take takes the turn, once nobody else has it. It fails as wait does.
func (h *handle) take(t *turn, by time.Time) error {
	for !t.try() {
		over := t.awaited()
		if h.err != nil && !h.closed {
			h.outside(func() { <-over }) // whoever has it waits for nothing any more
			continue
		}
		if err := h.wait(over, by); err != nil {
			return err
		}
	}
	return nil
}

// waitAt waits until the gate is opened, and fails as wait does.
func (h *handle) waitAt(g *gate, by time.Time) error {
	err := h.wait(g.begin(), by)
	g.end()
	return err
}

// sendOn sends p on the lease.
func (h *handle) sendOn(c *pooler.Conn, p []byte) (n int, err error) {
	by := h.writeByLocked()
	h.sending = true
	h.outside(func() { n, err = c.Send(p, by) })
	return n, h.sent(err)
}

// board sends an exchange on a shared connection. It reports whether some of it may
// have gone out.
func (h *handle) board(x *pooler.Exchange) (sent bool, err error) {
	h.sending = true
	if h.held.holding == toAwait {
		err = h.boardForCaller(x)
	} else {
		by := h.sendByLocked()
		x.Deadline, x.Final = by.Time, by.ofContext // the same, or fixed by what has waited
		err = h.submitTo(h.ride.shared, x)
	}
	return err == nil, h.sent(err)
}

// sent is what comes of sending: err, unless the handle has ended meanwhile.
func (h *handle) sent(err error) error {
	h.sending = false
	if h.err != nil {
		h.quit()
		return h.err
	}
	h.toRead.open()
	return err
}

// put gives a lease back.
func (h *handle) put(c *pooler.Conn, o pooler.Outcome) {
	h.outside(func() { h.node.Pool.Put(c, o) })
}

// keepsLocked reports whether the lease outlasts the replies.
func (h *handle) keepsLocked() bool { return h.carried.keeps() || h.b.partial }

// wroteLocked notes what carried a batch that is over, if it wrote.
func (h *handle) wroteLocked(conn func() *pooler.Conn) {
	if h.b.effect != command.Read {
		h.wrote = wrote{on: conn(), in: h.shake.in}
	}
}

// settle takes the lease from the handle when the batch is over and nothing keeps it.
// The caller gives it back to the pool. using is the caller's own mark of its use of
// the lease.
func (h *handle) settle(using *bool) *pooler.Conn {
	c := h.lease
	if c == nil || h.sending || h.receiving || h.b.unanswered() || len(h.b.plan) > 0 {
		return nil
	}
	h.wroteLocked(func() *pooler.Conn { return c })
	switch {
	case h.carried.told != h.carried.reason():
		h.tellPin(using)
		return h.settle(using) // a new batch may have begun meanwhile
	case h.keepsLocked():
		if h.mayLoseLocked() {
			c.Park()
		}
		return nil
	}
	h.lease = nil
	h.b.allAnswered()
	return c
}

// mayLoseLocked reports whether the pool may close the connection that the idle
// handle keeps.
func (h *handle) mayLoseLocked() bool { return h.carried.mayLose() && !h.b.partial }

// tellPin tells the pool why the lease outlasts its requests, if that has changed.
// The lease stays meanwhile: it is marked as in use.
func (h *handle) tellPin(using *bool) {
	why := h.carried.reason()
	if h.carried.told == why {
		return
	}
	h.carried.told = why
	c, reason := h.lease, ""
	if why != command.PinNone {
		reason = why.String()
	}
	*using = true
	h.outside(func() { h.node.Pool.Pin(c, reason) })
	*using = false
	if h.err != nil {
		h.quit()
	}
}

// lossLocked is what is known of the batch when cause keeps it from going on.
func (h *handle) lossLocked(why cause, ran bool) loss {
	l := h.b.loss(why, ran)
	l.moves = why == away && h.mayMoveLocked(ran)
	switch {
	case why == away || why == left:
		l.redials = h.client.Topology != nil && !h.client.Topology.Moves()
	case why == died:
		l.redials = h.b.streamed && !h.keepsLocked()
	}
	l.free = l.free && !h.keepsLocked() && h.b.moves < maxMoves
	if h.lease != nil && h.lease.Mode() == pooler.Stream {
		l.effect = command.Read // nothing is asked there any more
	}
	return l
}

// tell ends the handle with what its caller is told.
func (h *handle) tell(f fate, l loss, cause error) error {
	outcome, err := h.verdictLocked(f, l, cause)
	if c := h.lease; c != nil && (l.cause == died || l.cause == garbled) {
		c.Fail(pooler.CloseRead, cause)
	}
	return h.fail(err, outcome)
}

// fail ends the handle, for which err is the last word: go-redis must not use it any
// more. The lease goes back, unless the other direction is still using it: then that
// one sees to it. The last word of a subscription is none after which PubSub would keep
// the handle for ever: no timeout, which says in PubSub.ReceiveTimeout that no message
// has come, and none of a server's.
func (h *handle) fail(err error, o pooler.Outcome) error {
	if h.b.shaking {
		err = inHandshake(err)
	}
	timed, ok := errors.AsType[net.Error](err)
	mild := ok && timed.Timeout() && !errors.Is(err, context.DeadlineExceeded)
	if (mild || isKeptAfter(err)) && h.subscribesLocked() {
		err = &lostError{h.node.Addr, err}
	}
	if h.err == nil {
		h.err, h.outcome = err, o
	}
	if o == pooler.Unknown {
		h.unknownLocked()
	}
	h.ride.Forgive() // it won't go on
	h.end()
	return err
}

// end ends whatever the handle is part of.
func (h *handle) end() {
	h.shake.land()
	h.interruptLocked()
	h.quit()
	h.toRead.open()
}

// unknownLocked notes that the caller is told that the batch's outcome is unknown.
// That of a lease is counted when it goes back.
func (h *handle) unknownLocked() {
	if !h.b.unknown && h.ride.under && h.ride.shared != nil {
		h.ride.shared.Unknown()
	}
	if !h.b.unknown {
		h.node.Unknown(h.b.firstName())
	}
	h.b.unknown = true
}

// interruptLocked has the goroutine that uses the lease look up.
func (h *handle) interruptLocked() {
	if c := h.lease; c != nil && h.sending {
		c.InterruptSend()
	}
	if c := h.lease; c != nil && h.receiving {
		c.InterruptReceive()
	}
}

// quit gives the lease back after the handle has come to its end. If one direction
// is still using the connection, it is called again by that.
func (h *handle) quit() {
	c := h.lease
	if c == nil || h.sending || h.receiving {
		return
	}
	h.lease = nil
	h.soilLocked(c)
	h.put(c, h.outcome)
}

// soilLocked ends a connection that is left in the middle of something.
func (h *handle) soilLocked(c *pooler.Conn) {
	if h.b.cut {
		c.Fail(pooler.CloseWrite, errors.New("everpool: the request was never finished"))
	}
	if reason, err := h.carried.soils(h.b.pending()); err != nil {
		c.Fail(reason, err)
	}
}

// Close ends the handle. The replies that it still waits for are read and
// dropped by the pool; those of its handshake it takes in first. It doesn't block. A
// Read that is under way fails: with ErrUnknownOutcome if what it waits for has been
// sent and must not run twice. So does a Write that hasn't returned, though its
// request may have been answered.
func (h *handle) Close() error {
	if h.outlastsCaller() {
		return nil
	}
	return h.leave()
}

func (h *handle) leave() error {
	if !h.close() {
		return closedError(h.node.Network)
	}
	h.ride.Close()
	h.caller.Leave()
	h.node.Left(h.client)
	return nil
}

// close reports false if the handle was closed before.
func (h *handle) close() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return false
	}
	h.closed = true
	h.leaveLocked()
	s := h.shake.in
	h.end()
	h.shake.memory.Leave(s)
	return true
}

// leaveLocked says what a caller is told whose handle go-redis closes, and how the
// lease ends.
func (h *handle) leaveLocked() {
	if h.b.idle() && h.err == nil {
		h.err, h.outcome = closedError(h.node.Network), pooler.Answered
		return
	}
	pending := h.b.unanswered()
	// A lease owes the replies before it is sent to; a shared connection is given
	// both at once.
	l := h.lossLocked(left, pending && (h.b.flushed || h.sending) || h.sending && h.lease == nil)
	l.free = false
	f := l.decide(h.client.Retry)
	if f == tellUnknown && (h.receiving || h.toRead.waiting) {
		h.unknownLocked()
	}
	if h.err != nil {
		return
	}
	_, h.err = h.verdictLocked(f, l, errLeft)
	switch {
	case h.b.unknown && pending:
		h.outcome = pooler.Unknown
	case pending || h.b.cut:
		h.outcome = pooler.Abandoned
	default:
		h.outcome = pooler.Answered
	}
}

var errLeft = errors.New("everpool: the client has closed the connection with the request under way")

// unstream gives up a connection that the last caller left streaming (monitoring,
// say): what comes from it is no reply to the next one's requests.
func (h *handle) unstream() {
	c := h.lease
	if c == nil || c.Mode() != pooler.Stream || h.sending || h.receiving || h.err != nil {
		return
	}
	o := pooler.Answered
	if h.b.unanswered() {
		o = pooler.Abandoned
	}
	h.soilLocked(c)
	h.lease, h.carried = nil, carried{}
	h.b.begin()
	h.put(c, o)
}

// wayLocked is the way of what is under way, or nil.
func (h *handle) wayLocked() way {
	switch {
	case h.ride.under:
		return &h.ride
	case h.lease != nil:
		return leased{h.lease}
	}
	return nil
}

// LocalAddr says that there is no local end.
func (h *handle) LocalAddr() net.Addr { return Address{h.node.Network, "everpool"} }

// RemoteAddr is the node's address as it was dialed.
func (h *handle) RemoteAddr() net.Addr { return Address{h.node.Network, h.node.Addr} }

// Format prints the same whatever the verb: none may show what the handle holds,
// credentials among it.
func (h *handle) Format(f fmt.State, _ rune) {
	_, _ = fmt.Fprintf(f, "everpool handle to %s", h.node.Addr)
}

// Address is the address of a node.
type Address struct{ Net, Addr string }

// Network is tcp or unix.
func (a Address) Network() string { return a.Net }

func (a Address) String() string { return a.Addr }
