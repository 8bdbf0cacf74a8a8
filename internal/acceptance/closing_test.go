package acceptance_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/pooler"
)

// inTime fails the test if f hangs.
func inTime(t *testing.T, what string, f func()) time.Duration {
	t.Helper()
	began := time.Now()
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	limit := time.NewTimer(time.Minute)
	defer limit.Stop()
	select {
	case <-done:
	case <-limit.C:
		t.Fatalf("%s hangs", what)
	}
	return time.Since(began)
}

// closings are the states of a server in which clients and drivers are closed.
var closings = []struct {
	name          string
	before, after func(*testkit.Server, *testkit.Proxy)
}{
	{"a server that answers", func(*testkit.Server, *testkit.Proxy) {}, func(*testkit.Server, *testkit.Proxy) {}},
	{"a frozen server", func(s *testkit.Server, _ *testkit.Proxy) { s.Freeze() }, func(s *testkit.Server, _ *testkit.Proxy) { s.Thaw() }},
	{"a silent network", func(_ *testkit.Server, p *testkit.Proxy) { p.Silence(true) }, func(_ *testkit.Server, p *testkit.Proxy) { p.Silence(false) }},
	{"a dead server", func(s *testkit.Server, _ *testkit.Proxy) { s.Kill() }, func(*testkit.Server, *testkit.Proxy) {}},
}

// A client, or the driver, that is closed under a hundred callers lets all of them
// go, leaves nothing behind, and says so to whoever comes later.
func TestClosingUnderSharedRequestsHangsNobody(t *testing.T) {
	for _, c := range closings {
		for _, driverFirst := range []bool{false, true} {
			name := c.name + "/the client"
			if driverFirst {
				name = c.name + "/the driver"
			}
			t.Run(name, func(t *testing.T) {
				server := testkit.Start(t, testkit.Redis)
				proxy := testkit.NewProxy(t, server.Addr)
				s := ourSide(t, driver.Config{Pool: pooler.Config{HealthCheckTimeout: 200 * time.Millisecond, FailFastAfter: time.Second}},
					redis.Options{Addr: proxy.Addr(), ReadTimeout: 5 * time.Second, WriteTimeout: 5 * time.Second})
				clean := goleak.IgnoreCurrent()
				var calls, left atomic.Int64
				var wg sync.WaitGroup
				const n = 100
				for i := range n {
					wg.Go(func() {
						defer left.Add(1)
						var err error
						for err == nil {
							if i%8 == 0 {
								err = s.rdb.Incr(context.Background(), "counter").Err()
							} else {
								err = s.rdb.Echo(context.Background(), "x").Err()
							}
							calls.Add(1)
						}
					})
				}
				testkit.Await(t, "all are at work", func() bool { return calls.Load() > 2*n })
				c.before(server, proxy)
				pause(20 * time.Millisecond)
				var took [2]time.Duration
				if driverFirst {
					took[0] = inTime(t, "closing the driver", func() { _ = s.d.Close() })
				} else {
					took[0] = inTime(t, "closing the client", func() { _ = s.rdb.Close() })
				}
				c.after(server, proxy)
				gone := inTime(t, "a caller", wg.Wait)
				want := pooler.ErrClosed
				if !driverFirst {
					want = redis.ErrClosed
				}
				if err := s.rdb.Get(context.Background(), "x").Err(); !errors.Is(err, want) {
					t.Errorf("a later call: %v, want %v", err, want)
				}
				_ = s.rdb.Close()
				took[1] = inTime(t, "closing the driver at last", func() { _ = s.d.Close() })
				st := s.stats(t)
				t.Logf("%d calls; closing took %v, the callers left %v later, all was over after %v more; closes %v, %d abandoned, %d failed, %d unknown", calls.Load(),
					took[0].Round(time.Millisecond), gone.Round(time.Millisecond), took[1].Round(time.Millisecond), st.Closes, st.Abandoned, st.Failed, st.Unknown)
				if st.InFlight != 0 || st.OpenConnections != 0 || st.Admitted != st.Answered+st.Failed+st.Abandoned {
					t.Errorf("in flight %d, open %d; %d admitted, %d answered + %d failed + %d abandoned", st.InFlight, st.OpenConnections, st.Admitted, st.Answered, st.Failed, st.Abandoned)
				}
				proxy.Close()
				goleak.VerifyNone(t, clean, goleak.IgnoreTopFunction("os/exec.(*Cmd).Wait"))
			})
		}
	}
}
