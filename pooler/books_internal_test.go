package pooler

import (
	"sync"
	"testing"
	"time"
)

func TestWhatIsCountedIsReadAtOneMoment(t *testing.T) {
	begun, over, moves := int64(5), int64(4), 3
	b, o := atOneMoment(func() int64 {
		if moves--; moves >= 0 {
			over, begun = over+1, begun+1 // the caller's next
		}
		return begun
	}, func() int64 { return over })
	if b-o != 1 || b != 8 {
		t.Errorf("begun %d, over %d", b, o)
	}
}

// However fast a caller is: at no moment has it two requests under way, and an end that
// is counted as answered is never counted as another.
func TestALoneCallerIsNeverSeenTwice(t *testing.T) {
	p, r := &Pool{}, NewRider()
	var wg sync.WaitGroup
	until := time.Now().Add(200 * time.Millisecond)
	wg.Go(func() {
		for i := 0; time.Now().Before(until); i++ {
			r.mu.Lock()
			r.admitLocked(p)
			r.concludeLocked([]Outcome{Answered, Answered, Failed, Abandoned}[i%4])
			r.mu.Unlock()
		}
	})
	var last count
	for time.Now().Before(until) {
		n := p.rides.books.read()
		if now, before := n.over-n.failed-n.abandoned, last.over-last.failed-last.abandoned; n.begun-n.over > 1 || n.begun < n.over || now < before {
			t.Fatalf("after %+v: %+v", last, n)
		}
		last = n
	}
	wg.Wait()
	if n := p.rides.books.read(); n.over < 100 || n.begun != n.over {
		t.Errorf("at the end: %+v", n)
	}
}
