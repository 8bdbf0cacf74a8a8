//go:build !linux

package promhooks_test

import "syscall"

func dieWithParent() *syscall.SysProcAttr { return nil }
