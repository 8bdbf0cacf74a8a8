package handle

import (
	"errors"
	"time"

	"github.com/everpool/everpool/internal/callers"
	"github.com/everpool/everpool/pooler"
)

// hasNoOther reports whether go-redis would fail its caller if another member of a cluster were
// named as the place of the request: each that it could ask is ill, or it is for this very one.
// One that serves on though it is ill is not to be awaited.
func (h *handle) hasNoOther(slot int) bool {
	t := h.client.Topology
	if t == nil || slot != AnyMember && slot != -1 || h.node.Pool.Serves() {
		return false
	}
	return slot == AnyMember && t.Forlorn() || h.isForThisMember()
}

// isForThisMember reports whether the request is of the client of one member of a cluster, which
// a user has called, as for each.
func (h *handle) isForThisMember() bool {
	if !h.client.Topology.Moves() || callers.Include(callers.ClusterProcess) || callers.Include(callers.LoadState) {
		return false
	}
	return callers.Include(callers.ClientProcess)
}

// isForThisSilentOne reports whether the request is of the client of a member that is only silent,
// which may be slow.
func (h *handle) isForThisSilentOne(slot int) bool {
	return slot == -1 && h.client.Topology != nil && h.node.Pool.Serves() && h.isForThisMember()
}

// subscribesAtASilentOne reports whether the request is a subscription's at a member of a cluster
// that serves, and is silent or was: on a busy machine each is now and then. It was dialed there,
// and not at an heir; what it is told here ends the wait of whoever receives.
func (h *handle) subscribesAtASilentOne() bool {
	t := h.client.Topology
	if t == nil || !t.Moves() || !h.b.any(subscribes) || !h.node.Pool.Serves() {
		return false
	}
	ill := h.node.Pool.Illness()
	return ill.Silent || !ill.Ill()
}

// awaitMember awaits a member of a cluster that is away for about as long as go-redis's own
// dials try. Where another one is well first that could be asked, this one is awaited as long
// again: they may be back together, and go-redis asks each but once. It returns the deadline
// of another try, or why there is none: refused, unless the handle has come to its end.
func (h *handle) awaitMember(req *pooler.Request, refused error) (time.Time, error) {
	if req.NoWait {
		return req.Deadline, pooler.ErrWouldWait
	}
	var places pooler.Places
	if !h.isForThisMember() {
		places = whileForlorn{h.client.Topology}
	}
	began := time.Now()
	by, still := h.awaitNode(req.Deadline, places, h.memberTimeLocked())
	if h.err == nil && places != nil && errors.Is(still, pooler.ErrElsewhere) {
		by, still = h.awaitNode(by, nil, max(min(time.Since(began), h.memberTimeLocked()), 1))
	}
	if h.err == nil && still != nil {
		return by, refused
	}
	return by, still
}

// whileForlorn are the places of a request that any member of a topology answers.
type whileForlorn struct{ Topology }

// Here is true while no member is known to be well.
func (w whileForlorn) Here(string, int, pooler.Illness) bool { return w.Forlorn() }

// memberTimeLocked is how long a member of a cluster is awaited in whose place go-redis would
// ask no other: probeTime, or until it has been away for as long as go-redis dials three, since
// the others may just have been found away without a wait for them.
func (h *handle) memberTimeLocked() time.Duration {
	return h.leftLocked(max(probeTime, time.Until(h.node.Pool.Illness().Since.Add(3*probeTime))))
}
