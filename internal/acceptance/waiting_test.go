package acceptance_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/internal/testkit/drivertest"
	"github.com/everpool/everpool/pooler"
)

// Transactions that watch hold their connection from WATCH to EXEC, and many
// more than there are connections lose no update.
func TestConcurrentWatchesLoseNoUpdate(t *testing.T) {
	t.Parallel() // what runs are its subtests
	for _, w := range []way{
		{kind: testkit.Redis, protocol: 2},
		{kind: testkit.Redis, protocol: 3, shared: -1},
		{kind: testkit.Valkey, protocol: 2, shared: -1},
		{kind: testkit.Valkey, protocol: 3},
	} {
		t.Run(w.String(), func(t *testing.T) {
			testkit.Works(t)
			const workers, each = 32, 20
			server := testkit.Start(t, w.kind)
			s := ourSide(t, driver.Config{Pool: pooler.Config{MaxOpenConns: 4, WaitTimeout: -1, SharedConns: w.shared}},
				redis.Options{Addr: server.Addr, Protocol: w.protocol, ReadTimeout: -1, WriteTimeout: -1})
			var conflicts atomic.Int64
			var wg sync.WaitGroup
			for range workers {
				wg.Go(func() {
					for done := 0; done < each; {
						err := s.add(context.Background(), "sum")
						switch {
						case err == nil:
							done++
						case errors.Is(err, redis.TxFailedErr):
							conflicts.Add(1)
						default:
							t.Errorf("transaction: %v", err)
							return
						}
					}
				})
			}
			wg.Wait()
			if got, want := server.Do(t, "GET", "sum"), fmt.Sprint(workers*each); got != want {
				t.Errorf("the sum is %s, want %s", got, want)
			}
			st := s.settled(t)
			t.Logf("%d transactions, %d conflicts, %d dials", workers*each, conflicts.Load(), st.Dials)
			if conflicts.Load() == 0 {
				t.Error("there was no conflict, so nothing was tested")
			}
			if st.Dials > 4 || st.Pinned != 0 || drivertest.Leases(st) != 0 {
				t.Errorf("%d dials, %d pinned, %d leased; want at most 4, 0, 0", st.Dials, st.Pinned, drivertest.Leases(st))
			}
		})
	}
}

// add adds one to key in an optimistic transaction.
func (s side) add(ctx context.Context, key string) error {
	return s.rdb.Watch(ctx, func(tx *redis.Tx) error {
		n, err := tx.Get(ctx, key).Int()
		if err != nil && !errors.Is(err, redis.Nil) {
			return err
		}
		_, err = tx.TxPipelined(ctx, func(p redis.Pipeliner) error {
			p.Set(ctx, key, n+1, 0)
			return nil
		})
		return err
	}, key)
}

// blocked is how many clients the server holds in blocking commands.
func blocked(tb testing.TB, ctl side) string {
	tb.Helper()
	info, err := ctl.rdb.Info(context.Background(), "clients").Result()
	if err != nil {
		tb.Fatal(err)
	}
	_, rest, _ := strings.Cut(info, "blocked_clients:")
	n, _, _ := strings.Cut(rest, "\r\n")
	return n
}

// popped is what a caller of BLPOP got.
type popped struct {
	caller int
	value  string
	err    error
}

func (s side) blpop(caller int, to chan<- popped) {
	got, err := s.rdb.BLPop(context.Background(), time.Minute, "queue").Result()
	p := popped{caller: caller, err: err}
	if err == nil {
		p.value = got[1]
	}
	to <- p
}

