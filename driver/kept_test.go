package driver_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/pooler"
)

// More callers than connections, whose handles all keep theirs: each gets its turn,
// and none is told of it.
func TestHandlesThatKeepTheirConnectionFromOnConnectOnStarveNobody(t *testing.T) {
	const callers, rounds = 64, 200
	inBothLabs(t, driver.Config{Pool: pooler.Config{MaxOpenConns: 8}}, func(t *lab) {
		t.answers("+DONE\r\n", "NOSUCH")
		rdb := t.client(func(o *redis.Options) {
			o.MaxRetries = 3
			o.OnConnect = func(ctx context.Context, cn *redis.Conn) error {
				return cn.Do(ctx, "NOSUCH").Err()
			}
		})
		var wg, all sync.WaitGroup
		all.Add(callers)
		for range callers {
			wg.Go(func() {
				own := rdb.Conn() // a caller that comes late would get a handle that another one has left
				err := own.Ping(t.Context()).Err()
				all.Done()
				all.Wait()
				if err = errors.Join(err, own.Close()); err != nil {
					t.Error(err)
				}
				for range rounds {
					began := time.Now()
					if err := rdb.Set(t.Context(), "k", "v", 0).Err(); err != nil {
						t.Error(err)
					}
					if took := time.Since(began); took > time.Second {
						t.Errorf("a call took %s", took)
					}
					time.Sleep(time.Millisecond)
				}
			})
		}
		wg.Wait()
		if s := t.stats(); s.WaitTimeouts != 0 || s.Pins["unknown"] < callers {
			t.Errorf("%d gave up; pins: %v", s.WaitTimeouts, s.Pins)
		}
	})
}
