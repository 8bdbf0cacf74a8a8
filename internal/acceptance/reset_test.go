package acceptance_test

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/internal/testkit"
)

// Twenty resets a second of every connection fail no read and lose or double no
// write. Where the machine answers fewer requests than there are callers in that time,
// resets come as often as they are answered: a read has four tries.
func TestResetsOfSharedConnectionsFailNoRead(t *testing.T) {
	server := testkit.Start(t, testkit.Redis)
	proxy := testkit.NewProxy(t, server.Addr)
	s := ourSide(t, driver.Config{}, redis.Options{Addr: proxy.Addr()})
	s.warm(t, callers)
	stop := make(chan struct{})
	saw := new(split)
	wg := s.driveSplit(t, stop, callers, 1, saw)
	length := 5 * time.Second
	if secondRun || testkit.Race {
		length = 2 * time.Second
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	resets := 0
	for end := time.Now().Add(length); time.Now().Before(end); resets++ {
		<-tick.C
		before := saw.reads.reads.Load()
		if err := testkit.AwaitErr("each caller has had an answer", func() bool { return saw.reads.reads.Load() >= before+callers }); err != nil {
			t.Error(err)
			break
		}
		proxy.Reset()
	}
	close(stop)
	wg.Wait()
	st := s.settled(t)
	t.Logf("%d resets: %v; %d dials, %d failed; closes %v, %d resent, %d moved, %d unknown", resets, saw, st.Dials, st.DialErrors, st.Closes, st.Resent, st.Moved, st.Unknown)
	saw.check(t, server.Do(t, "GET", "counter:"+s.name))
	if n := saw.writes.never.Load(); n != 0 {
		t.Errorf("%d INCR failed that were never sent", n)
	}
	if st.Unknown != saw.writes.unknown.Load() {
		t.Errorf("%d callers were told that the outcome is unknown, the pool has counted %d", saw.writes.unknown.Load(), st.Unknown)
	}
	if st.Shared == 0 || st.Resent == 0 {
		t.Errorf("%d requests shared, %d sent again; want some", st.Shared, st.Resent)
	}
}
