package pooler

import (
	"sync"
	"sync/atomic"
	"time"
)

const (
	// trialLead is by how many comparisons the other way must be ahead to be taken.
	trialLead = 5

	// trialWindow is how long each way is looked at for a comparison, at least, and trialRest
	// how long none is made after one that the way which is used has won. With 30,000 calls a
	// second, and one way clearly the faster, a fiftieth of the time is spent in the slower
	// one. It is more with fewer calls, which are too few for it to matter: windows are as
	// long as it takes a lane to answer trialLooks.
	trialWindow = 4 * time.Millisecond
	trialRest   = 200 * time.Millisecond

	// trialLooks is after how many exchanges of a lane its leader looks at the clock for it.
	trialLooks = 64
)

// trial finds out, by how much is answered, whether few callers had better have a lane each,
// or share the first ones. Where processors halt while nothing runs, and are slow to wake, a
// lane each is better by a third, since always somebody is awake; where system calls are dear,
// or other programs have the processors, the same is worse by a third. Neither can be known
// but by measuring. Where both are alike it goes to and fro. Its methods are safe for concurrent use.
type trial struct {
	// together says that few share lanes just now.
	together atomic.Bool

	mu       sync.Mutex
	better   bool          // what together is between comparisons
	window   uint          // two are a comparison
	ahead    int           // by how many comparisons the other way is
	until    time.Duration // when the window, or the rest, is over
	began    time.Duration // when the window did; 0: none has
	answered uint64        // by then
	took     float64       // an exchange in the window before
}

// note is told how much the lanes have answered by now. Where that has become less, since one
// has gone, the window begins anew.
func (t *trial) note(now time.Duration, answered uint64) {
	if !t.mu.TryLock() {
		return
	}
	defer t.mu.Unlock()
	switch {
	case now < t.until:
	case t.began > 0 && answered > t.answered && t.close(float64(now-t.began)/float64(answered-t.answered)):
		t.began, t.until = 0, now+trialRest
		t.together.Store(t.better)
	default:
		t.began, t.answered, t.until = now, answered, now+trialWindow
		t.together.Store(t.better != t.tries())
	}
}

// tries reports whether the other way is used in the window. Which of two is the first
// changes, so that what becomes faster or slower meanwhile counts for neither way.
func (t *trial) tries() bool { return (t.window+t.window/2)%2 == 1 }

// close notes what an exchange took in the window, and reports whether to rest after it: a
// comparison that the other way has won is repeated at once.
func (t *trial) close(took float64) bool {
	other, used := t.took, took
	if t.tries() {
		other, used = took, t.took
	}
	second := t.window%2 == 1
	t.took = took
	t.window++
	switch {
	case !second:
		return false
	case other >= used:
		t.ahead = max(t.ahead-1, 0)
		return true
	}
	if t.ahead++; t.ahead < trialLead {
		return false
	}
	t.better, t.ahead = !t.better, 0
	return true
}
