package driver_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/internal/testkit"
)

// A server behind a proxy, or behind a name, is replaced by a newer one without an outage:
// its connections end, and the first dial afterwards succeeds. What the old one didn't know
// is asked for again in time, as with the stock pool, which asks on every connection.
func TestWhatAServerDidntKnowIsAskedAgainOfTheOneThatReplacesIt(t *testing.T) {
	for _, mode := range []string{"OnConnect fails", "OnConnect goes on"} {
		t.Run(mode, func(t *testing.T) {
			inBothLabs(t, driver.Config{}, func(t *lab) {
				var newer atomic.Bool
				var accepted atomic.Int64
				t.f.Handle("CLIENT NO-TOUCH", func(*testkit.FakeConn, []string) []byte {
					if !newer.Load() {
						return testkit.ReplyError("ERR unknown subcommand 'NO-TOUCH'. Try CLIENT HELP.")
					}
					accepted.Add(1)
					return testkit.ReplySimple("OK")
				})
				rdb := t.client(func(o *redis.Options) {
					o.OnConnect = func(ctx context.Context, cn *redis.Conn) error {
						err := cn.Do(ctx, "CLIENT", "NO-TOUCH", "ON").Err()
						if mode == "OnConnect goes on" {
							return nil
						}
						return err
					}
				})
				err := rdb.Ping(t.Context()).Err()
				if refused := err != nil && strings.Contains(err.Error(), "unknown subcommand"); refused != (mode == "OnConnect fails") {
					t.Fatalf("PING at the old server: %v", err)
				}

				newer.Store(true)
				t.f.ResetAll()
				// Callers at a time make new handles, whose OnConnect runs.
				for range 10 {
					time.Sleep(time.Minute)
					results := make(chan error)
					for range 4 {
						go func() { results <- rdb.BLPop(t.Context(), time.Second, "none").Err() }()
					}
					for range 4 {
						err = <-results
					}
				}
				if err != redis.Nil { //nolint:errorlint // BLPOP's own
					t.Errorf("ten minutes later: %v", err)
				}
				if accepted.Load() == 0 {
					t.Error("the new server was never asked for what the old one didn't know")
				}
			})
		})
	}
}
