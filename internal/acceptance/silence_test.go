package acceptance_test

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/pooler"
)

// Shared connections that swallow everything from a moment on cost nobody an error
// but those whose writes went down with them.
func TestSilentSharedConnectionsFailNoRead(t *testing.T) {
	testkit.Works(t)
	server := testkit.Start(t, testkit.Redis)
	proxy := testkit.NewProxy(t, server.Addr)
	s := ourSide(t, driver.Config{}, redis.Options{Addr: proxy.Addr(), ReadTimeout: time.Second, WriteTimeout: time.Second})
	s.warm(t, callers)
	before := s.stats(t).Dials
	stop := make(chan struct{})
	saw := new(split)
	wg := s.driveSplit(t, stop, callers, 1, saw)
	pause(200 * time.Millisecond)
	const rounds = 2
	for range rounds {
		proxy.Silence(true)
		pause(1200 * time.Millisecond) // the INCRs that went down have timed out
	}
	close(stop)
	wg.Wait()
	testkit.Await(t, "the silent connections are closed", func() bool { return s.stats(t).Lanes <= 4 && s.stats(t).Closes[pooler.CloseSilence] > 0 })
	st := s.settled(t)
	t.Logf("%v; %d dials, closes %v, %d resent, %d moved, %d unknown", saw, st.Dials-before, st.Closes, st.Resent, st.Moved, st.Unknown)
	saw.check(t, server.Do(t, "GET", "counter:"+s.name))
	if n := saw.writes.never.Load(); n != 0 {
		t.Errorf("%d INCR failed that were never sent", n)
	}
	if st.Shared == 0 || st.Resent == 0 || st.Closes[pooler.CloseSilence] == 0 {
		t.Errorf("%d requests shared, %d sent again, closes %v; want some of each, and for silence", st.Shared, st.Resent, st.Closes)
	}
	// A probe and a lane or two for each round, and as many again to spare.
	//
	// Once: a lane that was given up was doubted until it
	// ended, with a dial each 100 ms that had all idle connections closed.
	if n := st.Dials - before; n > 8*rounds {
		t.Errorf("%d dials for %d silences, want at most %d", n, rounds, 8*rounds)
	}
}

// A lone reader is no worse off, though there is nobody else to notice. That half
// a second is the price is tested in a bubble, see the driver's own tests.
func TestASilentSharedConnectionFailsNoLoneReader(t *testing.T) {
	testkit.Waits(t)
	server := testkit.Start(t, testkit.Redis)
	proxy := testkit.NewProxy(t, server.Addr)
	s := ourSide(t, driver.Config{}, redis.Options{Addr: proxy.Addr(), ReadTimeout: 20 * time.Second, WriteTimeout: 20 * time.Second, MaxRetries: -1})
	saw := new(split)
	const rounds = 3
	for range rounds {
		s.warm(t, 1)
		proxy.Silence(true)
		s.echoOnce(saw, "alone")
	}
	st := s.settled(t)
	t.Logf("%v; %d dials, closes %v, %d resent", saw, st.Dials, st.Closes, st.Resent)
	saw.check(t, "0")
	if st.Dials > 4*rounds {
		t.Errorf("%d dials for %d silences, want at most %d", st.Dials, rounds, 4*rounds)
	}
	testkit.Await(t, "the silent connections are closed", func() bool { return s.stats(t).Lanes <= 4 && s.stats(t).Closes[pooler.CloseSilence] >= rounds })
}

// A silence that swallows the probe as well is noticed by the next one.
//
// Once there was no next one until DialTimeout (5 s) was over, or
// HealthCheckTimeout (2 s) if the probe got through its handshake; until then all
// readers ran into their timeouts, and out of retries.
func TestASilenceThatSwallowsItsProbeFailsNoRead(t *testing.T) {
	testkit.Works(t)
	server := testkit.Start(t, testkit.Redis)
	proxy := testkit.NewProxy(t, server.Addr)
	s := ourSide(t, driver.Config{}, redis.Options{Addr: proxy.Addr(), ReadTimeout: time.Second, WriteTimeout: time.Second})
	s.warm(t, 16)
	stop := make(chan struct{})
	saw := new(split)
	wg := s.driveSplit(t, stop, 16, 1, saw)
	pause(100 * time.Millisecond)
	arrived := proxy.Accepted()
	proxy.Silence(true)
	testkit.Await(t, "the probe arrives", func() bool { return proxy.Accepted() > arrived })
	proxy.Silence(true)
	time.AfterFunc(long(1500*time.Millisecond), func() { close(stop) })
	wg.Wait()
	st := s.settled(t)
	t.Logf("%v; %d dials, closes %v, %d resent", saw, st.Dials, st.Closes, st.Resent)
	saw.check(t, server.Do(t, "GET", "counter:"+s.name))
}
