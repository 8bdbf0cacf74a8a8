package testkit

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/everpool/everpool/internal/hashslot"
)

// slotRange is an entry of CLUSTER SLOTS.
type slotRange struct {
	first, last int
	nodes       []string // addresses, the master's first
}

// readSlots reads the reply of CLUSTER SLOTS, leaving out what is none.
func readSlots(reply any) []slotRange {
	var ranges []slotRange
	entries, _ := reply.([]any)
	for _, e := range entries {
		entry, _ := e.([]any)
		if len(entry) < 3 {
			continue
		}
		var r slotRange
		r.first, _ = strconv.Atoi(replyText(entry[0]))
		r.last, _ = strconv.Atoi(replyText(entry[1]))
		for _, node := range entry[2:] {
			host, rest, _ := strings.Cut(replyText(node), "\n")
			port, _, _ := strings.Cut(rest, "\n")
			r.nodes = append(r.nodes, net.JoinHostPort(host, port))
		}
		ranges = append(ranges, r)
	}
	return ranges
}

// ownerIn returns the address of a slot's master in a reply of CLUSTER SLOTS,
// "" if it names none.
func ownerIn(reply any, slot int) string {
	for _, r := range readSlots(reply) {
		if r.first <= slot && slot <= r.last {
			return r.nodes[0]
		}
	}
	return ""
}

// nodeLine is a line of CLUSTER NODES.
type nodeLine struct {
	flags     []string
	master    string // id, "-" for masters
	connected bool   // the link to it; a node has none to itself
}

// clusterView is what one node tells.
type clusterView struct {
	state       string // cluster_state
	nodes       map[string]nodeLine
	slots       []slotRange
	replication map[string]string // INFO replication
}

func (n *ClusterNode) view() (*clusterView, error) {
	replies, err := n.inquire("CLUSTER INFO", "CLUSTER NODES", "CLUSTER SLOTS", "INFO replication")
	if err != nil {
		return nil, fmt.Errorf("%s: %w", n.Addr, err)
	}
	return &clusterView{
		state:       infoFields(replies[0])["cluster_state"],
		nodes:       readNodes(replyText(replies[1])),
		slots:       readSlots(replies[2]),
		replication: infoFields(replies[3]),
	}, nil
}

func readNodes(text string) map[string]nodeLine {
	nodes := map[string]nodeLine{}
	for line := range strings.Lines(text) {
		if f := strings.Fields(line); len(f) >= 8 {
			nodes[f[0]] = nodeLine{strings.Split(f[2], ","), f[3], f[7] == "connected"}
		}
	}
	return nodes
}

// ill are the flags of a node that can't be talked to.
var ill = []string{"fail", "fail?", "handshake", "noaddr"}

// knows says whether a node is known, well, and connected.
func (v *clusterView) knows(n *ClusterNode) bool {
	line, known := v.nodes[n.ID]
	return known && (line.connected || slices.Contains(line.flags, "myself")) &&
		!slices.ContainsFunc(line.flags, func(flag string) bool { return slices.Contains(ill, flag) })
}

// owners are the addresses of the masters by slot.
func (v *clusterView) owners() []string {
	owners := make([]string, hashslot.Count)
	for _, r := range v.slots {
		for slot := r.first; slot <= r.last; slot++ {
			owners[slot] = r.nodes[0]
		}
	}
	return owners
}

// hidden says whether a replica of a master with slots isn't listed where
// clients look for it.
func (v *clusterView) hidden(replica, master string) bool {
	for _, r := range v.slots {
		if r.nodes[0] == master && !slices.Contains(r.nodes, replica) {
			return true
		}
	}
	return false
}

// AwaitSettled returns when every live node says that the cluster is well
// (cluster_state:ok), has a link to every other one, and names the same live
// owners for all slots, and when all live replicas are synchronised and listed
// by all.
func (c *Cluster) AwaitSettled(tb testing.TB) {
	tb.Helper()
	awaitSettled(tb, "the cluster has settled", c.unsettled)
}

// unsettled says what is missing.
func (c *Cluster) unsettled() string {
	nodes := c.live()
	if len(nodes) == 0 {
		return "no node runs"
	}
	views := make([]*clusterView, len(nodes))
	for i, n := range nodes {
		view, err := n.view()
		if err != nil {
			return err.Error()
		}
		if why := view.unwell(nodes); why != "" {
			return n.Addr + " says: " + why
		}
		views[i] = view
	}
	return cmp.Or(c.divided(nodes, views), hiddenReplica(nodes, views))
}

