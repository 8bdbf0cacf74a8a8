package testkit

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// DefaultMemBuffer is how many bytes each direction of a [Pair] holds before
// a Write blocks.
const DefaultMemBuffer = 64 << 10

// MemConn is one end of a connection in memory with the semantics of a TCP
// socket: buffered in both directions, deadlines that also end calls already
// blocked, half-close, reset. All waiting is on a sync.Cond, which is durably
// blocking in a synctest bubble; net.Pipe has no buffer, and a Write there
// that waits for a Read hides every bug that needs bytes in flight.
type MemConn struct {
	mu            *sync.Mutex // of the pair: a reset changes both directions at once
	in, out       *memStream
	local, remote net.Addr

	// Guarded by mu.
	closed                      bool
	held                        bool // Read and Write block: a process that stands still
	readDeadline, writeDeadline time.Time
}

// memStream is one direction of a pair; the pair's lock guards all of it.
type memStream struct {
	cond    *sync.Cond // any change
	buf     []byte
	read    int // buf[:read] has been read
	limit   int
	writing bool  // a Write is under way: another one waits, so that pieces don't interleave
	fin     bool  // no more will be written: EOF behind the buffered bytes
	gone    bool  // the reader has closed: what is written is lost
	lost    bool  // something was written after gone; the next Write fails
	err     error // the connection was reset: after the buffered bytes for the reader, at once for the writer
}

// Pair returns the two ends of a new connection. limit is the buffer of each
// direction in bytes; 0 is [DefaultMemBuffer].
func Pair(limit int, clientAddr, serverAddr net.Addr) (client, server *MemConn) {
	if limit <= 0 {
		limit = DefaultMemBuffer
	}
	mu := new(sync.Mutex)
	up := &memStream{cond: sync.NewCond(mu), limit: limit}
	down := &memStream{cond: sync.NewCond(mu), limit: limit}
	client = &MemConn{mu: mu, in: down, out: up, local: clientAddr, remote: serverAddr}
	server = &MemConn{mu: mu, in: up, out: down, local: serverAddr, remote: clientAddr}
	return client, server
}

// Read returns what is buffered, or blocks until there is something, the peer
// has finished (io.EOF), the connection is reset (ECONNRESET) or closed, or
// the deadline passes. As on a socket, a passed deadline wins over buffered
// bytes, and buffered bytes win over a reset.
func (c *MemConn) Read(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.in
	for {
		switch {
		case c.closed:
			return 0, c.opError("read", net.ErrClosed)
		case passed(c.readDeadline):
			return 0, c.opError("read", os.ErrDeadlineExceeded)
		case c.held: // wait
		case len(b) == 0:
			return 0, nil
		case s.buffered() > 0:
			return s.take(b), nil
		case s.err != nil:
			return 0, c.opError("read", os.NewSyscallError("read", s.err))
		case s.fin:
			return 0, io.EOF
		}
		waitUntil(s.cond, c.readDeadline)
	}
}

// Write buffers b, and blocks while there is no room for all of it. When it
// fails, it returns how many bytes it had buffered. The first Write after the
// peer has closed succeeds and is lost, as with a kernel that hasn't heard of
// it yet; those after it fail with EPIPE.
func (c *MemConn) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.out
	for s.writing {
		if c.closed || passed(c.writeDeadline) {
			break // the loop below says which
		}
		waitUntil(s.cond, c.writeDeadline)
	}
	if !s.writing {
		s.writing = true
		defer func() {
			s.writing = false
			s.cond.Broadcast()
		}()
	}
	n := 0
	for {
		switch {
		case c.closed:
			return n, c.opError("write", net.ErrClosed)
		case passed(c.writeDeadline):
			return n, c.opError("write", os.ErrDeadlineExceeded)
		case c.held:
			waitUntil(s.cond, c.writeDeadline)
			continue
		case s.err != nil:
			return n, c.opError("write", os.NewSyscallError("write", s.err))
		case s.fin, s.gone && (s.lost || n > 0):
			return n, c.opError("write", os.NewSyscallError("write", syscall.EPIPE))
		case s.gone:
			s.lost = true
			return len(b), nil
		case n == len(b):
			return n, nil
		}
		if m := s.put(b[n:]); m > 0 {
			n += m
			continue
		}
		waitUntil(s.cond, c.writeDeadline)
	}
}

