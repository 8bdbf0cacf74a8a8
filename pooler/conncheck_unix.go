//go:build linux || darwin || dragonfly || freebsd || netbsd || openbsd

package pooler

import (
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

// look reads what is there, without waiting. It reports false when the peer has
// closed the connection. The read buffer must be empty or hold the beginning of
// a push only.
func (c *Conn) look() bool {
	if c.r == c.w {
		c.r, c.w = 0, 0
	}
	var n int
	var rerr error
	flags := syscall.MSG_DONTWAIT
	buf := c.rbuf[c.w:]
	if c.opaque {
		flags |= syscall.MSG_PEEK
		buf = c.rbuf[:1]
	}
	if len(buf) == 0 {
		return true
	}
	err := c.raw.Read(func(fd uintptr) bool {
		for {
			n, _, rerr = syscall.Recvfrom(int(fd), buf, flags)
			if rerr != syscall.EINTR {
				return true
			}
		}
	})
	switch {
	case err != nil:
		c.Fail(CloseRead, err)
	case rerr == syscall.EAGAIN || rerr == syscall.EWOULDBLOCK:
		return true
	case rerr != nil:
		c.Fail(CloseRead, rerr)
	case n == 0:
		c.Fail(ClosePeer, io.EOF)
	case !c.opaque:
		c.w += n
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
