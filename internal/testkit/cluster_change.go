package testkit

import (
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// manualFailover is longer than a server tries what CLUSTER FAILOVER asks for.
const manualFailover = 6 * time.Second

// Failover makes a replica the master of its slots (CLUSTER FAILOVER, with how
// FORCE or TAKEOVER), and returns when every live node says so.
func (c *Cluster) Failover(tb testing.TB, replica *ClusterNode, how ...string) {
	tb.Helper()
	view, err := replica.view()
	if err != nil {
		tb.Fatalf("testkit: failover: %v", err)
	}
	master, slot := c.byID(view.nodes[replica.ID].master), -1
	if master != nil {
		slot = slices.Index(view.owners(), master.Addr)
	}
	if slot < 0 {
		tb.Fatalf("testkit: failover: %s is no replica of a master with slots", replica.Addr)
	}
	var asked time.Time
	awaitSettled(tb, replica.Addr+" has become a master", func() string {
		if replica.Role() == "master" {
			return ""
		}
		if time.Since(asked) > manualFailover { // an attempt may come to nothing
			replica.order(tb, append([]string{"CLUSTER", "FAILOVER"}, how...)...)
			asked = time.Now()
		}
		return "it is a replica"
	})
	c.AwaitAgreed(tb, slot, replica.Addr)
}

func (c *Cluster) byID(id string) *ClusterNode {
	for _, n := range c.Nodes() {
		if n.ID == id {
			return n
		}
	}
	return nil
}

// MoveSlots moves slots with their keys from one master to another, and
// returns when every live node names the new owner.
func (c *Cluster) MoveSlots(tb testing.TB, from, to *ClusterNode, slots ...int) {
	tb.Helper()
	for _, slot := range slots {
		c.BeginMove(tb, from, to, slot)
		c.MoveKeys(tb, from, to, slot)
		c.EndMove(tb, from, to, slot)
	}
	for _, slot := range slots {
		c.AwaitAgreed(tb, slot, to.Addr)
	}
}

// BeginMove is the first step of [Cluster.MoveSlots]: from now on the old owner
// answers with ASK for keys that it doesn't have.
func (c *Cluster) BeginMove(tb testing.TB, from, to *ClusterNode, slot int) {
	tb.Helper()
	s := strconv.Itoa(slot)
	to.order(tb, "CLUSTER", "SETSLOT", s, "IMPORTING", from.ID)
	from.order(tb, "CLUSTER", "SETSLOT", s, "MIGRATING", to.ID)
}

// MoveKeys is the second step: it moves the keys that the slot has now.
func (c *Cluster) MoveKeys(tb testing.TB, from, to *ClusterNode, slot int) {
	tb.Helper()
	for {
		keys := from.Do(tb, "CLUSTER", "GETKEYSINSLOT", strconv.Itoa(slot), "100")
		if keys == "" {
			return
		}
		from.order(tb, append([]string{"MIGRATE", "127.0.0.1", strconv.Itoa(to.Port), "", "0", "5000", "KEYS"},
			strings.Split(keys, "\n")...)...)
	}
}

// EndMove is the last step: the new owner is told that it is the owner, then
// the old one. The others, replicas among them, hear of it from these.
func (c *Cluster) EndMove(tb testing.TB, from, to *ClusterNode, slot int) {
	tb.Helper()
	for _, n := range []*ClusterNode{to, from} {
		n.order(tb, "CLUSTER", "SETSLOT", strconv.Itoa(slot), "NODE", to.ID)
	}
}

// AddNode starts another node and returns when the cluster has settled with it:
// as a replica of master, or, if that is nil, as a master without slots.
func (c *Cluster) AddNode(tb testing.TB, master *ClusterNode) *ClusterNode {
	tb.Helper()
	n := c.start(tb, 1)[0]
	c.introduce(tb)
	if master != nil {
		n.order(tb, "CLUSTER", "REPLICATE", master.ID)
	}
	c.AwaitSettled(tb)
	return n
}

// RemoveNode has all live nodes forget one that has no replicas, and kills it.
// Move its slots away first: what it still has is lost. A node that is down or
// frozen meanwhile doesn't forget.
func (c *Cluster) RemoveNode(tb testing.TB, node *ClusterNode) {
	tb.Helper()
	for _, n := range c.live() {
		if n == node {
			continue
		}
		// Some servers tell the others to forget it too.
		reply := n.Do(tb, "CLUSTER", "FORGET", node.ID)
		if strings.HasPrefix(reply, "-") && !strings.Contains(reply, "Unknown node") {
			tb.Fatalf("testkit: forget %s on %s: %s", node.Addr, n.Addr, reply)
		}
	}
	node.Kill()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.nodes = slices.DeleteFunc(c.nodes, func(n *ClusterNode) bool { return n == node })
}
