package driver_test

import (
	"errors"
	"testing"
	"testing/synctest"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/pooler"
)

// wantCounted says what the pool has counted since before.
func (t *lab) wantCounted(before pooler.Stats, admitted, answered, failed, inFlight int64) {
	t.Helper()
	s := t.stats()
	if s.Admitted-before.Admitted != admitted || s.Answered-before.Answered != answered || s.Failed-before.Failed != failed || s.InFlight != inFlight {
		t.Errorf("admitted %d, answered %d, failed %d, in flight %d; want %d, %d, %d, %d", s.Admitted-before.Admitted,
			s.Answered-before.Answered, s.Failed-before.Failed, s.InFlight, admitted, answered, failed, inFlight)
	}
}

func TestARequestThatIsSentASecondTimeIsCountedOnce(t *testing.T) {
	inBothLabs(t, driver.Config{}, func(t *lab) {
		v := t.handle()
		v.do("SET k v", "+OK")
		before, lost := t.stats(), false
		t.f.Handle("GET", func(c *testkit.FakeConn, _ []string) []byte {
			if !lost {
				lost = true
				c.ResetNow()
				return nil
			}
			return testkit.ReplyBulk("v")
		})
		v.do("GET k", "$1 v")
		t.wantCounted(before, 1, 1, 0, 0)
		if n := t.stats().Resent - before.Resent; n != 1 {
			t.Errorf("%d sent a second time", n)
		}
	})
}

// Its handle may be kept for long by a caller who has been told.
func TestARequestWhoseCallerWasToldOfTheLossIsOver(t *testing.T) {
	inBothLabs(t, driver.Config{}, func(t *lab) {
		v := t.handle()
		v.do("SET k v", "+OK")
		before := t.stats()
		t.f.Handle("INCR", func(c *testkit.FakeConn, _ []string) []byte {
			c.ResetNow()
			return nil
		})
		v.send("INCR n")
		if err := v.failure(); !errors.Is(err, pooler.ErrUnknownOutcome) {
			t.Errorf("INCR: %v", err)
		}
		t.wantCounted(before, 1, 0, 1, 0)
	})
}

func TestARequestThatWaitsForASharedConnectionIsCountedOnce(t *testing.T) {
	inBothLabs(t, one(), func(t *lab) {
		holder, v := t.handle(), t.handle()
		holder.do("WATCH k", "+OK")
		before := t.stats()
		done := make(chan struct{})
		go func() {
			defer close(done)
			v.do("GET k", "$-1")
		}()
		synctest.Wait()
		t.wantCounted(before, 1, 0, 0, 2) // the holder's among them
		holder.do("UNWATCH", "+OK")
		<-done
		t.wantCounted(before, 1, 2, 0, 0)
	})
}
