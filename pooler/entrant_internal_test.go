package pooler

import (
	"testing"
	"testing/synctest"
	"time"
)

// Who waits for room is let in in order, but for those who haven't the time for what is under
// way: of them nobody while so much is that the server has work.
func TestWhoHasNoTimeForWhatIsUnderWayIsNotLetIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, _ := testLane(t)
		now := l.now()
		wait := func(left time.Duration, final bool) *entrant {
			e := &entrant{by: now + left, final: final}
			l.room.add(e)
			return e
		}
		less, more := wait(20*time.Millisecond, true), wait(40*time.Millisecond, true)
		enough, last := wait(60*time.Millisecond, true), wait(10*time.Millisecond, false)
		l.window.gap.Store(int64(10 * time.Millisecond))
		l.tail.Store(4)
		for i, want := range []*entrant{enough, last, nil} {
			if e := l.room.next(l); e != want {
				t.Fatalf("number %d to be let in is %+v, want %+v", i, e, want)
			}
		}
		if !l.window.short.Load() {
			t.Error("the window doesn't know that nobody has the time for what is under way")
		}
		late := wait(30*time.Millisecond, true)
		if patient := wait(time.Second, true); !l.room.isNext(late) || l.room.isNext(patient) {
			t.Error("the next isn't the first behind those who were passed over")
		} else if l.room.next(l) != patient {
			t.Error("who comes later isn't let in, and has the time")
		}
		l.tail.Store(minWindow - 1)
		for i, want := range []*entrant{late, more, less} {
			if e := l.room.next(l); e != want {
				t.Fatalf("where little is under way number %d to be let in is %+v, want %+v", i, e, want)
			}
		}
		l.tail.Store(0)
	})
}
