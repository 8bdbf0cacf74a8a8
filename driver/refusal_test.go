package driver_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/pooler"
)

// A cluster that refuses everything for two seconds, as one that has just started does,
// fails no call: go-redis's tries last that long. One for whom that is too long is told of
// the refusal, and not that time is over.
func TestACallOutlastsAClusterThatRefusesAllForAWhile(t *testing.T) {
	ctx := context.Background()
	calls := map[string]func(c *redis.ClusterClient) error{
		"SET":  func(c *redis.ClusterClient) error { return c.Set(ctx, "{b}", 1, 0).Err() },
		"INCR": func(c *redis.ClusterClient) error { return c.Incr(ctx, "{b}n").Err() },
		"BLPOP": func(c *redis.ClusterClient) error {
			err := c.BLPop(ctx, time.Second, "{b}l").Err()
			if errors.Is(err, redis.Nil) {
				return nil
			}
			return err
		},
		"a pipeline": func(c *redis.ClusterClient) error {
			cmds, err := c.Pipelined(ctx, func(p redis.Pipeliner) error {
				p.Incr(ctx, "{b}n")
				p.Set(ctx, "{b}", 1, 0)
				return nil
			})
			if err == nil && cmds[0].Err() == nil {
				return cmds[1].Err()
			}
			return err
		},
	}
	calls["a long pipeline that leases"] = func(c *redis.ClusterClient) error { // its replies come in several pieces
		_, err := c.Pipelined(ctx, func(p redis.Pipeliner) error {
			for range 300 {
				p.Incr(ctx, "{b}n")
			}
			return nil
		})
		return err
	}
	for name, call := range calls {
		t.Run(name, func(t *testing.T) {
			inServers(t, 2, func(m *managed) {
				m.asCluster(0, 2)
				refuse := func(on bool) {
					var fn testkit.Handler
					if on {
						fn = func(*testkit.FakeConn, []string) []byte { return []byte("-CLUSTERDOWN The cluster is down\r\n") }
					}
					for _, command := range []string{"SET", "INCR", "BLPOP"} {
						m.all(2, func(f *testkit.Fake) { f.Handle(command, fn) })
					}
				}
				refuse(true)
				time.AfterFunc(1900*time.Millisecond, func() { refuse(false) })
				// No pause between the tries: what is left is the driver's.
				o := &redis.ClusterOptions{Addrs: []string{"10.0.0.1:6379"}, MinRetryBackoff: -1}
				cfg := driver.Config{Dial: m.dial}
				if strings.Contains(name, "leases") {
					cfg.Pool.SharedConns = -1
				}
				d := newDriver(m.T, cfg)
				c := redis.NewClusterClient(d.ClusterOptions(o))
				if err := call(c); err != nil {
					m.Error(err)
				}
				_ = c.Close()
				time.Sleep(time.Second) // it may be about to look once more

				refuse(true)
				o.ReadTimeout, o.MaxRedirects = 100*time.Millisecond, -1
				c = redis.NewClusterClient(d.ClusterOptions(o))
				began := time.Now()
				// BLPOP has its own second more.
				if err := call(c); err == nil || !strings.HasPrefix(err.Error(), "CLUSTERDOWN") || time.Since(began) >= o.ReadTimeout && name != "BLPOP" {
					m.Errorf("with little time: %v after %s", err, time.Since(began))
				}
				_ = c.Close()
				time.Sleep(time.Second)
			})
		})
	}
}

// Of a slot that moves go-redis asks the new owner with every second try only, and is sent
// there by the old one in between.
func TestACallThatAskSendsOnOutlastsARefusalOfTheNewOwner(t *testing.T) {
	bothWays(t, func(t *testing.T, shared int) {
		inServers(t, 2, func(m *managed) {
			m.asCluster(0, 2)
			m.server(1).Handle("INCR", func(*testkit.FakeConn, []string) []byte { return []byte("-ASK 3300 10.0.0.2:6379\r\n") })
			m.server(2).Handle("INCR", func(*testkit.FakeConn, []string) []byte { return []byte("-CLUSTERDOWN The cluster is down\r\n") })
			time.AfterFunc(1900*time.Millisecond, func() { m.server(2).Handle("INCR", nil) })
			d := newDriver(m.T, driver.Config{Dial: m.dial, Pool: pooler.Config{SharedConns: shared}})
			o := &redis.ClusterOptions{Addrs: []string{"10.0.0.1:6379"}, MinRetryBackoff: -1}
			c := redis.NewClusterClient(d.ClusterOptions(o))
			if err := c.Incr(context.Background(), "{b}n").Err(); err != nil {
				m.Error(err)
			}
			_ = c.Close()
			time.Sleep(time.Second) // it may be about to look once more
		})
	})
}

