package driver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/everpool/everpool/internal/command"
	"github.com/everpool/everpool/pooler"
)

// gatherLocked takes bytes of p into the batch, finds the commands in them, and
// returns how many it has taken. It takes all of p but where a large argument
// streams through.
func (h *handle) gatherLocked(p []byte) (int, error) {
	if h.partial && h.sent == len(h.req) {
		if body := h.scan.BodyRemaining(); body > 0 {
			n := int(min(body, int64(len(p))))
			if err := h.passLocked(p[:n]); err != nil {
				return 0, err
			}
			h.scan.Skip(int64(n))
			return n, nil
		}
	}
	p = p[:min(len(p), gatherAtOnce)]
	h.growLocked(len(p))
	h.req = append(h.req, p...)
	var f command.Facts
	var like []byte // f is true for whatever begins like this
	for h.scanned < len(h.req) {
		buf := h.req[h.scanned:]
		n, done, err := h.scan.Next(buf)
		if err != nil {
			return 0, h.malformedLocked(err)
		}
		if !done {
			break
		}
		if h.partial {
			f, h.partial = h.partialF, false
		} else if like == nil || !bytes.HasPrefix(buf, like) {
			f, like = command.Inspect(buf, h.scan.Args(), h.scan.NumArgs()), nil
			if f.Fixed {
				like = buf[:h.scan.Arg(0).End]
			}
		}
		if f.Info == nil && f.Pin == command.PinUnknown && h.scan.Seen() > 0 {
			f = h.clearLocked(f, buf)
		}
		if last := len(h.plan) - 1; last < 0 || !h.plan[last].extend(&f, h.scanned, h.scanned+n) {
			h.plan = append(h.plan, newRun(&f, h.scanned, h.scanned+n))
		}
		h.scanned += n
	}
	return len(p), nil
}

// malformedLocked refuses what isn't a request. The server would close the
// connection for it, or not answer, so it must not get there.
func (h *handle) malformedLocked(err error) error {
	if c := h.lease; c != nil && !h.sending && !h.readingC {
		c.Fail(pooler.CloseWrite, err)
	}
	return fmt.Errorf("everpool: malformed request: %w", err)
}

// flushLocked sends what is complete, and begins to send a command that is too
// large to gather. What else is unfinished waits for its rest: it can't be
// answered before that anyway.
func (h *handle) flushLocked() error {
	unfinished := len(h.req) - max(h.scanned, h.sent)
	if unfinished == 0 || h.scanned-h.sent >= gatherUpTo {
		return h.sendLocked()
	}
	if unfinished < gatherUpTo && !h.partial {
		return nil
	}
	if err := h.sendLocked(); err != nil {
		return err
	}
	return h.sendPartLocked()
}

// sendLocked sends the planned commands: those of the handshake that are
// remembered are answered at once, the rest goes to a connection.
func (h *handle) sendLocked() error {
	share := h.mayShareLocked()
	if h.riding && !share {
		if err := h.alightLocked(); err != nil {
			return err
		}
	}
	if err := h.answerLocked(); err != nil || len(h.plan) == 0 {
		return err
	}
	if share {
		if shared, err := h.shareLocked(); shared || err != nil {
			return err
		}
	}
	first, end := h.plan[0], int(h.plan[len(h.plan)-1].end)
	replies, pins := 0, false
	mode := pooler.Counted
	for i := range h.plan {
		r := &h.plan[i]
		replies += int(r.n)
		mode = max(mode, r.mode())
		h.effect = max(h.effect, r.effect)
		if r.kind == plain && !r.afterWrite {
			continue
		}
		h.resend = false
		pins = pins || r.kind == pinning
		if r.remembered() {
			r.frame = bytes.Clone(h.req[r.start:r.end])
		}
	}
	if h.keepsLocked() || h.flushed || len(h.req) > gatherUpTo {
		h.resend = false
	}
	if err := h.acquireLocked(h.requestLocked(h.plan)); err != nil {
		return err
	}
	c := h.lease
	if mode > c.Mode() {
		c.SetMode(mode)
	}
	if pins {
		if err := h.pinLocked(); err != nil {
			return err
		}
	}
	if len(h.owed) == 0 {
		h.owed, h.plan = h.plan, h.owed
	} else {
		h.owed = append(h.owed, h.plan...)
		h.plan = h.plan[:0]
	}
	c.Owe(replies)
	return h.transmitLocked(int(first.first)-h.sent, end)
}

