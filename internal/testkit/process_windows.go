package testkit

import (
	"errors"
	"os"
	"syscall"
)

// DieWithParent does nothing here.
func DieWithParent() *syscall.SysProcAttr { return nil }

func signalStop(*os.Process) error     { return errors.ErrUnsupported }
func signalContinue(*os.Process) error { return errors.ErrUnsupported }
func stopped(int) bool                 { return true }
