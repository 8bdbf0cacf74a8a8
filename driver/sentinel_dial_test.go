package driver_test

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
)

// go-redis asks sentinels in the dial. It asks again where none has answered within
// DialTimeout, as on the stock pool: callers have more time than that.
func TestSentinelsThatAreSilentForLongerThanADialAreAskedAgain(t *testing.T) {
	makers := map[string]func(d *driver.Driver, addr string) redis.UniversalClient{
		"failover": func(d *driver.Driver, addr string) redis.UniversalClient {
			return redis.NewFailoverClient(d.FailoverOptions(&redis.FailoverOptions{MasterName: "main", SentinelAddrs: []string{addr}, MaxRetries: -1}))
		},
		"universal": func(d *driver.Driver, addr string) redis.UniversalClient {
			return redis.NewUniversalClient(d.UniversalOptions(&redis.UniversalOptions{MasterName: "main", Addrs: []string{addr}, MaxRetries: -1}))
		},
	}
	for name, made := range makers {
		t.Run(name, func(t *testing.T) {
			inServers(t, 2, func(m *managed) {
				m.asSentinel(2, 1)
				m.server(2).Freeze(true)
				time.AfterFunc(7*time.Second, func() { m.server(2).Freeze(false) }) // DialTimeout is 5 s
				c := made(newDriver(m.T, driver.Config{Dial: m.dial}), "10.0.0.2:6379")
				// One caller: a bubble stands still while another one waits for a mutex.
				if err := c.Set(m.Context(), "k", 1, 0).Err(); err != nil {
					m.Error(err)
				}
				_ = c.Close()
				time.Sleep(time.Minute) // it may be dialing still
			})
		})
	}
}
