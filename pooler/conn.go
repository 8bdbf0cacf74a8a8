package pooler

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"
)

// readBuffer is the size of a connection's read buffer. It is the same as
// go-redis's own, so that a reply takes as many system calls as there.
const readBuffer = 32 << 10

// inPlaceFrom is how much memory of a caller is read into without a copy. Less would
// take more system calls than that saves.
const inPlaceFrom = readBuffer / 2

// inPlaceUpTo is how much of it is: what isn't the caller's own is copied out of it, to
// memory that is larger than a connection's until it is received.
const inPlaceUpTo = 2 * readBuffer

// ErrInterrupted is returned by [Conn.Send] and [Conn.Receive] after they were
// interrupted. It says nothing about the connection.
var ErrInterrupted = errors.New("everpool: interrupted")

// Mode says what a connection does with what it receives. It only ever grows.
type Mode uint32

// The modes.
const (
	// Counted: replies are counted, pushes dropped.
	Counted Mode = iota
	// Pushes: replies are counted, pushes are passed on as they come.
	Pushes
	// Stream: everything is passed on as it comes, since the number of replies
	// can't be told any more.
	Stream
)

// Conn is a physical connection: one socket, and what is known of the replies
// that it owes. While it is leased it belongs to the holder of the lease, who
// may call Send from one goroutine and Receive from another; the Interrupts,
// SetMode and Owe may be called from any.
//
// Any error after the first byte of a frame, in either direction, and any byte
// that isn't RESP, ends the connection: from then on Err is not nil, and the
// pool closes it when it comes back.
type Conn struct {
	pool    *Pool // that has opened it; nil: none
	nc      net.Conn
	socket  socket
	id      uint64
	created time.Duration // since Pool.start
	jitter  float64       // in [-1, 1], of ConnMaxLifetimeJitter

	// session is the connection's state. Owner: the holder of the lease, and
	// the pool while there is none.
	session *Session

	// Read side. Owner: the goroutine that calls Receive.
	in      inbox
	readBy  time.Time         // deadline last set on nc
	first   func(error) error // told what comes first, or explains the error; nil afterwards
	changed bool              // an error reply has said that the node has changed

	// Write side. Owner: the goroutine that calls Send, or the lane's writer.
	writeBy time.Time

	mode        atomic.Uint32 // Mode
	parked      atomic.Uint32 // busy, parked or reclaimed
	owed        atomic.Int64  // replies to come for what was sent
	cause       atomic.Pointer[closing]
	stopReads   atomic.Bool
	stopWrites  atomic.Bool
	pushDropped atomic.Int64

	// Guarded by Pool.mu.
	place     place
	idleSince time.Duration // since Pool.start
	checked   time.Duration // when it last proved to be alive
	lease     lease
	wanted    waiterList // requests that only this connection can serve
	user      *Rider     // that had it last, by a lease; nil: none did
	lane      *lane      // that it is shared by
}

// socket is the way to a connection's socket past its net.Conn, where there is one.
type socket struct {
	raw    syscall.RawConn // to be looked at, or nil
	hidden syscall.RawConn // in something that somebody has put around it, where only its end says anything; or nil
	opaque bool            // bytes on raw are not ours to read (TLS)
	bare   syscall.RawConn // to be written to directly, or nil
	peek   peek
	poke   poke
}

// lease is what a connection is lent for. Guarded by Pool.mu; what was noted at its
// beginning is its holder's to read.
type lease struct {
	since     time.Duration // since Pool.start
	session   *Session      // the connection's then
	noWork    bool          // its end says nothing of what is worked in; the holder's
	holder    string        // what it is for
	blocking  bool
	contended bool    // others waited for a connection then; the receiver's
	account   account // where the end of its request is counted, nil: among the leases
	pin       string  // why it outlasts its request, "": it doesn't
	kept      bool    // it has outlasted one
	beyond    bool    // the connection doesn't count for MaxOpenConns
}

// place is where a connection is; it is in exactly one.
type place uint8

const (
	placeLeased place = iota
	placeIdle
	placeChecking
	placeDraining
	placeClosed
)

type closing struct {
	reason CloseReason
	err    error
}

