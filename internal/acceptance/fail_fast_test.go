package acceptance_test

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/pooler"
)

// probesWithin is how many dials the prober may make in an outage of length d,
// if every interval is as short as its jitter makes it: an interval is at least
// BackoffMin, and at least a twenty-fourth of the outage so far.
func probesWithin(d time.Duration) int64 {
	const jitter = 0.85
	n := int64(2) // at once, and the dial that found it out
	for at := time.Duration(0); at < d; n++ {
		at += time.Duration(jitter * float64(min(max(10*time.Millisecond, at/24), time.Second)))
	}
	return n
}

// hammer has n goroutines call without a pause until each has succeeded after
// back was closed. It returns the failures that aren't ErrNodeDown.
func (s side) hammer(n int, back <-chan struct{}) (wait func() []error, calls *atomic.Int64) {
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex
		other []error
	)
	calls = new(atomic.Int64)
	for range n {
		wg.Go(func() {
			for over := false; ; {
				select {
				case <-back:
					over = true
				default:
				}
				err := s.rdb.Get(context.Background(), "constant").Err()
				calls.Add(1)
				switch {
				case err == nil && over:
					return
				case err != nil && !errors.Is(err, pooler.ErrNodeDown):
					mu.Lock()
					other = append(other, err)
					mu.Unlock()
					if over {
						return
					}
				}
			}
		})
	}
	return func() []error { wg.Wait(); return other }, calls
}

// sample is what the process holds after a collection.
type sample struct {
	goroutines int
	heap       uint64
}

func takeSample() sample {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return sample{runtime.NumGoroutine(), m.HeapAlloc}
}

// After FailFastAfter a call on a dead node fails as soon as a dial does and says why;
// one prober dials, once in BackoffMin at most, whoever hammers, and nothing grows.
func TestALongOutageFailsFastAndCostsNothing(t *testing.T) {
	server := testkit.Start(t, testkit.Redis, testkit.WithArgs("--appendonly", "yes"))
	const failFast = 300 * time.Millisecond
	s := ourSide(t, driver.Config{Pool: pooler.Config{MaxOpenConns: sockets, FailFastAfter: failFast}}, redis.Options{Addr: server.Addr})
	began := time.Now()
	s.warm(t, callers)
	killed := time.Now()
	server.Kill()

	// The first call of those who wait for the node.
	err := s.rdb.Get(context.Background(), "constant").Err()
	if !errors.Is(err, pooler.ErrNodeDown) {
		t.Fatalf("a call on the dead node: %v; want ErrNodeDown", err)
	}
	t.Logf("everpool  the first call failed %v after the kill, FailFastAfter is %v", time.Since(killed).Round(time.Millisecond), failFast)
	s.most.Store(0)
	facts := checkFacts(t, err, server.Addr, began)

	took := make([]time.Duration, 0, 500)
	for range cap(took) {
		began := time.Now()
		err = s.rdb.Get(context.Background(), "constant").Err()
		took = append(took, time.Since(began))
		if !errors.Is(err, pooler.ErrNodeDown) {
			t.Fatalf("a call on the dead node: %v; want ErrNodeDown", err)
		}
	}
	slices.Sort(took)
	t.Logf("everpool  a call on the dead node takes %v (median), %v (99th of 100): %v", took[len(took)/2], took[len(took)*99/100], err)

	n := 10_000
	if testkit.Race {
		n = 1_000
	}
	back := make(chan struct{})
	wait, calls := s.hammer(n, back)
	pause(long(time.Second))
	first := takeSample()
	pause(long(1500 * time.Millisecond))
	second := takeSample()
	t.Logf("everpool  %d callers, %d calls: %d then %d goroutines, %d then %d MiB", n, calls.Load(), first.goroutines, second.goroutines, first.heap>>20, second.heap>>20)
	// go-redis makes each handle on a goroutine of its own.
	if most := n + s.rdb.Options().PoolSize + 200; second.goroutines > most {
		t.Errorf("%d goroutines for %d callers", second.goroutines, n)
	}
	if second.heap > 2*first.heap+128<<20 {
		t.Errorf("the heap grows: %d bytes, then %d", first.heap, second.heap)
	}
	if most := s.most.Load(); most > 1 {
		t.Errorf("%d dials at a time while the node was down, want 1", most)
	}
	// On handles of its own; the others have their queue at go-redis.
	other := redis.NewClient(s.d.Options(&redis.Options{Addr: server.Addr}))
	again := checkFacts(t, other.Get(context.Background(), "constant").Err(), server.Addr, began)
	_ = other.Close()
	if !again.Since.Equal(facts.Since) || again.Attempts <= facts.Attempts {
		t.Errorf("down since %v with %d attempts, and later %v with %d; want the same time and more attempts", facts.Since, facts.Attempts, again.Since, again.Attempts)
	}
	elapsed, dials := time.Since(killed), s.failed.Load()
	t.Logf("everpool  %d dials in %v", dials, elapsed.Round(time.Millisecond))
	backoff := pooler.Config{}.Limits().BackoffMin
	if limit := probesWithin(failFast) + int64((elapsed-failFast)/backoff); dials > limit {
		t.Errorf("%d dials in %v; want at most %d", dials, elapsed, limit)
	}

	server.Restart(t)
	testkit.Await(t, "the node is up", func() bool { return s.stats(t).State == pooler.StateUp })
	close(back)
	if errs := wait(); len(errs) > 0 {
		t.Errorf("%d calls failed with something else than ErrNodeDown, such as: %v", len(errs), errs[0])
	}
	s.settled(t)
}

// checkFacts checks that the error says all that is known of the dead node.
func checkFacts(t *testing.T, err error, addr string, began time.Time) *pooler.Error {
	t.Helper()
	var facts *pooler.Error
	if !errors.As(err, &facts) {
		t.Fatalf("%v is not a *pooler.Error", err)
	}
	if facts.Node != addr || facts.Attempts == 0 || facts.Cause == nil || facts.Since.Before(began) || facts.Since.After(time.Now()) {
		t.Errorf("the error has Node %q, Attempts %d, Cause %v, Since %v", facts.Node, facts.Attempts, facts.Cause, facts.Since)
	}
	return facts
}
