package testkit

import (
	"crypto/tls"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/everpool/everpool/internal/hashslot"
)

// ClusterConfig says what [StartCluster] starts; its zero value is three
// masters with a replica each.
type ClusterConfig struct {
	Masters     int           // 0: three
	Replicas    int           // of each master; 0: one, negative: none
	NodeTimeout time.Duration // of silence, until an election begins; 0: 2 s
	TLS         bool          // for clients and between the nodes
	Extra       []string      // lines of the configuration of every node
}

func (cfg ClusterConfig) withDefaults() ClusterConfig {
	setDefault(&cfg.Masters, 3)
	setDefault(&cfg.Replicas, 1)
	setDefault(&cfg.NodeTimeout, 2*time.Second)
	cfg.Replicas = max(cfg.Replicas, 0)
	return cfg
}

// Cluster is a cluster of real servers. What it tells of itself is asked of
// the nodes over connections of its own, never through a client under test.
type Cluster struct {
	kind Kind
	opts []ServerOption // of every node

	mu    sync.Mutex
	nodes []*ClusterNode
}

// ClusterNode is a node of a [Cluster]. It is an ordinary server: kill, freeze
// and restart it as such. It has no persistence: a master that comes back
// before it has an heir is empty.
type ClusterNode struct {
	*Server
	ID string
}

// StartCluster starts a cluster for one test, as [Start] starts a server, and
// returns when it has settled; see [Cluster.AwaitSettled]. The slots are split
// evenly and in order: the first of [Cluster.Nodes] has slot 0.
func StartCluster(tb testing.TB, kind Kind, config ClusterConfig) *Cluster {
	tb.Helper()
	cfg := config.withDefaults()
	c := &Cluster{kind: kind, opts: clusterOptions(cfg)}
	if cfg.TLS {
		c.opts = append(c.opts, withTLSFiles(sharedTLSFiles(tb)),
			WithConfig("tls-cluster yes", "tls-replication yes"))
	}
	c.opts = append(c.opts, WithConfig(cfg.Extra...))
	c.start(tb, cfg.Masters*(1+cfg.Replicas))
	c.shareSlots(tb, cfg.Masters)
	c.introduce(tb)
	for i, replica := range c.nodes[cfg.Masters:] {
		replica.order(tb, "CLUSTER", "REPLICATE", c.nodes[i%cfg.Masters].ID)
	}
	c.AwaitSettled(tb)
	return c
}

func clusterOptions(cfg ClusterConfig) []ServerOption {
	return []ServerOption{WithCluster(), WithConfig(
		"cluster-node-timeout "+strconv.FormatInt(cfg.NodeTimeout.Milliseconds(), 10),
		"cluster-announce-ip 127.0.0.1",
		"cluster-allow-replica-migration no", // a master without slots stays one
		"repl-ping-replica-period 1",         // a replica is listed from its first byte on
	)}
}

// start starts nodes that know nothing of each other yet.
func (c *Cluster) start(tb testing.TB, n int) []*ClusterNode {
	tb.Helper()
	var started []*ClusterNode
	for _, s := range startAll(tb, c.kind, repeat(c.opts, n)...) {
		started = append(started, &ClusterNode{Server: s, ID: s.Do(tb, "CLUSTER", "MYID")})
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.nodes = append(c.nodes, started...)
	return started
}

func (c *Cluster) shareSlots(tb testing.TB, masters int) {
	tb.Helper()
	for i, node := range c.nodes {
		// Nodes that agree on their epochs from the start needn't find out who
		// is to take another one.
		node.order(tb, "CLUSTER", "SET-CONFIG-EPOCH", strconv.Itoa(i+1))
		if i < masters {
			first, last := hashslot.Count*i/masters, hashslot.Count*(i+1)/masters-1
			node.order(tb, "CLUSTER", "ADDSLOTSRANGE", strconv.Itoa(first), strconv.Itoa(last))
		}
	}
}

// introduce returns when all live nodes know each other.
func (c *Cluster) introduce(tb testing.TB) {
	tb.Helper()
	awaitSettled(tb, "the nodes know each other", func() (missing string) {
		nodes := c.live()
		for _, node := range nodes {
			view, err := node.view()
			if err != nil {
				return err.Error()
			}
			for _, other := range nodes {
				if view.knows(other) {
					continue
				}
				missing = fmt.Sprintf("%s doesn't know %s", node.Addr, other.Addr)
				// Time and again: an introduction that takes longer than the
				// node timeout is off. One under way isn't begun anew.
				node.order(tb, "CLUSTER", "MEET", "127.0.0.1", strconv.Itoa(other.Port), strconv.Itoa(other.cfg.busPort))
			}
		}
		return missing
	})
}

// Nodes returns all nodes that belong to the cluster, running or not, in the
// order of their start: first those that began as masters.
func (c *Cluster) Nodes() []*ClusterNode {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.nodes)
}

// Addrs returns the addresses of Nodes, for redis.ClusterOptions.
func (c *Cluster) Addrs() []string { return addrsOf(c.servers()) }

func (c *Cluster) servers() []*Server {
	var servers []*Server
	for _, n := range c.Nodes() {
		servers = append(servers, n.Server)
	}
	return servers
}

// live returns the nodes that run and aren't frozen.
func (c *Cluster) live() []*ClusterNode {
	return slices.DeleteFunc(c.Nodes(), func(n *ClusterNode) bool { return !n.Live() })
}

// Node returns the node with that address, nil if there is none.
func (c *Cluster) Node(addr string) *ClusterNode {
	for _, n := range c.Nodes() {
		if n.Addr == addr {
			return n
		}
	}
	return nil
}

// TLSConfig is [Server.TLSConfig] for all nodes.
func (c *Cluster) TLSConfig() *tls.Config { return c.Nodes()[0].TLSConfig() }
