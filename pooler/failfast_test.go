package pooler_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/everpool/everpool/pooler"
)

// asking are the ways in which a caller asks for the node.
var asking = map[string]func(pt *tester) error{
	"Get": func(pt *tester) error {
		c, err := pt.tryGet(pooler.Request{Session: pt.plain, Name: "GET"})
		if err == nil {
			pt.put(c)
		}
		return err
	},
	"Share": func(pt *tester) error {
		_, err := pt.pool.Share(context.Background(), pooler.Request{Session: pt.plain})
		return err
	},
	"Await": func(pt *tester) error {
		return pt.pool.Await(context.Background(), pooler.Request{Session: pt.plain}, 0)
	},
}

// failing runs the test for each way to ask, in an outage that has lasted for so long
// that calls fail fast. Each dial of a refusing node takes that long.
func failing(t *testing.T, cfg pooler.Config, takes time.Duration, run func(pt *tester, ask func() error)) {
	cfg.WaitTimeout = -1
	for name, ask := range asking {
		t.Run(name, func(t *testing.T) {
			bubble(t, cfg, func(pt *tester) {
				c := pt.get(pt.plain)
				pt.dialer.take(takes)
				pt.fake.DownRefused()
				pt.dialer.refuse(true)
				_, _ = exchange(c, "PING")
				pt.fail(c)
				pt.wantGetErr(pt.plain, pooler.ErrNodeDown)
				pt.sleep(30 * time.Second)
				run(pt, func() error { return ask(pt) })
				pt.back()
			})
		})
	}
}

// back has the node serve again.
func (pt *tester) back() {
	pt.dialer.refuse(false)
	pt.fake.Up()
}

// As with the stock client, which dials at each call.
func TestTheFirstCallAfterAnOutageSucceedsHoweverLongItWas(t *testing.T) {
	failing(t, pooler.Config{}, 0, func(pt *tester, ask func() error) {
		pt.afterAProbe()
		pt.back()
		began := time.Now()
		if err := ask(); err != nil || time.Since(began) != 0 {
			pt.Errorf("%v after %s", err, time.Since(began))
		}
	})
}

// afterAProbe waits for a probe by the prober's own schedule, and then so long that
// BackoffMin doesn't keep the next one back.
func (pt *tester) afterAProbe() {
	pt.Helper()
	for n := pt.dialer.count(); pt.dialer.count() == n; {
		pt.sleep(time.Millisecond)
	}
	pt.sleep(50 * time.Millisecond)
}

// The last probe was a moment ago, or is under way: what it says was true before the
// call.
func TestACallIsNotToldWhatWasTrueBeforeIt(t *testing.T) {
	for _, since := range []time.Duration{1, time.Millisecond, 3 * time.Millisecond, 9 * time.Millisecond} {
		failing(t, pooler.Config{}, 2*time.Millisecond, func(pt *tester, ask func() error) {
			pt.afterAProbe()
			other := make(chan error, 1)
			go func() { other <- ask() }()
			pt.sleep(since)
			pt.back()
			began := time.Now()
			if err := ask(); err != nil || time.Since(began) > 15*time.Millisecond {
				pt.Errorf("%s after the last probe began: %v after %s", since, err, time.Since(began))
			}
			pt.wantErr(<-other, pooler.ErrNodeDown)
		})
	}
}

