// Package drivertest is what tests of the driver have in common, those in
// bubbles and those with real servers. It is for tests only, and apart from
// testkit because that knows neither the driver nor the pool.
package drivertest

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9/logging"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/pooler"
)

// The stock client writes a line for every dial that fails.
func init() { logging.Disable() }

// New returns a driver that is closed, and must then be quiet, at the end of the
// test.
func New(tb testing.TB, cfg driver.Config) *driver.Driver {
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

// BothWays runs a test as users have it, with requests on shared connections,
// and with a lease for each request; shared is what to set SharedConns to.
func BothWays(t *testing.T, run func(t *testing.T, shared int)) {
	t.Helper()
	t.Run("shared", func(t *testing.T) { run(t, 0) })
	t.Run("leased", func(t *testing.T) { run(t, -1) })
}

// Leased returns the configuration with a lease for each request, for tests whose
// subject that is.
func Leased(cfg driver.Config) driver.Config {
	cfg.Pool.SharedConns = -1
	return cfg
}

// Leases returns how many connections are leased, those apart that are shared.
func Leases(s pooler.Stats) int { return s.InUse - s.Lanes }

// Wrapped returns the configuration with something around each pool, as users have it who
// embed the interface: what isn't overridden is the pool's own.
func Wrapped(cfg driver.Config) driver.Config {
	cfg.NewPooler = func(node pooler.Node, cfg pooler.Config) (pooler.Pooler, error) {
		pool, err := pooler.New(node, cfg)
		return &wrapper{pool}, err
	}
	return cfg
}

type wrapper struct{ pooler.Pooler }

// Conforming returns a driver for the conformance suite: its clients wait for a slow
// machine's servers, but not for long where nobody listens.
func Conforming(tb testing.TB, cfg driver.Config, nobodyListens bool) *driver.Driver {
	tb.Helper()
	cfg.Pool.FailFastAfter, cfg.LeaveContextTimeout = time.Minute, true
	if nobodyListens {
		cfg.Pool.FailFastAfter = time.Second
	}
	return New(tb, cfg)
}
