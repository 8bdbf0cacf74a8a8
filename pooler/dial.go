package pooler

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"math"
	"net"
	"os"
	"sync/atomic"
	"time"
)

// dials are those under way, and what bounds them. Guarded by Pool.mu.
type dials struct {
	running int
	asking  int         // of those: they wait for credentials
	ramp    int         // so many may run at a time
	heard   atomic.Bool // a byte has come from the node
}

// growLocked opens connections for those who wait without one being opened for
// them, as far as the bounds allow. While the node is not up that is the
// prober's work alone.
func (p *Pool) growLocked() {
	for !p.closed && p.health.state == StateUp && p.dials.running-p.dials.asking < p.rampLocked() {
		if p.fullLocked() && p.conns.idle == 0 && p.conns.pinned == 0 {
			return // the usual case under load, and no use in looking further
		}
		l := p.neediestLocked()
		if l == nil {
			return
		}
		if c := p.freshLocked(l); c != nil {
			l.begin()
			p.wg.Go(func() { p.raise(l, c) })
			continue
		}
		if !p.makeRoomLocked(l, l.first()) {
			return
		}
		p.beginDialLocked(l)
		p.wg.Go(func() { p.dial(l) })
	}
}

// rampLocked is how many dials may run at a time. Abandoned requests say that
// the server is slow or gone: until their replies are in, new connections are
// tried one by one, and none while it says on those that it isn't ready.
func (p *Pool) rampLocked() int {
	switch {
	case p.conns.drains == 0:
		return min(p.dials.ramp, p.cfg.MaxConcurrentDials)
	case p.now() < p.health.unreadyUntil:
		return 0
	}
	return 1
}

// neediestLocked returns the lot whose uncovered waiter is served next, or, when all are
// covered, the one that MinIdleConns are missing in, or nil.
func (p *Pool) neediestLocked() *lot {
	var needy *lot
	onlyStreams := p.queue.streams > 0 && p.countedLocked() >= p.boundLocked()
	for _, l := range p.lots {
		switch {
		case l.needs() <= l.dialing, onlyStreams && l.streams == 0:
		case needy == nil, l.first().precedes(needy.first()):
			needy = l
		}
	}
	if needy == nil {
		return p.lackLocked()
	}
	return needy
}

// lackLocked returns the lot that MinIdleConns are missing in, or nil.
func (p *Pool) lackLocked() *lot {
	if p.cfg.MinIdleConns == 0 || p.use.drained || p.warm == nil || p.warm.abandoned() ||
		p.conns.idle+p.dials.running >= p.cfg.MaxIdleConns || p.now() < p.health.unreadyUntil {
		return nil
	}
	if l := p.lotLocked(p.warm); len(l.idle)+l.dialing < p.cfg.MinIdleConns && p.now() >= l.barred {
		return l
	}
	return nil
}

// workLocked notes that a session is worked in. Until one is that was entered by
// commands, it is that of fresh connections.
func (p *Pool) workLocked(s *Session) {
	if p.warm != s && (len(s.steps) > 0 || p.warm == nil) {
		p.warm, p.later.grow = s, true
	}
}

// freshLocked takes an idle connection that has no session yet for the lot, where no
// request waits for it: that one has no time for the case that it is dead.
func (p *Pool) freshLocked(l *lot) *Conn {
	if len(l.session.steps) == 0 || l.first() != nil {
		return nil
	}
	for s, o := range p.lots {
		if len(s.steps) == 0 && len(o.idle) > 0 {
			c := o.idle[0]
			p.unlistLocked(c)
			c.place = placeChecking
			return c
		}
	}
	return nil
}

// raise brings a fresh connection to the session of the lot.
func (p *Pool) raise(l *lot, c *Conn) {
	ctx, cancel := context.WithTimeout(p.ctx, p.cfg.HealthCheckTimeout)
	defer cancel()
	defer p.interruptWhenClosed(c)()
	var err error
	if c.alive() {
		var replay []byte
		if replay, err = l.session.replay(ctx); err == nil {
			err = l.session.bring(c, replay, deadlineOf(ctx))
		}
	}
	p.mu.Lock()
	defer p.unlock()
	l.dialing--
	if c.place != placeChecking {
		return // closed meanwhile
	}
	now := p.now()
	if err != nil {
		p.closeLocked(c, CloseState, err) // a new one finds out what that means
		return
	}
	if reason, err := p.judgeLocked(c, now); reason != "" {
		p.closeLocked(c, reason, err)
		return
	}
	c.place, c.idleSince = placeLeased, now
	p.placeLocked(c, now)
}

