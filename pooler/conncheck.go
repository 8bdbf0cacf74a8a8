//go:build windows || linux || darwin || dragonfly || freebsd || netbsd || openbsd

package pooler

import (
	"errors"
	"io"
	"net"
	"reflect"
	"syscall"

	"github.com/everpool/everpool/internal/guard"
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

// maxWrappers is how many wrappers of a connection are seen through.
const maxWrappers = 4

// wrappedConn returns the socket of a connection that somebody has put a struct around, in an
// exported field or embedded, as is done to count bytes or to set deadlines; or nil.
func wrappedConn(nc net.Conn, wrappers int) syscall.RawConn {
	if t, ok := nc.(interface{ NetConn() net.Conn }); ok {
		nc = t.NetConn()
	}
	v := reflect.Indirect(reflect.ValueOf(nc))
	if v.Kind() != reflect.Struct || wrappers == 0 {
		return nil
	}
	for _, field := range v.Fields() {
		if !field.CanInterface() {
			continue
		}
		inner, ok := reflect.TypeAssert[net.Conn](field)
		if !ok || guard.IsNil(inner) {
			continue
		}
		if raw, _ := rawConn(inner); raw != nil {
			return raw
		}
		return wrappedConn(inner, wrappers-1)
	}
	return nil
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
	raw, hidden := c.socket.raw, c.socket.raw == nil
	if hidden {
		raw = c.socket.hidden
	}
	p.buf, p.stays = c.in.space(), c.socket.opaque || hidden
	if p.stays {
		p.buf = p.buf[:min(len(p.buf), recordHead)]
	}
	head := p.buf
	if len(head) == 0 {
		return true
	}
	err := raw.Read(p.do)
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
	case hidden:
		return true // whatever it is
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
