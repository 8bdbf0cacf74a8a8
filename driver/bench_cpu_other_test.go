//go:build !unix

package driver_test

import "time"

// processCPU isn't known here: benchmarks show nothing for it.
func processCPU() time.Duration { return 0 }
