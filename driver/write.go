package driver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/everpool/everpool/internal/command"
	"github.com/everpool/everpool/pooler"
)

// requestError: what was written is no request, or one that can't be passed on. The
// server would close the connection for it, or not answer.
type requestError struct{ err error }

func (e *requestError) Error() string { return fmt.Sprintf("everpool: %v", e.err) }
func (e *requestError) Unwrap() error { return e.err }

// errKeptGone: the connection that the handle keeps was closed while nothing was
// under way on it.
var errKeptGone = errors.New("everpool: the connection that was kept is gone")

// gatherLocked takes bytes of p into the batch, finds the commands in them, and
// returns how many it has taken. It takes all of p but where a large argument
// streams through.
func (h *handle) gatherLocked(p []byte) (int, error) {
	b := &h.b
	if b.partial && b.sent == len(b.req) {
		if body := b.scan.BodyRemaining(); body > 0 {
			n := int(min(body, int64(len(p))))
			if err := h.sendPieceLocked(p[:n]); err != nil {
				return 0, err
			}
			b.scan.Skip(int64(n))
			return n, nil
		}
	}
	p = p[:min(len(p), gatherAtOnce)]
	b.take(p, &h.node.buffers)
	var l lookalike
	for {
		n, err := b.next(&l)
		if err != nil {
			return 0, h.malformedLocked(err)
		}
		if n == 0 {
			return len(p), nil
		}
		if l.facts.Info == nil && l.facts.Pin == command.PinUnknown && b.scan.Seen() > 0 {
			l.facts = h.clearLocked(l.facts, b.req[b.scanned:])
		}
		b.add(&l.facts, n)
	}
}

// malformedLocked refuses what isn't a request. The server would close the
// connection for it, or not answer, so it must not get there.
func (h *handle) malformedLocked(err error) error {
	if c := h.lease; c != nil && !h.sending && !h.receiving {
		c.Fail(pooler.CloseWrite, err)
	}
	return &requestError{fmt.Errorf("malformed request: %w", err)}
}

// flushLocked sends what is due.
func (h *handle) flushLocked() error {
	complete, part := h.b.due()
	if complete {
		if err := h.sendLocked(); err != nil {
			return err
		}
	}
	if part {
		return h.sendPartLocked()
	}
	return nil
}

// sendLocked sends the planned commands: those of the handshake that are
// remembered are answered at once, the rest goes to a connection.
func (h *handle) sendLocked() error {
	share := h.node.sharer != nil && h.lease == nil && !h.keepsLocked() && h.b.shareable()
	if h.riding && !share {
		if err := h.alightLocked(); err != nil {
			return err
		}
	}
	if err := h.answerLocked(); err != nil || len(h.b.plan) == 0 {
		return err
	}
	before := h.b.effect
	if share {
		if shared, err := h.shareLocked(); shared || err != nil {
			if err != nil {
				h.b.effect = before
			}
			return err
		}
	}
	first, end := h.b.plan[0], int(h.b.plan[len(h.b.plan)-1].end)
	replies, mode, pins := h.b.prepare(h.keepsLocked())
	if err := h.acquireLocked(h.requestLocked(h.b.plan)); err != nil {
		h.b.effect = before
		return err
	}
	if c := h.lease; mode > c.Mode() {
		c.SetMode(mode)
	}
	if pins {
		if err := h.pinLocked(); err != nil {
			return err
		}
	}
	h.b.owe()
	h.lease.Owe(replies)
	none := int(first.first) - h.b.sent
	n, err := h.transmitLocked(none, end, replies)
	if err != nil && n < none {
		h.b.effect = before
	}
	return err
}

