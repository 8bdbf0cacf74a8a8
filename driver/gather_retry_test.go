package driver_test

import (
	"fmt"
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/pooler"
)

// What becomes of callers whose batch is lost is what Config.Retry says of each command: what
// may run again does, and its caller has the value; what may not runs once, and its caller is
// told.
func TestALostBatchRunsAgainByRetry(t *testing.T) {
	for _, c := range []struct {
		command string
		call    func(*lab, *redis.Client, string) error
		again   map[driver.Retry]bool
	}{
		{
			"GET", func(t *lab, rdb *redis.Client, key string) error { return rdb.Get(t.Context(), key).Err() },
			map[driver.Retry]bool{driver.RetrySafe: true, driver.RetryAll: true, driver.RetryNone: true},
		},
		{
			"SET", func(t *lab, rdb *redis.Client, key string) error { return rdb.Set(t.Context(), key, 1, 0).Err() },
			map[driver.Retry]bool{driver.RetrySafe: true, driver.RetryAll: true},
		},
		{
			"INCR", func(t *lab, rdb *redis.Client, key string) error { return rdb.Incr(t.Context(), key).Err() },
			map[driver.Retry]bool{driver.RetryAll: true},
		},
	} {
		for _, policy := range []driver.Retry{driver.RetrySafe, driver.RetryAll, driver.RetryNone} {
			t.Run(fmt.Sprint(c.command, " ", policy), func(t *testing.T) {
				cfg := gathering()
				cfg.Retry = policy
				inBothLabs(t, cfg, func(t *lab) {
					rdb := t.client(func(o *redis.Options) { o.MaxRetries = 3 })
					t.gather(rdb)
					const callers, third = 12, "key:3"
					var mu sync.Mutex
					runs := make(map[string]int)
					t.f.Handle(c.command, func(conn *testkit.FakeConn, args []string) []byte {
						mu.Lock()
						defer mu.Unlock()
						runs[args[1]]++
						if args[1] == third && runs[third] == 1 {
							conn.ResetNow()
							return nil
						}
						if c.command == "INCR" {
							return testkit.ReplyInt(1)
						}
						return testkit.ReplyBulk("OK")
					})
					errs := t.crowd(callers, func(i int) error { return c.call(t, rdb, fmt.Sprint("key:", i)) })
					if t.d.GatherStats().Gathered < callers/2 {
						t.Errorf("%+v", t.d.GatherStats())
					}
					for i, err := range errs {
						key := fmt.Sprint("key:", i)
						switch ran := runs[key]; {
						case c.again[policy]:
							if err != nil || ran < 1 || ran > 2 {
								t.Errorf("%s: %v, and it ran %d times", key, err, ran)
							}
						case err != nil:
							t.wantErr(err, pooler.ErrUnknownOutcome)
							fallthrough
						default:
							if ran > 1 || err == nil && ran != 1 {
								t.Errorf("%s: %v, and it ran %d times", key, err, ran)
							}
						}
					}
					if !c.again[policy] && errs[3] == nil {
						t.Error("the caller of what was lost isn't told")
					}
				})
			})
		}
	}
}
