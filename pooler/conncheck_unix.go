//go:build linux || darwin || dragonfly || freebsd || netbsd || openbsd

package pooler

import (
	"errors"
	"io"
	"net"
	"syscall"
)

// rawConn returns the socket of nc to look at, and whether its bytes are
// another protocol's (TLS).
func rawConn(nc net.Conn) (raw syscall.RawConn, opaque bool) {
	if t, ok := nc.(interface{ NetConn() net.Conn }); ok {
		nc, opaque = t.NetConn(), true
	}
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return nil, opaque
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return nil, opaque
	}
	return raw, opaque
}

// peek is a read that doesn't wait. It is kept with the connection, function and
// all, since a new closure for each look would be three allocations.
type peek struct {
	buf   []byte
	flags int
	n     int
	err   error
	do    func(fd uintptr) bool
}

func (p *peek) read(fd uintptr) bool {
	for {
		p.n, _, p.err = syscall.Recvfrom(int(fd), p.buf, p.flags)
		if !errors.Is(p.err, syscall.EINTR) {
			return true
		}
	}
}

// look reads what is there, without waiting. It reports false when the peer has
// closed the connection.
func (c *Conn) look() bool {
	if c.r == c.w {
		c.r, c.w = 0, 0
	}
	p := &c.peek
	if p.do == nil {
		p.do = p.read
	}
	p.buf, p.flags = c.rbuf[c.w:], syscall.MSG_DONTWAIT
	if c.opaque {
		p.buf, p.flags = c.rbuf[:1], syscall.MSG_DONTWAIT|syscall.MSG_PEEK
	}
	if len(p.buf) == 0 {
		return true
	}
	err := c.raw.Read(p.do)
	p.buf = nil
	switch {
	case err != nil:
		c.Fail(CloseRead, err)
	case errors.Is(p.err, syscall.EAGAIN) || errors.Is(p.err, syscall.EWOULDBLOCK):
		return true
	case p.err != nil:
		c.Fail(CloseRead, p.err)
	case p.n == 0:
		c.Fail(ClosePeer, io.EOF)
	case !c.opaque:
		c.w += p.n
		return true
	case !c.sawReply:
		return true // session tickets of a young TLS connection
	default:
		// On an idle TLS connection that has been read from before it is an
		// alert in all likelihood; a new connection costs less than a request
		// on a closed one.
		c.Fail(ClosePeer, io.EOF)
	}
	return false
}