// transmitLocked sends req[sent:end], which will have so many replies, on the
// lease, and returns how many bytes it has sent. none is how many of them can be
// sent without the server having anything to run. If nothing was run, the commands
// are planned again.
func (h *handle) transmitLocked(none, end, replies int) (int, error) {
	for {
		c := h.lease
		n, err := h.useLocked(c, h.b.req[h.b.sent:end])
		if err == nil {
			h.b.flushed = true
			h.b.trim(end, &h.node.buffers)
			return n, nil
		}
		if h.err != nil {
			return n, h.err
		}
		ran := h.b.flushed || n >= none
		l := h.lossLocked(causeOf(err), ran)
		l.free = !h.b.streamed && !h.keepsLocked() && !h.receiving && h.b.moves < maxMoves
		if l.decide(h.bound.retry) != move {
			return n, h.notSentLocked(c, replies, ran, err)
		}
		h.b.moves++
		if err := h.replaceLocked(c, h.requestLocked(h.b.owed), pooler.Move); err != nil {
			return n, h.notSentLocked(nil, replies, false, err)
		}
		h.lease.Owe(replies)
	}
}

// notSentLocked notes that a piece of the batch was not sent on c, or not to its
// end. If none of it has run, its commands are as before.
func (h *handle) notSentLocked(c *pooler.Conn, replies int, ran bool, err error) error {
	if h.b.flushed = ran; ran {
		return err
	}
	h.b.owed, h.b.plan = h.b.plan[:0], h.b.owed
	if c != nil && h.b.streamed {
		c.Fail(pooler.CloseWrite, err) // it is in the middle of a command
	}
	if c == nil || c.Err() != nil {
		return err
	}
	c.Owe(-replies) // not a byte went out
	if !h.keepsLocked() && !h.receiving {
		h.lease = nil
		h.putLocked(c, pooler.Failed)
	}
	return err
}

// useLocked sends b by the write deadline, without the lock, so that Read, Close
// and the deadlines go on.
func (h *handle) useLocked(c *pooler.Conn, b []byte) (int, error) {
	by := h.writeBy
	h.sending = true
	h.signal()
	h.mu.Unlock()
	n, err := c.Send(b, by)
	h.mu.Lock()
	h.sending = false
	if h.err != nil {
		h.quitLocked()
		return n, h.err
	}
	h.signal()
	return n, err
}

// sendPartLocked begins to send a command of which more is to come.
func (h *handle) sendPartLocked() error {
	b := &h.b
	part := b.req[b.sent:]
	if len(part) == 0 {
		return nil
	}
	if !b.partial {
		f := command.Inspect(b.req[b.scanned:], b.scan.Args(), b.scan.NumArgs())
		if f.Class == command.Local || f.Pin == command.PinReset {
			return &requestError{fmt.Errorf("%s with arguments of more than %d bytes", f.Info.Name, gatherUpTo)}
		}
		if f.Class == command.Session {
			// Too large to be remembered.
			f = command.Facts{Info: f.Info, Class: command.Pinning, Pin: command.PinSession, Effect: f.Effect}
		}
		r := newRun(&f, b.scanned, len(b.req))
		if err := h.acquireLocked(h.requestLocked([]run{r})); err != nil {
			return err
		}
		b.begun, b.partial, b.streamed, b.all = f, true, true, false
	}
	if err := h.sendPieceLocked(part); err != nil {
		return err
	}
	b.scan.Discard(len(part))
	b.req = b.req[:b.sent]
	b.scanned = len(b.req)
	if !b.unanswered() {
		b.req, b.sent, b.scanned = b.req[:0], 0, 0
	}
	return nil
}

// sendPieceLocked sends part of a command. If the connection is lost, or the time
// is over, in the middle of it, the server can't run it: what it has run is what
// came before.
func (h *handle) sendPieceLocked(part []byte) error {
	c := h.lease
	_, err := h.useLocked(c, part)
	if err == nil || h.err != nil {
		return err
	}
	c.Fail(pooler.CloseWrite, err)
	h.b.partial = false
	return err
}

// streamLocked passes p on, on a connection whose replies aren't counted.
func (h *handle) streamLocked(p []byte) (int, error) {
	n, err := h.useLocked(h.lease, p)
	if err == nil {
		return n, nil
	}
	if h.err == nil {
		if errors.Is(err, os.ErrDeadlineExceeded) {
			err = h.deadlineError("write")
		}
		err = h.failLocked(err, pooler.Failed)
	}
	return h.toldByReadLocked(p, err)
}

