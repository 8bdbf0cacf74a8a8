package topology

import (
	"maps"
	"math/rand/v2"
	"slices"
	"time"

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

// TurnsAway reports whether a pipeline that asks for the address shall be told that the
// replica there is away. See [handle.Topology].
func (t *Topology) TurnsAway(addr string) bool {
	return t.ways.Reads && t.isReplica(addr) && t.maySayAway(addr)
}

// isReplica reports whether the address is a replica, as far as is known: on sentinels
// all that the client has dialed and that isn't the primary.
func (t *Topology) isReplica(addr string) bool {
	v := t.view.Load()
	return v != nil && (v.knows(addr) || v.master != "") && !v.owns(addr)
}

// maySayAway reports whether a client may be told now that the replica is away.
func (t *Topology) maySayAway(addr string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	at, said := t.saidAway[addr]
	ago := time.Since(at)
	return !said || ago < tellFor || ago >= tellEvery
}

// TurnedAway takes note that a pipeline was told so.
func (t *Topology) TurnedAway(addr string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	maps.DeleteFunc(t.saidAway, func(_ string, at time.Time) bool { return time.Since(at) >= tellEvery })
	if _, said := t.saidAway[addr]; !said {
		t.saidAway[addr] = time.Now()
	}
}

// hasOther reports whether a client of replicas alone that leaves the address, whose node is
// ill, may be better off: go-redis dials one of those that the sentinels have as up, and the
// primary if there is none.
func (t *Topology) hasOther(v *View, addr string) bool {
	others := slices.Clone(v.up)
	if len(others) == 0 {
		others = append(others, v.master)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for n := range t.nodes {
		others = slices.DeleteFunc(others, func(other string) bool { return other == n.Base().Addr && !n.Base().Pool.Well() })
	}
	return slices.ContainsFunc(others, func(other string) bool { return other != addr })
}

// reading are the places of requests that only read, of a client that reads from replicas:
// they don't wait for an ill node where a replica answers. One that was a replica before
// may be another node's by now, and would send them back.
//
// Its invariant: no two nodes send a read to each other. A primary that is ill sends it to a
// replica that answers, and that keeps it for as long as it does, or until a node of the
// slot is well: a replica that is ill may answer other sessions than the request's.
type reading struct{ *Topology }

// Here reports whether a request may wait at the address.
func (r reading) Here(addr string, slot int, ill pooler.Illness) bool {
	v := r.view.Load()
	if r.Topology.Here(addr, slot, ill) {
		return !v.isFresh(ill) || r.StandIn(addr, slot) == ""
	}
	return ill.Answers && v != nil && slices.Contains(v.standBy(slot), addr) && !r.anyWell(v, slot)
}

// anyWell reports whether the owner of the slot is well, as far as is known, or a replica
// to which it would send a read.
func (t *Topology) anyWell(v *View, slot int) bool {
	owner, standBy := v.owner(slot), v.standBy(slot)
	t.mu.Lock()
	defer t.mu.Unlock()
	ownerIsWell := true
	for n := range t.nodes {
		switch addr := n.Base().Addr; {
		case addr == owner:
			ownerIsWell = n.Base().Pool.Well()
		case slices.Contains(standBy, addr) && isWell(n):
			return true
		}
	}
	return ownerIsWell
}

// isWell reports whether a node is well and known to answer.
func isWell(n Node) bool { return n.Base().Pool.Well() && n.Base().Pool.Answers() }

// Reading are the places of requests that only read. See [handle.Topology].
func (t *Topology) Reading() pooler.Places {
	if !t.ways.Reads || !t.ways.Moves {
		return nil
	}
	return reading{t}
}

// PrimaryOf returns the address of the replica's primary. See [handle.Topology].
func (t *Topology) PrimaryOf(addr string) string {
	if v := t.view.Load(); v != nil {
		return v.primaryOf(addr)
	}
	return ""
}

// StandIn returns a replica that answers for the slot, of which the address is the owner
// as far as is known, one that is well if there is one; or "". It doesn't block.
func (t *Topology) StandIn(addr string, slot int) string {
	v := t.view.Load()
	if v == nil || slot < 0 || v.owner(slot) != addr {
		return ""
	}
	standBy := v.standBy(slot)
	var well, answering []string
	t.mu.Lock()
	for n := range t.nodes {
		switch addr := n.Base().Addr; {
		case !slices.Contains(standBy, addr), n.Base().IsStale():
		case isWell(n):
			well = append(well, addr)
		case n.Base().Pool.Answers():
			answering = append(answering, addr)
		}
	}
	t.mu.Unlock()
	if len(well) > 0 {
		answering = well
	}
	if len(answering) == 0 {
		return ""
	}
	return answering[rand.IntN(len(answering))]
}