// newConn makes a connection of nc, fresh, in the given session.
func newConn(nc net.Conn, session *Session) *Conn {
	c := &Conn{nc: nc, session: session, in: newInbox()}
	c.socket.raw, c.socket.opaque = rawConn(nc)
	if c.socket.raw == nil {
		c.socket.hidden = wrappedConn(nc, maxWrappers)
	}
	c.socket.bare = bareSocket(nc)
	return c
}

// ID is the connection's number, unique within its pool.
func (c *Conn) ID() uint64 { return c.id }

// NetConn is the connection underneath. Its addresses may be asked for; it must
// not be read, written or closed.
func (c *Conn) NetConn() net.Conn { return c.nc }

// Session is the state of the connection. Only the holder of the lease may ask.
func (c *Conn) Session() *Session { return c.session }

// SetSession says that the connection's state is now s, be it the same as before: the
// lease was for a handshake, and doesn't count as work in the session (MinIdleConns).
// Only the holder of the lease may call it.
func (c *Conn) SetSession(s *Session) { c.session, c.lease.noWork = s, true }

// Err is why the connection must not be used any more, or nil.
func (c *Conn) Err() error {
	if cl := c.cause.Load(); cl != nil {
		return cl.err
	}
	return nil
}

// Kind is the type byte of the reply that Receive has last seen the end of, or
// is in the middle of.
func (c *Conn) Kind() byte { return c.in.scan.Kind() }

// Buffered reports whether Receive has something to look at without reading
// from the socket.
func (c *Conn) Buffered() bool { return !c.in.empty() }

// SetMode changes what happens to what is received. A connection that is
// not Counted any more is closed when it comes back.
func (c *Conn) SetMode(m Mode) { c.mode.Store(uint32(m)) }

// Mode is the last one set.
func (c *Conn) Mode() Mode { return Mode(c.mode.Load()) }

// Owe says that the peer will owe n replies more (or, for a Send that has
// written nothing, fewer). Call it before Send: the reply may be there before
// Send returns.
func (c *Conn) Owe(n int) { c.owed.Add(int64(n)) }

// Fail marks the connection as dead, so that the pool closes it when it comes
// back; the first reason counts.
func (c *Conn) Fail(reason CloseReason, err error) {
	c.cause.CompareAndSwap(nil, &closing{reason, err})
}

var past = time.Unix(1, 0)

// InterruptReceive makes the Receive that is under way, or the next one, return
// ErrInterrupted.
func (c *Conn) InterruptReceive() {
	c.stopReads.Store(true)
	_ = c.nc.SetReadDeadline(past)
}

// InterruptSend makes the Send that is under way, or the next one, return
// ErrInterrupted, if it hasn't written anything.
func (c *Conn) InterruptSend() {
	c.stopWrites.Store(true)
	_ = c.nc.SetWriteDeadline(past)
}

// Send writes b. It returns the number of bytes written; unless that is all of b
// the error is not nil, and unless it is 0 and the error is a timeout or
// ErrInterrupted the connection is dead. It blocks until the deadline (zero: for
// ever) at most.
func (c *Conn) Send(b []byte, deadline time.Time) (int, error) {
	if err := c.Err(); err != nil {
		return 0, err
	}
	if c.socket.opaque && !deadline.IsZero() && !ahead(deadline) {
		return 0, os.ErrDeadlineExceeded // TLS wouldn't write again after trying
	}
	if !deadline.Equal(c.writeBy) {
		if err := c.nc.SetWriteDeadline(deadline); err != nil {
			c.Fail(CloseWrite, err)
			return 0, err
		}
		c.writeBy = deadline
	}
	if c.stopWrites.Load() {
		c.resumeWrites()
		return 0, ErrInterrupted
	}
	n, err := c.nc.Write(b)
	if n == 0 && !c.socket.opaque && isTimeout(err) && !c.stopWrites.Load() && ahead(deadline) {
		// An interruption that was noticed before it had set its deadline. This
		// may take back the deadline of the next one.
		_ = c.nc.SetWriteDeadline(deadline)
		if !c.stopWrites.Load() {
			n, err = c.nc.Write(b)
		}
	}
	if err == nil {
		return n, nil
	}
	timeout := isTimeout(err)
	if timeout && c.stopWrites.Load() {
		c.resumeWrites()
		err = ErrInterrupted
	}
	if n == 0 && timeout && !c.socket.opaque { // TLS can't go on after a part of a record
		return 0, err
	}
	c.Fail(CloseWrite, err)
	return n, err
}

