package conformance_test

import (
	"fmt"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/internal/conformance"
	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/internal/testkit/drivertest"
)

// A cluster client on sentinels leaves its subscription to them behind when it is
// closed.
func TestMain(m *testing.M) {
	testkit.ManyBeside()
	const goRedis = "github.com/redis/go-redis/v9."
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction(goRedis+"(*sentinelFailover).listen"),
		goleak.IgnoreAnyFunction(goRedis+"(*channel).initMsgChan.func1"),
		goleak.IgnoreAnyFunction(goRedis+"(*channel).initHealthCheck.func1"),
	)
}

// The stock client defines the guarantees: it has to keep them all, or they
// are none of go-redis's. On each server by each protocol, and on each transport.
func TestStockClientKeepsItsGuarantees(t *testing.T) {
	for _, row := range []struct {
		server   string
		protocol int
		password string
		opts     []testkit.ServerOption
		soak     bool // another row has the server, the protocol and the transport, too
	}{
		{server: "redis", protocol: 2},
		{server: "redis", protocol: 3, soak: true},
		{server: "redis", protocol: 3, password: "pass word", opts: []testkit.ServerOption{testkit.WithTLS()}},
		{server: "redis", protocol: 3, password: "pass word", soak: true},
		{server: "redis", protocol: 3, opts: []testkit.ServerOption{testkit.WithTLS()}, soak: true},
		{server: "valkey", protocol: 2, opts: []testkit.ServerOption{testkit.WithUnixSocket()}},
		{server: "valkey", protocol: 2, soak: true},
		{server: "valkey", protocol: 3},
		{server: "miniredis", protocol: 2, soak: true},
		{server: "miniredis", protocol: 3},
	} {
		if row.soak && !testkit.EveryWay() {
			continue
		}
		name := fmt.Sprintf("%s/RESP%d", row.server, row.protocol)
		o := redis.Options{Protocol: row.protocol, Password: row.password}
		t.Run(name, func(t *testing.T) {
			if row.server == "miniredis" {
				o.Addr = miniredis.RunT(t).Addr()
			} else {
				opts := row.opts
				if row.password != "" {
					opts = append(opts, testkit.WithPassword(row.password))
				}
				s := testkit.Start(t, testkit.Kind(row.server), opts...)
				o.Network, o.Addr, o.TLSConfig = s.Network, s.Addr, s.TLSConfig()
			}
			t.Parallel() // what runs are its subtests
			run(t, row.server, o)
		})
	}
}

// Nor is a guarantee of a topology's clients one that the stock client doesn't keep.
func TestStockClientKeepsItsGuaranteesOnTopologies(t *testing.T) {
	onTopologies(t, func(testing.TB, *redis.Options) conformance.Layer { return conformance.Stock{} })
}

// A client on everpool does all that a client on the stock pool does, of clusters, of
// sentinels and of rings, too. With a lease for each request the connections are others,
// not the ways to them, so single nodes stand for that, in internal/acceptance. Each pool
// has a wrapper of a user's around it, with which nothing is lost. Not there:
// go-redis leaves much behind of cluster clients on sentinels, which goes on.
func TestEverpoolConformsOnTopologies(t *testing.T) {
	onTopologies(t, func(tb testing.TB, o *redis.Options) conformance.Layer {
		tb.Helper()
		return drivertest.Conforming(tb, drivertest.Wrapped(driver.Config{}), o.Addr != "")
	})
}

func onTopologies(t *testing.T, layer func(testing.TB, *redis.Options) conformance.Layer) {
	t.Helper()
	ways := conformance.Ways
	if testkit.EveryWay() {
		ways = conformance.AllWays()
	}
	for _, way := range ways {
		t.Run(way.String(), func(t *testing.T) {
			target := way.Target(t, layer)
			t.Parallel() // what runs are its subtests
			conformance.Run(t, target)
		})
	}
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
