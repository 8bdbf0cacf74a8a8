package acceptance_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/hooks"
	"github.com/everpool/everpool/internal/hashslot"
	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/internal/testkit/drivertest"
	"github.com/everpool/everpool/pooler"
)

// soonElected has elections begin soon, and slots without an owner fail by themselves
// only: what a cluster refuses as a whole meanwhile is no client's doing.
var soonElected = testkit.ClusterConfig{NodeTimeout: time.Second, Extra: []string{"cluster-require-full-coverage no"}}

// clusterCrews are the ways to use a cluster, with these options beside.
func clusterCrews(t *testing.T, c *testkit.Cluster, more ...func(*redis.ClusterOptions)) []*crew {
	return crewsOn(t, patientDriver(t), c, more...)
}

// crewsOn are the same on that driver.
func crewsOn(t *testing.T, d *driver.Driver, c *testkit.Cluster, more ...func(*redis.ClusterOptions)) []*crew {
	crewOf := func(name string, sets ...func(*redis.ClusterOptions)) *crew {
		o := &redis.ClusterOptions{Addrs: c.Addrs()}
		for _, set := range append(sets, more...) {
			set(o)
		}
		// go-redis v9.23.0 writes into a new node's client when its latency probe
		// (RouteByLatency) has begun and may read there. The probe waits for that here.
		var written sync.Map // channels, by clients
		if o.RouteByLatency {
			o.NewClient = func(o *redis.Options) *redis.Client {
				rdb, done := redis.NewClient(o), make(chan struct{})
				written.Store(rdb, done)
				rdb.AddHook(hooks.Adapter{Process: func(next redis.ProcessHook) redis.ProcessHook {
					return func(ctx context.Context, cmd redis.Cmder) error { <-done; return next(ctx, cmd) }
				}})
				return rdb
			}
		}
		rdb := redis.NewClusterClient(d.ClusterOptions(o))
		rdb.OnNewNode(func(node *redis.Client) {
			if done, ok := written.LoadAndDelete(node); ok {
				close(done.(chan struct{}))
			}
		})
		return newCrew(t, name, rdb)
	}
	tx := crewOf("tx")
	tx.tx = true
	gathered := crewOf("gathered")
	gathers(t, d, gathered)
	large, largeTx := crewOf("large"), crewOf("large tx")
	large.large, largeTx.large, largeTx.tx = make([]byte, 200_000), make([]byte, 200_000), true // more than is gathered
	return []*crew{
		crewOf("plain"), tx, gathered, large, largeTx,
		crewOf("replicas", func(o *redis.ClusterOptions) { o.ReadOnly = true }),
		crewOf("random", func(o *redis.ClusterOptions) { o.RouteRandomly = true }),
		crewOf("latency", func(o *redis.ClusterOptions) { o.RouteByLatency = true }),
	}
}

// atWork has all crews call, on keys of the node and on others, while f runs. f is given
// the keys of the node, crew by crew.
func atWork(t *testing.T, c *testkit.Cluster, crews []*crew, addr string, f func(there [][]string)) {
	var wg sync.WaitGroup
	stop := make(chan struct{})
	there := make([][]string, len(crews))
	for i, w := range crews {
		var elsewhere []string
		there[i], elsewhere = keysAt(c, addr, w.name, 4)
		w.work(&wg, stop, there[i])
		w.work(&wg, stop, elsewhere)
		w.served(t, there[i])
		w.served(t, elsewhere)
	}
	f(there)
	close(stop)
	wg.Wait()
	read := counter(t, redis.NewClusterClient(&redis.ClusterOptions{Addrs: c.Addrs(), TLSConfig: c.TLSConfig()}))
	for _, w := range crews {
		t.Logf("%s: %d increments of unknown outcome", w.name, w.check(t, read))
	}
}

// While a cluster elects a primary in the place of one that was killed, the calls for
// its slots wait, and then go to the new one; no call fails, but for increments whose
// outcome nobody knows.
func TestAnElectionFailsNoCall(t *testing.T) {
	t.Parallel() // what runs are its subtests
	for _, kind := range testkit.Kinds {
		t.Run(string(kind), func(t *testing.T) {
			testkit.Waits(t)
			c := testkit.StartCluster(t, kind, soonElected)
			victim := c.Nodes()[0]
			crews := clusterCrews(t, c)
			atWork(t, c, crews, victim.Addr, func(there [][]string) {
				victim.Kill()
				c.AwaitOwner(t, 0, victim.Addr)
				for i, w := range crews {
					w.served(t, there[i])
				}
			})
		})
	}
}

