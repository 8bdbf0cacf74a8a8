package pooler

import (
	"sync"
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

// Who comes behind those alone who were passed over, and has the time, doesn't wait for the next
// reply, which may take long.
func TestNobodyWaitsBehindThoseWhoWerePassedOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, _ := testLane(t)
		l.leader.Store(&mourner) // nobody attends
		l.room.add(&entrant{by: l.now() + 20*time.Millisecond, final: true})
		l.room.late = 1
		l.window.gap.Store(int64(10 * time.Millisecond))
		l.tail.Store(4)
		var in sync.WaitGroup
		in.Go(func() {
			l.mu.Lock()
			defer l.mu.Unlock()
			if err := l.awaitRoomLocked(NewRider(), &Exchange{Request: ping, Replies: 1}); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		l.mu.Lock()
		if n := len(l.room.all); n != 1 {
			t.Errorf("%d wait for room, want the one that was passed over", n)
		}
		l.room.dismiss()
		l.mu.Unlock()
		in.Wait()
		l.tail.Store(0)
	})
}
