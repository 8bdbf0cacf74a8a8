package acceptance_test

import (
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/internal/conformance"
	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/internal/testkit/drivertest"
	"github.com/everpool/everpool/pooler"
)

// conformingDriver is a driver whose clients wait for a slow machine's servers, but not for
// long where nobody listens.
func conformingDriver(tb testing.TB, shared int, nobodyListens bool) *driver.Driver {
	cfg := driver.Config{Pool: pooler.Config{FailFastAfter: time.Minute, SharedConns: shared}, LeaveContextTimeout: true}
	if nobodyListens {
		cfg.Pool.FailFastAfter = time.Second
	}
	return drivertest.New(tb, cfg)
}

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
					return redis.NewClient(conformingDriver(tb, w.shared, o.Addr != addr).Options(o))
				},
			})
		})
	}
}

// So do clients of clusters, of sentinels and of rings. With a lease for each request
// the connections are others, not the ways to them, so single nodes stand for that.
func TestConformsToTheStockClientOnTopologies(t *testing.T) {
	ways := conformance.Ways
	if testing.Short() {
		ways = ways[:1]
	}
	for _, way := range ways {
		t.Run(way.String(), func(t *testing.T) {
			conformance.Run(t, way.Target(t, func(tb testing.TB, o *redis.Options) conformance.Layer {
				return conformingDriver(tb, 0, o.Addr != "")
			}))
		})
	}
}
