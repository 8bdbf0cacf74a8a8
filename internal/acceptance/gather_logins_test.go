package acceptance_test

import (
	"log/slog"
	"slices"
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/internal/testkit/drivertest"
)

// Whoever isn't let in, or isn't allowed a command, is told in the server's own words, each
// caller of a batch for itself, as by the stock client.
func TestABatchThatTheServerRefusesTellsEachCaller(t *testing.T) {
	for _, kind := range testkit.Kinds {
		t.Run(string(kind), func(t *testing.T) {
			ctx := t.Context()
			s := testkit.Start(t, kind)
			for _, rule := range [][]string{
				{"ACL", "SETUSER", "bob", "reset", "on", ">right", "+@all", "~open*", "&*"},
				{"ACL", "SETUSER", "default", "off"},
			} {
				s.Do(t, rule...)
			}
			for name, o := range map[string]redis.Options{
				"a wrong password": {Username: "bob", Password: "wrong"},
				"no password":      {},
				"a wrong user":     {Username: "eve", Password: "right"},
				"let in":           {Username: "bob", Password: "right"},
			} {
				o.Addr, o.MaxRetries = s.Addr, -1
				stock := redis.NewClient(&o)
				t.Cleanup(func() { _ = stock.Close() })
				d := drivertest.New(t, driver.Config{Gather: gathering, Logger: slog.New(slog.DiscardHandler)})
				rdb := redis.NewClient(d.Options(&o))
				t.Cleanup(func() { _ = rdb.Close() })
				if _, err := d.Gather(rdb); err != nil {
					t.Fatal(err)
				}
				for _, key := range []string{"open", "closed"} {
					ask := func(c *redis.Client, key string) (told string) {
						if err := c.Get(ctx, key).Err(); err != nil {
							told = err.Error()
						}
						return told
					}
					want := map[string]string{"open": ask(stock, "open"), "closed": ask(stock, "closed")}
					for range 20 {
						var wg sync.WaitGroup
						told := make([]string, 64)
						for i := range told {
							wg.Go(func() { told[i] = ask(rdb, []string{"open", key}[i%2]) })
						}
						wg.Wait()
						for i, got := range told {
							if want := want[[]string{"open", key}[i%2]]; got != want {
								t.Fatalf("%s, caller %d: told %q, the stock client's %q; of them all %q", name, i, got, want, slices.Compact(told))
							}
						}
					}
				}
				if g := d.GatherStats(); g.Gathered == 0 {
					t.Errorf("%s: %+v", name, g)
				}
			}
		})
	}
}
