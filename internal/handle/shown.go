package handle

import (
	"net"
	"syscall"
	"time"

	"github.com/everpool/everpool/internal/safeaddr"
)

// show is what go-redis sees of a handle. With client-side caching it takes what a
// connection's SyscallConn shows for its socket, so there is none then.
func (h *handle) show() net.Conn {
	if h.client.Tracks {
		return opaqueHandle{h, h}
	}
	return h
}

// opaqueHandle is a handle without SyscallConn, but for what go-redis finds underneath, as
// under TLS.
type opaqueHandle struct {
	virtualConn
	handle *handle
}

// NetConn is the socket on which go-redis looks for invalidations, nil if there is none
// that tells of all: then go-redis reads now and then.
func (o opaqueHandle) NetConn() net.Conn {
	h := o.handle
	h.mu.Lock()
	defer h.mu.Unlock()
	switch c := h.lease; {
	case h.err != nil:
		return seenSocket{h, nil, h.err}
	case c != nil && !h.receiving:
		if raw, err := c.Socket(); raw != nil || err != nil {
			return seenSocket{h, raw, err}
		}
	}
	return nil
}

// seenSocket is a handle that shows the socket of its lease.
type seenSocket struct {
	net.Conn
	raw syscall.RawConn
	err error
}

// SyscallConn is the socket.
func (s seenSocket) SyscallConn() (syscall.RawConn, error) { return s.raw, s.err }

// virtualConn is all that an opaqueHandle shows.
type virtualConn interface {
	net.Conn
	IsVirtual()
}

// brokenHandle is what go-redis gets when there is no node for a handle. Each request
// says why.
type brokenHandle struct {
	err  error
	addr Address
}

// NewBroken returns a handle that says so for each request.
func NewBroken(err error, network, addr string) net.Conn {
	return &brokenHandle{err: Adapt(err), addr: Address{network, safeaddr.Of(addr)}}
}

func (b *brokenHandle) Read([]byte) (int, error)         { return 0, inHandshake(b.err) }
func (b *brokenHandle) Write([]byte) (int, error)        { return 0, inHandshake(b.err) }
func (b *brokenHandle) Close() error                     { return nil }
func (b *brokenHandle) LocalAddr() net.Addr              { return b.addr }
func (b *brokenHandle) RemoteAddr() net.Addr             { return b.addr }
func (b *brokenHandle) SetDeadline(time.Time) error      { return nil }
func (b *brokenHandle) SetReadDeadline(time.Time) error  { return nil }
func (b *brokenHandle) SetWriteDeadline(time.Time) error { return nil }