// A primary that is frozen is silent, and nothing more; as soon as the others name an
// heir, reads go there.
func TestReadsLeaveAFrozenPrimaryForItsHeir(t *testing.T) {
	testkit.Waits(t)
	c := testkit.StartCluster(t, testkit.Redis, soonElected)
	victim := c.Nodes()[0]
	crews := clusterCrews(t, c)
	for _, w := range crews {
		w.reads = true
	}
	atWork(t, c, crews, victim.Addr, func(there [][]string) {
		victim.Freeze()
		c.AwaitOwner(t, 0, victim.Addr)
		for i, w := range crews {
			w.served(t, there[i])
		}
		victim.Thaw()
	})
}

// What a cluster does on demand costs no call: a failover, slots that move, in one go
// and step by step, nodes that come and go.
func TestAClusterThatChangesFailsNoCall(t *testing.T) {
	testkit.Works(t)
	c := testkit.StartCluster(t, testkit.Valkey, soonElected)
	from, to := c.Nodes()[0], c.Nodes()[1]
	crews := clusterCrews(t, c)
	atWork(t, c, crews, from.Addr, func(there [][]string) {
		slot := hashslot.Of([]byte(there[0][0]))
		c.BeginMove(t, from, to, slot)
		c.MoveKeys(t, from, to, slot)
		for i, w := range crews {
			w.served(t, there[i]) // by ASK
		}
		c.EndMove(t, from, to, slot)
		extra := c.AddNode(t, nil)
		slot = hashslot.Of([]byte(there[1][0]))
		c.MoveSlots(t, from, extra, slot)
		for i, w := range crews {
			w.served(t, there[i])
		}
		c.MoveSlots(t, extra, to, slot)
		c.RemoveNode(t, extra)
		c.Failover(t, c.ReplicasOf(from)[0])
		for i, w := range crews {
			w.served(t, there[i])
		}
	})
}

// A replica that dies and comes back costs nobody anything, whoever reads from it.
func TestADeadReplicaOfAClusterFailsNoCall(t *testing.T) {
	testkit.Waits(t)
	c := testkit.StartCluster(t, testkit.Valkey, soonElected)
	primary := c.Nodes()[0]
	crews := clusterCrews(t, c)
	atWork(t, c, crews, primary.Addr, func(there [][]string) {
		replica := c.ReplicasOf(primary)[0]
		replica.Kill()
		for i, w := range crews {
			w.served(t, there[i])
		}
		replica.StartAgain(t)
		c.AwaitSettled(t)
		for i, w := range crews {
			w.served(t, there[i])
		}
	})
}

// withoutTx leaves away the crew whose writes are transactions, where a cluster refuses
// everything for a while: go-redis doesn't try a transaction again that is refused as it is
// queued, on the stock pool as on this one.
func withoutTx(crews []*crew) []*crew {
	return slices.DeleteFunc(crews, func(c *crew) bool { return c.tx })
}

// All nodes of a cluster are killed, and all come back.
func TestAClusterThatRestartsFailsNoCall(t *testing.T) {
	testkit.Waits(t)
	c := testkit.StartCluster(t, testkit.Redis, soonElected)
	crews := withoutTx(clusterCrews(t, c))
	atWork(t, c, crews, c.Nodes()[0].Addr, func(there [][]string) {
		for _, n := range c.Nodes() {
			n.Kill()
		}
		pause(500 * time.Millisecond)
		for _, n := range c.Nodes() {
			n.StartAgain(t)
		}
		c.AwaitSettled(t)
		for i, w := range crews {
			w.served(t, there[i])
		}
	})
}

