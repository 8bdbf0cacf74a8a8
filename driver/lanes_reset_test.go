package driver_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/pooler"
)

// Twenty resets a second of every connection fail no read and lose or double no
// write.
func TestResetsOfSharedConnectionsFailNoRead(t *testing.T) {
	server := testkit.Start(t, testkit.Redis)
	proxy := testkit.NewProxy(t, server.Addr)
	s := ourSide(t, driver.Config{}, redis.Options{Addr: proxy.Addr()})
	s.warm(t, callers)
	stop := make(chan struct{})
	saw := new(split)
	wg := s.driveSplit(stop, callers, saw)
	length := 5 * time.Second
	if testing.Short() || underRace {
		length = 2 * time.Second
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	resets := 0
	for end := time.Now().Add(length); time.Now().Before(end); resets++ {
		<-tick.C
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

// lanesChaosFor is how long the chaos on shared connections lasts: 3 s, or what
// EVERPOOL_CHAOS says. Before a release:
//
//	EVERPOOL_CHAOS=10m go test -run TestChaosNeverSwapsSharedReplies -timeout 30m ./driver
func lanesChaosFor(tb testing.TB) time.Duration {
	tb.Helper()
	if os.Getenv("EVERPOOL_CHAOS") == "" {
		return long(3 * time.Second)
	}
	return chaosFor(tb)
}

// Two hundred callers with impatient deadlines on shared connections that are
// reset, frozen and sliced never get a reply that isn't theirs.
func TestChaosNeverSwapsSharedReplies(t *testing.T) {
	const n = 200
	server := testkit.Start(t, testkit.Redis)
	proxy := testkit.NewProxy(t, server.Addr)
	s := ourSide(t, driver.Config{Pool: pooler.Config{HealthCheckTimeout: 200 * time.Millisecond}},
		redis.Options{Addr: proxy.Addr(), ContextTimeoutEnabled: true})
	slow := s.slowness(t, n)
	stop := make(chan struct{})
	saw := new(tally)
	wg := repeat(stop, n, func(id, i int) {
		switch i % 4 {
		case 0:
			s.setAndGet(t, saw, slow, id, i)
		case 1:
			ctx, cancel := impatient(slow)
			saw.incr(saw.call(func() error { return s.rdb.Incr(ctx, "counter:"+s.name).Err() }))
			cancel()
		default:
			s.echo(t, saw, slow, id, i)
		}
	})
	wg.Go(func() { stir(stop, proxy, slow) })
	pause(lanesChaosFor(t))
	await(t, "faults have hit shared requests in flight, in every way", func() bool {
		st := s.stats(t)
		return st.Shared > 0 && st.Resent > 0 && st.Moved > 0 && st.Unknown > 0 && st.Abandoned > 0 && len(st.Closes) > 0 && saw.incrs.Load() > 0
	})
	close(stop)
	wg.Wait()
	st := s.settled(t)
	t.Logf("slowness %d: %d reads, %d failed; %d INCR acknowledged, %d unknown, %d failed otherwise; slowest %v; %d shared, %d leased, %d resent, %d moved, %d unknown, %d abandoned, %d dials, closes %v%s",
		slow, saw.reads.Load(), saw.failedReads.Load(), saw.incrs.Load(), saw.unknown.Load(), saw.never.Load(), time.Duration(saw.slowest.Load()).Round(time.Millisecond),
		st.Shared, st.Leased, st.Resent, st.Moved, st.Unknown, st.Abandoned, st.Dials, st.Closes, saw.failures())
	if n := saw.wrong.Load(); n != 0 {
		t.Errorf("%d callers got a reply that isn't theirs", n)
	}
	await(t, "all is well again", func() bool { return s.rdb.Ping(context.Background()).Err() == nil })
	saw.checkCounter(t, server.Do(t, "GET", "counter:"+s.name))
}

// impatient is a context for 1 to 80 ms.
func impatient(slow time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), slow*time.Duration(1+rand.IntN(80))*time.Millisecond)
}

// setAndGet writes a key that nobody else has, and reads it.
func (s side) setAndGet(t *testing.T, saw *tally, slow time.Duration, id, i int) {
	key := fmt.Sprintf("key:%x.%x", id, i)
	value := key + strings.Repeat("y", rand.IntN(3<<10))
	ctx, cancel := impatient(slow)
	defer cancel()
	if saw.call(func() error { return s.rdb.SetEx(ctx, key, value, time.Minute).Err() }) != nil {
		return
	}
	var got string
	err := saw.call(func() (err error) {
		got, err = s.rdb.Get(ctx, key).Result()
		return err
	})
	saw.reads.Add(1)
	switch {
	case err != nil:
		saw.failedReads.Add(1)
		if strings.Contains(err.Error(), redis.Nil.Error()) {
			saw.wrong.Add(1)
			t.Errorf("%s was acknowledged, and isn't there", key)
		}
	case got != value:
		saw.wrong.Add(1)
		t.Errorf("%s has %.20q (%d bytes), want %d bytes", key, got, len(got), len(value))
	}
}
