//go:build !linux

package driver

import "syscall"

// setUserTimeout: there is no such option here.
func setUserTimeout(_, _ string, _ syscall.RawConn) error { return nil }