func isTimeout(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }

// ahead reports whether the deadline has not come yet.
func ahead(deadline time.Time) bool {
	return deadline.IsZero() || time.Now().Before(deadline)
}

// resumeWrites forgets an interruption.
func (c *Conn) resumeWrites() {
	c.stopWrites.Store(false)
	_ = c.nc.SetWriteDeadline(time.Time{})
	c.writeBy = time.Time{}
}

// resumeReads forgets an interruption.
func (c *Conn) resumeReads() {
	c.stopReads.Store(false)
	_ = c.nc.SetReadDeadline(time.Time{})
	c.readBy = time.Time{}
}

// Receive copies the bytes of a reply into p, as they come, and never past the
// reply's end; done says that it has come to it. Pushes are dropped and counted
// unless the connection streams. It returns at least one byte or an error, and
// blocks until the deadline (zero: for ever) at most. After a timeout and after
// ErrInterrupted the connection is as good as before; after any other error it
// is dead.
func (c *Conn) Receive(p []byte, deadline time.Time) (n int, done bool, err error) {
	return c.receive(p, deadline, false)
}

// ReceiveInPlace is Receive that may use all of p: what comes after the reply may be
// there too, until Withdraw. Only ReceiveBuffered, with the rest of p, may be called before.
func (c *Conn) ReceiveInPlace(p []byte, deadline time.Time) (n int, done bool, err error) {
	return c.receive(p, deadline, len(p) >= inPlaceFrom)
}

// Withdraw takes what was read and not received into the connection's own memory. It has to
// be called before memory that was given to ReceiveInPlace is used for anything else.
func (c *Conn) Withdraw() { c.in.withdraw() }

// refill reads into the connection's own memory, when nothing is there any more, or
// with inPlace into p.
func (c *Conn) refill(p []byte, deadline time.Time, inPlace bool) (n int, err error) {
	c.in.w, err = c.read(c.in.refill(p, inPlace), deadline)
	return c.in.w, err
}

func (c *Conn) receive(p []byte, deadline time.Time, inPlace bool) (n int, done bool, err error) {
	if len(p) == 0 {
		return 0, false, nil
	}
	for {
		if !c.in.empty() {
			n, done, err = c.take(p)
			if n > 0 || done || err != nil {
				return n, done, err
			}
			continue
		}
		if err := c.Err(); err != nil {
			return 0, false, err
		}
		mode := c.Mode()
		if c.owed.Load() <= 0 && mode == Counted {
			return 0, false, errors.New("everpool: nothing to receive")
		}
		// The body of a large string goes straight to the reader.
		if rest := c.in.bulkLeft(); mode != Stream && rest >= readBuffer && len(p) >= readBuffer {
			n, err := c.read(p[:min(int64(len(p)), rest)], deadline)
			c.in.scan.Skip(int64(n))
			return n, false, err
		}
		if c.lease.contended {
			// Others have something to do until the reply is here. It then takes
			// one system call to read, not a failed one and a wake-up first.
			c.lease.contended = false
			c.pool.yields.Yield(nil)
		}
		if _, err := c.refill(p, deadline, inPlace && mode != Stream); err != nil {
			return 0, false, err
		}
	}
}

// ReceiveBuffered is Receive of what is here already: it doesn't read from the
// socket, and returns 0 when there is nothing, or only a push that is dropped.
func (c *Conn) ReceiveBuffered(p []byte) (n int, done bool, err error) {
	for len(p) > 0 && !c.in.empty() {
		if n, done, err = c.take(p); n > 0 || done || err != nil {
			break
		}
	}
	return n, done, err
}

