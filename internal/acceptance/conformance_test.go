package acceptance_test

import (
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/internal/conformance"
	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/internal/testkit/drivertest"
)

// A client on everpool does all that a client on the stock pool does. The same
// suite runs over the stock client in its own package.
func TestConformsToTheStockClient(t *testing.T) {
	miniature := testkit.Kind("miniredis")
	for _, w := range []way{
		{kind: testkit.Redis, protocol: 2},
		{kind: testkit.Redis, protocol: 3},
		{kind: testkit.Valkey, protocol: 2},
		{kind: testkit.Valkey, protocol: 3},
		{kind: miniature, protocol: 2},
		{kind: miniature, protocol: 3},
		{kind: testkit.Redis, protocol: 3, shared: -1},
		{kind: testkit.Valkey, protocol: 2, shared: -1},
	} {
		t.Run(w.String(), func(t *testing.T) {
			t.Parallel()
			addr := ""
			if w.kind == miniature {
				addr = miniredis.RunT(t).Addr()
			} else {
				addr = testkit.Start(t, w.kind).Addr
			}
			conformance.Run(t, conformance.Target{
				Server:  string(w.kind),
				Options: func() *redis.Options { return &redis.Options{Addr: addr, Protocol: w.protocol} },
				NewClient: func(tb testing.TB, o *redis.Options) redis.UniversalClient {
					return redis.NewClient(drivertest.Conforming(tb, w.shared, o.Addr != addr).Options(o))
				},
			})
		})
	}
}
