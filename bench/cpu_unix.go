//go:build unix

package bench

import (
	"syscall"
	"time"
)

// processCPU is the CPU time that this process has used. The server's isn't in
// it.
func processCPU() time.Duration {
	var ru syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &ru); err != nil {
		return 0
	}
	return time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
}
