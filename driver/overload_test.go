package driver_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/internal/testkit"
)

// Callers whose deadlines are shorter than the queue at a server that can't keep up: were
// all sent that come, it would run each too late, and all of its work would be in vain.
func TestAServerThatCannotKeepUpStillAnswersInTime(t *testing.T) {
	inLab(t, driver.Config{}, func(t *lab) {
		turn := make(chan struct{}, 1)
		t.f.Handle("GET", func(*testkit.FakeConn, []string) []byte {
			turn <- struct{}{}
			time.Sleep(time.Millisecond)
			<-turn
			return testkit.ReplyBulk("v")
		})
		rdb := t.client(func(o *redis.Options) { o.MaxRetries = -1 })
		const lasts = 5 * time.Second
		var inTime atomic.Int64
		var wg sync.WaitGroup
		end := time.Now().Add(lasts)
		for range 256 {
			wg.Go(func() {
				for time.Now().Before(end) {
					ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
					if rdb.Get(ctx, "k").Err() == nil {
						inTime.Add(1)
					}
					cancel()
				}
			})
		}
		wg.Wait()
		if n, could := inTime.Load(), int64(lasts/time.Millisecond); n < could/12 {
			t.Errorf("%d of the %d that the server could run were in time", n, could)
		} else {
			t.Logf("%d of the %d that the server could run were in time", n, could)
		}
	})
}
