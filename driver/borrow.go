package driver

// borrow answers a step of the handshake, of which the handle has the lead, as another
// node has done, if its own is ill. It reports false if no other has.
//
// Nothing can be asked of an ill node, and a client that is born then would fail though
// its requests have only to wait. The nodes of a topology have the same users: what one
// of them has let the client in with, in the same state, is taken for this one's answer.
// The server itself is asked when a connection is opened.
func (h *handle) borrow(r *run) bool {
	t := h.bound.topology
	if t == nil || r.kind != session_ || !h.node.pool.Illness().Ill() {
		return false
	}
	s := &h.shake
	frame := h.b.req[r.start:r.end]
	reply, refused := t.borrow(s.memory, s.in, frame, s.client)
	if reply == nil {
		return false
	}
	to := s.in
	if refused {
		s.memory.refuse(s.in, frame, reply)
	} else {
		to = s.memory.extend(s.in, frame, reply, r.slots, s.client)
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

// borrow returns what another node has answered to the command in the same state, and
// whether it doesn't know it; nil, if none has.
func (t *topology) borrow(to *memory, in *session, frame []byte, who *client) (reply []byte, refused bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for n := range t.nodes {
		if n.memory == to {
			continue
		}
		if reply, refused = n.memory.lend(in.key, frame, who); reply != nil {
			return reply, refused
		}
	}
	return nil, false
}

// lend returns the reply to the command in the state of that key, if the server has let
// the client go that way or doesn't know the command.
func (m *memory) lend(key string, frame []byte, who *client) (reply []byte, refused bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.root
	if key != "" {
		s = m.states[key]
	}
	if s == nil {
		return nil, false
	}
	if reply, refused = s.refused[string(frame)]; refused {
		return reply, true
	}
	k, ok := s.next[string(frame)]
	if !ok || k.to.pool.Dead() || m.checks(s, k) && !who.isLetInto(k.to) {
		return nil, false
	}
	return k.reply, false
}