// transmitLocked sends req[sent:end] on the lease. none is how many bytes of it
// can be sent without the server having anything to run.
func (h *handle) transmitLocked(none, end int) error {
	fresh := !h.flushed
	for moves := 0; ; moves++ {
		c := h.lease
		h.flushed = true
		owed := c.Owed()
		n, err := h.useLocked(c, h.req[h.sent:end], h.writeBy)
		if err == nil {
			h.sent = end
			h.trimLocked()
			return nil
		}
		if gone := h.usableLocked(); gone != nil {
			return gone
		}
		ran := n >= none || !fresh
		if !ran && c.Err() == nil {
			c.Owe(-owed) // not a byte went out
		}
		switch {
		case !ran && (errors.Is(err, os.ErrDeadlineExceeded) || moves >= maxMoves):
			return h.dropLocked(h.deadlineError("write"))
		case ran || h.keepsLocked() || h.readingC:
			return h.lostLocked(c, err)
		}
		if err := h.replaceLocked(c, h.requestLocked(h.owed), pooler.Move); err != nil {
			return err
		}
		h.lease.Owe(owed)
	}
}

// maxMoves bounds how often a request goes to another connection because the
// write failed.
const maxMoves = 8

// dropLocked gives the lease back unused after the request could not be sent.
func (h *handle) dropLocked(err error) error {
	h.owed, h.answered = h.owed[:0], 0
	h.endLocked(err, pooler.Failed)
	return err
}

// useLocked sends b by the deadline, without the lock, so that Read, Close and the deadlines go
// on.
func (h *handle) useLocked(c *pooler.Conn, b []byte, by time.Time) (int, error) {
	h.sending = true
	h.signal()
	h.mu.Unlock()
	n, err := c.Send(b, by)
	h.mu.Lock()
	h.sending = false
	if gone := h.usableLocked(); gone != nil {
		h.quitLocked()
		return n, gone
	}
	h.signal()
	return n, err
}

// trimLocked forgets what was sent and won't be sent again.
func (h *handle) trimLocked() {
	if h.sent == len(h.req) && h.resend {
		return
	}
	if h.resend && h.sent < len(h.req) {
		h.resend = false // more follows, so req is not all of the batch
	}
	n := copy(h.req, h.req[h.sent:])
	h.req = h.req[:n]
	h.scanned -= h.sent
	h.sent = 0
	if n == 0 {
		h.shrinkLocked()
	}
}

// sendPartLocked begins to send a command of which more is to come.
func (h *handle) sendPartLocked() error {
	part := h.req[h.sent:]
	if len(part) == 0 {
		return nil
	}
	h.resend = false
	if !h.partial {
		h.partialF = command.Inspect(h.req[h.scanned:], h.scan.Args(), h.scan.NumArgs())
		if h.partialF.Class == command.Local || h.partialF.Pin == command.PinReset {
			return fmt.Errorf("everpool: %s with arguments of more than %d bytes", h.partialF.Info.Name, gatherUpTo)
		}
		if h.partialF.Class == command.Session {
			// Too large to be remembered.
			h.partialF = command.Facts{Info: h.partialF.Info, Class: command.Pinning, Pin: command.PinSession, Effect: h.partialF.Effect}
		}
		h.effect = max(h.effect, h.partialF.Effect)
		r := newRun(&h.partialF, h.scanned, len(h.req))
		if err := h.acquireLocked(h.requestLocked([]run{r})); err != nil {
			return err
		}
		h.partial = true
	}
	c := h.lease
	n, err := h.useLocked(c, part, h.writeBy)
	if err != nil {
		return h.partLostLocked(c, n, err)
	}
	h.flushed = true
	h.scan.Discard(len(part))
	h.req = h.req[:h.sent]
	h.scanned = len(h.req)
	if h.answered == len(h.owed) {
		h.req, h.sent, h.scanned = h.req[:0], 0, 0
	}
	return nil
}

// passLocked sends part of a large argument straight from the caller's memory.
func (h *handle) passLocked(p []byte) error {
	c := h.lease
	n, err := h.useLocked(c, p, h.writeBy)
	if err != nil {
		return h.partLostLocked(c, n, err)
	}
	return nil
}

// partLostLocked: the connection was lost, or its time has passed, in the middle
// of a command. The server can't run half of a command, so if it was the first
// of its batch nothing has happened.
func (h *handle) partLostLocked(c *pooler.Conn, n int, err error) error {
	if gone := h.usableLocked(); gone != nil {
		return gone
	}
	late := errors.Is(err, os.ErrDeadlineExceeded)
	c.Fail(pooler.CloseWrite, err)
	h.partial = false
	if len(h.owed) == 0 {
		h.effect = command.Read
	}
	if late && h.effect == command.Read {
		return h.dropLocked(h.deadlineError("write"))
	}
	return h.lostLocked(c, err)
}

// streamLocked passes p on, on a connection whose replies aren't counted.
func (h *handle) streamLocked(p []byte) (int, error) {
	c := h.lease
	n, err := h.useLocked(c, p, h.writeBy)
	if err == nil {
		return n, nil
	}
	if gone := h.usableLocked(); gone != nil {
		return n, gone
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = h.deadlineError("write")
	}
	h.endLocked(err, pooler.Failed)
	return n, h.failLocked(err)
}

