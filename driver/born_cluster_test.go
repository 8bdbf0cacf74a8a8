package driver_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/pooler"
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

// The first call of a cluster client that is born in an outage is as patient as go-redis's own
// dials of one seed after the other. A seed that is away holds up none where another is up.
func TestAClusterClientBornInAnOutageIsPatientAtOnce(t *testing.T) {
	const restart = time.Second
	for _, c := range []struct {
		name  string
		down  int
		calls func(context.Context, *redis.ClusterClient) error
		most  time.Duration
	}{
		{"a command", 3, func(ctx context.Context, c *redis.ClusterClient) error { return c.Set(ctx, "k", 1, 0).Err() }, 2 * restart},
		{"each master", 3, func(ctx context.Context, c *redis.ClusterClient) error { return c.DBSize(ctx).Err() }, 2 * restart},
		{"a subscription", 3, func(ctx context.Context, c *redis.ClusterClient) error {
			s := c.Subscribe(ctx, "k")
			_, err := s.Receive(ctx)
			return errors.Join(err, s.Close())
		}, 2 * restart},
		{"a command, one seed up", 2, func(ctx context.Context, c *redis.ClusterClient) error { return c.Set(ctx, "a", 1, 0).Err() }, 100 * time.Millisecond},
	} {
		t.Run(c.name, func(t *testing.T) {
			inServers(t, 3, func(m *managed) {
				m.asCluster(0)
				for i := range c.down {
					m.server(i + 1).DownRefused()
				}
				d := newDriver(m.T, driver.Config{Logger: slog.New(slog.DiscardHandler), Dial: m.dial})
				rdb := redis.NewClusterClient(d.ClusterOptions(&redis.ClusterOptions{Addrs: []string{"10.0.0.1:6379", "10.0.0.2:6379", "10.0.0.3:6379"}}))
				time.AfterFunc(restart, func() {
					for i := range c.down {
						m.server(i + 1).Up()
					}
				})
				began := time.Now()
				if err := c.calls(m.Context(), rdb); err != nil || time.Since(began) > c.most {
					m.Errorf("%v after %s", err, time.Since(began))
				}
				_ = rdb.Close()
				time.Sleep(time.Minute) // it may be dialing still
			})
		})
	}
}

// A call that is for each of a cluster's masters has one awaited that may be back, as go-redis's
// own dials would, though it has been away for long: nobody brings the call to another.
func TestACallForEachMasterServesOnceTheyAreBack(t *testing.T) {
	inServers(t, 3, func(m *managed) {
		m.asCluster(0)
		d := newDriver(m.T, driver.Config{Logger: slog.New(slog.DiscardHandler), Dial: m.dial})
		rdb := redis.NewClusterClient(d.ClusterOptions(&redis.ClusterOptions{Addrs: []string{"10.0.0.1:6379", "10.0.0.2:6379", "10.0.0.3:6379"}}))
		ping := func() error {
			return rdb.ForEachMaster(m.Context(), func(ctx context.Context, c *redis.Client) error { return c.Ping(ctx).Err() })
		}
		if err := ping(); err != nil {
			m.Error(err)
		}
		m.server(2).DownRefused()
		for range 3 {
			if err := ping(); err == nil {
				m.Error("one is away, and all have answered")
			}
			time.Sleep(time.Second)
		}
		m.server(2).Up()
		if err := ping(); err != nil {
			m.Error(err)
		}
		_ = rdb.Close()
		time.Sleep(time.Minute) // it may be dialing still
	})
}

// What is asked of one member of a cluster, which is silent, waits for its answer there, as on a
// socket, whoever has its slots by then: nobody else can give it.
func TestWhatIsAskedOfOneMemberWaitsForItThoughItWasDeposed(t *testing.T) {
	bothWays(t, func(t *testing.T, shared int) {
		inServers(t, 2, func(m *managed) {
			m.asCluster(0)
			d := newDriver(m.T, driver.Config{Logger: slog.New(slog.DiscardHandler), Dial: m.dial, Pool: pooler.Config{SharedConns: shared}})
			rdb := redis.NewClusterClient(d.ClusterOptions(&redis.ClusterOptions{Addrs: []string{"10.0.0.1:6379", "10.0.0.2:6379"}}))
			var member *redis.Client
			_ = rdb.ForEachMaster(m.Context(), func(_ context.Context, c *redis.Client) error {
				if c.Options().Addr == "10.0.0.1:6379" {
					member = c
				}
				return nil
			})
			var wg sync.WaitGroup
			for range 10 { // go-redis has handles enough for all its tries
				wg.Go(func() {
					if err := member.Ping(m.Context()).Err(); err != nil {
						m.Error(err)
					}
				})
			}
			wg.Wait()
			m.server(1).Freeze(true)
			m.deposed(2)
			time.AfterFunc(2*time.Second, func() { m.server(1).Freeze(false) })
			_ = rdb.Set(m.Context(), "b", 1, 0).Err() // it waits for the other one, if it has to
			began := time.Now()
			if err := member.Ping(m.Context()).Err(); err != nil {
				m.Errorf("%v after %s", err, time.Since(began))
			}
			_ = rdb.Close()
			time.Sleep(time.Minute) // it may be dialing still
		})
	})
}

// A subscription at a member that is silent waits for it, as on a socket: whoever receives would
// be told of its failure.
func TestASubscriptionWaitsForAMemberThatIsSilent(t *testing.T) {
	inServers(t, 2, func(m *managed) {
		m.asCluster(0)
		d := newDriver(m.T, driver.Config{Logger: slog.New(slog.DiscardHandler), Dial: m.dial})
		rdb := redis.NewClusterClient(d.ClusterOptions(&redis.ClusterOptions{Addrs: []string{"10.0.0.1:6379", "10.0.0.2:6379"}}))
		keys := strings.Split("abcdefghijk", "") // on both
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				for _, key := range keys {
					_ = rdb.Set(m.Context(), key, 1, 0).Err()
				}
			})
		}
		wg.Wait()
		for i := range 2 {
			m.server(i + 1).Freeze(true)
		}
		for _, key := range keys { // which finds that they are silent
			wg.Go(func() { _ = rdb.Set(m.Context(), key, 1, 0).Err() })
		}
		time.Sleep(300 * time.Millisecond)
		for _, n := range d.Nodes() {
			if !n.Silent {
				m.Fatalf("%s isn't silent", n.Addr)
			}
		}
		time.AfterFunc(500*time.Millisecond, func() {
			for i := range 2 {
				m.server(i + 1).Freeze(false)
			}
		})
		ps := rdb.Subscribe(m.Context(), "channel")
		if _, err := ps.Receive(m.Context()); err != nil {
			m.Error(err)
		}
		_ = ps.Close()
		wg.Wait()
		_ = rdb.Close()
		time.Sleep(time.Minute) // it may be dialing still
	})
}

// deposed has the servers say that the last one of those has all slots.
func (m *managed) deposed(last int) {
	host := fmt.Sprintf("10.0.0.%d", last)
	slots := testkit.ReplyArray(testkit.ReplyArray(testkit.ReplyInt(0), testkit.ReplyInt(16383),
		testkit.ReplyArray(testkit.ReplyBulk(host), testkit.ReplyInt(6379), testkit.ReplyBulk(fmt.Sprintf("%040d", last)))))
	for _, f := range m.servers {
		f.Handle("CLUSTER", func(*testkit.FakeConn, []string) []byte { return slots })
	}
}
