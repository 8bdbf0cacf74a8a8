//go:build linux || darwin || dragonfly || freebsd || netbsd || openbsd

package pooler

import (
	"errors"
	"net"
	"syscall"
)

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

func (p *peek) read(fd uintptr) bool {
	flags := syscall.MSG_DONTWAIT
	if p.stays {
		flags |= syscall.MSG_PEEK
	}
	for {
		p.n, _, p.err = syscall.Recvfrom(int(fd), p.buf, flags)
		if !errors.Is(p.err, syscall.EINTR) {
			return true
		}
	}
}
