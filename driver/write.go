package driver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/redis/go-redis/v9"

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

// errQuit: what comes after a QUIT would run in the state that its connection was in.
var errQuit = errors.New("everpool: QUIT")

// errStale: go-redis leaves a refused transaction after its first reply.
var errStale = errors.New("everpool: an earlier caller left replies unread")

// Write takes a request, or several, or part of one. It returns when they are
// sent or answered from memory, or when sending needs the rest of a command. It
// blocks while there is no connection for it, until the write deadline or the
// pool's WaitTimeout. A transaction or pipeline that can't be sent by then, and a
// subscription that can't be made, are accepted all the same: Read gets over it, or
// tells.
func (h *handle) Write(p []byte) (int, error) {
	h.writing.Lock()
	defer h.writing.Unlock()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.err != nil {
		h.reviveLocked()
	}
	switch {
	case h.err != nil:
		return h.toldByReadLocked(p, h.err)
	case h.lease != nil && h.lease.Mode() == pooler.Stream:
		return h.stream(p)
	case h.b.idle() && h.spentLocked() != nil:
		// Where go-redis didn't look. Read tells, for the reason below.
		_ = h.fail(&lostError{h.node.key.addr, h.spentLocked()}, pooler.Answered)
		return len(p), nil
	case h.b.idle():
		h.b.begin(&h.node.buffers)
		h.batches++
	case h.stale:
		// Read tells: of a transaction go-redis would keep what Write does.
		_ = h.fail(&lostError{h.node.key.addr, errStale}, pooler.Abandoned)
		return len(p), nil
	}
	for rest := p; len(rest) > 0; {
		n, err := h.gather(rest)
		if err == nil && !h.held.any() {
			err = h.flush()
		}
		if err != nil {
			if err = h.unsent(err); err != nil || h.err != nil {
				return h.toldByReadLocked(p, err)
			}
		}
		rest = rest[n:]
	}
	if done := h.settle(&h.sending); done != nil { // all was read before the sending was over
		h.put(done, pooler.Answered)
	}
	return len(p), nil
}

// reviveLocked makes a handle that has ended one for further requests: go-redis asks none
// before its next use that a Conn keeps, or a client with a cache, and none on Windows.
func (h *handle) reviveLocked() {
	if h.closed || h.b.shaking || h.sending || h.receiving || h.lease != nil || h.ride.under || h.carried.keeps() {
		return
	}
	if !h.bornAwayLocked() && (h.held.any() || !isKeptAfter(h.err)) { // what is held hasn't been told
		return
	}
	h.err = nil
	h.b.scan.Reset()
	h.b.begin(&h.node.buffers)
}

// bornAwayLocked reports whether the handle was dialed in an outage, for a caller that
// then had left, and the node is back.
func (h *handle) bornAwayLocked() bool {
	return isInHandshake(h.err) && h.node.pool.Serves()
}

// isKeptAfter reports whether go-redis keeps a handle after the error: the word of a
// server, as LOADING.
func isKeptAfter(err error) bool {
	_, kept := errors.AsType[redis.Error](err)
	return kept
}

// toldByReadLocked is what Write returns of the error of a handle that has ended. A
// subscription is accepted: go-redis records a channel after it has written the
// command, and on an error connects anew before that, without the channel. So is what
// goes on another time, since go-redis's buffer keeps for ever what a Write has failed with.
func (h *handle) toldByReadLocked(p []byte, err error) (int, error) {
	switch {
	case h.closed:
		return 0, err
	case h.subscribesLocked():
		return len(p), nil
	case isKeptAfter(err):
		h.held.holding = toBeSent
		return len(p), nil
	}
	return 0, err
}

// subscribesLocked reports whether the handle is a subscription's, or is about to be.
func (h *handle) subscribesLocked() bool {
	return h.carried.pin == command.PinPubSub || h.b.any(subscribes)
}

func subscribes(r run) bool { return r.pin == command.PinPubSub }

func beginsTransaction(r run) bool { return r.kind == multi }

// stream passes p on, on a connection whose replies aren't counted.
func (h *handle) stream(p []byte) (int, error) {
	_, err := h.sendOn(h.lease, p)
	if err == nil {
		return len(p), nil
	}
	if h.err == nil {
		if errors.Is(err, os.ErrDeadlineExceeded) {
			err = h.deadlineError("write")
		}
		err = h.fail(err, pooler.Failed)
	}
	return h.toldByReadLocked(p, err)
}

