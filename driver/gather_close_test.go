package driver_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
)

// Close of a client whose commands are gathered ends what is under way, as without
// gathering, though the server says nothing and replies are waited for without a bound.
func TestCloseWaitsForNoBatch(t *testing.T) {
	for name, opts := range map[string][]driver.Option{"alone": nil, "gathered": {driver.WithGathering()}} {
		t.Run(name, func(t *testing.T) {
			inLab(t, driver.Config{}, func(t *lab) {
				cfg := gathering()
				cfg.Dial = t.f.Dial
				cfg.Pool.HealthCheckInterval = -1
				cfg.Pool.SilenceAfter = -1
				db, err := driver.Open("redis://"+labAddr+"?read_timeout=-1", append(opts, driver.WithConfig(cfg))...)
				if err != nil {
					t.Fatal(err)
				}
				db.Get(t.Context(), "key")
				t.f.Freeze(true)
				const callers = 6
				errs := make([]error, callers)
				var wg sync.WaitGroup
				for i := range errs {
					wg.Go(func() { errs[i] = db.Incr(context.Background(), "n").Err() })
				}
				synctest.Wait()
				closed := make(chan error, 1)
				go func() { closed <- db.Close() }()
				time.Sleep(time.Hour)
				select {
				case err := <-closed:
					if err != nil {
						t.Error(err)
					}
					closed <- nil
				default:
					t.Error("Close waits for replies")
				}
				t.f.Freeze(false)
				wg.Wait()
				if err := <-closed; err != nil {
					t.Error(err)
				}
				for _, err := range errs {
					if err != nil && !errors.Is(err, redis.ErrClosed) {
						t.Errorf("told %v", err)
					}
				}
			})
		})
	}
}
