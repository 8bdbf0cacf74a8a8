package driver_test

import (
	"fmt"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/internal/conformance"
	"github.com/everpool/everpool/internal/testkit"
)

// newDriver makes a driver that is closed, and must then be quiet, at the end
// of the test.
func newDriver(tb testing.TB, cfg driver.Config) *driver.Driver {
	tb.Helper()
	d, err := driver.New(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := d.Close(); err != nil {
			tb.Errorf("close driver: %v", err)
		}
	})
	return d
}

// A client on everpool does all that a client on the stock pool does. The same
// suite runs over the stock client in its own package.
func TestConformsToTheStockClient(t *testing.T) {
	for _, server := range []string{"redis", "valkey", "miniredis"} {
		for _, protocol := range []int{2, 3} {
			t.Run(fmt.Sprintf("%s/RESP%d", server, protocol), func(t *testing.T) {
				t.Parallel()
				addr := ""
				if server == "miniredis" {
					addr = miniredis.RunT(t).Addr()
				} else {
					addr = testkit.Start(t, testkit.Kind(server)).Addr
				}
				conformance.Run(t, conformance.Target{
					Server:  server,
					Options: func() *redis.Options { return &redis.Options{Addr: addr, Protocol: protocol} },
					NewClient: func(tb testing.TB, o *redis.Options) *redis.Client {
						return redis.NewClient(newDriver(tb, driver.Config{}).Options(o))
					},
				})
			})
		}
	}
}