// While a refusal isn't passed on it keeps no connection, and it is what its caller is told
// whatever happens meanwhile.
func TestARefusalThatIsHeldBackIsInNobodysWay(t *testing.T) {
	bothWays(t, func(t *testing.T, shared int) {
		inServers(t, 1, func(m *managed) {
			m.asCluster(0)
			m.server(1).Handle("INCR", func(*testkit.FakeConn, []string) []byte { return []byte("-CLUSTERDOWN The cluster is down\r\n") })
			d := newDriver(m.T, driver.Config{Dial: m.dial, Pool: pooler.Config{MaxOpenConns: 1, SharedConns: shared}})
			c := redis.NewClusterClient(d.ClusterOptions(&redis.ClusterOptions{Addrs: []string{"10.0.0.1:6379"}, MaxRedirects: -1}))
			touch(m.T, c)
			const callers = 20
			began := time.Now()
			told := make(chan error, callers)
			for range callers {
				go func() { told <- c.Incr(context.Background(), "n").Err() }()
			}
			time.Sleep(100 * time.Millisecond)
			if err := c.Get(context.Background(), "k").Err(); !errors.Is(err, redis.Nil) || time.Since(began) > 100*time.Millisecond {
				m.Errorf("a GET meanwhile: %v after %s", err, time.Since(began))
			}
			_ = c.Close()
			for range callers {
				if err := <-told; err == nil || !strings.HasPrefix(err.Error(), "CLUSTERDOWN") {
					m.Errorf("an INCR that was refused before the client was closed: %v", err)
				}
			}
			time.Sleep(time.Second) // it may be about to look once more
		})
	})
}

// A cluster refuses all requests for seconds while it elects, or has just been started.
func TestAClusterIsAskedAgainForLongerThanItRefuses(t *testing.T) {
	d, err := driver.New(driver.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for given, want := range map[int]int{0: 8, 3: 3, -1: -1} {
		if got := d.ClusterOptions(&redis.ClusterOptions{Addrs: []string{"10.0.0.1:6379"}, MaxRedirects: given}).MaxRedirects; got != want {
			t.Errorf("MaxRedirects %d becomes %d, want %d", given, got, want)
		}
	}
}

// A refusal that is held back is passed on when the caller's context is over: the call ends with
// that.
func TestACancelledCallDoesNotWaitForARefusal(t *testing.T) {
	const after = 60 * time.Millisecond
	refuse := func(*testkit.FakeConn, []string) []byte { return []byte("-CLUSTERDOWN The cluster is down\r\n") }
	for name, call := range map[string]func(ctx context.Context, c *redis.ClusterClient) error{
		"a command": func(ctx context.Context, c *redis.ClusterClient) error { return c.Incr(ctx, "{b}n").Err() },
		"after ASK": func(ctx context.Context, c *redis.ClusterClient) error { return c.Set(ctx, "{b}", 1, 0).Err() },
		"a pipeline": func(ctx context.Context, c *redis.ClusterClient) error {
			_, err := c.Pipelined(ctx, func(p redis.Pipeliner) error {
				p.Incr(ctx, "{b}n")
				p.Incr(ctx, "{b}m")
				return nil
			})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			bothWays(t, func(t *testing.T, shared int) {
				inServers(t, 2, func(m *managed) {
					m.asCluster(0, 2)
					m.server(1).Handle("SET", func(*testkit.FakeConn, []string) []byte { return []byte("-ASK 3300 10.0.0.2:6379\r\n") })
					m.server(1).Handle("INCR", refuse)
					m.server(2).Handle("SET", refuse)
					d := newDriver(m.T, driver.Config{Dial: m.dial, Pool: pooler.Config{SharedConns: shared}})
					c := redis.NewClusterClient(d.ClusterOptions(&redis.ClusterOptions{Addrs: []string{"10.0.0.1:6379"}}))
					for range 3 {
						ctx, cancel := context.WithCancel(m.Context())
						began := time.Now()
						time.AfterFunc(after, cancel)
						if err := call(ctx, c); !errors.Is(err, context.Canceled) || time.Since(began) != after {
							m.Errorf("%v after %s, want %s", err, time.Since(began), after)
						}
					}
					m.server(1).Handle("INCR", nil)
					if err := c.Incr(m.Context(), "{b}n").Err(); err != nil { // the handles are whole
						m.Error(err)
					}
					_ = c.Close()
					time.Sleep(time.Second) // it may be about to look once more
				})
			})
		})
	}
}

// A replica that has lost its slots refuses reads that another node serves: go-redis asks that
// one next, and need not wait for it.
func TestARefusalOfAReplicaThatHasLostItsSlotsIsPassedOnAtOnce(t *testing.T) {
	inShard(t, []string{primary, replica}, func(s *shard) {
		rdb := s.client(&redis.ClusterOptions{ReadOnly: true, MinRetryBackoff: -1})
		s.nodes[replica].Handle("GET", func(*testkit.FakeConn, []string) []byte { return []byte("-CLUSTERDOWN Hash slot not served\r\n") })
		for range 3 {
			began := time.Now()
			by, err := rdb.Get(s.Context(), "k").Result()
			if err != nil || by != primary || time.Since(began) != 0 {
				s.Errorf("%q, %v after %s", by, err, time.Since(began))
			}
		}
	})
}
