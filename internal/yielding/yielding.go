// Package yielding lets other goroutines run where that saves system calls: their requests
// then go out with one's own, or one's reply is there when it is read. It is no use, and
// costs much, where those that run are others: a goroutine that computes has its processor
// for 10 ms, and who has yielded comes after all of them, with whatever others wait for.
package yielding

import (
	"runtime"
	"sync/atomic"
	"time"
)

const (
	// short is how long a yield may take in any case: half of a processor's time for a
	// goroutine that computes.
	short = 5 * time.Millisecond

	// worth is how long one may take for each thing that it has brought: the callers of a
	// client take some 5 us for a request, and its reply.
	worth = 100 * time.Microsecond

	// rest is for how many times as long as a yield that wasn't worth it none is made.
	rest = 100
)

// Yielder yields for those who can do without. It is safe for concurrent use.
type Yielder struct {
	// until is when one may be made again, since start. Once that is over, and not 0, the
	// next one that takes long is asked whether it was this program that computed.
	until atomic.Int64

	now   func() time.Duration // since start
	cpu   func() time.Duration // that the program has used
	yield func()
}

// New returns a yielder.
func New() *Yielder {
	start := time.Now()
	now := func() time.Duration { return time.Since(start) }
	return With(now, func() time.Duration { return cpuTime(now) }, runtime.Gosched)
}

// With returns one with the clock, the program's use of processors, and the way to yield that
// are given.
func With(now, cpu func() time.Duration, yield func()) *Yielder {
	return &Yielder{now: now, cpu: cpu, yield: yield}
}

// Yield lets others run, unless that has just cost too much. brought counts what they
// bring, nil: a yield is for one thing. It reports whether it has yielded.
func (y *Yielder) Yield(brought func() int) bool {
	began, until := y.now(), y.until.Load()
	if time.Duration(until) > began {
		return false
	}
	var used time.Duration
	if until != 0 {
		used = y.cpu()
	}
	n := 0
	if brought != nil {
		n = -brought()
	}
	y.yield()
	if brought != nil {
		n += brought()
	}
	switch took := y.now() - began; {
	case took <= max(short, worth*time.Duration(n)):
		if until != 0 {
			y.until.Store(0)
		}
	case until == 0, y.cpu()-used < took/2: // it may be other programs that have the processors
		y.until.Store(int64(began + took))
	default:
		y.until.Store(int64(began + took + rest*took))
	}
	return true
}
