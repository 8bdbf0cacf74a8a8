package driver_test

import (
	"fmt"
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

// The first connection to a sentinel may hang for as long as a dial does. Nothing waits for
// that while another one answers: go-redis waits for all that it has asked, with a lock on
// every other dial. If all of them hang there is nothing better than to wait.
func TestSentinelsWhoseDialsHang(t *testing.T) {
	for _, row := range []struct {
		hang        int // so many of three
		until, most time.Duration
	}{
		{1, 4 * time.Second, time.Second},
		{2, 4 * time.Second, time.Second},
		{3, 4 * time.Second, 4*time.Second + 500*time.Millisecond},
	} {
		t.Run(fmt.Sprintf("%d of 3", row.hang), func(t *testing.T) {
			inServers(t, 4, func(m *managed) {
				var addrs []string
				for i := range 3 {
					m.asSentinel(i+2, 1)
					addrs = append(addrs, fmt.Sprintf("10.0.0.%d:6379", i+2))
					if i < row.hang {
						m.server(i + 2).HangDials(true)
						time.AfterFunc(row.until, func() { m.server(i + 2).HangDials(false) })
					}
				}
				d := newDriver(m.T, driver.Config{Dial: m.dial})
				c := redis.NewFailoverClient(d.FailoverOptions(&redis.FailoverOptions{MasterName: "main", SentinelAddrs: addrs, MaxRetries: -1}))
				began := time.Now()
				if err := c.Set(m.Context(), "k", 1, 0).Err(); err != nil || time.Since(began) > row.most {
					m.Errorf("%v after %s", err, time.Since(began))
				}
				_ = c.Close()
				time.Sleep(time.Minute) // it may be dialing still
			})
		})
	}
}

// A request of a Conn or a Tx waits for a connection as often as go-redis tries a client's own
// again, which it can't: they have one handle. So do those of a client of sentinels.
func TestAConnOfSentinelsWaitsForAConnectionOnceMore(t *testing.T) {
	for name, ask := range map[string]func(c *redis.Client, m *managed) error{
		"Conn": func(c *redis.Client, m *managed) error {
			conn := c.Conn()
			defer func() { _ = conn.Close() }()
			return conn.Set(m.Context(), "k", 1, 0).Err()
		},
		"Watch": func(c *redis.Client, m *managed) error {
			return c.Watch(m.Context(), func(tx *redis.Tx) error { return tx.Get(m.Context(), "k").Err() }, "k")
		},
	} {
		t.Run(name, func(t *testing.T) {
			inServers(t, 2, func(m *managed) {
				m.asSentinel(2, 1)
				const timeout = 500 * time.Millisecond
				d := newDriver(m.T, driver.Config{Dial: m.dial})
				c := redis.NewFailoverClient(d.FailoverOptions(&redis.FailoverOptions{
					MasterName: "main", SentinelAddrs: []string{"10.0.0.2:6379"}, PoolSize: 1, PipelinePoolSize: -1,
					DialTimeout: timeout, ReadTimeout: timeout, WriteTimeout: timeout, PoolTimeout: timeout,
				}))
				if err := c.Set(m.Context(), "k", 1, 0).Err(); err != nil {
					m.Fatal(err)
				}
				const held = 1200 * time.Millisecond
				holds, done := make(chan struct{}), make(chan error, 1)
				go func() {
					done <- c.Watch(m.Context(), func(*redis.Tx) error {
						close(holds)
						time.Sleep(held)
						return nil
					}, "k")
				}()
				<-holds
				began := time.Now()
				if err := ask(c, m); err != nil || time.Since(began) < held {
					m.Errorf("%v after %s, want an answer when the connection is free", err, time.Since(began))
				}
				if err := <-done; err != nil {
					m.Error(err)
				}
				_ = c.Close()
				time.Sleep(time.Minute)
			})
		})
	}
}
