package acceptance_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/internal/testkit/drivertest"
	"github.com/everpool/everpool/pooler"
)

// incrs runs n INCRs at a time.
func (s side) incrs(n int, saw *tally) {
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			saw.incr(saw.call(func() error { return s.rdb.Incr(context.Background(), "counter:"+s.name).Err() }))
		})
	}
	wg.Wait()
}

// What the peer has closed is noticed before the next request goes there.
func TestAHalfClosedIdleConnectionGetsNoRequest(t *testing.T) {
	testkit.Waits(t)
	drivertest.BothWays(t, func(t *testing.T, shared int) {
		server := testkit.Start(t, testkit.Redis)
		proxy := testkit.NewProxy(t, server.Addr)
		s := ourSide(t, driver.Config{Pool: pooler.Config{SharedConns: shared, MaxOpenConns: 8, HealthCheckInterval: -1}}, redis.Options{Addr: proxy.Addr(), MaxRetries: -1})
		stock := stockSide(t, redis.Options{Addr: proxy.Addr(), PoolSize: 8, MaxRetries: -1})
		ours, theirs := new(tally), new(tally)
		for range 30 {
			s.incrs(16, ours)
			stock.incrs(16, theirs)
			s.settled(t)
			proxy.HalfClose()
			pause(10 * time.Millisecond) // idle for long enough to be looked at
		}
		s.incrs(16, ours)
		st := s.settled(t)
		t.Logf("everpool  %d INCR acknowledged, %d unknown, %d never sent; closes %v%s", ours.incrs.Load(), ours.unknown.Load(), ours.never.Load(), st.Closes, ours.failures())
		t.Logf("stock     %d INCR acknowledged, %d failed; counter %s%s", theirs.incrs.Load(), theirs.never.Load(), server.Do(t, "GET", "counter:stock"), theirs.failures())
		if ours.unknown.Load() != 0 || ours.never.Load() != 0 {
			t.Errorf("%d INCR ended unknown, %d failed; want none", ours.unknown.Load(), ours.never.Load())
		}
		if st.Closes[pooler.ClosePeer] == 0 {
			t.Errorf("no connection was closed for its peer: %v", st.Closes)
		}
		ours.checkCounter(t, server.Do(t, "GET", "counter:"+s.name))
	})
}

// Connections that go silent cost their callers the timeout; nothing runs
// twice, new connections take over, and the silent ones are given up.
func TestSilentConnectionsAreGivenUp(t *testing.T) {
	testkit.Waits(t)
	options := redis.Options{ReadTimeout: 200 * time.Millisecond, WriteTimeout: 200 * time.Millisecond}
	drivertest.BothWays(t, func(t *testing.T, shared int) {
		server := testkit.Start(t, testkit.Redis)
		proxy := testkit.NewProxy(t, server.Addr)
		o := options
		o.Addr = proxy.Addr()
		s := ourSide(t, driver.Config{Pool: pooler.Config{MaxOpenConns: sockets, SharedConns: shared, HealthCheckTimeout: 100 * time.Millisecond}}, o)
		saw := s.silence(t, server, proxy)
		saw.checkCounter(t, server.Do(t, "GET", "counter:"+s.name))
		reason := pooler.CloseSilence
		if shared == -1 {
			reason = pooler.CloseAbandoned
		}
		st := s.settled(t)
		t.Logf("%d dials, closes %v", st.Dials, st.Closes)
		if st.Closes[reason] == 0 {
			t.Errorf("no silent connection was given up: %v", st.Closes)
		}
	})
	t.Run("stock", func(t *testing.T) {
		server := testkit.Start(t, testkit.Redis)
		proxy := testkit.NewProxy(t, server.Addr)
		o := options
		o.Addr, o.PoolSize = proxy.Addr(), sockets
		stockSide(t, o).silence(t, server, proxy)
	})
}

// silence silences all connections under the side's load.
func (s side) silence(t *testing.T, server *testkit.Server, proxy *testkit.Proxy) *tally {
	t.Helper()
	s.warm(t, sockets)
	stop := make(chan struct{})
	saw := new(tally)
	wg := s.drive(t, stop, 16, saw)
	pause(100 * time.Millisecond)
	proxy.Silence(true)
	saw.arm()
	testkit.Await(t, "every caller succeeds again", func() bool { return saw.healed.Load() == 16 })
	pause(long(300 * time.Millisecond))
	close(stop)
	wg.Wait()
	t.Logf("%-9s %d reads, %d failed; %d INCR acknowledged, %d unknown, %d failed otherwise; slowest call %v; counter %s%s", s.name, saw.reads.Load(), saw.failedReads.Load(), saw.incrs.Load(), saw.unknown.Load(), saw.never.Load(),
		time.Duration(saw.slowest.Load()).Round(time.Millisecond), server.Do(t, "GET", "counter:"+s.name), saw.failures())
	if saw.wrong.Load() != 0 {
		t.Errorf("%s: %d replies belong to other calls", s.name, saw.wrong.Load())
	}
	return saw
}

// While a port refuses, callers wait; what was under way is moved or sent
// again.
func TestARefusingPortCostsLatencyAndNoErrors(t *testing.T) {
	testkit.Waits(t)
	drivertest.BothWays(t, func(t *testing.T, shared int) {
		server := testkit.Start(t, testkit.Redis)
		proxy := testkit.NewProxy(t, server.Addr)
		s := ourSide(t, driver.Config{Pool: pooler.Config{SharedConns: shared, MaxOpenConns: sockets}}, redis.Options{Addr: proxy.Addr()})
		s.warm(t, sockets)
		stop := make(chan struct{})
		saw := new(tally)
		wg := s.drive(t, stop, callers, saw)
		for range 3 {
			pause(100 * time.Millisecond)
			proxy.Refuse(true)
			proxy.Reset()
			testkit.Await(t, "the pool notices", func() bool { return s.stats(t).State != pooler.StateUp })
			pause(200 * time.Millisecond)
			proxy.Refuse(false)
			testkit.Await(t, "the node is up", func() bool { return s.stats(t).State == pooler.StateUp })
		}
		close(stop)
		wg.Wait()
		st := s.settled(t)
		t.Logf("everpool  %d reads, %d failed; %d INCR acknowledged, %d unknown, %d failed otherwise; %d dials, %d of them failed%s", saw.reads.Load(), saw.failedReads.Load(), saw.incrs.Load(), saw.unknown.Load(), saw.never.Load(),
			st.Dials, st.DialErrors, saw.failures())
		if saw.failedReads.Load() != 0 || saw.never.Load() != 0 {
			t.Errorf("%d reads and %d INCR failed that were never sent; want none", saw.failedReads.Load(), saw.never.Load())
		}
		if st.Heals < 3 {
			t.Errorf("the node healed %d times, want 3", st.Heals)
		}
		saw.checkCounter(t, server.Do(t, "GET", "counter:"+s.name))
	})
}
