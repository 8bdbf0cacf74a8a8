package handle

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"time"

	"github.com/everpool/everpool/internal/callers"
	"github.com/everpool/everpool/internal/command"
	"github.com/everpool/everpool/pooler"
)

// send sends the planned commands: those of the handshake that are remembered are
// answered at once, the rest goes to a connection.
func (h *handle) send() error {
	if h.b.redirected {
		h.redirect()
		return nil
	}
	share := h.node.Shares && h.lease == nil && !h.keepsLocked() && h.b.shareable() && (h.ride.under || !h.b.bulky()) && !h.client.mayAsk(h.b.plan)
	if h.ride.under && !share {
		if err := h.alight(); err != nil {
			return err
		}
	}
	if err := h.answer(); err != nil || len(h.b.plan) == 0 {
		return err
	}
	if err := h.unserved(); err != nil {
		return err
	}
	before := h.b.effect
	if share {
		if shared, err := h.share(); shared || err != nil {
			if err != nil {
				h.b.effect = before
			}
			return err
		}
	}
	if err := h.fillIn(); err != nil {
		return err
	}
	none := int(h.b.plan[0].first) - h.b.sent
	replies, mode, pin := h.b.prepare(h.keepsLocked())
	if err := h.acquire(h.requestLocked(h.b.plan)); err != nil {
		h.b.effect = before
		return err
	}
	if err := h.expect(mode, pin); err != nil {
		return err
	}
	h.b.owe()
	h.lease.Owe(replies)
	n, err := h.transmit(none, replies)
	if err != nil && n < none {
		h.b.effect = before
	}
	return err
}

// expect readies the lease for what the planned commands make of it. It fails if the
// handle has ended meanwhile.
func (h *handle) expect(mode pooler.Mode, pin command.Pin) error {
	if mode > h.lease.Mode() {
		h.lease.SetMode(mode)
	}
	if pin == command.PinNone {
		return nil
	}
	h.carried.hold(pin)
	h.tellPin(&h.sending)
	return h.err
}

// transmit sends all commands that are owed replies and weren't sent, which will have
// so many, on the lease, and returns how many bytes it has sent. none is how many of
// them can be sent without the server having anything to run. If nothing was run, the
// commands are planned again.
func (h *handle) transmit(none, replies int) (int, error) {
	end := int(h.b.owed[len(h.b.owed)-1].end)
	for {
		c := h.lease
		n, err := h.sendOn(c, h.b.req[h.b.sent:end])
		if err == nil {
			h.b.flushed, h.b.cut = true, false
			h.b.trim(end)
			return n, nil
		}
		if h.err != nil {
			return n, h.err
		}
		ran := h.b.flushed || n >= none
		l := h.lossLocked(causeOf(err), ran)
		l.free = !h.b.streamed && !h.keepsLocked() && !h.receiving && h.b.moves < maxMoves
		if l.decide(h.client.Retry) != move {
			return n, h.notSent(c, replies, ran, err)
		}
		h.b.moves++
		if err := h.replace(h.requestLocked(h.b.owed), pooler.Move); err != nil {
			return n, h.notSent(nil, replies, false, err)
		}
		h.lease.Owe(replies)
	}
}

// notSent notes that a piece of the batch was not sent on c, or not to its end. If
// none of it has run, its commands are as before.
func (h *handle) notSent(c *pooler.Conn, replies int, ran bool, err error) error {
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
		h.put(c, pooler.Failed)
	}
	return err
}

// sendPart begins to send a command of which more is to come.
func (h *handle) sendPart() error {
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
			if login := h.client.Login; login != nil && login.Token != "" && f.Slots&command.SlotAuth != 0 {
				return &requestError{fmt.Errorf("%s with more than %d bytes, where a credentials provider has the password", f.Info.Name, gatherUpTo)}
			}
			// Too large to be remembered.
			f = command.Facts{Info: f.Info, Class: command.Pinning, Pin: command.PinSession, Effect: f.Effect}
		}
		r := newRun(&f, b.scanned, len(b.req))
		if err := h.acquire(h.requestLocked([]run{r})); err != nil {
			return err
		}
		b.begun, b.partial, b.cut, b.streamed, b.all = f, true, true, true, false
	}
	if err := h.sendPiece(part); err != nil {
		return err
	}
	b.scan.Discard(len(part))
	b.req = b.req[:b.sent]
	b.scanned = len(b.req)
	if !b.unanswered() {
		b.clear()
	}
	return nil
}

