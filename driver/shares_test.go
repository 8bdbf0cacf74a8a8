package driver_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/pooler"
)

// small is a client of one socket.
func (l *lab) small() *redis.Client {
	return l.client(func(o *redis.Options) { o.PoolSize, o.PipelinePoolSize, o.MaxRetries = 1, -1, -1 })
}

// bound is the node's on sockets.
func (l *lab) bound() int64 {
	synctest.Wait()
	return int64(l.stats().MaxOpenConnections)
}

// hold keeps a socket of the client until release is called.
func (l *lab) hold(c *redis.Client) (release func()) {
	held, end, over := make(chan struct{}), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(over)
		if err := c.Watch(l.Context(), func(*redis.Tx) error {
			close(held)
			<-end
			return nil
		}, "k"); err != nil {
			l.Error(err)
		}
	}()
	<-held
	return func() { close(end); <-over }
}

// Each client of the stock pool has sockets of its own, and waits for no other's. Clients
// of one node have as many together.
func TestClientsOfANodeHaveTheirSocketsTogether(t *testing.T) {
	inLab(t, driver.Config{}, func(t *lab) {
		a, b, c := t.small(), t.small(), t.small()
		began := time.Now()
		var releases []func()
		for _, rdb := range []*redis.Client{a, b, c} {
			releases = append(releases, t.hold(rdb))
		}
		if took := time.Since(began); took > 0 || t.bound() != 3 {
			t.Errorf("3 clients of 1 socket each waited %s for theirs; the bound is %d", took, t.bound())
		}
		for _, release := range releases {
			release()
		}
		for i, rdb := range []*redis.Client{c, a, b} { // the one that came first need not go last
			if got := t.bound(); got != int64(3-i) {
				t.Errorf("%d have gone: the bound is %d", i, got)
			}
			_ = rdb.Close()
		}
	})
}

// What was said for the node holds for all together.
func TestABoundOfTheNodesIsForAllItsClients(t *testing.T) {
	for name, c := range map[string]struct {
		cfg  pooler.Config
		knob int
	}{
		"Config":      {pooler.Config{MaxOpenConns: 2}, 0},
		"a knob":      {pooler.Config{}, 2},
		"NewPooler's": {pooler.Config{}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := driver.Config{Pool: c.cfg}
			if name == "NewPooler's" {
				cfg.NewPooler = func(n pooler.Node, cfg pooler.Config) (pooler.Pooler, error) {
					cfg.MaxOpenConns, cfg.SharedConns = 2, 1
					return pooler.New(n, cfg)
				}
			}
			inLab(t, cfg, func(t *lab) {
				if c.knob != 0 {
					t.d.SetMaxOpenConns(c.knob)
				}
				for range 3 {
					if err := t.small().Ping(context.Background()).Err(); err != nil {
						t.Error(err)
					}
				}
				if got := t.bound(); got != 2 {
					t.Errorf("the bound is %d, want 2", got)
				}
			})
		})
	}
}

// Handles come and go, and the clients with them, while the bound follows.
func TestTheBoundFollowsItsClients(t *testing.T) {
	inLab(t, driver.Config{}, func(t *lab) {
		const clients = 20
		done := make(chan struct{})
		for range clients {
			go func() {
				defer func() { done <- struct{}{} }()
				for range 20 {
					c := redis.NewClient(t.d.Options(&redis.Options{Addr: labAddr, PoolSize: 1, PipelinePoolSize: -1}))
					if err := c.Incr(t.Context(), "n").Err(); err != nil {
						t.Error(err)
					}
					_ = c.Close()
				}
			}()
		}
		for range clients {
			<-done
		}
		if got := t.bound(); got != 1 {
			t.Errorf("the bound of no client is %d, want the first one's", got)
		}
	})
}