// A password is changed on all nodes of a cluster, and what was opened with the one before
// is closed; clients have a provider that knows the new one.
func TestARotatedPasswordOfAClusterFailsNoCall(t *testing.T) {
	testkit.Waits(t)
	var now atomic.Value
	now.Store("first")
	config := soonElected
	config.Extra = append(slices.Clone(config.Extra), "user app on >first ~* &* +@all")
	c := testkit.StartCluster(t, testkit.Redis, config)
	crews := clusterCrews(t, c, func(o *redis.ClusterOptions) {
		o.CredentialsProvider = func() (string, string) { return "app", now.Load().(string) }
	})
	for _, w := range crews {
		w.reads = true // of an INCR whose connection the server closes nobody knows
	}
	atWork(t, c, crews, c.Nodes()[0].Addr, func(there [][]string) {
		for i := range 3 {
			old := now.Load().(string)
			password := fmt.Sprint("password-", i)
			for _, n := range c.Nodes() {
				n.Do(t, "ACL", "SETUSER", "app", ">"+password)
			}
			now.Store(password)
			for _, n := range c.Nodes() {
				n.Do(t, "ACL", "SETUSER", "app", "<"+old)
				n.Do(t, "CLIENT", "KILL", "USER", "app")
			}
			for i, w := range crews {
				w.served(t, there[i])
			}
		}
	})
}

// All of a cluster that needs all its slots refuses everything while it elects.
func TestAnElectionOfAClusterThatNeedsAllItsSlotsFailsNoCall(t *testing.T) {
	testkit.Waits(t)
	c := testkit.StartCluster(t, testkit.Valkey, testkit.ClusterConfig{NodeTimeout: time.Second})
	victim := c.Nodes()[0]
	crews := withoutTx(clusterCrews(t, c))
	atWork(t, c, crews, victim.Addr, func(there [][]string) {
		victim.Kill()
		c.AwaitOwner(t, 0, victim.Addr)
		for i, w := range crews {
			w.served(t, there[i])
		}
	})
}

// Subscriptions to a node that has died go to the one that has taken over its slots,
// with no other traffic and no reload of go-redis's.
func TestSubscriptionsFollowTheHeir(t *testing.T) {
	testkit.Waits(t)
	c := testkit.StartCluster(t, testkit.Redis, soonElected)
	victim := c.Nodes()[0]
	there, _ := keysAt(c, victim.Addr, "channel", 1)
	channel := there[0]
	ctx := context.Background()
	rdb := redis.NewClusterClient(patientDriver(t).ClusterOptions(&redis.ClusterOptions{Addrs: c.Addrs()}))
	defer rdb.Close()
	sender := redis.NewClusterClient(&redis.ClusterOptions{Addrs: c.Addrs(), ClusterStateReloadInterval: 100 * time.Millisecond})
	defer sender.Close()

	var plain, sharded atomic.Int64
	var wg sync.WaitGroup
	plainly, bySlot := rdb.Subscribe(ctx, channel), rdb.SSubscribe(ctx, channel)
	defer wg.Wait()
	defer plainly.Close()
	defer bySlot.Close()
	count := func(p *redis.PubSub, n *atomic.Int64) {
		messages := p.Channel()
		wg.Go(func() {
			for range messages {
				n.Add(1)
			}
		})
	}
	count(plainly, &plain)
	count(bySlot, &sharded)
	heard := func() bool {
		sender.Publish(ctx, channel, "message")
		sender.SPublish(ctx, channel, "message")
		return plain.Load() > 0 && sharded.Load() > 0
	}
	testkit.Await(t, "both are subscribed", heard)
	victim.Kill()
	c.AwaitOwner(t, 0, victim.Addr)
	plain.Store(0)
	sharded.Store(0)
	testkit.Await(t, "both hear from the heir", heard)
}

// What asks one very node is answered by no other, whatever that has taken over: who watches
// nodes would be told that a dead one lives, and a second SHUTDOWN would end the heir.
func TestTheClientOfANodeIsAnsweredByNoOther(t *testing.T) {
	testkit.Waits(t)
	c := testkit.StartCluster(t, testkit.Redis, soonElected)
	victim := c.Nodes()[0]
	there, _ := keysAt(c, victim.Addr, "key", 1)
	ctx := context.Background()
	rdb := redis.NewClusterClient(patientDriver(t).ClusterOptions(&redis.ClusterOptions{Addrs: c.Addrs()}))
	defer rdb.Close()
	node, err := rdb.MasterForKey(ctx, there[0])
	if err != nil {
		t.Fatal(err)
	}
	events := node.Subscribe(ctx, "events")
	defer events.Close()
	if _, err := events.Receive(ctx); err != nil {
		t.Fatal(err)
	}
	victim.Kill()
	heir, _ := c.AwaitOwner(t, 0, victim.Addr)
	testkit.Await(t, "calls go to the heir", func() bool { return rdb.Set(ctx, there[0], "v", 0).Err() == nil })
	if answer, err := node.Do(ctx, "CLUSTER", "MYID").Result(); err == nil {
		t.Errorf("the client of the node that was killed is told %v", answer)
	}
	if _, err := events.ReceiveTimeout(ctx, 100*time.Millisecond); err == nil {
		t.Error("its subscription is made elsewhere")
	}
	direct := redis.NewClient(&redis.Options{Addr: heir})
	defer direct.Close()
	if n := direct.Publish(ctx, "events", "message").Val(); n != 0 {
		t.Errorf("%d subscriptions at the heir, want none", n)
	}
}

