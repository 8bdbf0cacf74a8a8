//go:build unix

package yielding

import (
	"syscall"
	"time"
)

// cpuTime is how long the program has had processors, of all together.
func cpuTime(now func() time.Duration) time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return now()
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
