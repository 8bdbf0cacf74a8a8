package conformance_test

import (
	"fmt"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/everpool/everpool/internal/conformance"
	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/internal/testkit/drivertest"
)

// A cluster client on sentinels leaves its subscription to them behind when it is
// closed.
func TestMain(m *testing.M) {
	const goRedis = "github.com/redis/go-redis/v9."
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction(goRedis+"(*sentinelFailover).listen"),
		goleak.IgnoreAnyFunction(goRedis+"(*channel).initMsgChan.func1"),
		goleak.IgnoreAnyFunction(goRedis+"(*channel).initHealthCheck.func1"),
	)
}

// The stock client defines the guarantees: it has to keep them all, or they
// are none of go-redis's.
func TestStockClientKeepsItsGuarantees(t *testing.T) {
	for _, server := range []string{"redis", "valkey", "miniredis"} {
		for _, protocol := range []int{2, 3} {
			t.Run(fmt.Sprintf("%s/RESP%d", server, protocol), func(t *testing.T) {
				run(t, server, redis.Options{Addr: start(t, server), Protocol: protocol})
			})
		}
	}
}

func TestStockClientKeepsItsGuaranteesOnOtherTransports(t *testing.T) {
	t.Run("password", func(t *testing.T) {
		s := testkit.Start(t, testkit.Redis, testkit.WithPassword("pass word"))
		run(t, "redis", redis.Options{Addr: s.Addr, Password: "pass word"})
	})
	t.Run("unix", func(t *testing.T) {
		s := testkit.Start(t, testkit.Valkey, testkit.WithUnixSocket())
		run(t, "valkey", redis.Options{Network: s.Network, Addr: s.Addr})
	})
	t.Run("TLS", func(t *testing.T) {
		s := testkit.Start(t, testkit.Redis, testkit.WithTLS())
		run(t, "redis", redis.Options{Addr: s.Addr, TLSConfig: s.TLSConfig()})
	})
}

// Nor is a guarantee of a topology's clients one that the stock client doesn't keep.
func TestStockClientKeepsItsGuaranteesOnTopologies(t *testing.T) {
	for _, way := range conformance.Ways {
		t.Run(way.String(), func(t *testing.T) {
			conformance.Run(t, way.Target(t, func(testing.TB, *redis.Options) conformance.Layer { return conformance.Stock{} }))
		})
	}
}

// A client on everpool does all that a client on the stock pool does, of clusters, of
// sentinels and of rings, too. With a lease for each request the connections are others,
// not the ways to them, so single nodes stand for that, in internal/acceptance. Not there:
// go-redis leaves much behind of cluster clients on sentinels, which goes on.
func TestEverpoolConformsOnTopologies(t *testing.T) {
	for _, way := range conformance.Ways {
		t.Run(way.String(), func(t *testing.T) {
			conformance.Run(t, way.Target(t, func(tb testing.TB, o *redis.Options) conformance.Layer {
				return drivertest.Conforming(tb, 0, o.Addr != "")
			}))
		})
	}
}

// start returns the address of a server of this test's own: some guarantees
// pause it.
func start(t *testing.T, server string) string {
	if server == "miniredis" {
		return miniredis.RunT(t).Addr()
	}
	return testkit.Start(t, testkit.Kind(server)).Addr
}

func run(t *testing.T, server string, o redis.Options) {
	conformance.Run(t, conformance.Target{
		Server: server,
		Options: func() *redis.Options {
			fresh := o
			if o.TLSConfig != nil {
				fresh.TLSConfig = o.TLSConfig.Clone()
			}
			return &fresh
		},
		NewClient: func(_ testing.TB, o *redis.Options) redis.UniversalClient { return redis.NewClient(o) },
	})
}
