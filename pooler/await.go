package pooler

import (
	"context"
	"sync/atomic"
	"time"
)

// Serves reports whether requests may expect to be served. See [Pooler].
func (p *Pool) Serves() bool { return p.health.serves.Load() }

// Answers reports whether requests may expect to be answered soon. See [Pooler].
func (p *Pool) Answers() bool { return p.health.answers.Load() }

// Well reports whether the node isn't ill. See [Pooler].
func (p *Pool) Well() bool { return !p.health.ill.Load() }

// Await blocks until the node serves. See [Pooler].
func (p *Pool) Await(ctx context.Context, r Request, limit time.Duration) error {
	p.mu.Lock()
	now := p.now()
	p.use.note(now)
	if p.warm == nil {
		p.workLocked(r.Session)
	}
	switch {
	case p.closed:
		p.unlock()
		return &Error{Err: ErrClosed, Node: p.node.Addr}
	case p.servesLocked():
		p.unlock()
		return nil
	case p.health.state == StateUp:
		p.contactLocked(p.probeLotLocked())
	}
	if err := p.elsewhereLocked(r.Place); err != nil {
		p.startProbeLocked()
		p.unlock()
		return err
	}
	since := now - p.health.downAt
	hangs := p.health.state == StateUp && since >= p.patienceLocked(p.cfg.FailFastAfter) // its first dial
	if hangs || !p.askLocked(now) || ctx.Err() != nil && p.failingLocked(now) {
		err := p.downErrorLocked(ErrNodeDown)
		p.unlock()
		return err
	}
	w := p.awaitLocked(limit, since, now)
	w.place = r.Place
	p.unlock()

	select {
	case <-w.ready:
	case <-ctx.Done():
		p.mu.Lock()
		if !w.done {
			w.release(context.Cause(ctx))
		}
		p.unlock()
		<-w.ready
	}
	return w.err
}

// contactLocked dials a node that has never answered, or has closed all connections, unless
// that is under way. Once the dial has failed it is the prober's work.
func (p *Pool) contactLocked(l *lot) {
	if p.dials.running == 0 {
		p.beginDialLocked(l)
		p.wg.Go(func() { p.dial(l) })
	}
}

// notWellLocked notes that a node that is up isn't known to be well from here on: it has
// stopped serving, or is dialed while it doesn't serve.
func (p *Pool) notWellLocked() {
	if h := &p.health; h.state == StateUp {
		h.downAt, h.downTime = p.now(), time.Now()
	}
}

// contactTime is how long a dial is worth waiting for, however soon calls shall fail:
// until the first one is over, nothing is known of the node, and while it is down
// only a new one tells whether it still is.
const contactTime = 200 * time.Millisecond

// patienceLocked is how long is waited where d is asked for.
func (p *Pool) patienceLocked(d time.Duration) time.Duration {
	if p.health.state == StateUp {
		return max(d, contactTime)
	}
	return d
}

// awaitLocked adds a caller to the end of the line of those who await the node, which
// has not served since so long.
func (p *Pool) awaitLocked(limit, since, now time.Duration) *waiter {
	left := century // failFast sees to it
	switch {
	case p.health.state == StateUp:
		left = p.patienceLocked(p.cfg.FailFastAfter) - since
	case since >= p.cfg.FailFastAfter:
		left = max(p.cfg.FailFastAfter, contactTime) // what was known got old
	}
	switch {
	case limit > 0 && p.isKnownLocked():
		left = min(left, limit)
	case limit > 0:
		left = min(left, p.patienceLocked(limit))
	}
	w := &waiter{ready: make(chan struct{}, 1), since: now, until: now + min(left, century)}
	p.health.awaiting.push(w)
	p.expireAtLocked(w.until, now)
	return w
}

// servesLocked reports whether requests may expect to be served.
func (p *Pool) servesLocked() bool {
	if p.health.state == StateUp && !p.health.lost {
		return p.isKnownLocked()
	}
	return p.isKnownLocked() && p.servingLocked() > 0
}

// isKnownLocked reports whether the node has answered, and was asked for lately.
func (p *Pool) isKnownLocked() bool { return p.conns.lastID > 0 && !p.use.drained }

// servingLocked is the number of connections that are no handle's own.
func (p *Pool) servingLocked() int { return len(p.conns.all) - p.conns.pinned - p.conns.beyond }

// answersLocked reports whether requests may expect to be answered soon. A node that isn't
// up answers on the connections that nobody holds: what waits there may be sent away, and
// must not be sent there for that.
func (p *Pool) answersLocked() bool {
	free := p.conns.lanes - p.conns.yielding + p.conns.idle
	return p.isKnownLocked() && p.doubts.running.Load() == 0 && (p.health.state == StateUp || free > 0)
}

// settleServesLocked keeps what Serves, Answers and Well say, and releases those who await the
// node once it serves.
func (p *Pool) settleServesLocked() {
	serves := p.servesLocked()
	if !serves && p.health.serves.Load() {
		p.notWellLocked()
	}
	settle(&p.health.serves, serves)
	settle(&p.health.answers, p.answersLocked())
	settle(&p.health.ill, p.illnessLocked().Ill())
	if serves {
		p.releaseLocked(everyone, nil)
	}
}

// settle stores what is new: others read it all the time.
func settle(to *atomic.Bool, now bool) {
	if to.Load() != now {
		to.Store(now)
	}
}

// releaseLocked ends the wait of those who await the node and had come by the given
// time.
func (p *Pool) releaseLocked(by time.Duration, err error) {
	for l := &p.health.awaiting; l.head != nil && l.head.since <= by; {
		l.head.release(err)
	}
}

// release ends the wait of a caller that awaits the node.
func (w *waiter) release(err error) {
	w.in.remove(w)
	w.wake(nil, err)
}

// awaitedErrorLocked is the error of a caller that has awaited the node for so
// long.
func (p *Pool) awaitedErrorLocked(waited time.Duration) *Error {
	e := p.downErrorLocked(ErrNodeDown)
	e.Waited = waited
	return e
}
