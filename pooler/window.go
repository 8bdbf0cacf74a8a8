package pooler

import "sync/atomic"

// minWindow is the least that a window may be narrowed to.
const minWindow = 4

// window bounds how many exchanges may be under way on a lane, while many replies come too
// late for their callers: what is sent then is run by the server in vain, and delays what
// is behind it until that comes too late as well. What is over the window stays unsent, where
// its own caller can still withdraw it. It is judged once a round: when all is answered that
// was under way at the last judgement. Owner: the leader, but for most.
type window struct {
	most         atomic.Int64 // 0: no bound
	round        uint64       // the slot that ends it
	late, inTime int          // replies of this round, by whether their callers had left
}

// full reports whether no more than what is under way may be.
func (w *window) full(underWay int) bool {
	most := w.most.Load()
	return most > 0 && int64(underWay) >= most
}

// note takes note of a reply, which was late if its caller had left. The next slots to be
// answered and to be filled are head and tail.
func (w *window) note(late bool, head, tail uint64) {
	if late {
		w.late++
	} else {
		w.inTime++
	}
	if head < w.round {
		return
	}
	switch most, underWay := w.most.Load(), int64(tail-head); {
	case w.late*4 > w.inTime:
		w.most.Store(max((underWay+1)/2, minWindow))
	case most > 0 && most >= 2*underWay+minWindow:
		w.most.Store(0) // it isn't what keeps requests from being sent
	case most > 0:
		w.most.Store(most + max(most/8, 1))
	}
	w.round, w.late, w.inTime = tail, 0, 0
}