// requestLocked says what a lease for the commands is for. One that asks about
// an earlier write needs the connection of that write, unless the write is among
// the commands themselves.
func (h *handle) requestLocked(runs []run) pooler.Request {
	req := pooler.Request{Session: h.session.pool, Deadline: h.writeBy, WaitTimeout: h.bound.wait, Name: runs[0].name()}
	wrote := false
	for i := range runs {
		r := &runs[i]
		req.Blocking = req.Blocking || r.blocking
		wrote = wrote || r.effect != command.Read
		if r.afterWrite && !wrote {
			req.Want = h.lastWrite
		}
		if subscribes(*r) {
			req.Deadline = earlier(req.Deadline, time.Now().Add(pubSubWait))
		}
	}
	return req
}

// earlier returns the deadline that comes first; the zero one never does.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || b.Before(a) {
		return b
	}
	return a
}

// acquireLocked sees to it that the handle has a lease that can carry a request. One
// that it has kept may have been closed meanwhile.
func (h *handle) acquireLocked(req pooler.Request) error {
	if c := h.lease; c != nil {
		if !c.Unpark() || !h.b.unanswered() && !h.receiving && !c.Ready() {
			return errKeptGone
		}
		return nil
	}
	if req.Want != nil && h.wroteIn != h.session {
		return &pooler.Error{Err: pooler.ErrConnGone, Node: h.node.key.addr}
	}
	c, err := obtainLocked(h, req, h.getLocked)
	if err != nil {
		return err
	}
	h.lease = c
	return nil
}

// obtainLocked gets something in the handle's session. A session that the server
// refuses is renewed, if it can be.
func obtainLocked[T any](h *handle, req pooler.Request, get func(pooler.Request) (T, error)) (got T, err error) {
	if req.Session.Dead() {
		if err := h.renewLocked(); err != nil {
			return got, err
		}
		req.Session = h.session.pool
	}
	got, err = get(req)
	if errors.Is(err, pooler.ErrSessionLost) && h.renewLocked() == nil {
		req.Session = h.session.pool
		got, err = get(req)
	}
	if h.err != nil { // a lease has gone back then
		err = h.err
	}
	return got, err
}

func (h *handle) getLocked(req pooler.Request) (*pooler.Conn, error) {
	return h.leaseLocked(func(ctx context.Context) (*pooler.Conn, error) { return h.node.pool.Get(ctx, req) })
}

// leaseLocked waits for a connection without the lock. If the handle has ended
// meanwhile the connection goes back.
func (h *handle) leaseLocked(get func(context.Context) (*pooler.Conn, error)) (*pooler.Conn, error) {
	c, err := h.unlocked(get)
	if err == nil && h.err != nil {
		h.putLocked(c, pooler.Abandoned)
		err = h.err
	}
	return c, err
}

func (h *handle) unlocked(get func(context.Context) (*pooler.Conn, error)) (*pooler.Conn, error) {
	h.mu.Unlock()
	defer h.mu.Lock() // whatever a user's code in there does
	return get(&h.caller)
}

// replaceLocked gets another connection for the batch.
func (h *handle) replaceLocked(c *pooler.Conn, req pooler.Request, why pooler.Again) error {
	h.lease = nil
	next, err := h.leaseLocked(func(ctx context.Context) (*pooler.Conn, error) {
		return h.node.pool.Replace(ctx, c, req, why)
	})
	if err != nil {
		return err
	}
	h.lease = next
	return nil
}

