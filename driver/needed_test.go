package driver_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/pooler"
)

// expectedFor is for how long a node that is away is known after its last handle.
const expectedFor = 5 * time.Minute

// inKind runs the test with a driver for a client of that kind, and what makes it: a
// single node or a ring, cluster or group of sentinels, the third server being the
// sentinel. The client has a dialer of its own or not.
func inKind(t *testing.T, name string, own bool, run func(m *managed, d *driver.Driver, c redis.UniversalClient)) {
	t.Helper()
	inServers(t, 3, func(m *managed) {
		m.asCluster(0, 2)
		m.asSentinel(3, 1)
		cfg := driver.Config{Logger: slog.New(slog.DiscardHandler)}
		var dial func(context.Context, string, string) (net.Conn, error)
		if own {
			dial = m.dial
		} else {
			cfg.Dial = m.dial
		}
		d := newDriver(m.T, cfg)
		var c redis.UniversalClient
		switch name {
		case "single":
			c = redis.NewClient(d.Options(&redis.Options{Addr: "10.0.0.1:6379", Dialer: dial}))
		case "ring":
			c = redis.NewRing(d.RingOptions(&redis.RingOptions{Addrs: map[string]string{"a": "10.0.0.1:6379", "b": "10.0.0.2:6379"}, Dialer: dial}))
		case "cluster":
			c = redis.NewClusterClient(d.ClusterOptions(&redis.ClusterOptions{Addrs: []string{"10.0.0.1:6379"}, Dialer: dial}))
		case "sentinel":
			c = redis.NewFailoverClient(d.FailoverOptions(&redis.FailoverOptions{MasterName: "main", SentinelAddrs: []string{"10.0.0.3:6379"}, Dialer: dial}))
		}
		touch(m.T, c)
		run(m, d, c)
		_ = c.Close()
		time.Sleep(time.Second) // a cluster client may be about to look once more
	})
}

// asSentinel makes a server the sentinel of what has that master.
func (m *managed) asSentinel(n, master int) {
	host := testkit.ReplyBulk(fmt.Sprintf("10.0.0.%d", master))
	m.server(n).Handle("SENTINEL", func(_ *testkit.FakeConn, args []string) []byte {
		switch strings.ToLower(args[1]) {
		case "get-master-addr-by-name":
			return testkit.ReplyArray(host, testkit.ReplyBulk("6379"))
		case "master":
			return testkit.ReplyArray(testkit.ReplyBulk("ip"), host, testkit.ReplyBulk("port"), testkit.ReplyBulk("6379"), testkit.ReplyBulk("config-epoch"), testkit.ReplyBulk("1"))
		}
		return testkit.ReplyArray()
	})
}

// all has something done to the first servers.
func (m *managed) all(n int, do func(*testkit.Fake)) {
	for i := range n {
		do(m.server(i + 1))
	}
}

// touch makes a few calls, each of which gives up soon.
func touch(t *testing.T, c redis.UniversalClient) {
	for i := range 12 {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		_ = c.Set(ctx, fmt.Sprint("k", i), 1, 0).Err()
		cancel()
	}
}

// kinds are those of clients.
func kinds(run func(name string, own bool)) {
	for _, name := range []string{"single", "ring", "cluster", "sentinel"} {
		run(name, false)
		run(name, true)
	}
}

// A readiness probe that answers 503 stops the traffic. It must not answer 200 by that:
// go-redis has no handles in an outage.
func TestADriverStaysUnhealthyWhenTheTrafficStops(t *testing.T) {
	kinds(func(name string, own bool) {
		t.Run(fmt.Sprint(name, " own ", own), func(t *testing.T) {
			inKind(t, name, own, func(m *managed, d *driver.Driver, c redis.UniversalClient) {
				if err := d.Health(m.Context()); err != nil {
					m.Errorf("all are up: %v", err)
				}
				m.all(2, (*testkit.Fake).DownRefused)
				touch(m.T, c)
				for _, wait := range []time.Duration{1, 2, 3, 10, 60, 120} {
					time.Sleep(wait * time.Second)
					if err := d.Health(m.Context()); !errors.Is(err, driver.ErrNoHealthyNode) {
						m.Errorf("%ds more: %v", wait, err)
					}
					if code, body := get(m.T, d.Handler(), ""); code != http.StatusServiceUnavailable {
						m.Errorf("%ds more: %d, %v", wait, code, body)
					}
				}
				m.all(2, (*testkit.Fake).Up)
				time.Sleep(5 * time.Second)
				if err := d.Health(m.Context()); err != nil {
					m.Errorf("all are back: %v", err)
				}
				if err := c.Set(m.Context(), "k", 1, 0).Err(); err != nil {
					m.Error(err)
				}
			})
		})
	})
}

