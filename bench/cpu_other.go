//go:build !unix

package bench

import "time"

// processCPU isn't known here: the tables show nothing for it.
func processCPU() time.Duration { return 0 }
