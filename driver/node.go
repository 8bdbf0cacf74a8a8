package driver

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/everpool/everpool/internal/handle"
	"github.com/everpool/everpool/internal/session"
	"github.com/everpool/everpool/internal/topology"
	"github.com/everpool/everpool/pooler"
)

// node is one address: its pool, what is remembered of its sessions, and how
// many handles there are.
type node struct {
	handle.Node
	key   nodeKey
	first *binding // whose settings the pool has

	firsts    firsts
	chronicle chronicle
	announced atomic.Bool
	forget    func(*node) bool // takes it out of the driver, unless it is in use

	told map[string]bool // notes of settings that later clients asked for in vain; guarded by Driver.mu

	answered atomic.Int64 // requests, when the node was last looked at for its health

	mu         sync.Mutex
	handles    int
	clients    clients // that have them
	holders    int     // managers' clients that stand on it
	closed     bool
	linger     *time.Timer
	left       time.Time            // when the last handle was closed
	topologies []*topology.Topology // that it belongs to
}

// Base is what the node's handles have in common.
func (n *node) Base() *handle.Node { return &n.Node }

// Join has the topology told of what happens to the node.
func (n *node) Join(t *topology.Topology) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !slices.Contains(n.topologies, t) {
		n.topologies = append(n.topologies, t)
	}
}

// Part has the topology told nothing any more.
func (n *node) Part(t *topology.Topology) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.topologies = slices.DeleteFunc(slices.Clone(n.topologies), func(o *topology.Topology) bool { return o == t }) // others go through it
}

// confirm has the topologies know who is the primary before the node, which was ill, serves.
func (n *node) confirm(ctx context.Context) {
	for _, t := range n.belongsTo() {
		t.Confirm(ctx)
	}
}

// tell tells the topologies what has happened.
func (n *node) tell(ev pooler.Event) {
	for _, t := range n.belongsTo() {
		t.Changed(ev)
	}
}

// belongsTo are the topologies that are told of the node, not to be changed.
func (n *node) belongsTo() []*topology.Topology {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.topologies
}

func (n *node) attach(b *binding) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.handles++
	n.clients.add(b)
	if n.linger != nil {
		n.linger.Stop()
	}
}

// drop takes back what [Driver.attach] has counted for a handle of the client.
func (n *node) drop(c *handle.Client) {
	n.detach(c.Identity)
	n.first.driver.resize(n)
	if t, ok := c.Topology.(*topology.Topology); ok {
		t.Detach()
	}
}

func (n *node) detach(who *session.Identity) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.clients.remove(who)
	if n.handles--; n.handles == 0 {
		n.left = time.Now()
		n.lingerLocked()
	}
}

// lingerLocked has what nobody uses any more closed in a while.
func (n *node) lingerLocked() {
	if !n.closed {
		n.linger = topology.Rearm(n.linger, topology.Linger, n.drain)
	}
}

// hold keeps the node until release is called, whatever handles it has.
func (n *node) hold() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.holders++
}

func (n *node) release() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.holders--; n.holders == 0 && n.handles == 0 {
		n.lingerLocked() // it may have kept the node from being forgotten
	}
}

// expect has handles of a client expected that is known to live.
func (n *node) expect() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.left = time.Now()
}

// needed reports whether the node is some client's: one that is away also if it has lost
// its handles by that.
func (n *node) needed() bool {
	ill := n.Pool.Illness().Ill()
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.neededLocked(ill)
}

// neededLocked is needed, of a node that is known to be ill or isn't.
func (n *node) neededLocked(ill bool) bool {
	return n.handles > 0 || n.holders > 0 || ill && time.Since(n.left) < topology.Expected ||
		slices.ContainsFunc(n.topologies, func(t *topology.Topology) bool { return t.Needs(n.key.addr, ill) })
}

// Deserted reports whether the node has been without handles for so long that none
// is expected.
func (n *node) Deserted() bool {
	if n.needed() {
		return false
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return time.Since(n.left) >= topology.Linger
}

// drain closes what nobody uses any more. What is needed is looked at again.
func (n *node) drain() {
	ill := n.Pool.Illness().Ill()
	n.mu.Lock()
	needed, topologies := n.neededLocked(ill), n.topologies
	unused := n.handles == 0 && !n.closed
	if unused && needed {
		n.lingerLocked()
	}
	n.mu.Unlock()
	switch {
	case !unused || needed && ill:
	case needed: // go-redis has done with what its topology knows: it may have left
		for _, t := range topologies {
			t.Deserted(n)
		}
	case n.key.tls != nil || n.key.own != nil || slices.ContainsFunc(topologies, func(t *topology.Topology) bool { return t.Lost(n) }):
		// Others like it may never come, and there may be any number of those.
		n.forget(n)
	default:
		n.Pool.Drain()
	}
}

func (n *node) close() error {
	n.mu.Lock()
	n.closed = true
	if n.linger != nil {
		n.linger.Stop()
	}
	n.mu.Unlock()
	return n.Pool.Close()
}

func (n *node) status() NodeStatus {
	n.mu.Lock()
	handles := n.handles
	n.mu.Unlock()
	st := n.Pool.Stats()
	s := NodeStatus{
		Network: n.key.network, Addr: n.key.addr, TLS: n.key.tls != nil,
		Handles: handles, State: st.State, Since: st.Since, Silent: n.Pool.Illness().Silent, Stats: st, Events: n.chronicle.last(),
		Settings: n.settings(),
	}
	n.place(&s)
	return s
}

// place says what the node is to others.
func (n *node) place(s *NodeStatus) {
	switch n.first.Places.(type) {
	case topology.AtSentinels:
		s.Topology, s.Role = "sentinel", "sentinel"
	case *shards:
		s.Topology, s.Role = "ring", "shard"
	}
	for _, t := range n.belongsTo() {
		s.Topology = t.Name()
		if v := t.View(); v != nil {
			s.Role, s.Slots = v.Role(n.key.addr)
		}
	}
}

// stateChanged logs the change. A node that came back may be another server, or
// another version of it: what the old one refused as unknown is asked again.
func (n *node) stateChanged(log *slog.Logger, ev pooler.Event) {
	if ev.State == pooler.StateUp {
		n.Memory.ForgetRefusals()
		n.firsts.over()
	}
	level := slog.LevelWarn
	if ev.State == pooler.StateUp {
		level = slog.LevelInfo
	}
	attrs := []slog.Attr{
		slog.String("node", ev.Node), slog.String("state", ev.State.String()), slog.String("previous", ev.Previous.String()),
	}
	if ev.Err != nil {
		attrs = append(attrs, slog.String("error", ev.Err.Error()))
	}
	if ev.Duration > 0 {
		attrs = append(attrs, slog.Duration("outage", ev.Duration))
	}
	log.LogAttrs(context.Background(), level, "everpool: node is "+ev.State.String(), attrs...)
}
