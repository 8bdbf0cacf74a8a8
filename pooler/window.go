package pooler

import (
	"sync/atomic"
	"time"
)

// minWindow is the least that a window may be narrowed to.
const minWindow = 4

// maxRest is the most rounds for which a window that was narrowed in vain stays open.
const maxRest = 1 << 8

// earlyLate is how many late replies end a round that has begun with the window open: the next
// of them are on their way already.
const earlyLate = 16

// window bounds how many exchanges may be under way on a lane, while many replies come too
// late for their callers: what is sent then is run by the server in vain, and delays what
// is behind it until that comes too late as well. What is over the window stays unsent, where
// its own caller can still withdraw it. It is judged once a round: when all is answered that
// was under way at the last judgement. Where fewer under way are answered more slowly, it
// isn't a queue that they are late for but the way to the server, and the window is opened.
// Owner: the leader, but for most, gap, and short.
type window struct {
	most         atomic.Int64  // 0: no bound
	gap          atomic.Int64  // what a reply of the last round took after the one before; 0: not known, or no bound
	short        atomic.Bool   // nobody who waits for room has the time for what is under way
	round        uint64        // the slot that ends it
	late, inTime int           // replies of this round, by whether their callers had left
	since        time.Duration // when this round began; 0: not known
	began        time.Duration // when the window was narrowed, or what was sent before was answered
	answered     uint64        // by all lanes of the session until then
	each         time.Duration // what a reply of that has taken, 0: not known yet
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

// takes is how long an exchange is about to be under way behind so many others, 0: not known.
func (w *window) takes(underWay int) time.Duration {
	return time.Duration(w.gap.Load()) * time.Duration(underWay+1)
}

// note takes note of a reply, which was late if its caller had left. The next slots to be
// answered and to be filled are head and tail.
func (w *window) note(late bool, head, tail uint64, by progress) {
	if late {
		w.late++
	} else {
		w.inTime++
	}
	if w.late+w.inTime == earlyLate && w.gap.Load() == 0 && w.since > 0 {
		w.gap.Store(int64((by.now() - w.since) / earlyLate))
	}
	if head >= w.round || w.late >= earlyLate && w.rest == 0 && w.most.Load() == 0 && w.tooLate() {
		w.judge(int64(tail-head), by)
		w.round, w.late, w.inTime = tail, 0, 0
	}
}

// tooLate reports whether more than one in five replies of the round were late.
func (w *window) tooLate() bool { return w.late*4 > w.inTime }

// judge ends a round. Of those in which nothing is late it takes no measure.
func (w *window) judge(underWay int64, by progress) {
	most, tooLate := w.most.Load(), w.tooLate()
	if most == 0 && tooLate && w.rest > 0 {
		w.rest--
		return
	}
	if most == 0 && !tooLate {
		return
	}
	now, answered, short := by.now(), by.answered(), w.short.Swap(false)
	each := now - w.began
	if n := int64(answered - w.answered); n > 0 { // a lane may have gone meanwhile
		each /= time.Duration(n)
	}
	switch {
	case most == 0:
		w.each, w.began, w.answered = 0, now, answered
		w.narrow(underWay)
	case !tooLate && !short && most >= 2*underWay+minWindow:
		w.most.Store(0) // it isn't what keeps requests from being sent
	case w.each == 0: // of what was sent before
		w.each, w.began, w.answered = each, now, answered
	case each > w.each*5/4:
		w.vain = min(max(4*w.vain, 1), maxRest)
		w.rest = w.vain
		w.most.Store(0)
	case !tooLate && !short:
		w.most.Store(most + max(most/8, 1))
		w.vain -= (w.vain + 7) / 8
	case !tooLate:
	default:
		w.narrow(underWay)
	}
	w.measure(now)
}

func (w *window) narrow(underWay int64) { w.most.Store(max((underWay+1)/2, minWindow)) }

// measure notes how fast the replies of the round have come.
func (w *window) measure(now time.Duration) {
	gap := time.Duration(0)
	if w.most.Load() == 0 {
		w.since = 0
	} else {
		if w.since > 0 {
			gap = (now - w.since) / time.Duration(w.late+w.inTime)
		}
		w.since = now
	}
	w.gap.Store(int64(gap))
}