func (p *Pool) beginDialLocked(l *lot) {
	if p.dials.running == 0 && !p.servesLocked() {
		p.notWellLocked()
	}
	p.dials.running++
	l.begin()
	p.n.dials++
}

// dial opens a connection for the lot and reports what became of it.
func (p *Pool) dial(l *lot) {
	began := p.now()
	p.mu.Lock()
	r := p.raceLocked(l.session, false, began, func(c *Conn) { p.endDialLocked(l, c, nil, began) })
	ctx, cancel := context.WithTimeout(p.ctx, p.dialLimitLocked())
	p.mu.Unlock()
	defer cancel()
	c, err := p.openWithin(ctx, l.session, false)
	if r.end(c, err) {
		p.settleDial(l, c, err, began, func() {})
	}
}

// dialLimitLocked is how long a dial may take that isn't the prober's. While no connection
// serves nobody waits for longer than FailFastAfter: a dial that hangs tells by then that
// the node is away, and the prober goes on. Of the first dial those who wait for it see to
// that by themselves.
func (p *Pool) dialLimitLocked() time.Duration {
	if p.conns.lastID == 0 || p.servingLocked() > 0 {
		return p.cfg.DialTimeout
	}
	return min(p.cfg.DialTimeout, max(p.cfg.FailFastAfter, contactTime))
}

// settleDial draws the conclusions from a dial, those that its reason has for it first.
func (p *Pool) settleDial(l *lot, c *Conn, err error, began time.Duration, first func()) {
	if isUnready(err) {
		p.lookAround() // has it restarted, and the others are lost?
	}
	p.mu.Lock()
	defer p.unlock()
	first()
	p.endDialLocked(l, c, err, began)
	unready := isUnready(err) && p.health.state == StateUp && p.conns.lastID > 0
	switch {
	case err == nil, ofSession(err), p.closed:
	case unready && !p.restartedLocked():
		p.unreadyLocked(l, err, began)
	default:
		if unready && len(p.conns.all) > 0 {
			p.retireNodeLocked(p.conns.lastID) // they are told the same
		}
		p.n.dialErrors++
		p.dialFailedLocked(err, began)
	}
}

// unreadyLocked notes that the server has said on a new connection that it isn't
// ready, while none was lost. That is no outage, which would be waited for: those who have
// waited for the connection since before it was dialed are told, as others are by the replies
// to what they ask; those who have come since wait for the next one, which may be told better. But
// where a connection is about to come back they hear it on that one, from the server: a
// transaction of which go-redis has left the rest is just being read to its end.
func (p *Pool) unreadyLocked(l *lot, err error, began time.Duration) {
	p.n.dialErrors++
	p.dials.ramp = 1
	p.health.lastErr = err
	p.health.unreadyUntil = p.now() + p.cfg.BackoffMax
	if p.conns.drains == 0 {
		p.failLotLocked(l, began, &Error{Err: ErrNotReady, Node: p.node.Addr, Cause: err})
	}
}

// takeInLocked takes in a new connection, unless it isn't wanted or is dead.
func (p *Pool) takeInLocked(c *Conn, now time.Duration) {
	p.adoptLocked(c, now)
	switch {
	case p.countedLocked() > p.maxLocked(): // the bound was lowered meanwhile
		p.closeLocked(c, CloseRoom, nil)
	case !c.alive(): // who waits for it doesn't look again
		p.closeLocked(c, CloseUnasked, nil)
	default:
		p.placeLocked(c, now)
	}
}

