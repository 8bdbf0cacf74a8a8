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

// bareSocket returns nc's socket to write to, nil unless nc is nothing but that: what
// somebody has put around a socket may change what is written, or look at it.
func bareSocket(nc net.Conn) syscall.RawConn {
	var sc syscall.Conn
	switch t := nc.(type) {
	case *net.TCPConn:
		sc = t
	case *net.UnixConn:
		sc = t
	default:
		return nil
	}
	if raw, err := sc.SyscallConn(); err == nil {
		return raw
	}
	return nil
}

// poke is a write that doesn't wait. It is kept with the connection as peek is.
type poke struct {
	buf []byte
	n   int
	do  func(fd uintptr) bool
}

func (p *poke) write(fd uintptr) bool {
	// Whatever the socket does with other calls: O_NONBLOCK is of its copies too.
	n, err := syscall.SendmsgN(int(fd), p.buf, nil, nil, syscall.MSG_DONTWAIT)
	if err == nil {
		p.n = n
	}
	return true // what went wrong shows at the write of the rest
}

// writeNow writes as much of b to the bare socket as it takes without waiting.
func (c *Conn) writeNow(b []byte) int {
	p := &c.socket.poke
	if p.do == nil {
		p.do = p.write
	}
	p.buf, p.n = b, 0
	_ = c.socket.bare.Write(p.do)
	p.buf = nil
	return p.n
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

// peekSocket reads what is there, without waiting. It reports false when the peer has
// closed the connection.
func (c *Conn) peekSocket() bool {
	p := &c.socket.peek
	if p.do == nil {
		p.do = p.read
	}
	p.buf, p.flags = c.in.space(), syscall.MSG_DONTWAIT
	if c.socket.opaque {
		p.buf, p.flags = p.buf[:min(len(p.buf), recordHead)], syscall.MSG_DONTWAIT|syscall.MSG_PEEK
	}
	head := p.buf
	if len(head) == 0 {
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
	case c.Mode() != Counted && !mayBeAlert(head[:p.n]):
		return true // a push
	default:
		// On an idle TLS connection that has been read from before it is an
		// alert in all likelihood; a new connection costs less than a request
		// on a closed one.
		c.Fail(ClosePeer, io.EOF)
	}
	return false
}

// recordHead is the length of a TLS record's head.
const recordHead = 5

// mayBeAlert reports whether a TLS record may be an alert. TLS 1.3 hides them among the
// data; no push is as short as they are.
func mayBeAlert(head []byte) bool {
	const alert, data, hidden = 21, 23, 2 + 1 + 16
	return len(head) < recordHead || head[0] == alert || head[0] == data && int(head[3])<<8|int(head[4]) <= hidden
}
