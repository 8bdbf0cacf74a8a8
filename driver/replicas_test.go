package driver_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/internal/testkit"
)

// shard is a cluster in a bubble: a primary of all slots, and its replicas.
type shard struct {
	*testing.T
	nodes map[string]*testkit.Fake
	d     *driver.Driver
	asked atomic.Int64 // for the slots

	refuses atomic.Pointer[string] // the address of a node that accepts no more connections
}

const primary, replica, replica2 = "10.0.0.1:6379", "10.0.0.2:6379", "10.0.0.3:6379"

// inShard runs the test in a bubble with a primary and its replicas.
func inShard(t *testing.T, addrs []string, run func(s *shard)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		t.Cleanup(func() { time.Sleep(time.Minute) }) // go-redis rests from its reloads
		s := &shard{T: t, nodes: make(map[string]*testkit.Fake)}
		nodes := [][]byte{testkit.ReplyInt(0), testkit.ReplyInt(16383)}
		for _, addr := range addrs {
			host, _, _ := net.SplitHostPort(addr)
			nodes = append(nodes, testkit.ReplyArray(testkit.ReplyBulk(host), testkit.ReplyInt(6379), testkit.ReplyBulk("")))
		}
		for _, addr := range addrs {
			f := testkit.NewFake()
			t.Cleanup(f.Close)
			f.Handle("CLUSTER", func(*testkit.FakeConn, []string) []byte {
				s.asked.Add(1)
				return testkit.ReplyArray(testkit.ReplyArray(nodes...))
			})
			f.Handle("GET", func(*testkit.FakeConn, []string) []byte { return testkit.ReplyBulk(addr) })
			s.nodes[addr] = f
		}
		s.d = newDriver(t, driver.Config{
			Logger: slog.New(slog.DiscardHandler),
			Dial:   s.dial,
		})
		run(s)
	})
}

func (s *shard) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	f := s.nodes[addr]
	if full := s.refuses.Load(); f == nil || full != nil && addr == *full {
		return nil, fmt.Errorf("%w: %s", syscall.ECONNREFUSED, addr)
	}
	return f.Dial(ctx, network, addr)
}

func (s *shard) client(o *redis.ClusterOptions) *redis.ClusterClient {
	o.Addrs = []string{primary}
	rdb := redis.NewClusterClient(s.d.ClusterOptions(o))
	s.Cleanup(func() { _ = rdb.Close() })
	return rdb
}

// read reads n keys in one pipeline, and returns who has answered, and after what time.
func (s *shard) read(rdb *redis.ClusterClient, n int) (by string, took time.Duration) {
	s.Helper()
	began := time.Now()
	cmds, err := rdb.Pipelined(s.Context(), func(p redis.Pipeliner) error {
		for i := range n {
			p.Get(s.Context(), string(rune('a'+i)))
		}
		return nil
	})
	if err != nil {
		s.Errorf("a pipeline of %d reads: %v", n, err)
	}
	return cmds[0].(*redis.StringCmd).Val(), time.Since(began)
}

// readsFromReplicas are the ways to have a client do so.
var readsFromReplicas = map[string]redis.ClusterOptions{
	"ReadOnly": {ReadOnly: true}, "RouteRandomly": {RouteRandomly: true}, "RouteByLatency": {RouteByLatency: true},
	"ReadOnly, few handles": {ReadOnly: true, PipelinePoolSize: -1},
}

// A replica that is away costs those who read from replicas a pause once in a while: not
// each pipeline. So does one that accepts connections and says nothing.
func TestPipelinesLeaveAReplicaThatIsAway(t *testing.T) {
	if !driver.Vetoes {
		t.Skip("handles that exist already aren't asked")
	}
	for fault, fell := range map[string]func(*testkit.Fake){
		"refuses": (*testkit.Fake).DownRefused, "is silent": func(f *testkit.Fake) { f.Freeze(true) },
	} {
		for name, o := range readsFromReplicas {
			for _, n := range []int{1, 2} {
				t.Run(fmt.Sprintf("%s/%s/%d", fault, name, n), func(t *testing.T) {
					inShard(t, []string{primary, replica}, func(s *shard) { s.leaveReplica(s.client(&o), n, fell) })
				})
			}
		}
	}
}