// A closed client can't be told from one that waits, so what is away is in use for some
// time; probes don't make that longer.
func TestNodesThatAreAwayAreInUseForALimit(t *testing.T) {
	for _, name := range []string{"single", "cluster"} {
		t.Run(name, func(t *testing.T) {
			inKind(t, name, true, func(m *managed, d *driver.Driver, c redis.UniversalClient) {
				m.all(2, (*testkit.Fake).DownRefused)
				touch(m.T, c)
				_ = c.Close()
				began := time.Now()
				for time.Since(began) < expectedFor-10*time.Second {
					time.Sleep(time.Second)
					_ = d.Health(m.Context())
					if code, body := get(m.T, d.Handler(), ""); code != http.StatusServiceUnavailable {
						m.Fatalf("after %s: %d, %v", time.Since(began), code, body)
					}
				}
				time.Sleep(15 * time.Second)
				if err := d.Health(m.Context()); err != nil {
					m.Errorf("after %s: %v", time.Since(began), err)
				}
				time.Sleep(3 * time.Second)
				if n := d.Nodes(); len(n) != 0 {
					m.Errorf("nodes of nobody are left: %+v", n)
				}
			})
		})
	}
}

// A ring's heartbeats say that it lives, whether it is called or not.
func TestAShardThatIsAwayIsKnownWhileItsRingLives(t *testing.T) {
	inKind(t, "ring", true, func(m *managed, d *driver.Driver, c redis.UniversalClient) {
		m.all(2, (*testkit.Fake).DownRefused)
		touch(m.T, c)
		time.Sleep(2 * expectedFor)
		if code, body := get(m.T, d.Handler(), ""); code != http.StatusServiceUnavailable {
			m.Errorf("without calls: %d, %v", code, body)
		}
		for _, n := range d.Nodes() {
			if n.Stats.Answered == 0 {
				m.Errorf("a node is new: %+v", n)
			}
		}
		_ = c.Close()
		time.Sleep(expectedFor + 2*time.Second)
		if n := d.Nodes(); len(n) != 0 {
			m.Errorf("nodes of a ring that is closed: %+v", n)
		}
	})
}

// Callers that come now and then, each of which finds the node away, fail fast as those of
// a client that shares its nodes.
func TestANodeOfAClientsOwnOutlivesItsHandlesInAnOutage(t *testing.T) {
	inKind(t, "single", true, func(m *managed, d *driver.Driver, c redis.UniversalClient) {
		m.all(1, (*testkit.Fake).DownRefused)
		for i := range 6 {
			began := time.Now()
			err := c.Ping(m.Context()).Err()
			var e *pooler.Error
			if !errors.As(err, &e) || e.NeverAnswered || i > 0 && (!errors.Is(err, pooler.ErrNodeDown) || time.Since(began) > time.Second) {
				m.Errorf("call %d: %v after %s", i, err, time.Since(began))
			}
			time.Sleep(time.Duration(i+1) * 2500 * time.Millisecond)
		}
		if n := d.Nodes(); len(n) != 1 || n[0].Stats.Answered == 0 {
			m.Errorf("its counters are gone: %+v", n)
		}
		m.all(1, (*testkit.Fake).Up)
		if err := c.Ping(m.Context()).Err(); err != nil {
			m.Error(err)
		}
		_ = c.Close()
		time.Sleep(3 * time.Second)
		if n := d.Nodes(); len(n) != 0 {
			m.Errorf("a node of nobody is kept: %+v", n)
		}
	})
}

// A node that a cluster has done with isn't its clients' any more: it is kept for a limit
// if it is away. One that the cluster still knows is kept.
func TestANodeThatHasLeftAndIsAwayIsForgottenInTime(t *testing.T) {
	for _, own := range []bool{false, true} {
		for _, alone := range []bool{false, true} {
			t.Run(fmt.Sprint("own ", own, " alone ", alone), func(t *testing.T) {
				inKind(t, "cluster", own, func(m *managed, d *driver.Driver, c redis.UniversalClient) {
					m.asCluster(0, 3)
					time.Sleep(2 * time.Minute) // go-redis looks by itself
					touch(m.T, c)
					time.Sleep(time.Second)
					touch(m.T, c)
					if n := d.Nodes(); len(n) != 3 {
						m.Fatalf("nodes %+v", n)
					}
					m.asCluster(0, 2)
					m.server(3).DownRefused()
					if !alone {
						m.server(2).DownRefused()
					}
					began := time.Now()
					for time.Since(began) < expectedFor+90*time.Second { // go-redis keeps it for a minute
						touch(m.T, c)
						time.Sleep(10 * time.Second)
						if n := d.Nodes(); time.Since(began) < expectedFor-10*time.Second && len(n) != 3 {
							m.Fatalf("%s after its end: %+v", time.Since(began), n)
						}
					}
					nodes := d.Nodes()
					if len(nodes) != 2 || nodes[0].Addr != "10.0.0.1:6379" || nodes[1].Addr != "10.0.0.2:6379" || nodes[1].State == pooler.StateUp != alone || nodes[1].Stats.Answered == 0 {
						m.Errorf("left are %+v", nodes)
					}
				})
			})
		}
	}
}

