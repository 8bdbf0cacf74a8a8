package handle

import (
	"bytes"
	"context"
	"errors"
	"time"

	"github.com/everpool/everpool/internal/command"
	"github.com/everpool/everpool/internal/resp"
	"github.com/everpool/everpool/internal/session"
	"github.com/everpool/everpool/pooler"
)

// handshake is where a handle stands: the session that it is in, and the step from
// there that it takes for all who wait for it. It is guarded by the handle's lock.
type handshake struct {
	memory *session.Memory
	who    *session.Identity
	in     *session.State
	flight flight
	landed flight // its reply is here; it is over when its connection is back in the pool
}

// flight is a step that a handle takes for the others of its client. The zero value
// is none.
type flight struct {
	from  *session.State
	frame []byte
	check bool // it has led somewhere before, for others
}

// enter changes the session.
func (s *handshake) enter(to *session.State) {
	if to != s.in {
		s.memory.Enter(to)
		s.memory.Leave(s.in)
		s.in = to
	}
}

// lead takes the step for all, if nobody does yet.
func (s *handshake) lead(frame []byte) {
	if s.memory.Begin(s.in, frame, s.who) {
		s.flight = flight{from: s.in, frame: bytes.Clone(frame)}
	}
}

// land ends the step that others wait for, whatever came of it.
func (s *handshake) land() { s.end(s.take()) }

// arrive ends the step whose connection is back.
func (s *handshake) arrive() {
	if s.landed.from != nil {
		s.end(taken(&s.landed))
	}
}

// take is the step under way, which is no longer the handshake's to end.
func (s *handshake) take() flight { return taken(&s.flight) }

func taken(f *flight) flight {
	t := *f
	*f = flight{}
	return t
}

func (s *handshake) end(f flight) {
	if f.from != nil {
		s.memory.Finish(f.from, f.frame, s.who)
	}
}

// answer answers the commands at the head of the plan that need no server: session
// commands that are remembered, and QUIT and RESET. It takes the lead of the first
// one that isn't remembered, or waits for the handle that has it.
func (h *handle) answer() error {
	for len(h.b.plan) > 0 && !h.b.unanswered() {
		r := &h.b.plan[0]
		switch {
		case h.lease != nil && (r.kind != local || h.receiving):
			return nil
		case r.kind == local:
			h.answerLocal(r)
			if h.err != nil {
				return h.err
			}
			h.b.skip()
			continue
		case !r.remembered():
			return nil
		}
		if r.kind == session_ {
			h.b.shaking, h.batches = true, 0
		}
		if h.shake.flight.from != nil {
			return nil // leading already
		}
		frame := h.b.req[r.start:r.end]
		a, err := h.remember(frame)
		switch {
		case err != nil:
			return err
		case a.Reply != nil:
			h.b.out = append(h.b.out, a.Reply...)
			h.b.skip()
			if a.To != nil {
				h.shake.enter(a.To)
			}
			h.toRead.open()
		default:
			h.shake.flight = flight{h.shake.in, bytes.Clone(frame), a.Check}
			if !h.borrow(r) {
				return nil
			}
		}
	}
	return nil
}

// remember asks the memory for the command, and waits while other handles take the step,
// until it is known or the handle's own to take.
func (h *handle) remember(frame []byte) (a session.Answer, err error) {
	s := &h.shake
	var turn <-chan struct{}
	for err = h.turnAway(); err == nil; err = h.turnAway() {
		if a = s.memory.Ask(s.in, frame, s.who, turn); a.Wait == nil {
			break
		}
		turn = a.Wait
		if err = h.awaitFlight(a); err != nil {
			break
		}
	}
	if turn != nil {
		s.memory.GiveUp(s.in, frame, s.who, turn)
	}
	return a, err
}

// answerLocal answers QUIT and RESET. After QUIT the handle is at its end, as the socket is
// with a server. After RESET it is as new, and the connection that it has kept is closed.
func (h *handle) answerLocal(r *run) {
	defer h.toRead.open()
	if r.pin != command.PinReset {
		h.b.out = append(h.b.out, "+OK\r\n"...)
		h.b.quits = true
		return
	}
	h.shake.enter(h.shake.memory.Root())
	h.b.out = append(h.b.out, "+RESET\r\n"...)
	if c := h.lease; c != nil {
		c.Fail(pooler.CloseState, errors.New("everpool: RESET"))
		h.lease, h.carried = nil, carried{}
		h.put(c, pooler.Answered)
	}
}

