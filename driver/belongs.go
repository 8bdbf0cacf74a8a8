package driver

import (
	"context"
	"slices"
	"sync"

	"github.com/everpool/everpool/internal/topology"
)

// What a DB knows of the nodes that are its client's.

// topology is that of the client's nodes, or nil.
func (db *DB) topology() *topology.Topology {
	b := db.binding
	if b.group != nil && db.source.reads() {
		b = b.group.clustered
	}
	return b.topology()
}

// health says how far what the client is for is served, from what is known.
func (db *DB) health() topology.Health {
	t := db.topology()
	if t == nil || db.source.failover != nil && db.source.failover.ReplicaOnly {
		nodes := db.inUse()
		if len(nodes) == 0 {
			return topology.Health{Healthy: true} // as far as is known
		}
		return anyUp(nodes, knownState)
	}
	return t.Health(stateOf(knownState).of)
}

// viewed reports whether a cluster has said who serves its slots. Until then its health
// is what is known of its first nodes.
func (db *DB) viewed() bool { return db.source.cluster == nil || db.topology().Viewed() }

// inUse are the nodes of the client without sentinels.
func (db *DB) inUse() []*node {
	return slices.DeleteFunc(db.nodes(), func(n *node) bool {
		g := db.binding.group
		return g != nil && n.first.Identity == g.sentinels.Identity
	})
}

// nodes are the nodes that connections were asked of, for the client or for its topology.
func (db *DB) nodes() []*node {
	d, b := db.Driver, db.binding
	var all []*node
	if db.source.single != nil {
		if n := d.known(b, db.source.network(), db.source.single.Addr); n != nil {
			all = append(all, n)
		}
		return all
	}
	t := db.topology()
	joined := make(map[topology.Node]bool)
	if t != nil {
		for _, n := range t.Nodes() {
			joined[n] = true
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, n := range d.nodes {
		if joined[n] || n.first.Identity == b.Identity || b.group != nil && n.first.Identity == b.group.sentinels.Identity {
			all = append(all, n)
		}
	}
	return all
}

// heed has what is ill looked for though nobody asks for it.
func (db *DB) heed() {
	db.Driver.heed(db.inUse())
	if t := db.topology(); t != nil {
		t.Heed()
	}
}

// status is what is known of the client.
func (db *DB) status(name string) ClientStatus {
	h := db.health()
	if !h.Healthy {
		db.heed()
	}
	return ClientStatus{
		Name: name, Kind: db.source.kind(), URL: db.source.safe,
		Healthy: h.Healthy, Degraded: h.Partly, Nodes: statuses(db.nodes()),
	}
}

// hold keeps what the client stands on, and so what is known of it, until release is
// called: go-redis has no handles in an outage.
func (db *DB) hold() (release func()) {
	if t := db.topology(); t != nil {
		t.Attach()
		return t.Detach
	}
	d := db.Driver
	d.mu.Lock()
	defer d.mu.Unlock()
	n := d.knownLocked(db.binding, db.source.network(), db.source.single.Addr)
	if n == nil {
		return func() {}
	}
	n.hold()
	return n.release
}

// forget takes the nodes out of the driver that were the closed client's alone, and waits
// until they are closed, or ctx ends. It reports whether there were none any more.
func (db *DB) forget(ctx context.Context) (none bool) {
	if t := db.topology(); t != nil {
		t.Rest()
	}
	nodes := db.nodes()
	var closing sync.WaitGroup
	for _, n := range nodes {
		if db.Driver.forget(n) {
			closing.Go(func() { _ = n.close() })
		}
	}
	closed := make(chan struct{})
	if !db.Driver.start(func(context.Context) { closing.Wait(); close(closed) }) {
		closing.Wait() // the driver is being closed
		return len(nodes) == 0
	}
	select {
	case <-closed:
	case <-ctx.Done():
	}
	return len(nodes) == 0
}
