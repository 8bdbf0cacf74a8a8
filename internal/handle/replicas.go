package handle

import (
	"errors"
	"slices"

	"github.com/everpool/everpool/internal/callers"
	"github.com/everpool/everpool/internal/command"
	"github.com/everpool/everpool/pooler"
)

var errReplicaAway = errors.New("everpool: a replica that is away, or stale, is asked for a pipeline")

// turnedAwayLocked reports whether the handle is asked for by a pipeline whose client
// shall be told that this replica is of no use.
func (h *handle) turnedAwayLocked() bool {
	t := h.client.Topology
	return t != nil && (!h.node.Pool.Answers() || h.node.IsStale()) && t.TurnsAway(h.node.Addr) && callers.Include(callers.PipelineNode)
}

// turnAway fails the handshake of such a handle.
func (h *handle) turnAway() error {
	if !h.turnedAwayLocked() {
		return nil
	}
	h.client.Topology.TurnedAway(h.node.Addr)
	return &pooler.Error{Err: pooler.ErrElsewhere, Node: h.node.Addr}
}

// readsLocked reports whether a replica may run these commands for the handle's client.
func (h *handle) readsLocked(runs []run) bool {
	t := h.client.Topology
	return t != nil && t.Reading() != nil && !slices.ContainsFunc(runs, func(r run) bool { return r.kind != plain || r.effect != command.Read })
}
