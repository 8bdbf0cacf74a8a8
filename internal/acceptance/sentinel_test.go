package acceptance_test

import (
	"context"
	"log/slog"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/internal/testkit/drivertest"
	"github.com/everpool/everpool/pooler"
)

// sentinelCrews are the ways to use what sentinels watch.
func sentinelCrews(t *testing.T, s *testkit.Sentinels) []*crew {
	d := patientDriver(t)
	options := func() *redis.FailoverOptions {
		return &redis.FailoverOptions{MasterName: s.Name, SentinelAddrs: s.Addrs()}
	}
	replica := options()
	replica.ReplicaOnly = true
	random := options()
	random.RouteRandomly = true
	crews := []*crew{
		newCrew(t, "plain", redis.NewFailoverClient(d.FailoverOptions(options()))),
		newCrew(t, "replica", redis.NewFailoverClient(d.FailoverOptions(replica))),
		newCrew(t, "random", redis.NewFailoverClusterClient(d.FailoverOptions(random))),
		newCrew(t, "gathered", redis.NewFailoverClient(d.FailoverOptions(options()))),
	}
	crews[1].reads = true
	gathers(t, d, crews[3])
	return crews
}

// watched has all crews call while f runs, and checks what they have met.
func watched(t *testing.T, s *testkit.Sentinels, f func(served func())) {
	var wg sync.WaitGroup
	stop := make(chan struct{})
	crews := sentinelCrews(t, s)
	all := func(name string) []string { return []string{name + ":1", name + ":2", name + ":3", name + ":4"} }
	for _, w := range crews {
		w.work(&wg, stop, all(w.name))
	}
	served := func() {
		for _, w := range crews {
			w.served(t, all(w.name))
		}
	}
	served()
	f(served)
	close(stop)
	wg.Wait()
	read := counter(t, redis.NewFailoverClient(&redis.FailoverOptions{MasterName: s.Name, SentinelAddrs: s.Addrs()}))
	for _, w := range crews {
		t.Logf("%s: %d increments of unknown outcome", w.name, w.check(t, read))
	}
}

// When sentinels put a replica in the place of a primary that has died, calls wait for
// that and go there; none fails, but for increments whose outcome nobody knows.
func TestASwitchOfSentinelsFailsNoCall(t *testing.T) {
	t.Parallel() // what runs are its subtests
	for _, kind := range testkit.Kinds {
		t.Run(string(kind), func(t *testing.T) {
			testkit.Waits(t)
			s := testkit.StartSentinels(t, kind, testkit.SentinelConfig{})
			watched(t, s, func(served func()) {
				before := s.Master()
				s.Server(before).Kill()
				s.AwaitMaster(t, before)
				served()
			})
		})
	}
}

// A cluster client on sentinels names nodes of this machine without their host. By
// another name a node would have a second pool.
func TestAClusterClientOfSentinelsHasOnePoolForEachNode(t *testing.T) {
	testkit.Waits(t)
	s := testkit.StartSentinels(t, testkit.Redis, testkit.SentinelConfig{})
	d := patientDriver(t)
	rdb := redis.NewFailoverClusterClient(d.FailoverOptions(&redis.FailoverOptions{MasterName: s.Name, SentinelAddrs: s.Addrs(), RouteRandomly: true}))
	t.Cleanup(func() { _ = rdb.Close() })
	work := func() bool { return rdb.Set(t.Context(), "k", 1, 0).Err() == nil }
	testkit.Await(t, "the client works", work)
	for range 50 { // all nodes are read from
		_ = rdb.Get(t.Context(), "k").Err()
	}
	before := s.Master()
	s.Server(before).Kill()
	work() // waits
	s.AwaitMaster(t, before)
	testkit.Await(t, "the client works with the new primary", work)
	ports := make(map[string]string)
	for _, n := range d.Nodes() {
		_, port, err := net.SplitHostPort(n.Addr)
		if err != nil {
			t.Fatal(err)
		}
		if other := ports[port]; other != "" {
			t.Errorf("%s and %s are one server", other, n.Addr)
		}
		ports[port] = n.Addr
	}
}

// A sentinel that doesn't answer holds nobody up, a primary that dies then neither.
func TestAFrozenSentinelHoldsNobodyUp(t *testing.T) {
	testkit.Waits(t)
	s := testkit.StartSentinels(t, testkit.Redis, testkit.SentinelConfig{})
	watched(t, s, func(served func()) {
		frozen := s.Sentinels[0]
		frozen.Freeze()
		defer frozen.Thaw()
		before := s.Master()
		s.Server(before).Kill()
		s.AwaitMaster(t, before)
		served()
	})
}

