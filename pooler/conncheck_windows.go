package pooler

import (
	"net"
	"syscall"
	"unsafe"

	"golang.org/x/sys/windows"
)

// wsaPoll says what a socket is ready for; the system's wrappers have none of it.
var wsaPoll = windows.NewLazySystemDLL("ws2_32.dll").NewProc("WSAPoll")

// pollFD is the system's WSAPOLLFD.
type pollFD struct {
	fd              uintptr
	events, revents int16
}

const (
	pollReadNormal = 0x0100 // data, or the peer has closed it
	pollHungUp     = 0x0002
)

// read doesn't wait although the socket does: it reads only what the system says is there.
func (p *peek) read(fd uintptr) bool {
	p.n, p.err = 0, syscall.EAGAIN
	ready := pollFD{fd: fd, events: pollReadNormal}
	n, _, _ := wsaPoll.Call(uintptr(unsafe.Pointer(&ready)), 1, 0)
	if n != 1 || ready.revents&(pollReadNormal|pollHungUp) == 0 {
		return true
	}
	var got, flags uint32
	if p.stays {
		flags = windows.MSG_PEEK
	}
	buf := windows.WSABuf{Len: uint32(len(p.buf)), Buf: &p.buf[0]}
	p.err = windows.WSARecv(windows.Handle(fd), &buf, 1, &got, &flags, nil, nil)
	p.n = int(got)
	return true
}

// bareSocket: a write that doesn't wait isn't known here.
func bareSocket(net.Conn) syscall.RawConn { return nil }

func (c *Conn) writeNow([]byte) int { return 0 }

type poke struct{}
