package testkit

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// faultConn deliberately isn't a syscall.Conn: a look at the raw socket would
// see the bytes before the faults.
type faultConn struct {
	conn net.Conn
	dirs [2]faultDir // each guarded by its own mu, held for a whole Read or Write

	mu                          sync.Mutex // inside the mu of a faultDir
	changed                     *sync.Cond
	closed                      bool
	readDeadline, writeDeadline time.Time
	readErr, writeErr           error // after a cut or reset
}

// Read reads through the faults of ToClient.
func (c *faultConn) Read(b []byte) (int, error) {
	d := &c.dirs[ToClient]
	d.mu.Lock()
	defer d.mu.Unlock()
	for {
		injected, end := d.due()
		d.pending = append(d.pending, injected...)
		if n := copy(b[:d.piece(len(b))], d.pending); n > 0 {
			d.pending = d.pending[n:]
			return n, nil
		}
		if end != nil {
			return 0, c.end(*end, c.readResult)
		}
		if err := c.readResult(); err != nil {
			return 0, err
		}
		lost := d.dropping > 0
		n, err := c.conn.Read(b[:d.piece(d.run(len(b)))])
		d.passed(b[:n])
		if broken := c.readResult(); err != nil && broken != nil {
			err = broken // and not the ErrClosed of the connection underneath
		}
		if !lost || err != nil {
			if lost {
				n = 0
			}
			return n, err
		}
	}
}

// Write writes through the faults of ToServer.
func (c *faultConn) Write(b []byte) (int, error) {
	d := &c.dirs[ToServer]
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := c.writeResult(); err != nil {
		return 0, err
	}
	for n := 0; ; {
		injected, end := d.due()
		if _, err := c.writePieces(d, injected); err != nil {
			return n, err
		}
		if end != nil {
			return c.endWrite(*end, n, len(b))
		}
		if n == len(b) {
			return n, nil
		}
		part := b[n : n+d.run(len(b)-n)]
		m, err := len(part), error(nil)
		if d.dropping == 0 {
			m, err = c.writePieces(d, part)
		}
		d.passed(part[:m])
		n += m
		if err != nil {
			if broken := c.writeResult(); broken != nil {
				err = broken
			}
			return n, err
		}
	}
}

func (c *faultConn) endWrite(f ByteFault, n, size int) (int, error) {
	switch f.Kind {
	case FaultStall:
		return size, c.closedResult()
	case FaultBlock:
		return n, c.end(f, c.writeResult)
	default:
		err := c.end(f, c.writeResult)
		if f.ShortWrite && n < size {
			return n, err
		}
		return size, nil
	}
}

func (c *faultConn) writePieces(d *faultDir, b []byte) (int, error) {
	for n := 0; ; {
		m, err := c.conn.Write(b[n : n+d.piece(len(b)-n)])
		n += m
		if err != nil || n == len(b) {
			return n, err
		}
	}
}

// end makes f happen to the whole connection, and returns what the call of
// that direction gets.
func (c *faultConn) end(f ByteFault, result func() error) error {
	switch f.Kind {
	case FaultCut:
		c.breakOff(io.EOF, syscall.EPIPE)
		_ = c.conn.Close()
	case FaultReset:
		c.breakOff(syscall.ECONNRESET, syscall.ECONNRESET)
		resetConn(c.conn)
	default:
		return c.block(f.Dir)
	}
	return result()
}

func (c *faultConn) breakOff(readErr, writeErr error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.readErr == nil {
		c.readErr, c.writeErr = readErr, writeErr
	}
	c.changed.Broadcast()
}

// block waits for the deadline of that direction, for Close, or for the
// connection to break off in the other direction.
func (c *faultConn) block(dir Direction) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		op, deadline, err := "read", c.readDeadline, c.readErr
		if dir == ToServer {
			op, deadline, err = "write", c.writeDeadline, c.writeErr
		}
		switch {
		case c.closed:
			return c.opError(op, net.ErrClosed)
		case err != nil:
			return c.opError(op, err)
		case passed(deadline):
			return c.opError(op, os.ErrDeadlineExceeded)
		}
		waitUntil(c.changed, deadline)
	}
}

func (c *faultConn) readResult() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.opError("read", c.readErr)
}

func (c *faultConn) writeResult() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.opError("write", c.writeErr)
}

func (c *faultConn) closedResult() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return c.opError("write", net.ErrClosed)
	}
	return nil
}

func (c *faultConn) opError(op string, err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		err = os.NewSyscallError(op, errno)
	}
	return &net.OpError{Op: op, Net: "tcp", Source: c.conn.LocalAddr(), Addr: c.conn.RemoteAddr(), Err: err}
}

// Close closes the connection underneath and ends blocked calls.
func (c *faultConn) Close() error {
	c.mu.Lock()
	c.closed = true
	c.changed.Broadcast()
	c.mu.Unlock()
	return c.conn.Close()
}

func (c *faultConn) LocalAddr() net.Addr  { return c.conn.LocalAddr() }
func (c *faultConn) RemoteAddr() net.Addr { return c.conn.RemoteAddr() }

func (c *faultConn) SetDeadline(t time.Time) error {
	c.setDeadlines(&t, &t)
	return c.conn.SetDeadline(t)
}

func (c *faultConn) SetReadDeadline(t time.Time) error {
	c.setDeadlines(&t, nil)
	return c.conn.SetReadDeadline(t)
}

func (c *faultConn) SetWriteDeadline(t time.Time) error {
	c.setDeadlines(nil, &t)
	return c.conn.SetWriteDeadline(t)
}

func (c *faultConn) setDeadlines(read, write *time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if read != nil {
		c.readDeadline = *read
	}
	if write != nil {
		c.writeDeadline = *write
	}
	c.changed.Broadcast()
}

// resetConn ends a connection with an RST where its type knows how to.
func resetConn(c net.Conn) {
	switch c := c.(type) {
	case *net.TCPConn:
		_ = c.SetLinger(0)
	case interface{ Reset() }:
		c.Reset()
	}
	_ = c.Close()
}
