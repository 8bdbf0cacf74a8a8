package driver_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/internal/testkit"
)

// A cluster client that is born while no node is up keeps to its callers' time, and serves the
// first call once one is up, as one without a pool that remembers what was down.
func TestAClusterClientBornInAnOutageServesTheFirstCallAfterIt(t *testing.T) {
	const mine = 200 * time.Millisecond
	for fault, fell := range map[string]func(*testkit.Fake){
		"refuses": (*testkit.Fake).DownRefused, "hangs": func(f *testkit.Fake) { f.HangDials(true) }, "is silent": func(f *testkit.Fake) { f.Freeze(true) },
	} {
		t.Run(fault, func(t *testing.T) {
			inServers(t, 1, func(m *managed) {
				m.asCluster(0, 1)
				fell(m.server(1))
				d := newDriver(m.T, driver.Config{Logger: slog.New(slog.DiscardHandler), Dial: m.dial})
				c := redis.NewClusterClient(d.ClusterOptions(&redis.ClusterOptions{Addrs: []string{"10.0.0.1:6379"}}))
				for range 3 {
					ctx, cancel := context.WithTimeout(m.Context(), mine)
					began := time.Now()
					err := c.Get(ctx, "k").Err()
					cancel()
					if took := time.Since(began); err == nil || took > mine+100*time.Millisecond {
						m.Errorf("%v after %v", err, took)
					}
				}
				m.server(1).Up()
				m.server(1).HangDials(false)
				m.server(1).Freeze(false)
				if err := c.Set(m.Context(), "k", 1, 0).Err(); err != nil {
					m.Error(err)
				}
				_ = c.Close()
				time.Sleep(time.Minute) // it may be dialing still
			})
		})
	}
}
