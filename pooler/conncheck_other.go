//go:build !(windows || linux || darwin || dragonfly || freebsd || netbsd || openbsd)

package pooler

import (
	"net"
	"syscall"
)

// rawConn: sockets can't be looked at here; a closed one is found by PING.
func rawConn(nc net.Conn) (raw syscall.RawConn, opaque bool) {
	_, opaque = nc.(interface{ NetConn() net.Conn })
	return nil, opaque
}

const maxWrappers = 0

func wrappedConn(net.Conn, int) syscall.RawConn { return nil }

func (c *Conn) peekSocket() bool { return true }

type peek struct{}

func bareSocket(net.Conn) syscall.RawConn { return nil }

func (c *Conn) writeNow([]byte) int { return 0 }

type poke struct{}
