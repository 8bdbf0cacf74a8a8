//go:build unix && !linux

package testkit

import (
	"os"
	"syscall"
)

// DieWithParent does nothing here.
func DieWithParent() *syscall.SysProcAttr { return nil }

func signalStop(p *os.Process) error     { return p.Signal(syscall.SIGSTOP) }
func signalContinue(p *os.Process) error { return p.Signal(syscall.SIGCONT) }

// stopped can't be asked without /proc; the signal is on its way.
func stopped(int) bool { return true }