func TestAStormOfFailingCallsIsOneDialForEachBackoffMinAndWaitsForIt(t *testing.T) {
	failing(t, pooler.Config{}, time.Millisecond, func(pt *tester, ask func() error) {
		pt.dialer.resetPeak()
		before := pt.dialer.count()
		stop := time.Now().Add(10 * time.Second)
		var mu sync.Mutex
		var longest time.Duration
		calls := 0
		var wg sync.WaitGroup
		for range 64 {
			wg.Go(func() {
				for time.Now().Before(stop) {
					began := time.Now()
					if err := ask(); err == nil {
						pt.Error("a call succeeded")
					}
					mu.Lock()
					calls++
					longest = max(longest, time.Since(began))
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		if longest > 12*time.Millisecond {
			pt.Errorf("a call took %s", longest)
		}
		dials := pt.dialer.count() - before
		if dials > 1005 || calls < 64*900 || pt.dialer.peak() > 1 {
			pt.Errorf("%d dials for %d calls, %d at a time", dials, calls, pt.dialer.peak())
		}
	})
}

func TestALoneCallFailsAsSoonAsItsProbeDoes(t *testing.T) {
	failing(t, pooler.Config{}, time.Millisecond, func(pt *tester, ask func() error) {
		for range 100 {
			pt.sleep(100 * time.Millisecond)
			began := time.Now()
			pt.wantErr(ask(), pooler.ErrNodeDown)
			if took := time.Since(began); took > 10*time.Millisecond {
				pt.Errorf("it took %s", took)
			}
		}
	})
}

// Only an answer that comes soon is worth waiting for.
func TestInABlackHoleCallsFailAtOnce(t *testing.T) {
	for _, dialTimeout := range []time.Duration{100 * time.Millisecond, 5 * time.Second} {
		t.Run(dialTimeout.String(), func(t *testing.T) { testBlackHole(t, dialTimeout) })
	}
}

func testBlackHole(t *testing.T, dialTimeout time.Duration) {
	known := min(dialTimeout, 200*time.Millisecond)
	failing(t, pooler.Config{DialTimeout: dialTimeout}, 0, func(pt *tester, ask func() error) {
		pt.back()
		pt.fake.HangDials(true)
		began := time.Now()
		var wg sync.WaitGroup
		for i := range 20 { // it is not known yet
			wg.Go(func() {
				time.Sleep(time.Duration(i) * known / 20)
				pt.wantErrors(ask(), pooler.ErrNodeDown)
			})
		}
		wg.Wait()
		if took := time.Since(began); took < known || took > known+10*time.Millisecond {
			pt.Errorf("they took %s", took)
		}
		for range 300 { // while it hangs, and between two probes
			began := time.Now()
			pt.wantErr(ask(), pooler.ErrNodeDown)
			if took := time.Since(began); took != 0 {
				pt.Fatalf("a call took %s", took)
			}
			pt.sleep(100 * time.Millisecond)
		}
		if most := pt.dialer.peak(); most > 1 {
			pt.Errorf("%d dials at a time", most)
		}
		pt.fake.HangDials(false)
		pt.sleep(2 * time.Second)
		if err := ask(); err != nil {
			pt.Error(err)
		}
	})
}

func TestTheLongestCallOfAnEndlessOutage(t *testing.T) {
	for name, away := range map[string]func(pt *tester){
		"refuses": func(pt *tester) { pt.dialer.refuse(true) },
		"hangs":   func(pt *tester) { pt.fake.HangDials(true) },
	} {
		for way, ask := range asking {
			t.Run(name+" "+way, func(t *testing.T) {
				bubble(t, pooler.Config{FailFastAfter: time.Second, WaitTimeout: -1}, func(pt *tester) {
					away(pt)
					var wg sync.WaitGroup
					for i := range 100 {
						wg.Go(func() {
							time.Sleep(time.Duration(i) * 100 * time.Millisecond)
							began := time.Now()
							pt.wantErrors(ask(pt), pooler.ErrNodeDown)
							most := 1200 * time.Millisecond
							if name == "hangs" && way != "Await" {
								most = 5 * time.Second // a request isn't failed before a dial is
							}
							if took := time.Since(began); took > most {
								t.Errorf("it took %s", took)
							}
						})
					}
					wg.Wait()
					pt.fake.HangDials(false)
				})
			})
		}
	}
}

func TestCallsDoNotWaitForAProbeThatBackoffMinKeepsBackForLong(t *testing.T) {
	failing(t, pooler.Config{BackoffMin: time.Second}, 0, func(pt *tester, ask func() error) {
		for range 100 {
			began := time.Now()
			pt.wantErr(ask(), pooler.ErrNodeDown)
			if took := time.Since(began); took > 200*time.Millisecond {
				pt.Errorf("it took %s", took)
			}
			pt.sleep(30 * time.Millisecond)
		}
		if n := pt.dialer.count(); n > 50 {
			pt.Errorf("%d dials", n)
		}
	})
}

// There is no room for a probe: nobody waits for one.
func TestCallsFailSoonWhereAFullPoolHasNoRoomToAsk(t *testing.T) {
	for name, ask := range asking {
		t.Run(name, func(t *testing.T) {
			bubble(t, pooler.Config{MaxOpenConns: 2, FailFastAfter: time.Second, BackoffMin: time.Millisecond}, func(pt *tester) {
				kept := []*pooler.Conn{pt.keep(), pt.keep()}
				pt.pool.SetMaxOpenConns(3)
				pt.dialer.refuse(true)
				pt.wantGetErr(pt.plain, pooler.ErrNodeDown)
				pt.pool.SetMaxOpenConns(2)
				pt.sleep(10 * time.Second)
				began := time.Now()
				pt.wantErr(ask(pt), pooler.ErrNodeDown)
				if took := time.Since(began); took > time.Millisecond {
					t.Errorf("it took %s", took)
				}
				pt.put(kept...)
			})
		})
	}
}

// By that is known, without a wait, whether to wait at all.
func TestACallerWithoutTimeIsToldWhetherCallsFailFast(t *testing.T) {
	bubble(t, pooler.Config{FailFastAfter: time.Second}, func(pt *tester) {
		over, end := context.WithCancel(context.Background())
		end()
		ask := func() error { return pt.pool.Await(over, pooler.Request{Session: pt.plain}, 0) }
		c := pt.get(pt.plain)
		if err := ask(); err != nil {
			t.Errorf("while it serves: %v", err)
		}
		pt.fake.DownRefused()
		pt.dialer.refuse(true)
		_, _ = exchange(c, "PING")
		pt.fail(c)
		go func() { _, _ = pt.tryGet(pooler.Request{Session: pt.plain, Name: "GET"}) }()
		pt.sleep(500 * time.Millisecond)
		if err := ask(); !errors.Is(err, context.Canceled) {
			t.Errorf("while callers wait: %v, want that it would have to", err)
		}
		pt.sleep(time.Second)
		if err := ask(); !errors.Is(err, pooler.ErrNodeDown) {
			t.Errorf("while calls fail fast: %v, want that the node is down", err)
		}
		pt.back()
	})
}

// The timer that tells those who have waited for FailFastAfter may be late. A call that has
// come meanwhile waits for its own probe.
func TestALateEndOfTheWaitingIsForThoseWhoHaveWaited(t *testing.T) {
	failing(t, pooler.Config{}, 20*time.Millisecond, func(pt *tester, ask func() error) {
		pt.back()
		told := make(chan error)
		go func() { told <- ask() }()
		pt.sleep(15 * time.Millisecond) // its probe is under way
		pooler.EndWaiting(pt.pool)
		if err := <-told; err != nil {
			t.Error(err)
		}
	})
}