// unsent settles what becomes of a batch that Write could not send, or not all of.
// It returns nil if that is Read's business.
func (h *handle) unsent(err error) error {
	if h.err != nil {
		return h.err // told already
	}
	if errors.Is(err, pooler.ErrWouldWait) {
		h.holdLocked(toAskFor)
		return nil
	}
	l := h.lossLocked(causeOf(err), h.b.flushed)
	l.write, l.free = true, false
	if l.sticks && h.b.streamed {
		l.cause = died // its beginning is gone
	}
	f := l.decide(h.retry())
	var bad *requestError
	switch {
	case f == redirect:
		h.redirect()
		return nil
	case f == holdBack:
		h.holdLocked(toBeSent)
		return nil
	case f != tellUnknown && errors.As(err, &bad):
		return h.fail(bad, pooler.Failed)
	}
	return h.tell(f, l, err)
}

// gather takes bytes of p into the batch, finds the commands in them, and
// returns how many it has taken. It takes all of p but where a large argument
// streams through.
func (h *handle) gather(p []byte) (int, error) {
	b := &h.b
	if b.partial && b.sent == len(b.req) {
		if body := b.scan.BodyRemaining(); body > 0 {
			n := int(min(body, int64(len(p))))
			if err := h.sendPiece(p[:n]); err != nil {
				return 0, err
			}
			b.scan.Skip(int64(n))
			return n, nil
		}
	}
	p = p[:min(len(p), gatherAtOnce)]
	b.take(p, &h.node.buffers)
	var known lookalikes
	l := &known[0]
	for {
		n, err := b.next(&known)
		if err != nil {
			return 0, h.malformedLocked(err)
		}
		if n == 0 {
			return len(p), nil
		}
		if l.facts.Info == nil && l.facts.Pin == command.PinUnknown && b.scan.Seen() > 0 {
			l.facts = h.clear(l.facts, b.req[b.scanned:])
		}
		if l.facts.Pin == command.PinClientID && calledBy(initConn) {
			l.facts.Class, l.facts.Pin = command.Exclusive, command.PinNone
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

// flush sends what is due.
func (h *handle) flush() error {
	complete, part := h.b.due()
	if complete {
		if err := h.send(); err != nil {
			return err
		}
	}
	if part {
		return h.sendPart()
	}
	return nil
}

// send sends the planned commands: those of the handshake that are remembered are
// answered at once, the rest goes to a connection.
func (h *handle) send() error {
	if h.b.redirected {
		h.redirect()
		return nil
	}
	share := h.node.shares && h.lease == nil && !h.keepsLocked() && h.b.shareable() && (h.ride.under || !h.b.bulky())
	if h.ride.under && !share {
		if err := h.alight(); err != nil {
			return err
		}
	}
	if err := h.answer(); err != nil || len(h.b.plan) == 0 {
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
		if l.decide(h.retry()) != move {
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
			if login := h.bound.client.login; login != nil && login.token != "" && f.Slots&command.SlotAuth != 0 {
				return &requestError{fmt.Errorf("%s with more than %d bytes, where a credentials provider has the password", f.Info.Name, gatherUpTo)}
			}
			// Too large to be remembered.
			f = command.Facts{Info: f.Info, Class: command.Pinning, Pin: command.PinSession, Effect: f.Effect}
		}
		r := newRun(&f, b.scanned, len(b.req))
		if err := h.acquire(h.requestLocked([]run{r})); err != nil {
			return err
		}
		b.begun, b.partial, b.streamed, b.all = f, true, true, false
	}
	if err := h.sendPiece(part); err != nil {
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
	x.Follows, x.Leaves = h.ride.under, true
	if shared, err := h.submit(b.plan, &x); !shared || err != nil {
		return shared, err
	}
	b.owe()
	b.flushed, h.ride.under = true, true
	b.sent = len(b.req)
	if !b.all {
		b.req, b.sent, b.scanned = b.req[:0], 0, 0
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
			h.err = closedError(h.node.key.network) // nothing was sent
			return true, h.err
		case h.err != nil:
			return true, h.err
		case errors.Is(err, pooler.ErrLarge):
			h.b.large = true
			return false, nil
		case errors.Is(err, pooler.ErrLost) && !x.Follows,
			errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, net.ErrClosed):
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
func (h *handle) mayBeElsewhere() bool { return h.bound.places != nil && !h.node.pool.Answers() }

// findShared gets the shared connections of the handle's session.
func (h *handle) findShared(runs []run) (bool, error) {
	req := h.requestLocked(runs)
	req.Rider = h.ride.Rider
	s, err := obtain(h, req, h.node.pool.Share)
	if err != nil {
		return true, err
	}
	h.ride.shared, h.ride.in = s, h.shake.in
	return s != nil, nil
}

// arriveLocked ends the batch: all replies of shared connections were received.
func (h *handle) arriveLocked() {
	h.ride.under, h.b.answered = false, len(h.b.owed)
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
	req := pooler.Request{Session: h.shake.in.pool, Deadline: h.writeByLocked(), WaitTimeout: h.bound.wait, Name: runs[0].name()}
	switch p := h.bound.places; {
	case p == nil && h.bound.waits:
		req.Place = pooler.Place{Places: inDial{}, Slot: -1}
	case p != nil:
		if h.readsLocked(runs) {
			p = reading{h.bound.topology}
		}
		req.Place = pooler.Place{Places: p, Slot: h.b.slotOf(runs)}
		if req.Place.Slot < 0 && runs[0].ofMembers() {
			req.Place.Slot = anyMember
		}
	}
	if h.b.large {
		req.Rider = h.ride.Rider
	}
	wrote := false
	for i := range runs {
		r := &runs[i]
		req.Blocking = req.Blocking || r.blocking
		req.Stream = req.Stream || r.mode() == pooler.Stream
		wrote = wrote || r.effect != command.Read
		if r.afterWrite && !wrote {
			req.Want = h.wrote.on
		}
		if subscribes(*r) && !h.node.pool.Serves() {
			req.Deadline = earlier(req.Deadline, time.Now().Add(pubSubWait))
		}
	}
	req.NoWait = !req.Stream && req.Want == nil && h.mayHoldLocked()
	return req
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
			return errKeptGone
		}
		return nil
	}
	if req.Want != nil && h.wrote.in != h.shake.in {
		return &pooler.Error{Err: pooler.ErrConnGone, Node: h.node.key.addr}
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
	return h.keep(obtain(h, req, h.node.pool.Get))
}

// replace gives the lease back and gets another one for the batch.
func (h *handle) replace(req pooler.Request, why pooler.Again) (err error) {
	c := h.lease
	h.lease = nil
	h.lease, err = h.keep(obtain(h, req, func(ctx context.Context, req pooler.Request) (*pooler.Conn, error) {
		if c == nil { // it has gone back
			return h.node.pool.Get(ctx, req)
		}
		back := c
		c = nil
		return h.node.pool.Replace(ctx, back, req, why)
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

// obtain asks the pool for something on the handle's behalf. If the node goes away
// meanwhile it is awaited, unless go-redis had better bring the request again.
func obtain[T any](h *handle, req pooler.Request, get func(context.Context, pooler.Request) (T, error)) (T, error) {
	if s, ok := h.bound.places.(sentinels); ok {
		return obtainOfSentinel(h, s, req, get)
	}
	for {
		got, err := obtainOnce(h, req, get)
		if err == nil || h.err != nil {
			return got, err
		}
		if req.Deadline, err = h.afterRefusal(req, err); err != nil {
			return got, err
		}
	}
}

// afterRefusal returns the deadline of another try, at once or after the node was
// awaited, or why there is none.
func (h *handle) afterRefusal(req pooler.Request, err error) (time.Time, error) {
	e, ok := errors.AsType[*pooler.Error](err)
	_, dials := req.Place.Places.(inDial)
	switch {
	case ok && errors.Is(e, pooler.ErrWaitTimeout) && h.waitsAgain():
		return h.waitAgain(req.Deadline, e)
	case !ok || !dials || !errors.Is(e, pooler.ErrElsewhere):
		return req.Deadline, err
	case h.b.any(subscribes): // go-redis dials for it, where it waits, whatever it is told
		e.Err = pooler.ErrNodeDown
		return req.Deadline, e
	case h.goesToDial():
		by, still := h.awaitNode(req.Deadline, dialGrace)
		if errors.Is(still, pooler.ErrNodeDown) && h.err == nil {
			return req.Deadline, err
		}
		return by, still
	case req.NoWait:
		return req.Deadline, pooler.ErrWouldWait
	}
	return h.awaitNode(req.Deadline, h.bound.driver.cfg.Pool.Limits().WaitTimeout)
}

// obtainOfSentinel asks the pool of a sentinel: every sentinelWait anew, until the request
// has a connection, its time is over, or another sentinel may answer it.
func obtainOfSentinel[T any](h *handle, s sentinels, req pooler.Request, get func(context.Context, pooler.Request) (T, error)) (got T, err error) {
	addr, deadline := h.node.key.addr, req.Deadline
	s.driver.ailing.await(addr)
	defer s.driver.ailing.awaited(addr)
	for {
		began := time.Now()
		req.Deadline = earlier(deadline, s.by(addr))
		got, err = obtainOnce(h, req, get)
		if !errors.Is(err, pooler.ErrWaitTimeout) || time.Since(began) < sentinelWait {
			return got, err
		}
		if req.Deadline.Equal(deadline) || s.anyOther(addr, s.driver.ailing.mayAnswer) {
			s.unreached(addr)
			return got, err
		}
	}
}

// obtainOnce asks the pool once.
func obtainOnce[T any](h *handle, req pooler.Request, get func(context.Context, pooler.Request) (T, error)) (got T, err error) {
	if len(h.bound.courses.list()) > 0 {
		h.waited = 0
		req.Waited = &h.waited
	}
	h.outside(func() { got, err = get(&h.caller, req) })
	if req.Waited != nil {
		h.b.waited += h.waited
	}
	if h.err != nil {
		err = h.err
	}
	return got, err
}
