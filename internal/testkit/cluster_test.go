package testkit_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/internal/hashslot"
	"github.com/everpool/everpool/internal/testkit"
)

// clusterClient is a client as go-redis makes it. One that meets no node that
// knows better looks for the heir of a dead one only once in an interval, which
// is a minute by default.
func clusterClient(t *testing.T, c *testkit.Cluster) *redis.ClusterClient {
	t.Helper()
	rdb := redis.NewClusterClient(&redis.ClusterOptions{
		Addrs: c.Addrs(), TLSConfig: c.TLSConfig(), ClusterStateReloadInterval: time.Second,
	})
	t.Cleanup(func() { rdb.Close() })
	return rdb
}

func TestClusterElectsHeirs(t *testing.T) {
	eachKind(t, func(t *testing.T, kind testkit.Kind) {
		c := testkit.StartCluster(t, kind, testkit.ClusterConfig{})
		rdb := clusterClient(t, c)
		if err := setAndGet(t, rdb); err != nil {
			t.Fatal(err)
		}
		killed := killMaster(t, c, hashslot.Of([]byte("key0")))
		awaitService(t, rdb)
		killed.Restart(t)
		c.AwaitSettled(t)
		frozen := freezeMaster(t, c, 0)
		frozen.Thaw()
		c.AwaitSettled(t)
		if killed.Role() != "replica" || frozen.Role() != "replica" {
			t.Fatalf("they are a %s and a %s", killed.Role(), frozen.Role())
		}
		c.MasterOf(t, 0).Freeze() // the cleanup kills it like this
	})
}

func killMaster(t *testing.T, c *testkit.Cluster, slot int) *testkit.ClusterNode {
	t.Helper()
	master := c.MasterOf(t, slot)
	replicas := c.ReplicasOf(master)
	if len(c.Addrs()) != 6 || len(replicas) != 1 || replicas[0].Role() != "replica" || master.Role() != "master" {
		t.Fatalf("%v, of which %s has the replicas %v", c.Addrs(), master.Addr, replicas)
	}
	killed := time.Now()
	master.Kill()
	heir, told := c.AwaitOwner(t, slot, master.Addr)
	if heir != replicas[0].Addr || told.Before(killed) || c.Node(heir).Role() != "master" {
		t.Fatalf("the heir of %s is %s, told %v after its death", master.Addr, heir, told.Sub(killed))
	}
	return master
}

func freezeMaster(t *testing.T, c *testkit.Cluster, slot int) *testkit.ClusterNode {
	t.Helper()
	master := c.MasterOf(t, slot)
	master.Freeze()
	if master.Live() || master.Role() != "" {
		t.Fatal("it isn't frozen")
	}
	heir, _ := c.AwaitOwner(t, slot, master.Addr)
	c.AwaitAgreed(t, slot, heir)
	return master
}

func TestClusterChangesOnDemand(t *testing.T) {
	eachKind(t, func(t *testing.T, kind testkit.Kind) {
		c := testkit.StartCluster(t, kind, testkit.ClusterConfig{TLS: true, Extra: []string{"maxclients 333"}})
		if got := c.Nodes()[5].Do(t, "CONFIG", "GET", "maxclients"); got != "maxclients\n333" {
			t.Fatal(got)
		}
		rdb := clusterClient(t, c)
		if err := setAndGet(t, rdb); err != nil {
			t.Fatal(err)
		}
		slot := hashslot.Of([]byte("key0"))
		first := c.ReplicasOf(c.MasterOf(t, slot))[0]
		c.Failover(t, first)
		if c.Owner(slot) != first.Addr {
			t.Fatal(c.Owner(slot), first.Addr)
		}
		second := c.AddNode(t, nil)
		moveInSteps(t, c, first, second, rdb)
		c.MoveSlots(t, second, first, slot)
		c.RemoveNode(t, second)
		awaitService(t, rdb)
		c.AwaitSettled(t)
		if c.Node(second.Addr) != nil || len(c.Addrs()) != 6 {
			t.Fatal(c.Addrs())
		}
	})
}

// moveInSteps moves the slot of key0, which from has, under a client's eyes.
func moveInSteps(t *testing.T, c *testkit.Cluster, from, to *testkit.ClusterNode, rdb *redis.ClusterClient) {
	t.Helper()
	slot := hashslot.Of([]byte("key0"))
	c.BeginMove(t, from, to, slot)
	c.MoveKeys(t, from, to, slot)
	if got, want := from.Do(t, "GET", "key0"), fmt.Sprintf("-ASK %d %s", slot, to.Addr); got != want {
		t.Fatalf("%q, want %q", got, want)
	}
	awaitService(t, rdb)
	c.EndMove(t, from, to, slot)
	c.AwaitAgreed(t, slot, to.Addr)
	if got := to.Do(t, "GET", "key0"); got != "0" || c.MasterOf(t, slot) != to {
		t.Fatalf("%q", got)
	}
	awaitService(t, rdb)
}

func TestClusterOfMastersGetsAReplica(t *testing.T) {
	eachKind(t, func(t *testing.T, kind testkit.Kind) {
		c := testkit.StartCluster(t, kind, testkit.ClusterConfig{Masters: 1, Replicas: -1})
		if err := setAndGet(t, clusterClient(t, c)); err != nil {
			t.Fatal(err)
		}
		replica := c.AddNode(t, c.MasterOf(t, 0))
		if got := c.ReplicasOf(c.MasterOf(t, 0)); len(got) != 1 || got[0] != replica {
			t.Fatal(got)
		}
	})
}