// One that is well is forgotten as soon as go-redis has done with it, whether the driver
// knows by then that it has left or not: that its handles are gone is a reason to ask.
func TestANodeThatHasLeftAndIsWellIsForgotten(t *testing.T) {
	for _, own := range []bool{false, true} {
		for _, told := range []bool{false, true} {
			t.Run(fmt.Sprint("own ", own, " told ", told), func(t *testing.T) {
				inKind(t, "cluster", own, func(m *managed, d *driver.Driver, c redis.UniversalClient) {
					look := func() { // an outage has the driver look; go-redis does once a minute
						m.server(2).DownRefused()
						touch(m.T, c)
						m.server(2).Up()
						time.Sleep(5 * time.Second)
						touch(m.T, c)
					}
					m.asCluster(0, 3)
					time.Sleep(2 * time.Minute)
					touch(m.T, c)
					time.Sleep(time.Second)
					touch(m.T, c)
					look()
					if n := d.Nodes(); len(n) != 3 {
						m.Fatalf("nodes %+v", n)
					}
					m.asCluster(0, 2)
					if told {
						look()
					}
					for range 18 { // go-redis looks in a minute, and keeps it for another one
						touch(m.T, c)
						time.Sleep(10 * time.Second)
					}
					if n := d.Nodes(); len(n) != 2 {
						m.Errorf("left are %+v", n)
					}
				})
			})
		}
	}
}

// managedKinds are clients of a manager on the first two servers, as kinds are.
func managedKinds(t *testing.T, run func(m *managed, add func(name, query string) (redis.UniversalClient, error))) {
	kinds(func(kind string, own bool) {
		if kind == "ring" {
			return
		}
		t.Run(fmt.Sprint(kind, " own ", own), func(t *testing.T) {
			inServers(t, 3, func(m *managed) {
				m.asCluster(0, 2)
				m.asSentinel(3, 1)
				m.Cleanup(func() { time.Sleep(time.Second) }) // a cluster client may be about to look once more
				if own {
					m.open(driver.Config{},
						driver.WithClientOptions(func(o *redis.Options) { o.Dialer = m.dial }),
						driver.WithClusterOptions(func(o *redis.ClusterOptions) { o.Dialer = m.dial }),
						driver.WithFailoverOptions(func(o *redis.FailoverOptions) { o.Dialer = m.dial }))
				} else {
					m.open(driver.Config{Dial: m.dial})
				}
				run(m, func(name, query string) (redis.UniversalClient, error) {
					return m.Add(m.within(time.Minute), name, map[string]string{
						"single": "redis://10.0.0.1?", "cluster": "redis://10.0.0.1?cluster=true&", "sentinel": "redis://10.0.0.3?master_name=main&",
					}[kind]+query)
				})
			})
		})
	})
}

// refusesAll checks that the client is known to be ill, by all that tells.
func (m *managed) refusesAll(name, when string) {
	m.Helper()
	if called, err := m.with(name); called || !errors.Is(err, driver.ErrNoHealthyNode) {
		m.Errorf("%s: With: called %t, %v", when, called, err)
	}
	if code, body := get(m.T, m.Handler(), "?name="+name); code != http.StatusServiceUnavailable {
		m.Errorf("%s: the handler says %d, %v", when, code, body)
	}
	if s := m.status(name); s.Healthy {
		m.Errorf("%s: status %+v", when, s)
	}
}

