package driver_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/pooler"
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

// A primary that comes back as the sentinels have just named another one takes no more
// requests of those who have waited for it: it may take their writes yet, which are lost when
// it becomes the other's replica, or refuse them.
func TestAPrimaryThatIsBackAfterASwitchIsSentNothing(t *testing.T) {
	for kind, call := range map[string]func(ctx context.Context, c *redis.Client, key string) error{
		"commands": func(ctx context.Context, c *redis.Client, key string) error { return c.Set(ctx, key, 1, 0).Err() },
		"transactions": func(ctx context.Context, c *redis.Client, key string) error {
			_, err := c.TxPipelined(ctx, func(p redis.Pipeliner) error { return p.Set(ctx, key, 1, 0).Err() })
			return err
		},
	} {
		t.Run(kind, func(t *testing.T) {
			inServers(t, 3, func(m *managed) {
				m.asSentinel(3, 1)
				d := newDriver(m.T, driver.Config{Logger: slog.New(slog.DiscardHandler), Dial: m.dial})
				c := redis.NewFailoverClient(d.FailoverOptions(&redis.FailoverOptions{MasterName: "main", SentinelAddrs: []string{"10.0.0.3:6379"}}))
				const callers = 16
				done := make(chan error, callers)
				all := func() {
					for i := range callers {
						go func() { done <- call(m.Context(), c, fmt.Sprint("k", i)) }()
					}
				}
				await := func() {
					for range callers {
						// go-redis doesn't try a transaction again that couldn't be sent.
						if err := <-done; err != nil && (kind != "transactions" || !errors.Is(err, pooler.ErrElsewhere)) {
							m.Error(err)
						}
					}
				}
				all()
				await()
				before := m.server(1).Count("SET")
				m.server(1).DownRefused()
				synctest.Wait() // connections are lost now, not under the next requests
				all()
				time.Sleep(1100 * time.Millisecond)
				m.asSentinel(3, 2)
				time.Sleep(time.Millisecond) // of two views of one moment the first counts
				m.server(1).Up()
				await()
				if sent := m.server(1).Count("SET") - before; sent != 0 {
					m.Errorf("%d SETs were sent to the one that was deposed", sent)
				}
				_ = c.Close()
				time.Sleep(time.Minute) // it may be dialing still
			})
		})
	}
}
