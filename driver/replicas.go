package driver

import (
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/everpool/everpool/internal/command"
	"github.com/everpool/everpool/pooler"
)

// A client that reads from replicas has to be told of one that is away in a way by which
// go-redis leaves it alone for a while. MOVED isn't one: a single command follows it at
// once, but a pipeline only after a pause, and the next one asks the same replica again.
// What is, is a connection that can't be made. A pipeline then has run nowhere, and
// whatever it consists of goes to another node.
const (
	// tellEvery is how often that is told of a replica. In between its pipelines are
	// MOVED: where go-redis takes all nodes of a slot for failing, it would come back
	// until its tries are used up.
	tellEvery = time.Second

	// tellFor is for how long it is told each time: go-redis asks for a second
	// connection when the first one fails, from another of its pools. It comes back
	// after 8 ms at least.
	tellFor = 4 * time.Millisecond
)

// pipelineNode is the function of go-redis that has a node run its part of a pipeline.
// Should its name change, pipelines are MOVED.
const pipelineNode = "go-redis/v9.(*ClusterClient).processPipelineNode"

var errReplicaAway = errors.New("everpool: a replica that is away is asked for a pipeline")

// turnedAwayLocked reports whether the handle is asked for by a pipeline whose client
// shall be told that this replica is away.
func (h *handle) turnedAwayLocked() bool {
	t, addr := h.bound.topology, h.node.key.addr
	return t != nil && t.reads && !h.node.pool.Answers() && t.isReplica(addr) && t.maySayAway(addr) && calledBy(pipelineNode)
}

// turnAway fails the handshake of such a handle.
func (h *handle) turnAway() error {
	if !h.turnedAwayLocked() {
		return nil
	}
	h.bound.topology.sayAway(h.node.key.addr)
	return &pooler.Error{Err: pooler.ErrElsewhere, Node: h.node.key.addr}
}

// isReplica reports whether the address is a replica, as far as is known: on sentinels
// all that the client has dialed and that isn't the primary.
func (t *topology) isReplica(addr string) bool {
	v := t.view.Load()
	return v != nil && (v.knows(addr) || v.master != "") && !v.owns(addr)
}

// maySayAway reports whether a client may be told now that the replica is away.
func (t *topology) maySayAway(addr string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	at, said := t.saidAway[addr]
	ago := time.Since(at)
	return !said || ago < tellFor || ago >= tellEvery
}

// sayAway takes note that a client is told so.
func (t *topology) sayAway(addr string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	maps.DeleteFunc(t.saidAway, func(_ string, at time.Time) bool { return time.Since(at) >= tellEvery })
	if _, said := t.saidAway[addr]; !said {
		t.saidAway[addr] = time.Now()
	}
}

// reading are the places of requests that only read, of a client that reads from replicas:
// they don't wait for an ill node where a replica answers. One that was a replica before
// may be another node's by now, and would send them back.
type reading struct{ *topology }

// Here reports whether a request may wait at the address.
func (r reading) Here(addr string, slot int, ill pooler.Illness) bool {
	return r.topology.Here(addr, slot, ill) && (!r.view.Load().isFresh(ill) || r.standIn(addr, slot) == "")
}

// readsLocked reports whether a replica may run these commands for the handle's client.
func (h *handle) readsLocked(runs []run) bool {
	t := h.bound.topology
	return t != nil && t.reads && t.moves && !slices.ContainsFunc(runs, func(r run) bool { return r.kind != plain || r.effect != command.Read })
}

// standIn returns a replica that answers for the slot, of which the address is the owner
// as far as is known; or "". It doesn't block.
func (t *topology) standIn(addr string, slot int) string {
	v := t.view.Load()
	if v == nil || slot < 0 || v.owner(slot) != addr {
		return ""
	}
	standBy := v.standBy(slot)
	var answering []string
	t.mu.Lock()
	for n := range t.nodes {
		if slices.Contains(standBy, n.key.addr) && n.pool.Answers() {
			answering = append(answering, n.key.addr)
		}
	}
	t.mu.Unlock()
	if len(answering) == 0 {
		return ""
	}
	return answering[rand.IntN(len(answering))]
}
