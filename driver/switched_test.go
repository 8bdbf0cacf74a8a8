package driver_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/internal/testkit"
)

// The first callers of an outage wait where they are. When sentinels name another primary
// pipelines that have writes go there, as go-redis tries them again.
func TestPipelinesThatWaitGoToTheNewPrimaryOfSentinels(t *testing.T) {
	for fault, fell := range map[string]func(*testkit.Fake){
		"refuses": (*testkit.Fake).DownRefused, "is silent": func(f *testkit.Fake) { f.Freeze(true) },
	} {
		t.Run(fault, func(t *testing.T) {
			inServers(t, 3, func(m *managed) {
				m.asSentinel(3, 1)
				d := newDriver(m.T, driver.Config{Dial: m.dial})
				c := redis.NewFailoverClient(d.FailoverOptions(&redis.FailoverOptions{MasterName: "main", SentinelAddrs: []string{"10.0.0.3:6379"}}))
				pipeline := func(i int) error {
					key := fmt.Sprint("k", i)
					cmds, err := c.Pipelined(m.Context(), func(p redis.Pipeliner) error {
						p.Set(m.Context(), key, i, 0)
						p.Get(m.Context(), key)
						return nil
					})
					for _, cmd := range cmds {
						err = errors.Join(err, cmd.Err())
					}
					return err
				}
				const callers = 16
				done := make(chan error, callers)
				all := func() {
					for i := range callers {
						go func() { done <- pipeline(i) }()
					}
				}
				all()
				for range callers {
					if err := <-done; err != nil {
						m.Fatal(err)
					}
				}
				fell(m.server(1))
				all()
				time.Sleep(time.Second)
				m.asSentinel(3, 2)
				for range callers {
					if err := <-done; err != nil {
						m.Error(err)
					}
				}
				m.server(1).Freeze(false)
				_ = c.Close()
				time.Sleep(time.Minute) // it may be dialing still
			})
		})
	}
}
