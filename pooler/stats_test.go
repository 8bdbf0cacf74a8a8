package pooler_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/everpool/everpool/pooler"
)

// books are the counters of requests.
type books struct {
	Admitted, InFlight, Answered, Failed, Abandoned, Moved, Resent, Unknown int64
}

func (pt *tester) wantBooks(want books) {
	pt.Helper()
	s := pt.pool.Stats()
	got := books{s.Admitted, s.InFlight, s.Answered, s.Failed, s.Abandoned, s.Moved, s.Resent, s.Unknown}
	if diff := cmp.Diff(want, got); diff != "" {
		pt.Errorf("books (-want +got):\n%s", diff)
	}
}

func TestEveryAdmittedRequestEndsOnce(t *testing.T) {
	bubble(t, pooler.Config{MaxOpenConns: 2}, func(pt *tester) {
		c := pt.get(pt.plain)
		pt.wantBooks(books{Admitted: 1, InFlight: 1})
		pt.put(c)
		pt.wantBooks(books{Admitted: 1, Answered: 1})
		for _, o := range []pooler.Outcome{pooler.Failed, pooler.Unknown, pooler.Abandoned} {
			pt.pool.Put(pt.get(pt.plain), o)
		}
		pt.wantBooks(books{Admitted: 4, Answered: 1, Failed: 2, Unknown: 1, Abandoned: 1})

		// A replacement is the same request.
		c, err := pt.pool.Replace(context.Background(), pt.get(pt.plain), pooler.Request{Session: pt.plain}, pooler.Move)
		if err != nil {
			t.Fatal(err)
		}
		c, err = pt.pool.Replace(context.Background(), c, pooler.Request{Session: pt.plain}, pooler.Resend)
		if err != nil {
			t.Fatal(err)
		}
		pt.wantBooks(books{Admitted: 5, InFlight: 1, Answered: 1, Failed: 2, Unknown: 1, Abandoned: 1, Moved: 1, Resent: 1})

		// One that isn't found ends it.
		other := pt.get(pt.plain)
		pt.pool.SetMaxOpenConns(1)
		_, err = pt.pool.Replace(context.Background(), c, pooler.Request{Session: pt.plain, Deadline: time.Now().Add(time.Second)}, pooler.Move)
		pt.wantErr(err, pooler.ErrWaitTimeout)
		w := pt.wait(pt.plain)
		w.cancel(errors.New("gone home"))
		<-w.done
		pt.put(other)
		pt.wantBooks(books{Admitted: 7, Answered: 2, Failed: 3, Unknown: 1, Abandoned: 2, Moved: 2, Resent: 1})
	})
}

func TestStatsShowWhatHappensNow(t *testing.T) {
	bubble(t, pooler.Config{MaxOpenConns: 3}, func(pt *tester) {
		c1, c2 := pt.get(pt.plain), pt.get(pt.plain)
		pt.fill(pt.plain, 1)
		pt.pool.Pin(c2, "transaction")
		pt.sleep(time.Second)
		c3 := pt.get(pt.plain)
		w := pt.wait(pt.plain)
		pt.sleep(time.Second)
		s := pt.pool.Stats()
		if s.MaxOpenConnections != 3 || s.OpenConnections != 3 || s.InUse != 3 || s.Idle != 0 || s.Waiting != 1 || s.Pinned != 1 ||
			s.OldestExchange != 2*time.Second || s.OldestWaiter != time.Second || s.Dials != 3 || s.State != pooler.StateUp {
			t.Errorf("stats are %+v", s)
		}
		pt.put(c1, c2, c3)
		pt.put(w.wantConn())
		s = pt.pool.Stats()
		if s.InUse != 0 || s.Idle != 2 || s.WaitDuration != time.Second || s.OldestExchange != 0 || s.OldestWaiter != 0 {
			t.Errorf("stats are %+v", s)
		}
		s.Closes["x"], s.Pins["x"] = 1, 1
		if s := pt.pool.Stats(); s.Closes["x"] != 0 || s.Pins["x"] != 0 {
			t.Error("a snapshot shares its maps with the pool")
		}
	})
}

func TestStatsTellOfAnOutage(t *testing.T) {
	bubble(t, pooler.Config{FailFastAfter: -1, WaitTimeout: -1}, func(pt *tester) {
		pt.fake.DownRefused()
		w := pt.wait(pt.plain)
		pt.sleep(time.Second)
		s := pt.pool.Stats()
		if s.State != pooler.StateDown || s.DialErrors < 10 || s.Dials != s.DialErrors || s.LastDialError == "" || s.Heals != 0 {
			t.Errorf("stats are %+v", s)
		}
		pt.fake.Up()
		pt.put(w.await().wantConn())
		s = pt.pool.Stats()
		if s.State != pooler.StateUp || s.LastDialError != "" || s.Heals != 1 {
			t.Errorf("stats are %+v", s)
		}
	})
}
