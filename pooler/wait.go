package pooler

import (
	"context"
	"math"
	"time"
)

// wait queues the request and waits for its turn. It is called with mu held and
// returns without.
func (p *Pool) wait(ctx context.Context, r Request, share bool, now time.Duration) (granted, error) {
	if err := p.elsewhereLocked(r.Place); err != nil {
		p.startProbeLocked()
		p.failLocked(r.account, err)
		p.unlock()
		return granted{}, err
	}
	if !p.askLocked(now) && r.Want == nil {
		err := p.downErrorLocked(ErrNodeDown)
		p.failLocked(r.account, err)
		p.unlock()
		return granted{}, err
	}
	if p.queue.waiting >= p.cfg.MaxWaiters {
		err := p.busyErrorLocked(ErrPoolExhausted, 0)
		p.failLocked(r.account, err)
		p.unlock()
		return granted{}, err
	}
	w := p.enqueueLocked(r, share, now)
	if r.Want != nil && r.Want.lane != nil {
		p.retireLocked(r.Want.lane) // what rides on it goes elsewhere from now on
	}
	p.growLocked()
	p.unlock()

	if caller, ok := ctx.(*Caller); ok {
		caller.await(p, w)
	} else {
		select {
		case <-w.ready:
		case <-ctx.Done():
			p.giveUp(w, context.Cause(ctx))
		}
	}
	g, err := w.granted, w.err
	if p.cfg.OnWait != nil || r.Waited != nil {
		p.tellWait(r.Waited, w.waited, err)
	}
	p.queue.free(w)
	return g, err
}

// tellWait tells of a wait that is over: the pool's listener, and the request itself if it
// wasn't in vain.
func (p *Pool) tellWait(waited *time.Duration, d time.Duration, err error) {
	if waited != nil && err == nil {
		*waited += d
	}
	if p.cfg.OnWait != nil {
		p.cfg.OnWait(p.node.Addr, d, err)
	}
}

// enqueueLocked adds a waiter for the request to the end of the line.
func (p *Pool) enqueueLocked(r Request, share bool, now time.Duration) *waiter {
	w := p.queue.take()
	w.since, w.name, w.blocking, w.session = now, r.Name, r.Blocking, r.Session
	w.place, w.account, w.rider = r.Place, r.account, r.Rider
	w.stream = r.Stream && r.Want == nil && !share
	w.final = r.Final && !r.Blocking && !w.stream
	switch {
	case r.Want != nil:
		r.Want.wanted.push(w)
	case share:
		p.lotLocked(r.Session).riders.push(w)
	case w.blocking && !w.stream && p.cfg.SharedConns > 0:
		p.lotLocked(r.Session).blocks.push(w)
	default:
		p.lotLocked(r.Session).waiters.push(w)
	}
	p.countStreamLocked(w, 1)
	p.queue.waiting++
	p.n.waitCount++
	limit := r.waitLimit(p.cfg.WaitTimeout)
	if !r.Deadline.IsZero() {
		w.ends = max(p.since(r.Deadline), now+1)
	}
	if r.WaitTimeout > 0 && r.Want == nil {
		w.patience = limit
		if most := now + max(limit, p.cfg.WaitTimeout); p.cfg.WaitTimeout > 0 && (w.ends == 0 || most < w.ends) {
			w.ends = most
		}
	}
	if w.until = w.ends; limit > 0 {
		w.waitOn(now, limit)
	}
	if w.until != 0 {
		p.expireAtLocked(w.until, now)
	}
	return w
}

// expireAtLocked has the expiry look at the waiters at the given time.
func (p *Pool) expireAtLocked(at, now time.Duration) { p.queue.expiry.set(at, now) }

// lookAgain is how soon a waiter is looked at again that a full pool has less patience
// for, and that waits for something else: there may be thousands.
const lookAgain = 10 * time.Millisecond

