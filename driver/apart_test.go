package driver_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/pooler"
)

// A server that holds writes back, for a failover or by CLIENT PAUSE, answers reads on
// other connections: none waits for a write of somebody else's.
func TestReadsWaitForNoWritesThatAreHeldBack(t *testing.T) {
	inLab(t, driver.Config{Pool: pooler.Config{SilenceAfter: -1}}, func(t *lab) {
		ctx := context.Background()
		rdb := t.client()
		t.slow(time.Millisecond)
		for range 3 {
			var wg sync.WaitGroup
			for range 16 {
				wg.Go(func() { _ = rdb.Get(ctx, "slow").Err() })
			}
			wg.Wait()
		}
		if n := t.stats().Lanes; n < 2 {
			t.Fatalf("%d lanes", n)
		}
		began := time.Now()
		over := began.Add(time.Second)
		t.f.Handle("INCR", func(*testkit.FakeConn, []string) []byte {
			time.Sleep(time.Until(over)) // all at once
			return testkit.ReplyInt(1)
		})
		var writes sync.WaitGroup
		for range 40 {
			writes.Go(func() {
				if err := rdb.Incr(ctx, "n").Err(); err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
			for range 3 {
				if err := rdb.Get(ctx, "k").Err(); err != nil || time.Since(began) > 0 {
					t.Fatalf("a read beside writes that are held back: %v after %s", err, time.Since(began))
				}
			}
		}
		writes.Wait()
		if n := t.stats().Dials; n > 4 {
			t.Errorf("%d dials", n)
		}
	})
}
