package pooler_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/everpool/everpool/pooler"
)

// outage has 8 callers at work, takes the server away for so long, and returns
// the time between its return and the first success.
func (pt *tester) outage(d time.Duration) (healing time.Duration) {
	pt.Helper()
	var mu sync.Mutex
	var up, first time.Time
	stop := make(chan struct{})
	healed := make(chan struct{})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(20 * time.Millisecond):
				}
				c, err := pt.tryGet(pooler.Request{Session: pt.plain})
				if err != nil {
					pt.Errorf("Get: %v", err)
					return
				}
				if _, err = exchange(c, "PING"); err != nil {
					pt.fail(c)
					continue
				}
				pt.put(c)
				mu.Lock()
				if !up.IsZero() && first.IsZero() {
					first = time.Now()
					close(healed)
				}
				mu.Unlock()
			}
		})
	}
	pt.sleep(100 * time.Millisecond)
	pt.fake.DownRefused()
	pt.sleep(d)
	mu.Lock()
	up = time.Now()
	mu.Unlock()
	pt.fake.Up()
	select {
	case <-healed:
	case <-time.After(d + time.Second):
		pt.Error("it didn't heal")
		first = time.Now()
	}
	close(stop)
	wg.Wait()
	return first.Sub(up)
}

func TestHealingAddsAtMostATwentiethToAnOutage(t *testing.T) {
	for _, d := range []time.Duration{300 * time.Millisecond, time.Second, 1500 * time.Millisecond, 5 * time.Second, 15 * time.Second} {
		t.Run(d.String(), func(t *testing.T) {
			var worst time.Duration
			for range 12 {
				bubble(t, pooler.Config{WaitTimeout: -1, FailFastAfter: -1}, func(pt *tester) {
					worst = max(worst, pt.outage(d))
				})
			}
			// A short outage is bounded by the early interval instead.
			if bound := max(d/20, 42*time.Millisecond); worst > bound {
				t.Errorf("healing took %s, want at most %s", worst, bound)
			}
			t.Logf("the slowest took %s, %.1f %%", worst, 100*float64(worst)/float64(d))
		})
	}
}

func TestTheDialsOfAnOutageAreFew(t *testing.T) {
	for _, tc := range []struct {
		outage      time.Duration
		least, most int
	}{
		{100 * time.Millisecond, 4, 10},
		{1500 * time.Millisecond, 20, 50},
		{15 * time.Second, 60, 120},
		{time.Hour, 3500, 4500}, // about one each BackoffMax
	} {
		t.Run(tc.outage.String(), func(t *testing.T) {
			for range 5 {
				bubble(t, pooler.Config{WaitTimeout: -1, FailFastAfter: -1}, func(pt *tester) {
					pt.dialer.refuse(true)
					w := pt.wait(pt.plain)
					pt.sleep(tc.outage)
					n := pt.dialer.count()
					pt.dialer.refuse(false)
					pt.put(w.await().wantConn())
					if n < tc.least || n > tc.most {
						t.Errorf("%d dials, want %d to %d", n, tc.least, tc.most)
					}
				})
			}
		})
	}
}

func TestProbeIntervalsGrowToAShareOfTheOutageAndNeverBeyondBackoffMax(t *testing.T) {
	for _, cfg := range []pooler.Config{
		{},
		{BackoffMin: 50 * time.Millisecond, BackoffMax: 200 * time.Millisecond},
		{BackoffMin: time.Second, BackoffMax: time.Second},
	} {
		t.Run(fmt.Sprint(cfg.BackoffMin), func(t *testing.T) {
			limits := cfg.Limits()
			cfg.WaitTimeout, cfg.FailFastAfter = -1, -1
			bubble(t, cfg, func(pt *tester) {
				pt.dialer.refuse(true)
				began := time.Now()
				w := pt.wait(pt.plain)
				pt.sleep(2 * time.Minute)
				pt.dialer.refuse(false)
				at := pt.dialer.since(began)
				if at[0] != 0 || at[1] != 0 {
					t.Errorf("the first probe came %s after the failure, want at once", at[1])
				}
				var longest time.Duration
				for i := 2; i < len(at); i++ {
					d := at[i] - at[i-1]
					longest = max(longest, d)
					most := min(limits.BackoffMax, max(at[i-1]/20, 4*limits.BackoffMin))
					if d > most || d < limits.BackoffMin*85/100 {
						t.Errorf("dial %d came %s after the one before, %s after the failure; want %s to %s",
							i, d, at[i], limits.BackoffMin*85/100, most)
					}
				}
				if longest < limits.BackoffMax*8/10 {
					t.Errorf("the longest interval was %s, want BackoffMax, %s, less jitter", longest, limits.BackoffMax)
				}
				pt.put(w.await().wantConn())
			})
		})
	}
}

func TestProbesAreJittered(t *testing.T) {
	bubble(t, pooler.Config{WaitTimeout: -1, FailFastAfter: -1}, func(pt *tester) {
		pt.dialer.refuse(true)
		began := time.Now()
		w := pt.wait(pt.plain)
		pt.sleep(5 * time.Minute)
		seen := make(map[time.Duration]bool)
		at := pt.dialer.since(began)
		late := at[len(at)-100:]
		for i := 1; i < len(late); i++ {
			seen[late[i]-late[i-1]] = true
		}
		if len(seen) < 50 {
			t.Errorf("%d different intervals of 99", len(seen))
		}
		pt.dialer.refuse(false)
		pt.put(w.await().wantConn())
	})
}