// awaitFlight waits for another handle's step, by the write deadline, and no longer
// than such a step should take.
func (h *handle) awaitFlight(a session.Answer) error {
	err := h.wait(a.Wait, earlier(h.writeByLocked(), a.Until))
	switch {
	case err == nil || h.err != nil:
		return h.err
	case h.writeByLocked().IsZero() || time.Now().Before(h.writeByLocked()):
		return nil
	}
	return &pooler.Error{Err: pooler.ErrWaitTimeout, Node: h.node.Addr}
}

// outlastsCaller has the handle take in the replies to its handshake before it ends, and
// reports whether it does: its caller's time is over, and where all callers have less time than
// a handshake takes none would ever get through. One of a node does so at a time, since it keeps
// its connection for that long.
func (h *handle) outlastsCaller() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := h.lease
	if h.closed || h.err != nil || !h.b.shaking || c == nil || c.Mode() != pooler.Counted || !h.b.unanswered() ||
		h.b.cut || h.sending || h.receiving || h.readBy.IsZero() || time.Now().Before(h.readBy.Time) ||
		!h.node.finishing.CompareAndSwap(false, true) {
		return false
	}
	h.shake.land() // others needn't wait for it
	go func() {
		defer h.node.finishing.Store(false)
		h.finish()
		_ = h.leave()
	}()
	return true
}

// finish reads the replies that are owed to the handshake, for as long as a dial may take.
func (h *handle) finish() {
	_ = h.SetDeadline(time.Now().Add(h.node.Pool.Config().Limits().DialTimeout))
	var buf [512]byte
	for {
		if _, err := h.Read(buf[:]); err != nil {
			return
		}
		h.mu.Lock()
		over := h.err != nil || h.b.idle()
		h.mu.Unlock()
		if over {
			return
		}
	}
}

// errChecked: all that the connection was opened for was to see whether the server
// still accepts what it has accepted from others.
var errChecked = errors.New("everpool: opened to check a login")

// shakenLocked takes note of the reply to a session command: where it has led is
// remembered for all, and the handles that wait for it are woken.
func (h *handle) shakenLocked(c *pooler.Conn, r *run, failed bool) {
	s := &h.shake
	flown := s.take()
	c.SetSession(c.Session()) // refused or not, it is no work
	switch {
	case h.carried.inMulti:
		h.carried.hold(command.PinSession) // it comes into force with EXEC
	case h.carried.pin == command.PinSession:
		// The state that it was given in isn't known.
	case c.Mode() != pooler.Counted:
		h.carried.firm = true // the reply may have a push in it, so it isn't remembered
	case failed && resp.UnknownCommand(h.b.reply):
		s.memory.Refuse(s.in, r.frame, h.b.reply)
	case failed:
		// Nothing has changed. The server may think otherwise next time, and may
		// have accepted it from others before.
		s.memory.Doubt(s.in, r.frame)
	default:
		to := s.memory.Extend(s.in, r.frame, h.b.reply, r.slots, s.who)
		if to == nil {
			h.carried.hold(command.PinSession)
			break
		}
		s.enter(to)
		c.SetSession(to.Pool)
		if flown.check && !h.b.unanswered() && !h.carried.keeps() {
			c.Fail(pooler.CloseState, errChecked)
		}
	}
	if next := h.b.pending(); len(next) > 0 && next[0].kind == session_ && !h.carried.inMulti && h.carried.pin == command.PinNone {
		// The next step is under way too: those who wait for this one shall not
		// take it for missing.
		s.lead(next[0].frame)
	}
	s.end(s.landed)
	s.landed = flown
}

// fillIn puts the provider's credentials into the planned commands where go-redis
// was given a token in their place, or has some that were replaced meanwhile.
func (h *handle) fillIn() error {
	login := h.client.Login
	for i := range h.b.plan {
		r := &h.b.plan[i]
		frame := h.b.req[r.start:r.end]
		if r.kind != session_ || !login.Renews(frame, r.slots) {
			continue
		}
		if login.Token != "" {
			r.frame = bytes.Clone(frame) // what is remembered
		}
		filled, err := h.credentials(login, frame)
		if err != nil {
			return err
		}
		h.b.rewrite(i, filled)
	}
	return nil
}

// credentials asks the client's provider, by the write deadline.
func (h *handle) credentials(login *session.Login, frame []byte) (filled []byte, err error) {
	by := h.writeByLocked()
	h.outside(func() {
		ctx := context.Context(&h.caller)
		if !by.IsZero() {
			var cancel context.CancelFunc
			ctx, cancel = context.WithDeadline(ctx, by)
			defer cancel()
		}
		filled, err = login.Fill(ctx, frame)
	})
	switch {
	case h.err != nil:
		return nil, h.err
	case err != nil:
		return nil, &pooler.Error{Err: pooler.ErrCredentials, Node: h.node.Addr, Cause: err}
	}
	return filled, nil
}