// Park says that the holder of the lease, who keeps it, could do without the
// connection until Unpark. The pool may then close it, at once or later, if a
// request can't have one otherwise. Park doesn't block, and tells no events on the
// caller's goroutine.
func (c *Conn) Park() {
	if c.parked.CompareAndSwap(busy, parked) && c.pool != nil && c.pool.room.short.Load() {
		c.pool.parkedWhileShort(c)
	}
}

// Unpark takes Park back. It reports false if the pool has closed the connection
// meanwhile.
func (c *Conn) Unpark() bool {
	return c.parked.Load() == busy || c.parked.CompareAndSwap(parked, busy)
}

// What a kept connection is doing, see Park.
const (
	busy uint32 = iota
	parked
	reclaimed
)

// take moves buffered bytes to p, up to the end of a reply.
func (c *Conn) take(p []byte) (n int, done bool, err error) {
	mode, next := c.Mode(), c.in.next()
	if mode == Stream {
		return c.in.pass(p, len(next)), false, nil
	}
	push := c.in.atPush()
	if push && mode == Counted {
		return 0, false, c.dropPush()
	}
	if c.owed.Load() <= 0 && !push {
		c.unasked()
		return 0, false, c.Err()
	}
	begins, taken := !c.in.scan.InFrame(), next[:min(len(next), len(p))]
	c.in.noteError(taken)
	m, done, err := c.in.scan.Scan(taken)
	n = c.in.pass(p, m)
	if err == nil && !push && c.in.scan.Kind() == '>' {
		// The attribute was passed on before it showed that a push follows.
		err = errors.New("a push after an attribute")
	}
	if err != nil {
		if begins {
			err = another(next, err)
		}
		err = fmt.Errorf("%w: %w", ErrProtocol, err)
		c.Fail(CloseProtocol, err)
		return n, false, err
	}
	if done && push {
		return n, false, nil
	}
	if done {
		c.in.sawReply = true
		c.owed.Add(-1)
		switch {
		case c.pool == nil:
		case len(c.in.errHead) > 0 && c.pool.saysChanged(c.complaint(), c.session):
			c.changed = true
		case c.id > 0: // its handshake is over, to which a server answers that loads its data
			settle(&c.pool.health.unproven, false)
		}
	}
	return n, done, nil
}

// complaint is the beginning of the last error reply.
func (c *Conn) complaint() []byte { return c.in.errHead }

// dropPush scans over the bytes of a push.
func (c *Conn) dropPush() error {
	m, done, err := c.in.scan.Scan(c.in.next())
	c.in.r += m
	if err != nil {
		err = fmt.Errorf("%w: %w", ErrProtocol, err)
		c.Fail(CloseProtocol, err)
		return err
	}
	if done {
		c.pushDropped.Add(1)
	}
	return nil
}

// unasked ends the connection for a reply that nobody asked for. Handing it to
// the next request would shift every reply after it.
func (c *Conn) unasked() {
	c.Fail(CloseUnasked, fmt.Errorf("%w: a reply that nobody asked for", ErrProtocol))
}

// read reads from the socket into b.
func (c *Conn) read(b []byte, deadline time.Time) (int, error) {
	if !deadline.Equal(c.readBy) {
		if err := c.nc.SetReadDeadline(deadline); err != nil {
			c.Fail(CloseRead, err)
			return 0, err
		}
		c.readBy = deadline
	}
	if c.stopReads.Load() {
		c.resumeReads()
		return 0, ErrInterrupted
	}
	n, err := c.nc.Read(b)
	if n == 0 && isTimeout(err) && !c.stopReads.Load() && ahead(deadline) {
		// As in Send.
		_ = c.nc.SetReadDeadline(deadline)
		if !c.stopReads.Load() {
			n, err = c.nc.Read(b)
		}
	}
	switch {
	case n > 0:
		_ = c.firstHeard(nil)
		return n, nil // an error shows again at the next read
	case err == nil:
		return 0, nil
	case isTimeout(err):
		if c.stopReads.Load() {
			c.resumeReads()
			return 0, ErrInterrupted
		}
		return 0, err
	}
	reason := CloseRead
	if errors.Is(err, io.EOF) {
		reason = ClosePeer
	}
	err = c.firstHeard(err)
	c.Fail(reason, err)
	return 0, err
}

