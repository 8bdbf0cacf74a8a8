package acceptance_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/pooler"
)

// A primary that has become a replica has its connections retired, soon again at first
// and then not more often than once a second; when it is a primary again, all is well.
func TestAReadOnlyPrimaryHasItsConnectionsRetired(t *testing.T) {
	t.Parallel() // what runs are its subtests
	for _, kind := range testkit.Kinds {
		t.Run(string(kind), func(t *testing.T) {
			testkit.Waits(t)
			server, primary := testkit.Start(t, kind), testkit.Start(t, kind)
			var retired atomic.Int64
			s := ourSide(t, driver.Config{Pool: pooler.Config{OnEvent: func(e pooler.Event) {
				if e.Kind == pooler.EventRetire {
					retired.Add(1)
				}
			}}}, redis.Options{Addr: server.Addr})
			primary.Do(t, "SET", "constant", "value")
			s.warm(t, callers)
			before := s.stats(t)
			stop := make(chan struct{})
			saw := new(split)
			wg := s.driveSplit(t, stop, callers, 1, saw)
			pause(200 * time.Millisecond)
			turned := time.Now()
			_, port, _ := strings.Cut(primary.Addr, ":")
			server.Do(t, "REPLICAOF", "127.0.0.1", port)
			pause(2200 * time.Millisecond)
			told := testkit.AwaitErr("writes are refused", func() bool { return saw.writes.never.Load() > 0 })
			refused := saw.writes.never.Load()
			during := s.stats(t)
			server.Do(t, "REPLICAOF", "NO", "ONE")
			// A caller that got an error meanwhile may still report it.
			well := testkit.AwaitErr("a write is acknowledged again", func() bool { return s.rdb.Incr(context.Background(), "counter:"+s.name).Err() == nil })
			after, acked := saw.writes.never.Load(), saw.writes.incrs.Load()
			all := testkit.AwaitErr("the callers' writes are acknowledged", func() bool { return saw.writes.incrs.Load() > acked })
			close(stop)
			wg.Wait()
			lasted := time.Since(turned)
			st := s.settled(t)
			t.Logf("%v; %d refused as read-only, %d after that; %d retirements in %v, %d dials, closes %v, %d resent, %d moved", saw, refused, saw.writes.never.Load()-after,
				retired.Load(), lasted.Round(100*time.Millisecond), st.Dials-before.Dials, st.Closes, st.Resent, st.Moved)
			if err := errors.Join(told, well, all); err != nil {
				t.Error(err)
			}
			if n := saw.reads.failedReads.Load(); n != 0 || saw.reads.wrong.Load() != 0 {
				t.Errorf("%d reads failed, %d replies belong to other calls", n, saw.reads.wrong.Load())
			}
			if n := saw.writes.unknown.Load(); n != 0 {
				t.Errorf("%d INCR ended unknown, though the server has refused them", n)
			}
			if during.Closes[pooler.CloseRetired] == 0 || retired.Load() == 0 {
				t.Errorf("nothing was retired: closes %v", during.Closes)
			}
			// One at once, after pauses from 10 ms on that double, and one a second; each
			// for two lanes and the idle ones.
			limit := 9 + int64(lasted/time.Second)
			if retired.Load() > limit || st.Dials-before.Dials > 4*limit {
				t.Errorf("%d retirements and %d dials in %v, want at most %d and %d", retired.Load(), st.Dials-before.Dials, lasted, limit, 4*limit)
			}
		})
	}
}