// expire wakes the waiters whose time is over, and sets the time of the next.
func (p *Pool) expire() {
	p.mu.Lock()
	defer p.unlock()
	now := p.now()
	var next time.Duration
	// opening: so many of the first have connections opened for them.
	look := func(l *waiterList, opening int, end func(*waiter)) {
		for w := l.head; w != nil; {
			after := w.next
			if w.until <= now && w.patience > 0 && (opening > 0 || p.health.state != StateUp && p.servingLocked() == 0 || !p.fullLocked()) {
				w.waitOn(now, max(w.patience, lookAgain))
			}
			switch {
			case w.until == 0:
			case w.until <= now:
				end(w)
			case next == 0 || w.until < next:
				next = w.until
			}
			opening--
			w = after
		}
	}
	late := func(w *waiter) {
		p.n.waitTimeouts++
		p.failWaiterLocked(w, p.busyErrorLocked(ErrWaitTimeout, now-w.since), now)
	}
	for _, l := range p.lots {
		look(&l.waiters, l.dialing, late)
		look(&l.blocks, l.dialing-l.waiters.n, late)
		look(&l.riders, l.dialing*l.riders.n, late) // they share what is opened
		look(&l.late, 0, late)
	}
	for c := range p.conns.all {
		look(&c.wanted, 0, late)
	}
	look(&p.health.awaiting, 0, func(w *waiter) { w.release(p.awaitedErrorLocked(now - w.since)) })
	p.queue.expiry.clear()
	if next != 0 && !p.closed {
		p.expireAtLocked(next, now)
	}
}

// giveUp ends the wait of a caller that has left. If it was woken at the same
// moment, the connection goes on to the next.
func (p *Pool) giveUp(w *waiter, cause error) {
	p.abandon(w, cause)
	<-w.ready
	p.mu.Lock()
	defer p.unlock()
	switch {
	case w.conn != nil:
		p.returnLocked(w.conn)
	case w.shared == nil:
		return
	}
	p.concludeLocked(w.account, Abandoned)
	w.granted, w.err = granted{}, cause
}

// abandon wakes a waiter whose caller has left, unless it was woken already.
func (p *Pool) abandon(w *waiter, cause error) {
	p.mu.Lock()
	defer p.unlock()
	if !w.done {
		p.concludeLocked(w.account, Abandoned)
		p.wakeLocked(w, nil, cause, p.now())
	}
}

// countStreamLocked takes note that a waiter has come or goes.
func (p *Pool) countStreamLocked(w *waiter, n int) {
	if w.stream {
		p.queue.streams += n
		p.lotLocked(w.session).streams += n
	}
}

// wakeLocked takes the waiter out of its list and hands over c or err.
func (p *Pool) wakeLocked(w *waiter, c *Conn, err error, now time.Duration) {
	w.in.remove(w)
	p.countStreamLocked(w, -1)
	if p.queue.waiting--; p.queue.waiting == 0 {
		p.queue.paces.forget()
		p.room.short.Store(false)
	}
	w.waited = max(0, now-w.since) // it may have come since
	p.n.waitDuration += w.waited
	if c != nil {
		p.leaseLocked(c, w.name, w.blocking, now)
		c.user = w.rider
		p.setBeyondLocked(c, w.stream)
		c.lease.account = w.account
	}
	w.wake(c, err)
}

// everyone is a time before which all have come.
const everyone = time.Duration(math.MaxInt64)

// wakeLotLocked fails those who wait in the lot and had come by the given time.
func (p *Pool) wakeLotLocked(l *lot, by time.Duration, err error) {
	for _, list := range l.lists() {
		p.wakeAllLocked(list, by, err)
	}
}

// wakeAllLocked fails those on the list who had come by the given time.
func (p *Pool) wakeAllLocked(l *waiterList, by time.Duration, err error) {
	for now := p.now(); l.head != nil && l.head.since <= by; {
		p.failWaiterLocked(l.head, err, now)
	}
}