// Ten connections serve a hundred blocked callers in the order in which they
// came.
func TestBlockedCallersAreServedInOrder(t *testing.T) {
	testkit.Waits(t)
	drivertest.BothWays(t, func(t *testing.T, shared int) {
		const n, open = 100, 10
		server := testkit.Start(t, testkit.Redis)
		ctl := ourSide(t, driver.Config{}, redis.Options{Addr: server.Addr})
		s := ourSide(t, driver.Config{Pool: pooler.Config{SharedConns: shared, MaxOpenConns: open, WaitTimeout: -1}}, redis.Options{Addr: server.Addr, WriteTimeout: -1})
		to := make(chan popped, n)
		for i := range n {
			go s.blpop(i, to)
			if i < open {
				testkit.Await(t, "the server holds the caller", func() bool { return blocked(t, ctl) == fmt.Sprint(i+1) })
			} else {
				testkit.Await(t, "the pool holds the caller", func() bool { return s.stats(t).Waiting == i+1-open })
			}
		}
		for i := range n {
			if err := ctl.rdb.RPush(context.Background(), "queue", fmt.Sprint(i)).Err(); err != nil {
				t.Fatal(err)
			}
			if got := <-to; got.err != nil || got.caller != i || got.value != fmt.Sprint(i) {
				t.Fatalf("push %d reached caller %d as %q (%v)", i, got.caller, got.value, got.err)
			}
			testkit.Await(t, "the next caller blocks", func() bool { return blocked(t, ctl) == fmt.Sprint(min(open, n-1-i)) })
		}
		if st := s.settled(t); st.Dials > open || drivertest.Leases(st) != 0 || st.Answered < n {
			t.Errorf("%d dials, %d leased, %d answered; want at most %d, 0, at least %d", st.Dials, drivertest.Leases(st), st.Answered, open, n)
		}
	})
}

// Who waits in vain is told who holds the connections, and costs nobody
// anything.
func TestBlockedCallersTimeOutWithTheHolders(t *testing.T) {
	testkit.Waits(t)
	drivertest.BothWays(t, func(t *testing.T, shared int) {
		const n, open = 100, 10
		server := testkit.Start(t, testkit.Redis)
		ctl := ourSide(t, driver.Config{}, redis.Options{Addr: server.Addr})
		s := ourSide(t, driver.Config{Pool: pooler.Config{SharedConns: shared, MaxOpenConns: open, WaitTimeout: time.Second}},
			redis.Options{Addr: server.Addr, WriteTimeout: -1, MaxRetries: -1})
		to := make(chan popped, n)
		for i := range n {
			go s.blpop(i, to)
			if i < open {
				testkit.Await(t, "the server holds the caller", func() bool { return blocked(t, ctl) == fmt.Sprint(i+1) })
			}
		}
		for i := range n - open {
			err := (<-to).err
			var facts *pooler.Error
			if !errors.Is(err, redis.ErrPoolTimeout) || !errors.Is(err, pooler.ErrWaitTimeout) || !errors.As(err, &facts) {
				t.Fatalf("a caller that waited in vain got: %v", err)
			}
			if facts.Leased != open || facts.Max != open || !strings.HasPrefix(facts.Holders, "10 BLPOP") || !strings.HasSuffix(err.Error(), "held by BLPOP") {
				t.Fatalf("the error doesn't name the holders: %v", err)
			}
			if i == 0 {
				t.Logf("the error: %v", err)
			}
		}
		if got := blocked(t, ctl); got != fmt.Sprint(open) {
			t.Errorf("the server holds %s callers, want %d", got, open)
		}
		for i := range open {
			if err := ctl.rdb.RPush(context.Background(), "queue", fmt.Sprint(i)).Err(); err != nil {
				t.Fatal(err)
			}
			if got := <-to; got.err != nil || got.value != fmt.Sprint(i) {
				t.Errorf("push %d came as %q (%v)", i, got.value, got.err)
			}
		}
		st := s.settled(t)
		if drivertest.Leases(st) != 0 || st.Dials > open || st.WaitTimeouts != n-open {
			t.Errorf("%d leased, %d dials, %d timeouts; want 0, at most %d, %d", drivertest.Leases(st), st.Dials, st.WaitTimeouts, open, n-open)
		}
	})
}