// leaveReplica reads n keys at a time after the replica has fallen.
func (s *shard) leaveReplica(rdb *redis.ClusterClient, n int, fell func(*testkit.Fake)) {
	for range 20 {
		s.read(rdb, n)
	}
	fell(s.nodes[replica])
	s.read(rdb, n)
	time.Sleep(500 * time.Millisecond)
	synctest.Wait()
	asked, paused := s.asked.Load(), 0
	for range 1000 { // in 10 s
		by, took := s.read(rdb, n)
		if by != primary {
			s.Errorf("answered by %q", by)
		}
		if took > 0 {
			paused++
		}
		time.Sleep(10*time.Millisecond - min(took, 10*time.Millisecond))
	}
	if paused > 3 {
		s.Errorf("%d of 1000 pipelines have paused", paused)
	}
	if more := s.asked.Load() - asked; more > 5 {
		s.Errorf("the slots were asked for %d times in 10 s", more)
	}
}

// A read that go-redis sends to a primary that is away goes to a replica that answers, if
// its client reads from replicas. What a replica doesn't run waits for the primary.
func TestReadsDontWaitForAPrimaryWhereAReplicaAnswers(t *testing.T) {
	for fault, f := range map[string]struct {
		fell func(*testkit.Fake)
		back func(*testkit.Fake)
	}{
		"refuses":   {(*testkit.Fake).DownRefused, (*testkit.Fake).Up},
		"is silent": {func(f *testkit.Fake) { f.Freeze(true) }, func(f *testkit.Fake) { f.Freeze(false) }},
	} {
		t.Run(fault, func(t *testing.T) {
			inShard(t, []string{primary, replica}, func(s *shard) {
				rdb := s.client(&redis.ClusterOptions{RouteRandomly: true})
				// Together, so that there are handles that have been on shared connections.
				var warm sync.WaitGroup
				for range 20 {
					warm.Go(func() {
						s.read(rdb, 2)
						rdb.Get(s.Context(), "a")
					})
				}
				warm.Wait()
				synctest.Wait() // the driver knows the cluster
				f.fell(s.nodes[primary])
				synctest.Wait() // connections are lost now, not under the next requests
				const outage = 3 * time.Second
				began := time.Now()
				waited := make(chan time.Duration, 2)
				for what, call := range map[string]func() error{
					"a write":       func() error { return rdb.Set(s.Context(), "a", 1, 0).Err() },
					"a transaction": func() error { return s.tx(rdb) },
				} {
					go func() {
						if err := call(); err != nil {
							s.Errorf("%s: %v", what, err)
						}
						waited <- time.Since(began)
					}()
					synctest.Wait() // a write under way on a dead connection would be unknown
				}
				time.Sleep(time.Second)
				for range 50 {
					began := time.Now()
					if by, err := rdb.Get(s.Context(), "a").Result(); err != nil || by != replica || time.Since(began) > 0 {
						s.Fatalf("answered by %q after %v: %v", by, time.Since(began), err)
					}
					if by, took := s.read(rdb, 2); by != replica || took > 100*time.Millisecond {
						s.Fatalf("a pipeline was answered by %q after %v", by, took)
					}
				}
				time.Sleep(time.Until(began.Add(outage)))
				f.back(s.nodes[primary])
				for range cap(waited) {
					if took := <-waited; took < outage {
						s.Errorf("what a replica doesn't run has waited for %v", took)
					}
				}
			})
		})
	}
}

// tx reads in a transaction, which go-redis sends to primaries alone.
func (s *shard) tx(rdb *redis.ClusterClient) error {
	_, err := rdb.TxPipelined(s.Context(), func(p redis.Pipeliner) error { return p.Get(s.Context(), "a").Err() })
	return err
}