// unwell says what one node finds missing.
func (v *clusterView) unwell(live []*ClusterNode) string {
	switch {
	case v.state != "ok":
		return "cluster_state:" + v.state
	case v.replication["role"] != "master" && v.replication["master_link_status"] != "up":
		return "not synchronised"
	}
	for _, n := range live {
		if !v.knows(n) {
			return fmt.Sprintf("%s is %v", n.Addr, v.nodes[n.ID])
		}
	}
	return ""
}

// divided says what the nodes differ in, or which owner isn't live.
func (c *Cluster) divided(nodes []*ClusterNode, views []*clusterView) string {
	owners := views[0].owners()
	for slot, owner := range owners {
		if n := c.Node(owner); n == nil || !n.Live() {
			return fmt.Sprintf("slot %d is %q's", slot, owner)
		}
	}
	for i, view := range views {
		if !slices.Equal(view.owners(), owners) {
			return fmt.Sprintf("%s and %s name different owners", nodes[0].Addr, nodes[i].Addr)
		}
	}
	return ""
}

func hiddenReplica(nodes []*ClusterNode, views []*clusterView) string {
	for i, replica := range views {
		if replica.replication["role"] == "master" {
			continue
		}
		master := net.JoinHostPort(replica.replication["master_host"], replica.replication["master_port"])
		for j, view := range views {
			if view.hidden(nodes[i].Addr, master) {
				return fmt.Sprintf("%s doesn't list %s", nodes[j].Addr, nodes[i].Addr)
			}
		}
	}
	return ""
}

// Role says what a node takes itself for: "master", "replica", or "" if it
// doesn't answer.
func (n *ClusterNode) Role() string {
	if !n.Live() {
		return ""
	}
	replies, err := n.inquire("INFO replication")
	if err != nil {
		return ""
	}
	if infoFields(replies[0])["role"] == "master" {
		return "master"
	}
	return "replica"
}

// Owner returns the address of a slot's master as the first live node that
// answers tells it, "" if none does.
func (c *Cluster) Owner(slot int) string {
	for _, n := range c.live() {
		if replies, err := n.inquire("CLUSTER SLOTS"); err == nil {
			if addr := ownerIn(replies[0], slot); addr != "" {
				return addr
			}
		}
	}
	return ""
}

// MasterOf returns the node that [Cluster.Owner] names.
func (c *Cluster) MasterOf(tb testing.TB, slot int) *ClusterNode {
	tb.Helper()
	addr := c.Owner(slot)
	n := c.Node(addr)
	if n == nil {
		tb.Fatalf("testkit: slot %d is %q's", slot, addr)
	}
	return n
}

// ReplicasOf returns the live replicas of a node, as they tell it themselves.
func (c *Cluster) ReplicasOf(master *ClusterNode) []*ClusterNode {
	return slices.DeleteFunc(c.live(), func(n *ClusterNode) bool {
		view, err := n.view()
		return err != nil || view.nodes[n.ID].master != master.ID
	})
}

// AwaitOwner asks all nodes every 10 ms until one of them names another owner
// of a slot than notAddr, and returns that one's address and when it was first
// told.
func (c *Cluster) AwaitOwner(tb testing.TB, slot int, notAddr string) (addr string, told time.Time) {
	tb.Helper()
	addr, told, err := c.AwaitOwnerContext(context.Background(), slot, notAddr)
	if err != nil {
		tb.Fatalf("testkit: no owner of slot %d but %s: %v", slot, notAddr, err)
	}
	return addr, told
}

// AwaitOwnerContext is [Cluster.AwaitOwner] for goroutines that aren't the
// test's: it returns the failure.
func (c *Cluster) AwaitOwnerContext(ctx context.Context, slot int, notAddr string) (addr string, told time.Time, err error) {
	return firstToTell(ctx, c.servers(), "CLUSTER SLOTS", func(reply any) string {
		if addr := ownerIn(reply, slot); addr != notAddr {
			return addr
		}
		return ""
	})
}

// AwaitAgreed returns when every live node names addr as the owner of a slot.
func (c *Cluster) AwaitAgreed(tb testing.TB, slot int, addr string) {
	tb.Helper()
	awaitSettled(tb, fmt.Sprintf("all name %s as the owner of slot %d", addr, slot), func() string {
		for _, n := range c.live() {
			replies, err := n.inquire("CLUSTER SLOTS")
			if err != nil {
				return n.Addr + ": " + err.Error()
			}
			if owner := ownerIn(replies[0], slot); owner != addr {
				return fmt.Sprintf("%s names %q", n.Addr, owner)
			}
		}
		return ""
	})
}
