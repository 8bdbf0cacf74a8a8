package acceptance_test

import (
	"slices"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/internal/conformance"
	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/internal/testkit/drivertest"
	"github.com/everpool/everpool/pooler"
)

// A client on everpool does all that a client on the stock pool does. The same
// suite runs over the stock client in its own package. Each server, each protocol and
// each way to use connections meets each of the others; where handles can't be refused,
// each of them is there; in `make soak` all of their combinations are.
func TestConformsToTheStockClient(t *testing.T) {
	t.Parallel() // what runs are its subtests
	miniature := testkit.Kind("miniredis")
	for _, w := range conformingWays(miniature) {
		t.Run(w.String(), func(t *testing.T) {
			addr := ""
			if w.kind == miniature {
				addr = miniredis.RunT(t).Addr()
			} else {
				addr = testkit.Start(t, w.kind).Addr
			}
			t.Parallel() // what runs are its subtests
			conformance.Run(t, conformance.Target{
				Server:  string(w.kind),
				Options: func() *redis.Options { return &redis.Options{Addr: addr, Protocol: w.protocol} },
				NewClient: func(tb testing.TB, o *redis.Options) redis.UniversalClient {
					return redis.NewClient(drivertest.Conforming(tb, driver.Config{Pool: pooler.Config{SharedConns: w.shared}}, o.Addr != addr).Options(o))
				},
			})
		})
	}
}

func conformingWays(miniature testkit.Kind) (ways []way) {
	switch {
	case testkit.EveryWay():
		for _, kind := range append(slices.Clone(testkit.Kinds), miniature) {
			for _, protocol := range []int{2, 3} {
				ways = append(ways, way{kind: kind, protocol: protocol}, way{kind: kind, protocol: protocol, shared: -1})
			}
		}
		return ways
	case secondRun:
		return []way{{kind: testkit.Redis, protocol: 3, shared: -1}, {kind: testkit.Valkey, protocol: 2}}
	}
	return []way{
		{kind: testkit.Redis, protocol: 2},
		{kind: testkit.Redis, protocol: 3, shared: -1},
		{kind: testkit.Valkey, protocol: 2, shared: -1},
		{kind: testkit.Valkey, protocol: 3},
		{kind: miniature, protocol: 2},
		{kind: miniature, protocol: 3, shared: -1},
	}
}
