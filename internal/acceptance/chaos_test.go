package acceptance_test

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

// chaosFor is how long the chaos lasts: EVERPOOL_CHAOS=10m lengthens it.
func chaosFor(tb testing.TB) time.Duration {
	tb.Helper()
	text := os.Getenv("EVERPOOL_CHAOS")
	if text == "" {
		return long(3 * time.Second)
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		tb.Fatalf("EVERPOOL_CHAOS: %v", err)
	}
	return d
}

// slowness is how much more time than on an idle machine the callers need for
// one call each, all at once: deadlines and faults are that much slower, or on a
// busy machine nothing would be left but timeouts.
func (s side) slowness(tb testing.TB, n int) time.Duration {
	tb.Helper()
	s.warm(tb, n)
	began := time.Now()
	s.warm(tb, n)
	return min(max(time.Since(began)/(10*time.Millisecond), 1), 20)
}

// stir runs random faults on the proxy until stop, or until the test has failed.
func stir(tb testing.TB, stop <-chan struct{}, proxy *testkit.Proxy, slow time.Duration) {
	for {
		select {
		case <-stop:
			proxy.Freeze(false)
			proxy.Slice(0)
			proxy.Delay(0)
			return
		case <-tb.Context().Done():
			return
		default:
		}
		pause(slow * time.Duration(20+rand.IntN(80)) * time.Millisecond)
		switch rand.IntN(6) {
		case 0, 1:
			proxy.Reset()
		case 2:
			proxy.Freeze(true)
			pause(slow * time.Duration(20+rand.IntN(80)) * time.Millisecond)
			proxy.Freeze(false)
		case 3:
			proxy.Slice(50 + rand.IntN(500))
		case 4:
			proxy.Slice(0)
			proxy.Delay(time.Duration(rand.IntN(5)) * time.Millisecond)
		case 5:
			proxy.CloseAll()
		}
	}
}

// A hundred callers with impatient deadlines on connections that are reset,
// frozen and sliced never get a reply that isn't theirs.
func TestChaosNeverSwapsReplies(t *testing.T) {
	t.Parallel() // what runs are its subtests
	for _, w := range []way{{protocol: 2}, {protocol: 3}, {protocol: 3, shared: -1}} {
		t.Run(w.String(), func(t *testing.T) {
			testkit.Works(t)
			server := testkit.Start(t, testkit.Redis)
			proxy := testkit.NewProxy(t, server.Addr)
			s := ourSide(t, driver.Config{Pool: pooler.Config{MaxOpenConns: sockets, SharedConns: w.shared, HealthCheckTimeout: 200 * time.Millisecond}},
				redis.Options{Addr: proxy.Addr(), Protocol: w.protocol, ContextTimeoutEnabled: true})
			slow := s.slowness(t, 100)
			stop := make(chan struct{})
			saw := new(tally)
			wg := repeat(t, stop, 100, func(id, i int) { s.echo(t, saw, slow, id, i) })
			wg.Go(func() { stir(t, stop, proxy, slow) })
			pause(chaosFor(t))
			// Late replies were outstanding, and connections died, under requests.
			testkit.Await(t, "faults have hit requests in flight", func() bool {
				st := s.stats(t)
				return st.Abandoned > 0 && st.Resent > 0 && st.Closes[pooler.CloseRead]+st.Closes[pooler.ClosePeer] > 0 && saw.reads.Load() > saw.failedReads.Load()
			})
			close(stop)
			wg.Wait()
			st := s.settled(t)
			t.Logf("slowness %d: %d calls, %d failed, slowest %v; %d abandoned, %d resent, %d moved, %d dials, closes %v%s",
				slow, saw.reads.Load(), saw.failedReads.Load(), time.Duration(saw.slowest.Load()).Round(time.Millisecond), st.Abandoned, st.Resent, st.Moved, st.Dials, st.Closes, saw.failures())
			if n := saw.wrong.Load(); n != 0 {
				t.Errorf("%d callers got a reply that isn't theirs", n)
			}
			testkit.Await(t, "all is well again", func() bool { return s.rdb.Ping(context.Background()).Err() == nil })
		})
	}
}

// echo is one call with a value that no other call has, of 1 byte to 3 KiB
// around it, and 1 to 80 ms.
func (s side) echo(t *testing.T, saw *tally, slow time.Duration, id, i int) {
	ctx, cancel := context.WithTimeout(context.Background(), slow*time.Duration(1+rand.IntN(80))*time.Millisecond)
	defer cancel()
	value := fmt.Sprintf("%x.%x", id, i) + strings.Repeat("x", rand.IntN(3<<10))
	var got string
	err := saw.call(func() (err error) {
		got, err = s.rdb.Echo(ctx, value).Result()
		return err
	})
	saw.reads.Add(1)
	switch {
	case err != nil:
		saw.failedReads.Add(1)
	case got != value:
		saw.wrong.Add(1)
		t.Errorf("asked for %.20q (%d bytes), got %.20q (%d bytes)", value, len(value), got, len(got))
	}
}

// Two hundred callers with impatient deadlines on shared connections that are
// reset, frozen and sliced never get a reply that isn't theirs.
func TestChaosNeverSwapsSharedReplies(t *testing.T) {
	testkit.Works(t)
	chaosOnShared(t, false)
}

// The same where their commands run together.
func TestChaosNeverSwapsGatheredReplies(t *testing.T) {
	testkit.Works(t)
	chaosOnShared(t, true)
}

func chaosOnShared(t *testing.T, gathers bool) {
	const n = 200
	server := testkit.Start(t, testkit.Redis)
	proxy := testkit.NewProxy(t, server.Addr)
	s := ourSide(t, driver.Config{Pool: pooler.Config{HealthCheckTimeout: 200 * time.Millisecond}, Gather: gathering},
		redis.Options{Addr: proxy.Addr(), ContextTimeoutEnabled: true})
	slow := s.slowness(t, n)
	if gathers {
		s.gather(t)
	}
	stop := make(chan struct{})
	saw := new(tally)
	wg := repeat(t, stop, n, func(id, i int) {
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
	wg.Go(func() { stir(t, stop, proxy, slow) })
	pause(chaosFor(t))
	testkit.Await(t, "faults have hit shared requests in flight, in every way", func() bool {
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
	if g := s.d.GatherStats(); gathers {
		t.Logf("%+v", g)
		if g.Gathered == 0 {
			t.Error("nothing was gathered")
		}
	}
	testkit.Await(t, "all is well again", func() bool { return s.rdb.Ping(context.Background()).Err() == nil })
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