// Close closes this end. Blocked calls of this end return net.ErrClosed; the
// peer reads what is buffered for it and then io.EOF, or ECONNRESET if bytes
// from it were left unread here, as TCP does.
func (c *MemConn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return c.opError("close", net.ErrClosed)
	}
	c.closed = true
	if c.in.buffered() > 0 {
		c.resetLocked()
	}
	c.out.fin = true
	c.in.gone = true
	c.in.clear()
	c.in.cond.Broadcast()
	c.out.cond.Broadcast()
	return nil
}

// CloseWrite half-closes: the peer reads io.EOF after what is buffered, and
// may still write.
func (c *MemConn) CloseWrite() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return c.opError("close", net.ErrClosed)
	}
	c.out.fin = true
	c.out.cond.Broadcast()
	return nil
}

// Reset breaks the connection: both ends get ECONNRESET from now on. Bytes
// that had arrived at this end are lost; those that had arrived at the peer
// can still be read there first, as on Linux.
func (c *MemConn) Reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.in.clear()
	c.resetLocked()
}

func (c *MemConn) resetLocked() {
	for _, s := range []*memStream{c.in, c.out} {
		if s.err == nil {
			s.err = syscall.ECONNRESET
		}
		s.cond.Broadcast()
	}
}

// hold makes Read and Write of this end block, also those under way, until
// it is switched off. Bytes keep arriving in the buffer.
func (c *MemConn) hold(on bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.held = on
	c.in.cond.Broadcast()
	c.out.cond.Broadcast()
}

// Buffered returns how many bytes wait to be read at this end.
func (c *MemConn) Buffered() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.in.buffered()
}

// LocalAddr returns this end's address.
func (c *MemConn) LocalAddr() net.Addr { return c.local }

// RemoteAddr returns the peer's address.
func (c *MemConn) RemoteAddr() net.Addr { return c.remote }

// SetDeadline sets both deadlines, also for calls that are blocked already.
func (c *MemConn) SetDeadline(t time.Time) error { return c.setDeadlines(&t, &t) }

// SetReadDeadline sets the deadline of Read; the zero time means none.
func (c *MemConn) SetReadDeadline(t time.Time) error { return c.setDeadlines(&t, nil) }

// SetWriteDeadline sets the deadline of Write; the zero time means none.
func (c *MemConn) SetWriteDeadline(t time.Time) error { return c.setDeadlines(nil, &t) }

func (c *MemConn) setDeadlines(read, write *time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return c.opError("set", net.ErrClosed)
	}
	if read != nil {
		c.readDeadline = *read
		c.in.cond.Broadcast()
	}
	if write != nil {
		c.writeDeadline = *write
		c.out.cond.Broadcast()
	}
	return nil
}

func (c *MemConn) opError(op string, err error) error {
	return &net.OpError{Op: op, Net: "tcp", Source: c.local, Addr: c.remote, Err: err}
}

func (s *memStream) buffered() int { return len(s.buf) - s.read }

func (s *memStream) clear() { s.buf, s.read = nil, 0 }

func (s *memStream) take(b []byte) int {
	n := copy(b, s.buf[s.read:])
	s.read += n
	if s.read == len(s.buf) {
		s.buf, s.read = s.buf[:0], 0
	}
	s.cond.Broadcast()
	return n
}

func (s *memStream) put(b []byte) int {
	n := min(len(b), s.limit-s.buffered())
	if n <= 0 {
		return 0
	}
	if s.read > 0 && len(s.buf)+n > cap(s.buf) {
		s.buf = s.buf[:copy(s.buf, s.buf[s.read:])]
		s.read = 0
	}
	s.buf = append(s.buf, b[:n]...)
	s.cond.Broadcast()
	return n
}

func passed(deadline time.Time) bool {
	return !deadline.IsZero() && !time.Now().Before(deadline)
}

// waitUntil waits on cond, whose lock is held, for at most until deadline
// (zero: without end). The timer lives as long as the call: one that was made
// outside a bubble, or that outlives it, would crash the bubble.
func waitUntil(cond *sync.Cond, deadline time.Time) {
	if deadline.IsZero() {
		cond.Wait()
		return
	}
	timer := time.AfterFunc(time.Until(deadline), func() {
		// Under the lock, or the wake-up could come before the Wait.
		cond.L.Lock()
		defer cond.L.Unlock()
		cond.Broadcast()
	})
	cond.Wait()
	timer.Stop()
}