// sendPiece sends part of a command. If the connection is lost, or the time is over,
// in the middle of it, the server can't run it: what it has run is what came before.
func (h *handle) sendPiece(part []byte) error {
	c := h.lease
	_, err := h.sendOn(c, part)
	if err == nil || h.err != nil {
		return err
	}
	c.Fail(pooler.CloseWrite, err)
	h.b.partial = false
	return err
}

// share sends the planned commands on a shared connection. It reports false if there
// is no sharing here.
func (h *handle) share() (bool, error) {
	b := &h.b
	for i := range b.plan {
		b.effect = max(b.effect, b.plan[i].effect)
	}
	b.all = b.untouched()
	x := b.exchange(b.plan, b.sent)
	if t := h.client.Topology; t != nil {
		x.Spread = t.Spread()
	}
	x.Follows, x.Leaves, x.NoWait = h.ride.under, true, h.mayHoldLocked()
	if shared, err := h.submit(b.plan, &x); !shared || err != nil {
		return shared, err
	}
	b.owe()
	b.flushed, h.ride.under = true, true
	b.sent = len(b.req)
	if !b.all {
		b.clear()
	}
	if b.got && !h.receiving && h.ride.Idle() {
		h.arriveLocked() // a Read has had the replies before the sending was over
	}
	return true, nil
}

// submit finds a shared connection and submits the exchange of the commands. It
// reports false if there is none, or they had better lease a connection.
func (h *handle) submit(runs []run, x *pooler.Exchange) (bool, error) {
	h.b.large = false
	for {
		if h.ride.shared == nil || h.ride.in != h.shake.in || !x.Follows && h.mayBeElsewhere() {
			if shared, err := h.findShared(runs); !shared || err != nil {
				return shared, err
			}
		}
		sent, err := h.board(x)
		switch {
		case err == nil:
			return true, nil
		case h.closed && !sent && !h.b.flushed:
			h.err = closedError(h.node.Network) // nothing was sent
			return true, h.err
		case h.err != nil:
			return true, h.err
		case errors.Is(err, pooler.ErrLarge):
			h.b.large = true
			return false, nil
		case errors.Is(err, pooler.ErrLost) && !x.Follows, errors.Is(err, pooler.ErrWouldWait),
			errors.Is(err, pooler.ErrWaitTimeout), errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, net.ErrClosed):
			return true, err
		case x.Follows:
			// What went before is there, and its replies come first.
			if err := h.alight(); err != nil {
				return true, err
			}
			x.Follows = false
		}
		h.ride.shared = nil
	}
}

// mayBeElsewhere reports whether the pool is to be asked anew where the handle's requests
// are served, although the handle knows its shared connections: the node is ill.
func (h *handle) mayBeElsewhere() bool { return h.client.Places != nil && !h.node.Pool.Answers() }

// findShared gets the shared connections of the handle's session.
func (h *handle) findShared(runs []run) (bool, error) {
	s, err := obtain(h, h.requestLocked(runs), h.node.Pool.Share)
	if err != nil {
		return true, err
	}
	h.ride.shared, h.ride.in = s, h.shake.in
	return s != nil, nil
}

// arriveLocked ends the batch: all replies of shared connections were received.
func (h *handle) arriveLocked() {
	h.ride.under = false
	h.b.allAnswered()
	h.wroteLocked(h.ride.Conn)
}

// alight waits until all replies that the handle is owed by a shared connection are
// here, so that what follows can go on a connection of its own without its replies
// overtaking them.
func (h *handle) alight() error {
	var buf [4 << 10]byte
	for h.ride.under {
		if h.receiving {
			if err := h.waitAt(&h.received, h.writeByLocked()); err != nil {
				return err
			}
			continue
		}
		n, err := h.receive(&h.ride, buf[:], h.writeByLocked())
		if err != nil {
			return err
		}
		h.b.out = append(h.b.out, buf[:n]...)
		h.toRead.open()
	}
	return nil
}

