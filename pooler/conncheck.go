//go:build windows || linux || darwin || dragonfly || freebsd || netbsd || openbsd

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
	stays bool // what is there
	n     int
	err   error // of the socket; EAGAIN: nothing is there
	do    func(fd uintptr) bool
}

// peekSocket reads what is there, without waiting. It reports false when the peer has
// closed the connection.
func (c *Conn) peekSocket() bool {
	p := &c.socket.peek
	if p.do == nil {
		p.do = p.read
	}
	p.buf, p.stays = c.in.space(), c.socket.opaque
	if p.stays {
		p.buf = c.in.own[:1]
	}
	if len(p.buf) == 0 {
		return true
	}
	err := c.socket.raw.Read(p.do)
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
	case !c.socket.opaque:
		c.in.w += p.n
		return true
	case !c.in.sawReply:
		return true // session tickets of a young TLS connection
	default:
		// On an idle TLS connection that has been read from before it is an
		// alert in all likelihood; a new connection costs less than a request
		// on a closed one.
		c.Fail(ClosePeer, io.EOF)
	}
	return false
}