// endDialLocked takes in a new connection, or settles what its failure means for
// the session. What it means for the node is the caller's to settle.
func (p *Pool) endDialLocked(l *lot, c *Conn, err error, began time.Duration) {
	now := p.now()
	p.dials.running--
	l.dialing--
	p.later.grow = true
	p.note(Event{Kind: EventDial, Duration: now - began, Err: err})
	switch {
	case err == nil && p.closed:
		p.later.work = append(p.later.work, func() { _ = c.nc.Close() })
	case err == nil:
		p.health.lastErr = nil
		p.dials.ramp = min(p.dials.ramp+1, max(1, p.cfg.MaxOpenConns)) // doubles when all of them succeed
		p.takeInLocked(c, now)
		p.health.lost = false // even if this one is gone again: who awaits the node waited for a dial
	case ofSession(err):
		// The node is well; it is the session that is no longer welcome, or that
		// has nothing to show just now.
		p.n.dialErrors++
		p.health.lastErr, p.health.lost = err, false
		if p.warm == l.session {
			p.warm = nil
		}
		if renew, ok := errors.AsType[renewError](err); ok {
			p.failLotLocked(l, everyone, &Error{Err: ErrCredentials, Node: p.node.Addr, Cause: renew.err})
			return
		}
		if refused, ok := errors.AsType[refusedError](err); ok && refused.step < l.session.fixed && p.servesInLocked(l.session) {
			l.barred = now + p.cfg.BackoffMax
			by := everyone
			if l.session.renews() {
				by = began // for who has come since another one is dialed, with what it has to show by now
			}
			p.failLotLocked(l, by, &Error{Err: ErrRefused, Node: p.node.Addr, Cause: err})
			return
		}
		p.loseLocked(l, err)
	}
}

// failLotLocked fails those who wait for a new connection in the session and had come by the
// given time.
func (p *Pool) failLotLocked(l *lot, by time.Duration, err error) {
	p.wakeLotLocked(l, by, err)
	l.more = false
}

// servesInLocked reports whether a connection serves in the session whoever asks.
func (p *Pool) servesInLocked(s *Session) bool {
	if len(p.lotLocked(s).idle) > 0 {
		return true
	}
	for c := range p.conns.all {
		if c.place == placeLeased && c.lease.session == s && c.lease.pin == "" && c.Mode() == Counted && c.Err() == nil {
			return true
		}
	}
	return false
}

// loseLocked declares a session dead: who waits for it is told, and its
// connections go as they come back.
func (p *Pool) loseLocked(l *lot, err error) {
	l.session.dead.Store(true)
	p.retireAllLocked(l)
	p.failLotLocked(l, everyone, &Error{Err: ErrSessionLost, Node: p.node.Addr, Cause: err})
	p.closeIdleLocked(l, CloseSessionLost, err)
}

// ofSession reports whether the failure of a dial is the session's, and says that the
// node is well.
func ofSession(err error) bool {
	_, refused := errors.AsType[refusedError](err)
	_, renew := errors.AsType[renewError](err)
	return refused || renew
}

// open dials the node and brings the connection to the session, within
// DialTimeout. With probe the server must also answer that it serves. Credentials that
// changed between the question and the server's look at them are asked for again.
func (p *Pool) open(s *Session, probe bool) (*Conn, error) {
	ctx, cancel := context.WithTimeout(p.ctx, p.cfg.DialTimeout)
	defer cancel()
	return p.openWithin(ctx, s, probe)
}

// openWithin is open within the time of ctx.
func (p *Pool) openWithin(ctx context.Context, s *Session, probe bool) (*Conn, error) {
	c, sent, err := p.openOnce(ctx, s, probe, nil)
	if _, refused := errors.AsType[refusedError](err); refused {
		if now, _ := p.replay(ctx, s); now != nil && !bytes.Equal(now, sent) {
			c, _, err = p.openOnce(ctx, s, probe, now)
		}
	}
	if err == nil && p.node.Confirm != nil && !p.Well() {
		p.node.Confirm(ctx)
	}
	return c, err
}

// openOnce dials once, and takes up the session by that replay or, if it is nil, by one
// that is made then. It returns what it has sent, too.
func (p *Pool) openOnce(ctx context.Context, s *Session, probe bool, replay []byte) (_ *Conn, sent []byte, err error) {
	nc, err := p.dialWithin(ctx)
	if err != nil {
		return nil, nil, err
	}
	c := newConn(withDeadlines(nc), s)
	c.pool = p
	defer p.interruptWhenClosed(c)()
	if !p.dials.heard.Load() {
		c.first = p.hear
	}
	if replay == nil {
		replay, err = p.replay(ctx, s)
	}
	if err == nil {
		err = s.bring(c, replay, deadlineOf(ctx))
	}
	if _, unasked := errors.AsType[renewError](err); probe && (err == nil || unasked) {
		err = cmp.Or(c.ping(deadlineOf(ctx)), err)
	}
	if err == nil && !c.tidy() {
		err = c.Err()
	}
	if err != nil {
		err = c.lastWords(err)
		_ = c.nc.Close()
		return nil, replay, err
	}
	return c, replay, nil
}