// firstHeard tells what comes first, bytes or an error, once. It returns the error
// as it is explained.
func (c *Conn) firstHeard(err error) error {
	if c.first != nil {
		err, c.first = c.first(err), nil
	}
	return err
}

// tidy looks at what is buffered while no reply is owed: pushes are dropped,
// anything else ends the connection, and so does half a push. It reports
// whether the connection may serve somebody else.
func (c *Conn) tidy() bool {
	if c.Err() != nil || c.Mode() != Counted || c.owed.Load() != 0 {
		return false
	}
	for c.Err() == nil && !c.in.empty() {
		if c.in.atPush() {
			_ = c.dropPush()
			continue
		}
		c.unasked()
	}
	// The rest of a push that has begun would be taken for the next user's.
	return c.Err() == nil && !c.in.scan.InFrame()
}

// alive looks at the idle connection without waiting: did the peer close it, or
// say something?
func (c *Conn) alive() bool { return c.tidy() && c.checkSocket() && c.tidy() }

// checkSocket looks at the socket, whatever interruption or deadline an earlier use
// has left there. It reports false when the peer has closed the connection.
func (c *Conn) checkSocket() bool {
	if c.stopReads.Load() {
		c.resumeReads()
	}
	if c.stopWrites.Load() {
		c.resumeWrites()
	}
	if t, ok := c.nc.(*timedConn); ok {
		return c.checkReadAhead(t)
	}
	if c.socket.raw == nil && c.socket.hidden == nil {
		return true
	}
	if !c.readBy.IsZero() && !ahead(c.readBy) {
		// An expired deadline would keep the look from being taken.
		if err := c.nc.SetReadDeadline(time.Time{}); err != nil {
			c.Fail(CloseRead, err)
			return false
		}
		c.readBy = time.Time{}
	}
	return c.peekSocket()
}

// checkReadAhead is peekSocket where t reads ahead.
func (c *Conn) checkReadAhead(t *timedConn) bool {
	n, err := t.take(c.in.space())
	c.in.w += n
	if errors.Is(err, io.EOF) {
		c.Fail(ClosePeer, err)
	} else if err != nil {
		c.Fail(CloseRead, err)
	}
	return err == nil
}

// Ready looks, without waiting, whether a connection that its holder has kept
// while nothing was under way can carry another request: the peer has not closed
// it, nor said anything that nobody asked for; nor has the pool, if it was parked.
// Only the holder of the lease may call it, while neither Send nor Receive is under
// way.
func (c *Conn) Ready() bool {
	if c.parked.Load() == reclaimed {
		return false
	}
	if c.Mode() == Counted {
		return c.alive()
	}
	return c.Err() == nil && c.checkSocket()
}

// Socket is the socket, to see whether anything has come: nil if there is none, or if there
// is more to be received than it shows. The error is why the connection was lost. It
// doesn't block. Only the holder of the lease may call it, while Receive isn't under way,
// and may not read what has come.
func (c *Conn) Socket() (syscall.RawConn, error) {
	if err := c.Err(); err != nil || c.Buffered() {
		return nil, err
	}
	if c.stopReads.Load() || !c.readBy.IsZero() {
		c.resumeReads() // an expired deadline would keep the look from being taken
	}
	return c.socket.raw, nil
}

// discard receives and drops replies until none is owed. It reports false, as soon as that is
// foreseen, if they are more than limit bytes.
func (c *Conn) discard(ctx context.Context, deadline time.Time, limit int64) bool {
	if c.in.scratch == nil {
		c.in.scratch = make([]byte, 64+512)
	}
	dropped := int64(0)
	for all := c.owed.Load(); c.owed.Load() > 0; {
		n, _, err := c.Receive(c.in.scratch, deadline)
		if errors.Is(err, ErrInterrupted) && ctx.Err() == nil {
			continue // left over from the one who abandoned it
		}
		dropped += int64(n)
		left := c.owed.Load()
		if err != nil || dropped+c.in.rest(dropped, all-left, left) > limit {
			return false
		}
	}
	return true
}