// requestLocked says what a lease for the commands is for. One that asks about
// an earlier write needs the connection of that write, unless the write is among
// the commands themselves.
func (h *handle) requestLocked(runs []run) pooler.Request {
	req := pooler.Request{Session: h.shake.in.Pool, WaitTimeout: h.client.Wait, Name: runs[0].name(), Rider: h.ride.Rider}
	req.Deadline, req.Final = h.waitByLocked()
	switch p := h.client.Places; {
	case h.client.WaitsInDial && h.client.Topology == nil:
		req.Place = pooler.Place{Places: (*inDial)(h.client), Slot: -1}
	case p != nil:
		if h.readsLocked(runs) {
			p = h.client.Topology.Reading()
		}
		req.Place = pooler.Place{Places: p, Slot: h.b.slotOf(runs)}
		if req.Place.Slot < 0 {
			req.Place.Slot = h.b.slotOfRest()
		}
		if req.Place.Slot < 0 {
			req.Place.Slot = h.placeWithoutKey(runs)
		}
	}
	if asksEarlier(runs) {
		req.Want = h.wrote.on
		h.client.asks()
	}
	for i := range runs {
		r := &runs[i]
		req.Blocking = req.Blocking || r.blocking
		req.Stream = req.Stream || r.mode() == pooler.Stream
		if subscribes(*r) && !h.node.Pool.Serves() {
			req.Deadline = earlier(req.Deadline, time.Now().Add(PubSubWait()))
		}
	}
	req.NoWait = !req.Stream && req.Want == nil && h.mayHoldLocked()
	return req
}

// placeWithoutKey is the slot of commands without a key.
func (h *handle) placeWithoutKey(runs []run) int {
	switch asks := runs[0].ofMembers(); {
	case slices.ContainsFunc(runs, subscribes), asks && callers.Include(callers.CommandInfo),
		h.b.shaking && callers.Include(callers.PubSubConn) && !(h.client.Topology != nil && h.client.Topology.Forlorn()):
		return Unawaited
	case asks:
		return AnyMember
	}
	return -1
}

// earlier returns the deadline that comes first; the zero one never does.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// acquire sees to it that the handle has a lease that can carry a request. One that
// it has kept may have been closed meanwhile.
func (h *handle) acquire(req pooler.Request) error {
	if c := h.lease; c != nil {
		if !c.Unpark() || !h.b.unanswered() && !h.receiving && !c.Ready() {
			return errKeptGone // also in the middle of a large command
		}
		return nil
	}
	if req.Want != nil && h.wrote.in != h.shake.in {
		return &pooler.Error{Err: pooler.ErrConnGone, Node: h.node.Addr}
	}
	c, err := h.get(req)
	if err != nil {
		return err
	}
	h.lease = c
	return nil
}

// get leases a connection. If the handle has ended meanwhile it goes back.
func (h *handle) get(req pooler.Request) (*pooler.Conn, error) {
	return h.keep(obtain(h, req, h.node.Pool.Get))
}

// replace gives the lease back and gets another one for the batch.
func (h *handle) replace(req pooler.Request, why pooler.Again) (err error) {
	c := h.lease
	h.lease = nil
	h.lease, err = h.keep(obtain(h, req, func(ctx context.Context, req pooler.Request) (*pooler.Conn, error) {
		if c == nil { // it has gone back
			return h.node.Pool.Get(ctx, req)
		}
		back := c
		c = nil
		return h.node.Pool.Replace(ctx, back, req, why)
	}))
	return err
}

// keep gives back a connection that has come for a handle that has ended.
func (h *handle) keep(c *pooler.Conn, err error) (*pooler.Conn, error) {
	if c != nil && h.err != nil {
		h.put(c, pooler.Abandoned)
		return nil, h.err
	}
	return c, err
}