// requestLocked says what a lease for the commands is for. One that asks about
// an earlier write needs the connection of that write, unless the write is among
// the commands themselves.
func (h *handle) requestLocked(runs []run) pooler.Request {
	req := pooler.Request{Session: h.session.pool, Deadline: h.writeBy, Name: runs[0].name()}
	wrote := false
	for i := range runs {
		r := &runs[i]
		req.Blocking = req.Blocking || r.blocking
		wrote = wrote || r.effect != command.Read
		if r.afterWrite && !wrote {
			req.Want = h.lastWrite
		}
	}
	return req
}

// acquireLocked sees to it that the handle has a lease.
func (h *handle) acquireLocked(req pooler.Request) error {
	if h.lease != nil {
		return nil
	}
	if req.Want != nil && h.wroteIn != h.session {
		return h.refusedLocked(&pooler.Error{Err: pooler.ErrConnGone, Node: h.node.key.addr})
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
	if err != nil || h.closed { // a lease has gone back then
		err = h.refusedLocked(err)
	}
	return got, err
}

func (h *handle) getLocked(req pooler.Request) (*pooler.Conn, error) {
	return h.leaseLocked(func(ctx context.Context) (*pooler.Conn, error) { return h.node.pool.Get(ctx, req) })
}

// leaseLocked waits for a connection without the lock. If the handle was closed
// meanwhile the connection goes back.
func (h *handle) leaseLocked(get func(context.Context) (*pooler.Conn, error)) (*pooler.Conn, error) {
	c, err := h.unlocked(get)
	if err == nil && h.closed {
		h.putLocked(c, pooler.Abandoned)
		err = closedError(h.node.key.network)
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
		return h.refusedLocked(err)
	}
	h.lease = next
	return nil
}

// refusedLocked is the error of a request for which there is no connection.
func (h *handle) refusedLocked(err error) error {
	h.owed, h.answered = h.owed[:0], 0
	if h.closed {
		return closedError(h.node.key.network)
	}
	return adapt(err)
}

// renewLocked replaces a session that the server refuses by the same one with
// the credentials that the client's provider gives now. It fails if they are
// the ones that were refused.
func (h *handle) renewLocked() error {
	lost := adapt(&pooler.Error{Err: pooler.ErrSessionLost, Node: h.node.key.addr})
	if h.bound.creds == nil {
		return lost
	}
	username, password, err := h.credentials()
	if err != nil || h.closed {
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

// pinLocked notes the commands of the plan that pin. It fails if the handle was
// closed meanwhile.
func (h *handle) pinLocked() error {
	for i := range h.plan {
		r := &h.plan[i]
		if r.kind == pinning && h.pin == "" {
			h.pin = r.pin.String()
			h.sending = true // the lease stays until this is over
			h.notePinLocked(h.pin)
			h.sending = false
			if gone := h.usableLocked(); gone != nil {
				h.quitLocked()
				return gone
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
	for len(h.plan) > 0 && h.answered == len(h.owed) {
		r := h.plan[0]
		if h.lease != nil && (r.kind != local || h.readingC) {
			return nil
		}
		frame := h.req[r.start:r.end]
		switch {
		case r.kind == session_:
			h.shaking = true
		case r.kind == local:
			h.answerLocal(&r)
			if gone := h.usableLocked(); gone != nil {
				return gone
			}
			h.skipLocked(r)
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
			h.out = append(h.out, reply...)
			h.skipLocked(r)
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

// skipLocked takes the answered first command out of the plan and the request.
func (h *handle) skipLocked(r run) {
	h.plan = slices.Delete(h.plan, 0, 1)
	h.sent = int(r.end)
	h.resend = false
	if len(h.plan) == 0 && h.sent == len(h.req) {
		h.req, h.sent, h.scanned = h.req[:0], 0, 0
	}
}

// answerLocal answers QUIT and RESET. After RESET the handle is as new, and the
// connection that it has kept is closed.
func (h *handle) answerLocal(r *run) {
	if r.pin == command.PinReset {
		h.enterLocked(h.node.memory.root)
		h.out = append(h.out, "+RESET\r\n"...)
		if c := h.lease; c != nil {
			c.Fail(pooler.CloseState, errors.New("everpool: RESET"))
			h.lease, h.pin, h.firm, h.noted = nil, "", false, false
			h.inMulti, h.watching, h.asking = false, false, false
			h.putLocked(c, pooler.Answered)
		}
	} else {
		h.out = append(h.out, "+OK\r\n"...)
	}
	h.signal()
}

// awaitFlightLocked waits for somebody else's handshake, by the write deadline.
func (h *handle) awaitFlightLocked(done <-chan struct{}) error {
	err := h.awaitLocked(done, h.writeBy)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return adapt(&pooler.Error{Err: pooler.ErrWaitTimeout, Node: h.node.key.addr})
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