// What was a replica of a primary that goes away may be another one's by then, and sends
// reads back. They wait until it is known who stands by, and don't go to and fro until
// their tries are used up.
func TestReadsAreSentToNoReplicaOfBefore(t *testing.T) {
	inShard(t, []string{primary, replica}, func(s *shard) {
		rdb := s.client(&redis.ClusterOptions{RouteRandomly: true})
		for range 20 {
			s.read(rdb, 2)
			rdb.Get(s.Context(), "a")
		}
		for _, f := range s.nodes {
			f.Handle("CLUSTER", func(*testkit.FakeConn, []string) []byte {
				time.Sleep(time.Millisecond)
				return testkit.ReplyArray(testkit.ReplyArray(testkit.ReplyInt(0), testkit.ReplyInt(16383),
					testkit.ReplyArray(testkit.ReplyBulk("10.0.0.1"), testkit.ReplyInt(6379), testkit.ReplyBulk(""))))
			})
		}
		s.nodes[replica].Handle("GET", func(*testkit.FakeConn, []string) []byte {
			return testkit.ReplyError("MOVED 15495 " + primary)
		})
		for range 50 { // go-redis learns of it
			rdb.Get(s.Context(), "a")
			time.Sleep(100 * time.Millisecond)
		}
		s.nodes[primary].DownRefused()
		done := make(chan error, 16)
		for range cap(done) {
			go func() { done <- rdb.Get(s.Context(), "a").Err() }()
		}
		time.Sleep(time.Second)
		s.nodes[primary].Up()
		for range cap(done) {
			if err := <-done; err != nil {
				s.Errorf("a read: %v", err)
			}
		}
	})
}

// Where the replicas are away too reads wait for whoever comes first.
func TestReadsWaitWhereNobodyAnswers(t *testing.T) {
	for _, first := range []string{primary, replica} {
		t.Run(first, func(t *testing.T) {
			inShard(t, []string{primary, replica}, func(s *shard) {
				rdb := s.client(&redis.ClusterOptions{RouteRandomly: true})
				for range 20 {
					s.read(rdb, 2)
					rdb.Get(s.Context(), "a")
				}
				for _, addr := range []string{primary, replica} {
					s.nodes[addr].DownRefused()
				}
				const outage = 3 * time.Second
				done := make(chan string, 64)
				for range cap(done) {
					go func() { done <- rdb.Get(s.Context(), "a").Val() }()
				}
				time.Sleep(outage)
				s.nodes[first].Up()
				if first == replica {
					time.Sleep(time.Second) // nobody wakes those who wait for the primary
					s.nodes[primary].Up()
				}
				for range cap(done) {
					if by := <-done; by == "" {
						s.Error("a read failed")
					}
				}
			})
		})
	}
}

// A single command follows MOVED, without a pause.
func TestCommandsPauseForNoReplicaThatIsAway(t *testing.T) {
	for name, o := range readsFromReplicas {
		t.Run(name, func(t *testing.T) {
			inShard(t, []string{primary, replica}, func(s *shard) {
				rdb := s.client(&o)
				for range 20 {
					s.read(rdb, 2)
					rdb.Get(s.Context(), "a")
				}
				s.nodes[replica].DownRefused()
				rdb.Get(s.Context(), "a")
				time.Sleep(200 * time.Millisecond)
				for range 100 {
					began := time.Now()
					if by, err := rdb.Get(s.Context(), "a").Result(); err != nil || by != primary || time.Since(began) > 0 {
						s.Fatalf("answered by %q after %v: %v", by, time.Since(began), err)
					}
				}
			})
		})
	}
}

// While all nodes of a slot are away pipelines wait for the primary, however often they
// are sent to replicas that go-redis takes for no worse.
func TestPipelinesWaitForThePrimaryWhenReplicasAreAwayToo(t *testing.T) {
	for name, o := range readsFromReplicas {
		t.Run(name, func(t *testing.T) {
			inShard(t, []string{primary, replica, replica2}, func(s *shard) {
				rdb := s.client(&o)
				for range 20 {
					s.read(rdb, 2)
				}
				for _, f := range s.nodes {
					f.DownRefused()
				}
				const outage = 3 * time.Second
				done := make(chan string, 64)
				for range cap(done) {
					go func() {
						by, took := s.read(rdb, 2)
						if took > outage+time.Second {
							by += ", late"
						}
						done <- by
					}()
				}
				time.Sleep(outage)
				s.nodes[primary].Up()
				for range cap(done) {
					if by := <-done; by != primary {
						s.Errorf("answered by %q", by)
					}
				}
			})
		})
	}
}