// renewLocked replaces a session that the server refuses by the same one with
// the credentials that the client's provider gives now. It fails if they are
// the ones that were refused.
func (h *handle) renewLocked() error {
	lost := &pooler.Error{Err: pooler.ErrSessionLost, Node: h.node.key.addr}
	if h.bound.creds == nil {
		return lost
	}
	username, password, err := h.credentials()
	if err != nil || h.err != nil {
		return lost
	}
	steps := withCredentials(h.session.steps, username, password)
	if steps == nil {
		return lost
	}
	s := h.node.memory.renew(steps)
	if s == nil {
		return lost
	}
	h.enterLocked(s)
	return nil
}

// credentials asks the client's provider, without the lock.
func (h *handle) credentials() (username, password string, err error) {
	h.mu.Unlock()
	defer h.mu.Lock() // whatever a user's code in there does
	return h.bound.creds(&h.caller)
}

// pinLocked notes the commands of the plan that pin. It fails if the handle has
// ended meanwhile.
func (h *handle) pinLocked() error {
	for i := range h.b.plan {
		r := &h.b.plan[i]
		if r.kind == pinning && h.pin == "" {
			h.pin = r.pin.String()
			h.sending = true // the lease stays until this is over
			h.notePinLocked(h.pin)
			h.sending = false
			if h.err != nil {
				h.quitLocked()
				return h.err
			}
		}
	}
	return nil
}

func (h *handle) notePinLocked(reason string) {
	c := h.lease
	h.mu.Unlock()
	defer h.mu.Lock() // whatever a user's code in there does
	h.node.pool.Pin(c, reason)
}

// answerLocked answers the commands at the head of the plan that need no
// server: session commands that are remembered, and QUIT and RESET. It takes
// the lead of the first one that isn't remembered, or waits for whoever has it.
func (h *handle) answerLocked() error {
	for len(h.b.plan) > 0 && !h.b.unanswered() {
		r := &h.b.plan[0]
		if h.lease != nil && (r.kind != local || h.receiving) {
			return nil
		}
		frame := h.b.req[r.start:r.end]
		switch {
		case r.kind == session_:
			h.b.shaking = true
		case r.kind == local:
			h.answerLocal(r)
			if h.err != nil {
				return h.err
			}
			h.b.skip()
			continue
		case r.pin != command.PinMaint:
			return nil
		}
		if h.flight != nil {
			return nil // leading already
		}
		to, reply, wait := h.node.memory.ask(h.session, frame)
		switch {
		case reply != nil:
			h.b.out = append(h.b.out, reply...)
			h.b.skip()
			if to != nil {
				h.enterLocked(to)
			}
			h.signal()
		case wait != nil:
			if err := h.awaitFlightLocked(wait); err != nil {
				return err
			}
		default:
			h.flight = &flight{h.session, bytes.Clone(frame)}
			return nil
		}
	}
	return nil
}

// answerLocal answers QUIT and RESET. After RESET the handle is as new, and the
// connection that it has kept is closed.
func (h *handle) answerLocal(r *run) {
	if r.pin == command.PinReset {
		h.enterLocked(h.node.memory.root)
		h.b.out = append(h.b.out, "+RESET\r\n"...)
		if c := h.lease; c != nil {
			c.Fail(pooler.CloseState, errors.New("everpool: RESET"))
			h.lease, h.pin, h.firm, h.noted = nil, "", false, false
			h.inMulti, h.watching, h.asking = false, false, false
			h.putLocked(c, pooler.Answered)
		}
	} else {
		h.b.out = append(h.b.out, "+OK\r\n"...)
	}
	h.signal()
}

// awaitFlightLocked waits for somebody else's handshake, by the write deadline.
func (h *handle) awaitFlightLocked(done <-chan struct{}) error {
	err := h.awaitLocked(done, h.writeBy)
	if err != nil && h.err == nil {
		return &pooler.Error{Err: pooler.ErrWaitTimeout, Node: h.node.key.addr}
	}
	return err
}

// leadLocked makes this handle's attempt the one that others wait for, if there
// is none yet.
func (h *handle) leadLocked(frame []byte) {
	if h.node.memory.begin(h.session, frame) {
		h.flight = &flight{h.session, bytes.Clone(frame)}
	}
}
