package handle

// borrow answers a step of the handshake, of which the handle has the lead, as another
// node has done, if its own is ill. It reports false if no other has.
//
// Nothing can be asked of an ill node, and a client that is born then would fail though
// its requests have only to wait. The nodes of a topology have the same users: what one
// of them has let the client in with, in the same state, is taken for this one's answer.
// The server itself is asked when a connection is opened.
func (h *handle) borrow(r *run) bool {
	t := h.client.Topology
	if t == nil || r.kind != session_ || !h.node.Pool.Illness().Ill() {
		return false
	}
	s := &h.shake
	frame := h.b.req[r.start:r.end]
	reply, refused := t.Borrow(s.memory, s.in.Key, frame, s.who)
	if reply == nil {
		return false
	}
	to := s.in
	if refused {
		s.memory.Refuse(s.in, frame, reply)
	} else {
		to = s.memory.Extend(s.in, frame, reply, r.slots, s.who)
	}
	s.land()
	if to == nil {
		return false
	}
	h.b.out = append(h.b.out, reply...)
	h.b.skip()
	s.enter(to)
	h.toRead.open()
	return true
}
