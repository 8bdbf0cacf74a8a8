package driver_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/internal/testkit"
)

// A server that holds writes back (CLIENT PAUSE WRITE, a failover) holds the reads back
// that come behind them on a shared connection: once, not again with each write that comes.
func TestAServerThatHoldsWritesBackHoldsReadsBackOnce(t *testing.T) {
	for name, c := range map[string]struct {
		idle  int
		dials int64
		wait  time.Duration // for a read
	}{
		// A connection for writes.
		"with idle connections": {idle: 4, dials: 2, wait: 80 * time.Millisecond},
		// And one to ask on, which reads have after that; more as they meet there.
		"without": {dials: 5, wait: 330 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			inLab(t, driver.Config{}, func(l *lab) {
				rdb := l.client(func(o *redis.Options) { o.ReadTimeout, o.WriteTimeout = time.Minute, time.Minute })
				var held atomic.Pointer[chan struct{}]
				l.f.Handle("SET", func(*testkit.FakeConn, []string) []byte {
					if over := held.Load(); over != nil {
						<-*over
					}
					return testkit.ReplySimple("OK")
				})
				l.f.Handle("GET", func(*testkit.FakeConn, []string) []byte {
					time.Sleep(50 * time.Microsecond) // callers meet each other
					return testkit.ReplyBulk("v")
				})
				ctx, end := context.WithCancel(l.Context())
				var wg sync.WaitGroup
				var sets, failed atomic.Int64
				waits := make([]time.Duration, 24)
				for i := range waits {
					wg.Go(func() {
						for ctx.Err() == nil {
							began := time.Now()
							if rdb.Get(l.Context(), "k").Err() != nil {
								failed.Add(1)
							}
							if took := time.Since(began); took > 5*time.Millisecond {
								waits[i] += took
							}
							time.Sleep(time.Millisecond)
						}
					})
				}
				wg.Go(func() {
					for i := 0; ctx.Err() == nil; i++ {
						wg.Go(func() {
							sets.Add(1)
							if rdb.Set(l.Context(), fmt.Sprint(i), "v", 0).Err() != nil {
								failed.Add(1)
							}
						})
						time.Sleep(3 * time.Millisecond)
					}
				})
				time.Sleep(100 * time.Millisecond)
				var lent sync.WaitGroup
				for range c.idle {
					lent.Go(func() { _ = rdb.BLPop(l.Context(), 100*time.Millisecond, "none").Err() })
				}
				lent.Wait()
				clear(waits)
				before := l.stats().Dials
				over := make(chan struct{})
				held.Store(&over)
				time.Sleep(1500 * time.Millisecond)
				held.Store(nil)
				close(over)
				if n := l.stats().Dials - before; n > c.dials {
					l.Errorf("%d dials, want %d", n, c.dials)
				}
				for i, d := range waits {
					if d > c.wait {
						l.Errorf("reader %d has waited for %v in all, want %v at most", i, d, c.wait)
					}
				}
				time.Sleep(50 * time.Millisecond)
				l.f.ResetLog()
				time.Sleep(50 * time.Millisecond)
				end()
				wg.Wait()
				if n := failed.Load(); n != 0 {
					l.Errorf("%d commands have failed", n)
				}
				with := map[int64]map[string]bool{}
				shares := false
				for _, e := range l.f.Log() {
					if with[e.ConnID] == nil {
						with[e.ConnID] = map[string]bool{}
					}
					with[e.ConnID][e.Args[0]] = true
					shares = shares || with[e.ConnID]["set"] && with[e.ConnID]["get"]
				}
				if !shares {
					l.Error("reads and writes don't share connections after it")
				}
			})
		})
	}
}