// A pipeline goes to another node whatever it consists of: commands that go-redis doesn't
// try again among it.
func TestPipelinesThatAreNotTriedAgainLeaveAReplicaThatIsAway(t *testing.T) {
	inShard(t, []string{primary, replica}, func(s *shard) {
		rdb := s.client(&redis.ClusterOptions{ReadOnly: true})
		for range 20 {
			s.read(rdb, 2)
		}
		s.nodes[replica].DownRefused()
		s.read(rdb, 2)
		for range 3 {
			time.Sleep(20 * time.Second)
			var bufs [2][64]byte
			cmds, err := rdb.Pipelined(s.Context(), func(p redis.Pipeliner) error {
				p.GetToBuffer(s.Context(), "a", bufs[0][:])
				p.GetToBuffer(s.Context(), "b", bufs[1][:])
				return nil
			})
			if err != nil || !strings.HasPrefix(string(bufs[1][:]), primary) {
				s.Errorf("%v, %q: %v", cmds, bufs[1][:], err)
			}
		}
	})
}

// ofReplicas runs the test with a client of replicas alone: of a primary, 1, and a replica, 2,
// of which a sentinel says that it has those flags, "slave" or more.
func ofReplicas(t *testing.T, run func(m *managed, flags *atomic.Pointer[string], c *redis.Client)) {
	t.Helper()
	inServers(t, 3, func(m *managed) {
		var flags atomic.Pointer[string]
		host := func(n int, more ...string) []byte {
			fields := [][]byte{testkit.ReplyBulk("ip"), testkit.ReplyBulk(fmt.Sprintf("10.0.0.%d", n)), testkit.ReplyBulk("port"), testkit.ReplyBulk("6379")}
			for _, s := range more {
				fields = append(fields, testkit.ReplyBulk(s))
			}
			return testkit.ReplyArray(fields...)
		}
		m.server(3).Handle("SENTINEL", func(_ *testkit.FakeConn, args []string) []byte {
			switch strings.ToLower(args[1]) {
			case "get-master-addr-by-name":
				return testkit.ReplyArray(testkit.ReplyBulk("10.0.0.1"), testkit.ReplyBulk("6379"))
			case "master":
				return host(1)
			case "replicas", "slaves":
				return testkit.ReplyArray(host(2, "flags", *flags.Load()))
			}
			return testkit.ReplyArray()
		})
		d := newDriver(m.T, driver.Config{Dial: m.dial})
		c := redis.NewFailoverClient(d.FailoverOptions(&redis.FailoverOptions{MasterName: "main", SentinelAddrs: []string{"10.0.0.3:6379"}, ReplicaOnly: true}))
		defer c.Close()
		run(m, &flags, c)
	})
}

// reads has a key read, and reports which server was asked.
func (m *managed) reads(c *redis.Client) int {
	m.Helper()
	before := [...]int{m.server(1).Count("GET"), m.server(2).Count("GET")}
	if err := c.Get(m.Context(), "k").Err(); !errors.Is(err, redis.Nil) {
		m.Error(err)
	}
	for i, n := range before {
		if m.server(i+1).Count("GET") > n {
			return i + 1
		}
	}
	return 0
}

// It is on the primary since no replica was up. When the primary goes it is to go to one
// that is up by then, as on the stock pool, and else to wait.
func TestAClientOfReplicasLeavesAPrimaryThatIsAwayForAReplicaThatIsBack(t *testing.T) {
	for flags, want := range map[string]int{"slave": 2, "slave,disconnected": 1, "s_down,slave": 1} {
		t.Run(flags, func(t *testing.T) {
			ofReplicas(t, func(m *managed, now *atomic.Pointer[string], c *redis.Client) {
				now.Store(new("s_down,slave"))
				if at := m.reads(c); at != 1 {
					m.Fatalf("read at %d", at)
				}
				now.Store(&flags)
				m.server(1).DownRefused()
				time.AfterFunc(3*time.Second, m.server(1).Up)
				for range 3 {
					if at := m.reads(c); at != want {
						m.Errorf("read at %d, want %d", at, want)
					}
				}
			})
		})
	}
}

// It would go to and fro between two that are away.
func TestAClientOfReplicasWaitsForAPrimaryWhoseReplicaIsKnownToBeAway(t *testing.T) {
	ofReplicas(t, func(m *managed, now *atomic.Pointer[string], c *redis.Client) {
		now.Store(new("slave"))
		at := m.reads(c)
		m.server(2).DownRefused()
		now.Store(new("s_down,slave"))
		if then := m.reads(c); at != 2 || then != 1 {
			m.Fatalf("read at %d and %d", at, then)
		}
		now.Store(new("slave"))
		m.server(1).DownRefused()
		time.AfterFunc(3*time.Second, m.server(1).Up)
		if at := m.reads(c); at != 1 {
			m.Errorf("read at %d", at)
		}
	})
}