// Sentinels that are all slow, or a machine on which they seem so, fail no call: those
// who need them wait, as with the stock client.
func TestSentinelsThatAreAllSilentAreWaitedFor(t *testing.T) {
	testkit.Waits(t)
	s := testkit.StartSentinels(t, testkit.Redis, testkit.SentinelConfig{DownAfter: time.Minute})
	d := patientDriver(t)
	for name, open := range map[string]func() redis.UniversalClient{
		"plain": func() redis.UniversalClient {
			return redis.NewFailoverClient(d.FailoverOptions(&redis.FailoverOptions{MasterName: s.Name, SentinelAddrs: s.Addrs()}))
		},
		"cluster": func() redis.UniversalClient {
			return redis.NewFailoverClusterClient(d.FailoverOptions(&redis.FailoverOptions{MasterName: s.Name, SentinelAddrs: s.Addrs()}))
		},
	} {
		t.Run(name, func(t *testing.T) {
			first := open()
			defer first.Close()
			testkit.Await(t, "a client works", func() bool { return first.Ping(t.Context()).Err() == nil })
			for _, sentinel := range s.Sentinels {
				sentinel.Freeze()
			}
			// Each client asks the sentinels.
			const many = 16
			told := make(chan error, many)
			for range many {
				rdb := open()
				defer rdb.Close()
				go func() { told <- rdb.Ping(context.Background()).Err() }()
			}
			pause(1200 * time.Millisecond)
			for _, sentinel := range s.Sentinels {
				sentinel.Thaw()
			}
			for range many {
				if err := <-told; err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// Nor does a call fail where all of them are slow to be reached. A cluster client asks each
// of them once, without a dial that would be tried again.
func TestSentinelsThatAreAllSlowToBeReachedAreWaitedFor(t *testing.T) {
	testkit.Waits(t)
	s := testkit.StartSentinels(t, testkit.Redis, testkit.SentinelConfig{DownAfter: time.Minute})
	d := drivertest.New(t, driver.Config{
		Logger: slog.New(slog.DiscardHandler),
		Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
			if slices.Contains(s.Addrs(), addr) {
				pause(600 * time.Millisecond)
			}
			return new(net.Dialer).DialContext(ctx, network, addr)
		},
	})
	rdb := redis.NewFailoverClusterClient(d.FailoverOptions(&redis.FailoverOptions{MasterName: s.Name, SentinelAddrs: s.Addrs(), MaxRetries: -1}))
	t.Cleanup(func() { _ = rdb.Close() })
	if err := rdb.Set(t.Context(), "k", 1, 0).Err(); err != nil {
		t.Error(err)
	}
}

// A replica that dies costs those who read from replicas nothing.
func TestADeadReplicaFailsNoRead(t *testing.T) {
	testkit.Waits(t)
	s := testkit.StartSentinels(t, testkit.Redis, testkit.SentinelConfig{})
	watched(t, s, func(served func()) {
		master := s.Master()
		i := slices.IndexFunc(s.Servers, func(r *testkit.Server) bool { return r.Addr != master })
		s.Servers[i].Kill()
		served()
	})
}

// A shard of a ring that dies is taken out, its keys go to the others, and it is used
// again when it is back; no call fails meanwhile.
func TestADeadShardOfARingFailsNoCall(t *testing.T) {
	testkit.Waits(t)
	ring := testkit.StartRing(t, testkit.Redis, 3)
	d := patientDriver(t)
	w := newCrew(t, "ring", redis.NewRing(d.RingOptions(&redis.RingOptions{Addrs: ring.Addrs(), MaxRetries: 8})))
	w.reads = true
	var keys []string
	for i := range 24 {
		keys = append(keys, "key:"+string(rune('a'+i)))
	}
	var wg sync.WaitGroup
	stop := make(chan struct{})
	w.work(&wg, stop, keys)
	w.served(t, keys)
	victim := ring.Shards()[0]
	victim.Kill()
	w.served(t, keys)
	victim.StartAgain(t)
	ctx := context.Background()
	own := redis.NewClient(&redis.Options{Addr: victim.Addr})
	defer own.Close()
	testkit.Await(t, "the shard is used again", func() bool {
		for _, key := range keys {
			_ = w.rdb.Set(ctx, key, "x", 0).Err()
		}
		return own.DBSize(ctx).Val() > 0
	})
	w.served(t, keys)
	close(stop)
	wg.Wait()
	w.check(t, func(string) int64 { return 0 })
}

// A cluster client asks for the table of commands first, with five seconds of its own. One
// that is born while no server is up keeps to its callers' time all the same: a short
// one costs a small part of what a long one does.
func TestAClusterClientOfSentinelsBornInAnOutageKeepsToItsCallersTime(t *testing.T) {
	testkit.Waits(t)
	s := testkit.StartSentinels(t, testkit.Redis, testkit.SentinelConfig{DownAfter: time.Minute})
	for _, server := range s.Servers {
		server.Kill()
	}
	rdb := redis.NewFailoverClusterClient(patientDriver(t).FailoverOptions(&redis.FailoverOptions{MasterName: s.Name, SentinelAddrs: s.Addrs()}))
	t.Cleanup(func() { _ = rdb.Close() })
	took := func(limit time.Duration) time.Duration {
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		defer cancel()
		began := time.Now()
		if rdb.Get(ctx, "k").Err() == nil {
			t.Error("no server is there, and GET has an answer")
		}
		return time.Since(began)
	}
	short, long := took(200*time.Millisecond), took(3*time.Second)
	if short > long/2 {
		t.Errorf("200 ms took %v, where 3 s took %v", short, long)
	}
}

// firstCalls are calls of a client that has been used, each of which needs another connection
// where the one that it had is gone.
var firstCalls = map[string]func(ctx context.Context, rdb *redis.Client) error{
	"Get": func(ctx context.Context, rdb *redis.Client) error { return rdb.Get(ctx, "k").Err() },
	"TxPipelined": func(ctx context.Context, rdb *redis.Client) error {
		_, err := rdb.TxPipelined(ctx, func(p redis.Pipeliner) error { p.Get(ctx, "k"); return nil })
		return err
	},
	"Watch": func(ctx context.Context, rdb *redis.Client) error {
		return rdb.Watch(ctx, func(tx *redis.Tx) error { return tx.Get(ctx, "k").Err() }, "k")
	},
	"Conn": func(ctx context.Context, rdb *redis.Client) error {
		c := rdb.Conn()
		defer func() { _ = c.Close() }()
		return c.Get(ctx, "k").Err()
	},
}

// succeeds has each of the calls be the first of its client after f.
func succeeds(t *testing.T, s *testkit.Sentinels, o redis.FailoverOptions, f func()) {
	o.MasterName, o.SentinelAddrs = s.Name, s.Addrs()
	s.Server(s.Master()).Do(t, "SET", "k", "v")
	s.Server(s.Master()).Do(t, "WAIT", "2", "0")
	var calls []func()
	var wg sync.WaitGroup
	for way, config := range map[string]pooler.Config{"shared": {}, "leased": {SharedConns: -1}} {
		for name, call := range firstCalls {
			d := drivertest.New(t, driver.Config{Pool: config, Logger: slog.New(slog.DiscardHandler)}) // what one has found out others know
			rdb := redis.NewFailoverClient(d.FailoverOptions(&o))
			t.Cleanup(func() { _ = rdb.Close() })
			if err := call(t.Context(), rdb); err != nil {
				t.Fatal(err)
			}
			calls = append(calls, func() {
				if err := call(t.Context(), rdb); err != nil {
					t.Errorf("%s, %s: %v", name, way, err)
				}
			})
		}
	}
	f()
	for _, call := range calls {
		wg.Go(call)
	}
	wg.Wait()
}

// Nobody has noticed yet that the primary has died: also what can't be sent to another one
// once it is written finds that out before, and waits for the next primary.
func TestTheFirstCallAfterAPrimaryHasDiedSucceeds(t *testing.T) {
	testkit.Waits(t)
	s := testkit.StartSentinels(t, testkit.Redis, testkit.SentinelConfig{})
	succeeds(t, s, redis.FailoverOptions{}, s.Server(s.Master()).Kill)
}

func TestTheFirstCallAfterAllReplicasHaveDiedSucceeds(t *testing.T) {
	testkit.Waits(t)
	s := testkit.StartSentinels(t, testkit.Redis, testkit.SentinelConfig{DownAfter: time.Minute})
	succeeds(t, s, redis.FailoverOptions{ReplicaOnly: true}, func() {
		for _, r := range s.Servers {
			if r.Addr != s.Master() {
				r.Kill()
			}
		}
	})
}
