package acceptance_test

import (
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/internal/testkit/drivertest"
	"github.com/everpool/everpool/pooler"
)

// accepted is how many connections the server has accepted, that of the
// question included.
func accepted(tb testing.TB, s *testkit.Server) int64 {
	tb.Helper()
	for line := range strings.Lines(s.Do(tb, "INFO", "stats")) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), "total_connections_received:"); ok {
			n, err := strconv.ParseInt(v, 10, 64)
			if err != nil {
				tb.Fatal(err)
			}
			return n
		}
	}
	tb.Fatal("INFO has no total_connections_received")
	return 0
}

// freeze is what one side saw of a server that stood still for a second.
type freeze struct {
	*tally
	arrived, dials int64 // new connections: that the server accepted, that were dialed
	alone          bool  // there was a shared connection for each caller and one more before
}

func (s side) freeze(t *testing.T, server *testkit.Server, n int) freeze {
	s.warm(t, n)
	stop := make(chan struct{})
	f := freeze{tally: new(tally)}
	wg := s.drive(t, stop, n, f.tally)
	s.grown(t)

	if s.d != nil {
		f.alone = s.stats(t).Lanes > n // of n a caller may find all in use: one is yet to come
	}
	before, dials := accepted(t, server), s.dialCounter.dials.Load()
	server.Freeze()
	pause(time.Second)
	f.arm()
	server.Thaw()
	testkit.Await(t, "every caller succeeds again", func() bool { return f.healed.Load() == int64(n) })
	pause(200 * time.Millisecond)
	close(stop)
	wg.Wait()
	f.arrived, f.dials = accepted(t, server)-before-1, s.dialCounter.dials.Load()-dials
	return f
}

func (f freeze) log(t *testing.T, name string) {
	t.Logf("%-9s %7d reads, %4d failed; %6d INCR acknowledged, %3d unknown, %3d failed otherwise; %d new connections at the server, %d dials; slowest call %v; first success %v after the server went on%s",
		name, f.reads.Load(), f.failedReads.Load(), f.incrs.Load(), f.unknown.Load(), f.never.Load(), f.arrived, f.dials,
		time.Duration(f.slowest.Load()).Round(time.Millisecond), time.Duration(f.first.Load()-f.armed.Load()).Round(100*time.Microsecond), f.failures())
}

// A server that stands still costs its callers their timeouts, and the pool no
// connections but those that ask whether it is the connection that is silent: the
// late replies are drained, and nobody gets another's.
func TestAFrozenServerCostsTimeoutsAndNoConnections(t *testing.T) {
	testkit.Waits(t)
	options := redis.Options{ReadTimeout: 100 * time.Millisecond, WriteTimeout: 100 * time.Millisecond}
	for _, n := range []int{callers, 4} {
		t.Run(fmt.Sprintf("everpool with %d callers", n), func(t *testing.T) {
			drivertest.BothWays(t, func(t *testing.T, shared int) {
				server := testkit.Start(t, testkit.Redis)
				o := options
				o.Addr = server.Addr
				var silences atomic.Int64
				s := ourSide(t, driver.Config{Pool: pooler.Config{MaxOpenConns: sockets, SharedConns: shared, OnEvent: countSilences(&silences)}}, o)
				f := s.freeze(t, server, n)
				f.log(t, s.name)
				st := s.settled(t)
				t.Logf("everpool  %d calls abandoned, closes %v, silent %d times", st.Abandoned, st.Closes, silences.Load())
				if n := f.wrong.Load(); n != 0 {
					t.Errorf("%d replies belong to other calls", n)
				}
				// A probe each time that silence is noticed: a second one while the first
				// isn't answered. On a busy machine the server may be silent once more.
				// Before it is frozen a busy machine gives reason to ask whether writes are held
				// back, on one connection more.
				limit := max(2, silences.Load()) + 1
				if n < sockets && !f.alone {
					limit++ // one for company: so many are under way at once for the first time
				}
				if shared == -1 {
					// What was abandoned and not drained in the end was closed for
					// it. A pool with room may also make up for each call that
					// can't be drained while the server stands still.
					limit = st.Closes[pooler.CloseAbandoned]
					if n < sockets {
						limit += st.Abandoned
					}
				}
				if f.arrived > limit || f.dials > limit {
					t.Errorf("%d new connections at the server and %d dials, want at most %d", f.arrived, f.dials, limit)
				}
				f.checkCounter(t, server.Do(t, "GET", "counter:"+s.name))
			})
		})
		if n != callers {
			continue // the stock client is for comparison
		}
		t.Run(fmt.Sprintf("stock with %d callers", n), func(t *testing.T) {
			server := testkit.Start(t, testkit.Redis)
			o := options
			o.Addr, o.PoolSize = server.Addr, sockets
			s := stockSide(t, o)
			f := s.freeze(t, server, n)
			f.log(t, s.name)
			if n := f.wrong.Load(); n != 0 {
				t.Logf("stock     %d replies belong to other calls", n)
			}
			t.Logf("stock     counter %s", server.Do(t, "GET", "counter:"+s.name))
		})
	}
}