// There is no other one that go-redis would dial, as far as the sentinels know: they call a
// replica that says nothing down after 30 s, by default. On the stock pool it is waited for.
func TestAClientOfReplicasWaitsForItsOnlyReplica(t *testing.T) {
	for what, ends := range map[string]func(*testkit.Fake) (again func()){
		"frozen":  func(f *testkit.Fake) func() { f.Freeze(true); return func() { f.Freeze(false) } },
		"refuses": func(f *testkit.Fake) func() { f.DownRefused(); return f.Up },
	} {
		t.Run(what, func(t *testing.T) {
			ofReplicas(t, func(m *managed, now *atomic.Pointer[string], c *redis.Client) {
				now.Store(new("slave"))
				m.reads(c)
				time.AfterFunc(2*time.Second, ends(m.server(2)))
				for range 3 {
					if at := m.reads(c); at != 2 {
						m.Errorf("read at %d", at)
					}
				}
			})
		})
	}
}

// The primary takes over once the sentinels know.
func TestAClientOfReplicasLeavesItsOnlyReplicaForThePrimary(t *testing.T) {
	ofReplicas(t, func(m *managed, now *atomic.Pointer[string], c *redis.Client) {
		now.Store(new("slave"))
		m.reads(c)
		m.server(2).DownRefused()
		time.AfterFunc(2*time.Second, func() { now.Store(new("slave,disconnected")) })
		began := time.Now()
		if at := m.reads(c); at != 1 {
			m.Errorf("read at %d", at)
		}
		if took := time.Since(began); took < 2*time.Second || took > 4*time.Second {
			m.Errorf("after %v", took)
		}
	})
}

// A replica that has lost its primary may refuse to read what it had of it. Reads wait at the
// primary, as writes do, and aren't sent to and fro until their tries are used up; if the primary
// is well it answers them.
func TestReadsThatAStaleReplicaRefusesGoToThePrimary(t *testing.T) {
	for name, o := range readsFromReplicas {
		t.Run(name, func(t *testing.T) {
			inShard(t, []string{primary, replica}, func(s *shard) {
				o.MaxRedirects = 3
				rdb := s.client(&o)
				for range 20 {
					rdb.Get(s.Context(), "a")
				}
				synctest.Wait()
				s.nodes[replica].Handle("GET", func(*testkit.FakeConn, []string) []byte {
					return testkit.ReplyError("MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.")
				})
				read := func(want time.Duration) {
					s.Helper()
					began := time.Now()
					by, err := rdb.Get(s.Context(), "a").Result()
					if took := time.Since(began); err != nil || by != primary || took < want || took > want+want/4 {
						s.Errorf("answered by %q after %v: %v; want the primary after %v", by, took, err, want)
					}
				}
				late := 0 // pipelines
				for range 20 {
					read(0)
					began := time.Now()
					cmds, _ := rdb.Pipelined(s.Context(), func(p redis.Pipeliner) error {
						p.Get(s.Context(), "a")
						p.Get(s.Context(), "b")
						return nil
					})
					// go-redis sends all of it again where the first command is refused.
					if o.ReadOnly && (cmds[0].Err() == nil) != (cmds[1].Err() == nil) {
						s.Errorf("half a pipeline was refused: %v, %v", cmds[0].Err(), cmds[1].Err())
					}
					if time.Since(began) > 0 {
						late++
					}
				}
				if driver.Vetoes && late > 4 {
					s.Errorf("%d of 20 pipelines asked the replica first, want the first few, after which go-redis takes it for failing", late)
				}
				s.nodes[primary].DownRefused()
				synctest.Wait()
				const outage = 3 * time.Second
				var wg sync.WaitGroup
				for range 20 {
					wg.Go(func() { read(outage) })
				}
				time.Sleep(outage)
				s.nodes[primary].Up()
				wg.Wait()
				s.nodes[replica].Handle("GET", func(*testkit.FakeConn, []string) []byte { return testkit.ReplyBulk(replica) })
				time.Sleep(10 * time.Second)
				s.nodes[primary].DownRefused()
				for range 20 {
					if by, err := rdb.Get(s.Context(), "a").Result(); err != nil || by != replica {
						s.Errorf("answered by %q: %v; want the replica, which serves again", by, err)
					}
				}
				s.nodes[primary].Up()
			})
		})
	}
}
