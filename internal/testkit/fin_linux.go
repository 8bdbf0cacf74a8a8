package testkit

import (
	"syscall"

	"golang.org/x/sys/unix"
)

const finUnacknowledged = 4 // TCP_FIN_WAIT1 of the kernel

// finArrived reports whether the peer's socket has the FIN that the connection was
// closed with. On a busy machine that takes its time, loopback or not.
func finArrived(conn syscall.Conn) bool {
	raw, err := conn.SyscallConn()
	if err != nil {
		return true
	}
	arrived := true
	_ = raw.Control(func(fd uintptr) {
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		arrived = err != nil || info.State != finUnacknowledged
	})
	return arrived
}