// A manager knows how its clients are, whatever go-redis has dropped, and for however long.
func TestAManagerKnowsOfAnOutageToItsEnd(t *testing.T) {
	managedKinds(t, func(m *managed, add func(name, query string) (redis.UniversalClient, error)) {
		c, err := add("x", "")
		if err != nil {
			m.Fatal(err)
		}
		touch(m.T, c)
		d := c.(*driver.DB).Driver
		known := len(d.Nodes())
		m.all(2, (*testkit.Fake).DownRefused)
		touch(m.T, c)
		for _, wait := range []time.Duration{time.Second, 2 * time.Second, 4 * time.Second, time.Minute, 10 * time.Minute, 10 * time.Minute} {
			time.Sleep(wait)
			m.refusesAll("x", fmt.Sprint(wait, " more"))
			if n := d.Nodes(); len(n) != known {
				m.Errorf("%s more: nodes %+v", wait, n)
			}
		}
		m.all(2, (*testkit.Fake).Up)
		time.Sleep(15 * time.Second)
		if s := m.status("x"); !s.Healthy {
			m.Errorf("all are back: %+v", s)
		}
		// Without a call there is no handle.
		time.Sleep(time.Minute)
		m.all(2, (*testkit.Fake).DownRefused)
		time.Sleep(noticed)
		m.refusesAll("x", "again")
		m.all(2, (*testkit.Fake).Up)
		time.Sleep(15 * time.Second)
		m.serves("x")
		if err := m.Remove(m.Context(), "x"); err != nil {
			m.Error(err)
		}
		time.Sleep(time.Minute)
		if n := d.Nodes(); len(n) != 0 {
			m.Errorf("nodes of nobody are left: %+v", n)
		}
	})
}

// What another client goes by isn't taken away with a client that is removed, nor with one
// that couldn't be added.
func TestClientsTakeNoNodesFromOthersInAnOutage(t *testing.T) {
	for _, what := range []string{"removed", "failed"} {
		managedKinds(t, func(m *managed, add func(name, query string) (redis.UniversalClient, error)) {
			c, err := add("stays", "")
			if err != nil {
				m.Fatal(err)
			}
			touch(m.T, c)
			if what == "removed" {
				if _, err := add("goes", "client_name=goes"); err != nil {
					m.Fatal(err)
				}
			}
			m.all(2, (*testkit.Fake).DownRefused)
			touch(m.T, c)
			time.Sleep(10 * time.Second)
			if what == "removed" {
				if err := m.Remove(m.Context(), "goes"); err != nil {
					m.Error(err)
				}
			} else if _, err := add("goes", "client_name=goes"); !errors.Is(err, driver.ErrNoHealthyNode) {
				m.Errorf("Add in an outage: %v", err)
			}
			for range 3 {
				m.refusesAll("stays", "another is "+what)
				time.Sleep(2 * time.Second)
			}
			time.Sleep(2 * expectedFor)
			m.refusesAll("stays", "long after another is "+what)
			if n := m.status("stays").Nodes; len(n) == 0 || n[0].Stats.Answered == 0 {
				m.Errorf("its nodes are new: %+v", n)
			}
		})
	}
}

// The only seed goes before the driver has a view of its own: another node that go-redis
// has named, and that clients have dialed, is asked.
func TestASeedThatGoesAtOnceIsNotTheOnlyOneAsked(t *testing.T) {
	inServers(t, 2, func(m *managed) {
		m.asCluster(0, 2)
		d := newDriver(m.T, driver.Config{Dial: m.dial, Logger: slog.New(slog.DiscardHandler)})
		c := redis.NewClusterClient(d.ClusterOptions(&redis.ClusterOptions{Addrs: []string{"10.0.0.1:6379"}}))
		slots := m.slotsOf(0, 2)
		var asked atomic.Int64
		m.server(1).Handle("CLUSTER", func(*testkit.FakeConn, []string) []byte {
			if asked.Add(1) == 1 {
				return slots // to go-redis
			}
			return nil
		})
		touch(m.T, c)
		m.server(1).DownRefused()
		touch(m.T, c)
		time.Sleep(time.Second)
		if n := m.server(2).Count("CLUSTER"); n == 0 {
			m.Error("nobody was asked")
		}
		_ = c.Close()
		time.Sleep(time.Second)
	})
}

// Whoever asked for a node that is away has gone: nobody is asked about it on their behalf.
func TestClosedClientsAskNothing(t *testing.T) {
	inServers(t, 2, func(m *managed) {
		m.asCluster(0, 2)
		d := newDriver(m.T, driver.Config{Dial: m.dial, Logger: slog.New(slog.DiscardHandler)})
		c := redis.NewClusterClient(d.ClusterOptions(&redis.ClusterOptions{Addrs: []string{"10.0.0.1:6379"}}))
		touch(m.T, c)
		m.server(1).DownRefused()
		touch(m.T, c)
		if n := m.server(2).Count("CLUSTER"); n == 0 {
			m.Error("nobody was asked before the client was closed")
		}
		_ = c.Close()
		time.Sleep(4 * time.Second)
		m.server(2).ResetLog()
		time.Sleep(time.Minute)
		if n := m.server(2).Count("CLUSTER"); n != 0 {
			m.Errorf("asked %d times after the client was closed", n)
		}
	})
}