// interruptWhenClosed has what is done on a connection that nobody has yet end with the
// pool, whose Close must not wait for a peer that says nothing.
func (p *Pool) interruptWhenClosed(c *Conn) (stop func() bool) {
	return context.AfterFunc(p.ctx, func() { c.InterruptReceive(); c.InterruptSend() })
}

func deadlineOf(ctx context.Context) time.Time {
	by, _ := ctx.Deadline()
	return by
}

// replay makes what a dial sends to take up the session. While it waits for a client's
// credentials others are dialed for: it isn't the server that takes its time.
func (p *Pool) replay(ctx context.Context, s *Session) ([]byte, error) {
	if s.renews() {
		p.countAsking(1)
		defer p.countAsking(-1)
	}
	return s.replay(ctx)
}

// countAsking counts the dials that wait for credentials.
func (p *Pool) countAsking(n int) {
	p.mu.Lock()
	p.dials.asking += n
	p.later.grow = true
	p.unlock()
}

// explainTime bounds what Node.Explain may take: somebody waits for a reply.
const explainTime = time.Second

// hear notes that the node has answered (err is nil), or has the error explained that
// has come in the place of its first answer.
func (p *Pool) hear(err error) error {
	switch {
	case err == nil:
		p.dials.heard.Store(true)
		return nil
	case p.dials.heard.Load() || p.node.Explain == nil:
		return err
	}
	ctx, cancel := context.WithTimeout(p.ctx, min(explainTime, p.cfg.DialTimeout))
	defer cancel()
	return p.node.Explain(ctx, err)
}

// lastWords returns what the server has said before it hung up on a connection that has
// carried nothing yet, where the first to be written on it found that it had: a TLS
// alert, or that there are too many clients. If that is nothing it returns err.
func (c *Conn) lastWords(err error) error {
	k := c.cause.Load()
	if c.in.sawReply || k == nil || k.reason != CloseWrite || !isWordless(k.err) || !c.cause.CompareAndSwap(k, nil) {
		return err
	}
	n, told := c.read(c.in.own, time.Now().Add(lateDial))
	if n > 0 && c.in.own[0] == '-' {
		told = condition(c.in.own[:n], "")
	} else if !isMistake(told) {
		told = nil
	}
	err = cmp.Or(told, err, k.err)
	c.Fail(CloseWrite, err)
	return err
}

// mistakenLocked reports whether waiting for the node makes no sense: it has never
// answered, and the last dial says that it can't.
func (p *Pool) mistakenLocked(err error) bool {
	return !p.dials.heard.Load() && p.cfg.FailFastAfter != math.MaxInt64 && isMistake(err)
}

// dialWithin returns when ctx is done even if Node.Dial doesn't: no single
// goroutine's hang stops the healing.
func (p *Pool) dialWithin(ctx context.Context) (net.Conn, error) {
	type dialed struct {
		nc  net.Conn
		err error
	}
	result := make(chan dialed)
	go func() {
		nc, err := p.node.Dial(ctx, p.node.Network, p.node.Addr)
		if err == nil && nc == nil {
			err = errors.New("everpool: Dial returned neither a connection nor an error")
		}
		select {
		case result <- dialed{nc, err}:
		case <-time.After(lateDial):
			if err == nil {
				_ = nc.Close()
			}
		}
	}()
	select {
	case d := <-result:
		return d.nc, d.err
	case <-ctx.Done():
	}
	// It has the time to say itself what kept it, if it respects ctx.
	t := time.NewTimer(lateDial)
	defer t.Stop()
	select {
	case d := <-result:
		if d.err == nil {
			_ = d.nc.Close()
			d.err = ctx.Err()
		}
		return nil, d.err
	case <-t.C:
		return nil, &net.OpError{Op: "dial", Net: p.node.Network, Err: os.ErrDeadlineExceeded}
	}
}

// lateDial is how long after its time a dial may still report.
const lateDial = 50 * time.Millisecond
