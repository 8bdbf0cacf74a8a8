package pooler

import (
	"sync/atomic"
	"time"
)

// minWindow is the least that a window may be narrowed to.
const minWindow = 4

// maxRest is the most rounds for which a window that was narrowed in vain stays open.
const maxRest = 1 << 8

// window bounds how many exchanges may be under way on a lane, while many replies come too
// late for their callers: what is sent then is run by the server in vain, and delays what
// is behind it until that comes too late as well. What is over the window stays unsent, where
// its own caller can still withdraw it. It is judged once a round: when all is answered that
// was under way at the last judgement. Where fewer under way are answered more slowly, it
// isn't a queue that they are late for but the way to the server, and the window is opened.
// Owner: the leader, but for most.
type window struct {
	most         atomic.Int64  // 0: no bound
	round        uint64        // the slot that ends it
	late, inTime int           // replies of this round, by whether their callers had left
	began        time.Duration // when this round did, or was narrowed; 0: not known
	answered     uint64        // by all lanes of the session until then
	each         time.Duration // what a reply took before the window was narrowed
	rest         int           // rounds until it may be narrowed again
	vain         int           // how long the last rest was, 0: narrowing wasn't in vain
}

// progress is what a window is judged by: the time, and how many exchanges all lanes of its
// session have answered. They share the server, so one alone says little.
type progress interface {
	now() time.Duration
	answered() uint64
}

// full reports whether no more than what is under way may be.
func (w *window) full(underWay int) bool {
	most := w.most.Load()
	return most > 0 && int64(underWay) >= most
}

// note takes note of a reply, which was late if its caller had left. The next slots to be
// answered and to be filled are head and tail.
func (w *window) note(late bool, head, tail uint64, by progress) {
	if late {
		w.late++
	} else {
		w.inTime++
	}
	if head >= w.round {
		w.judge(int64(tail-head), by)
		w.round, w.late, w.inTime = tail, 0, 0
	}
}

// judge ends a round. Of those in which nothing is late it takes no measure.
func (w *window) judge(underWay int64, by progress) {
	most, tooLate := w.most.Load(), w.late*4 > w.inTime
	if most == 0 && !tooLate {
		w.began = 0
		return
	}
	now, answered := by.now(), by.answered()
	measured, each := w.began > 0, now-w.began
	if n := int64(answered - w.answered); n > 0 { // a lane may have gone meanwhile
		each /= time.Duration(n)
	}
	switch {
	case !tooLate && most >= 2*underWay+minWindow:
		w.most.Store(0) // it isn't what keeps requests from being sent
	case most > 0 && measured && each > w.each*5/4:
		w.vain = min(max(4*w.vain, 1), maxRest)
		w.rest = w.vain
		w.most.Store(0)
	case !tooLate:
		w.most.Store(most + max(most/8, 1))
		w.vain -= (w.vain + 7) / 8
	case w.rest > 0:
		w.rest--
	case !measured:
	default:
		if most == 0 {
			w.each = each
		}
		w.most.Store(max((underWay+1)/2, minWindow))
	}
	if most == 0 || w.most.Load() == 0 {
		w.began, w.answered = now, answered
	}
}
