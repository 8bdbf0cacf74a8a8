package driver_test

import (
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/internal/testkit"
)

// Many callers of a cluster share one connection of each of its masters, where those of a single
// node share two: what goes together costs least, and each master has a part of them.
func TestManyCallersOfAClusterShareOneConnectionOfEachMaster(t *testing.T) {
	for masters, want := range map[int]int{1: 2, 3: 1} {
		t.Run(fmt.Sprintf("%d masters", masters), func(t *testing.T) {
			inServers(t, masters, func(m *managed) {
				m.asCluster(0)
				for _, f := range m.servers {
					f.Handle("GET", func(*testkit.FakeConn, []string) []byte {
						time.Sleep(time.Millisecond)
						return testkit.ReplyBulk("v")
					})
				}
				d := newDriver(m.T, driver.Config{Logger: slog.New(slog.DiscardHandler), Dial: m.dial})
				c := redis.NewClusterClient(d.ClusterOptions(&redis.ClusterOptions{Addrs: []string{"10.0.0.1:6379"}}))
				end := time.Now().Add(5 * time.Second)
				var wg sync.WaitGroup
				for i := range 64 * masters {
					wg.Go(func() {
						for key := fmt.Sprint(i); time.Now().Before(end); {
							if err := c.Get(m.Context(), key).Err(); err != nil {
								m.Error(err)
							}
						}
					})
				}
				time.Sleep(4 * time.Second)
				for _, n := range d.Nodes() {
					used := 0
					for _, l := range n.Stats.LaneStats {
						if l.InFlight > 0 {
							used++
						}
					}
					if used != want {
						m.Errorf("%s: %d of %d shared connections are used, want %d", n.Addr, used, len(n.Stats.LaneStats), want)
					}
				}
				wg.Wait()
				_ = c.Close()
			})
		})
	}
}
