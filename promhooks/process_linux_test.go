package promhooks_test

import "syscall"

// dieWithParent keeps a test that panics or times out from leaving servers behind.
func dieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