// A client that is made while a node is away waits for it, be it the first of its
// driver or not; and a seed that is dead is passed over.
func TestAClientBornDuringAnElectionWaits(t *testing.T) {
	testkit.Waits(t)
	c := testkit.StartCluster(t, testkit.Redis, testkit.ClusterConfig{NodeTimeout: 2 * time.Second, Extra: soonElected.Extra})
	victim := c.Nodes()[0]
	there, elsewhere := keysAt(c, victim.Addr, "key", 1)
	ctx := context.Background()
	old := patientDriver(t)
	first := redis.NewClusterClient(old.ClusterOptions(&redis.ClusterOptions{Addrs: c.Addrs()}))
	defer first.Close()
	if err := first.Set(ctx, there[0], 1, 0).Err(); err != nil {
		t.Fatal(err)
	}
	victim.Kill()
	var wg sync.WaitGroup
	for range 4 {
		for _, d := range []interface {
			ClusterOptions(*redis.ClusterOptions) *redis.ClusterOptions
		}{old, patientDriver(t)} {
			// With go-redis's own timeouts its tries last for about 15 s, and an election may take
			// longer on a busy machine.
			o := &redis.ClusterOptions{Addrs: c.Addrs()[:3], ReadTimeout: time.Minute, WriteTimeout: time.Minute}
			rdb := redis.NewClusterClient(d.ClusterOptions(o))
			defer rdb.Close()
			wg.Go(func() {
				if err := rdb.Set(ctx, elsewhere[0], 2, 0).Err(); err != nil {
					t.Errorf("a key of another node: %v", err)
				}
				if err := rdb.Set(ctx, there[0], 2, 0).Err(); err != nil {
					t.Errorf("a key of the node that is away: %v", err)
				}
			})
		}
	}
	wg.Wait()
}

// Nodes whose announced addresses can't be dialed from here, with TLS and a user: each is
// dialed where MapAddr says, and its certificate is of the announced name.
func TestAClusterBehindNATElects(t *testing.T) {
	testkit.Waits(t)
	config := soonElected
	config.TLS = true
	config.Extra = append(slices.Clone(config.Extra), "user app on >secret ~* &* +@all")
	c := testkit.StartCluster(t, testkit.Redis, config)
	const outside = "outside-"
	d := drivertest.New(t, driver.Config{
		Pool:    pooler.Config{FailFastAfter: time.Minute},
		Logger:  slog.New(slog.DiscardHandler),
		MapAddr: func(announced string) string { return outside + announced },
		Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
			announced, mapped := strings.CutPrefix(addr, outside)
			if !mapped {
				t.Errorf("%s was dialed as it was announced", addr)
			}
			return new(net.Dialer).DialContext(ctx, network, announced)
		},
	})
	victim := c.Nodes()[0]
	crews := crewsOn(t, d, c, func(o *redis.ClusterOptions) {
		o.Addrs, o.TLSConfig, o.Username, o.Password = c.Addrs()[1:2], c.TLSConfig(), "app", "secret"
	})
	atWork(t, c, crews, victim.Addr, func(there [][]string) {
		victim.Kill()
		c.AwaitOwner(t, 0, victim.Addr)
		for i, w := range crews {
			w.served(t, there[i])
		}
	})
	for _, n := range d.Nodes() {
		if strings.HasPrefix(n.Addr, outside) || !n.TLS {
			t.Errorf("a node's name is %s, with TLS %t", n.Addr, n.TLS)
		}
	}
}
