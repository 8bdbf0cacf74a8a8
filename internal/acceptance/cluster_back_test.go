package acceptance_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/internal/testkit/drivertest"
)

// pipelines runs ten pipelines at a time on two of the keys, and returns why some have
// failed.
func pipelines(t *testing.T, rdb *redis.ClusterClient, keys []string) error {
	errs := make([]error, 10)
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() {
			_, errs[i] = rdb.Pipelined(t.Context(), func(p redis.Pipeliner) error {
				p.Set(t.Context(), keys[0], 1, 0)
				p.Set(t.Context(), keys[1], 1, 0)
				return nil
			})
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// Handles that were dialed for a node that was away are its heir's. When the node is
// back, and the primary again, they are of no use: the heir says MOVED, to where they
// were dialed for.
func TestHandlesOfAnHeirAreLeftWhenTheNodeIsBack(t *testing.T) {
	testkit.Waits(t)
	c := testkit.StartCluster(t, testkit.Redis, soonElected)
	node := c.Nodes()[0]
	there, _ := keysAt(c, node.Addr, "k", 8)
	d := patientDriver(t)
	client := func() *redis.ClusterClient {
		r := redis.NewClusterClient(d.ClusterOptions(&redis.ClusterOptions{Addrs: c.Addrs()}))
		t.Cleanup(func() { _ = r.Close() })
		if err := r.Set(t.Context(), there[0], 1, 0).Err(); err != nil {
			t.Fatal(err)
		}
		return r
	}
	rdb, other := client(), client()
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for i := range 4 { // which has the driver ask about the node
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(3 * time.Millisecond):
					other.Get(context.Background(), there[2+i])
				}
			}
		})
	}
	node.Kill()
	c.AwaitOwner(t, 0, node.Addr)
	testkit.Await(t, "the driver knows the heir", func() bool {
		return slices.ContainsFunc(d.Nodes(), func(n driver.NodeStatus) bool { return n.Addr == node.Addr && len(n.Slots) == 0 })
	})
	if err := pipelines(t, rdb, there); err != nil {
		t.Errorf("after the election: %v", err)
	}
	node.Restart(t)
	c.AwaitSettled(t)
	c.Failover(t, node)
	c.AwaitSettled(t)
	testkit.Await(t, "the pipelines find the node that is back", func() bool { return pipelines(t, rdb, there) == nil })
	for range 10 {
		if err := pipelines(t, rdb, there); err != nil {
			t.Errorf("with the cluster settled: %v", err)
		}
	}
	close(stop)
	wg.Wait()
}

// What goes to each node by itself waits for one that is restarted, as go-redis's dials
// do, though another would answer what has no key.
func TestRequestsForEachNodeOutlastARestart(t *testing.T) {
	testkit.Waits(t)
	c := testkit.StartCluster(t, testkit.Redis, testkit.ClusterConfig{Replicas: -1, NodeTimeout: time.Minute, Extra: soonElected.Extra})
	d := drivertest.New(t, driver.Config{})
	rdb := redis.NewClusterClient(d.ClusterOptions(&redis.ClusterOptions{Addrs: c.Addrs()}))
	t.Cleanup(func() { _ = rdb.Close() })
	for name, call := range map[string]func(ctx context.Context) error{
		"DBSIZE":      func(ctx context.Context) error { return rdb.DBSize(ctx).Err() },
		"SCRIPT LOAD": func(ctx context.Context) error { return rdb.ScriptLoad(ctx, "return 1").Err() },
		"PING": func(ctx context.Context) error {
			return rdb.ForEachMaster(ctx, func(ctx context.Context, m *redis.Client) error { return m.Ping(ctx).Err() })
		},
	} {
		t.Run(name, func(t *testing.T) {
			if err := call(t.Context()); err != nil {
				t.Fatal(err)
			}
			c.Nodes()[0].Kill()
			got := make(chan error)
			go func() { got <- call(t.Context()) }()
			pause(50 * time.Millisecond)
			select {
			case err := <-got:
				t.Fatalf("while it is away: %v", err)
			default:
			}
			c.Nodes()[0].Restart(t)
			// A machine that takes longer for that than such a request waits is told so.
			if err := <-got; err != nil && !strings.Contains(err.Error(), "the node is away") {
				t.Error(err)
			}
			c.AwaitSettled(t)
		})
	}
}

// A pipeline's context may end while one of its nodes is away. What the others have
// answered by then stays answered.
func TestWhatOtherNodesHaveAnsweredOutlastsThePipelinesContext(t *testing.T) {
	testkit.Waits(t)
	c := testkit.StartCluster(t, testkit.Redis, testkit.ClusterConfig{Replicas: -1, NodeTimeout: time.Minute, Extra: soonElected.Extra})
	victim := c.Nodes()[0]
	there, elsewhere := keysAt(c, victim.Addr, "key", 4)
	d := drivertest.New(t, driver.Config{})
	clients := map[string]*redis.ClusterClient{
		"everpool": redis.NewClusterClient(d.ClusterOptions(&redis.ClusterOptions{Addrs: c.Addrs()})),
		"stock":    redis.NewClusterClient(&redis.ClusterOptions{Addrs: c.Addrs(), ContextTimeoutEnabled: true}),
	}
	ours := clients["everpool"]
	for _, key := range slices.Concat(there, elsewhere) {
		for _, rdb := range clients {
			if err := rdb.Set(t.Context(), key, 0, 0).Err(); err != nil {
				t.Fatal(err)
			}
		}
	}
	victim.Kill()
	for name, rdb := range clients {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		cmds, _ := rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
			p.Incr(ctx, there[0])
			for _, key := range elsewhere {
				p.Incr(ctx, key)
			}
			return nil
		})
		cancel()
		for i, cmd := range cmds {
			t.Logf("%s: %v", name, cmd)
			switch err := cmd.Err(); {
			case rdb != ours:
			case i == 0 && !errors.Is(err, context.DeadlineExceeded):
				t.Errorf("at the node that is away: %v", err)
			case i > 0 && err != nil:
				t.Errorf("at another node: %v", err)
			}
		}
		_ = rdb.Close()
	}
}
