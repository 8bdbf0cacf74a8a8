package pooler

import (
	"cmp"
	"math/rand/v2"
	"sync/atomic"
	"time"
)

const (
	// probeShare is the part of an outage that may pass between two probes. A
	// twentieth is what healing may add to an outage; the dial itself and the
	// first request come out of it too, so probes are a little closer.
	probeShare = 24

	// probeEarly bounds the interval at the beginning of an outage, in multiples
	// of BackoffMin: a dial every BackoffMin until a twentieth takes over would
	// be half of all the dials of an outage of seconds.
	probeEarly = 4

	// probeUnasked is for how long a node that nobody asks for is probed.
	probeUnasked = time.Minute
)

// health is what the pool knows of its node's. Guarded by Pool.mu.
type health struct {
	state    State
	since    time.Time     // of the state
	downAt   time.Duration // when the node was last known to be well
	downTime time.Time     // the same
	failures int64         // dials since
	lastErr  error         // of the last dial, nil when it succeeded
	lastGood time.Duration // when a reply last came
	probing  bool
	failFast *time.Timer
	serves   atomic.Bool // servesLocked, for those without the lock
	awaiting waiterList  // callers that wait until the node serves
}

func (h *health) stopLocked() {
	if h.failFast != nil {
		h.failFast.Stop()
	}
}

// setStateLocked changes the state and tells of it.
func (p *Pool) setStateLocked(s State, err error) {
	h := &p.health
	if h.state == s {
		return
	}
	ev := Event{Kind: EventState, State: s, Previous: h.state, Err: err}
	if s == StateUp {
		ev.Duration = p.now() - h.downAt
		p.n.heals++
	}
	h.state, h.since = s, time.Now()
	p.note(ev)
}

// answeredLocked notes that a connection has answered. What was asked before the
// node failed says nothing of it now: its reply may have been under way.
func (p *Pool) answeredLocked(asked, now time.Duration) {
	h := &p.health
	if h.state != StateUp && asked <= h.downAt {
		return
	}
	h.lastGood = now
	if h.state == StateDown {
		h.downAt, h.downTime = now, time.Now()
		p.setStateLocked(StateSuspect, h.lastErr)
		p.armFailFastLocked()
	}
}

// dialFailedLocked notes a failed dial that began at the given time, and sees to
// it that one prober works.
func (p *Pool) dialFailedLocked(err error, began time.Duration) {
	h := &p.health
	p.n.dialErrors++
	p.ramp = 1
	h.lastErr = err
	h.failures++
	if h.state == StateUp {
		h.failures = 1
		h.downAt, h.downTime = began, time.Now().Add(began-p.now())
		p.setStateLocked(StateSuspect, err)
		p.armFailFastLocked()
		p.wg.Go(p.lookAround)
	}
	p.startProbeLocked()
}

// lookAround looks, once a dial has failed, at the sockets of all connections that
// nobody reads from: those that the peer has closed don't serve any more. Where a
// socket can't be looked at, a PING finds out.
func (p *Pool) lookAround() {
	p.mu.Lock()
	var lanes []*Lane
	for c := range p.all {
		if c.lane != nil {
			lanes = append(lanes, c.lane)
		}
	}
	p.unlock()
	for _, l := range lanes {
		l.check()
	}
	p.checkIdle(p.now()+1, func(c *Conn, _ bool) bool { return c.raw == nil })
}

// startProbeLocked has the prober work if the node isn't up.
func (p *Pool) startProbeLocked() {
	if h := &p.health; h.state != StateUp && !h.probing {
		h.probing = true
		p.wg.Go(p.probe)
	}
}

// probe dials until the node is well again, one dial at a time, for everybody.
func (p *Pool) probe() {
	var pause time.Duration // the first probe is at once
	next, more := p.probeOnce(&pause)
	if !more {
		return
	}
	t := time.NewTimer(next)
	defer t.Stop()
	for {
		select {
		case <-t.C:
		case <-p.ctx.Done():
		}
		if next, more = p.probeOnce(&pause); !more {
			return
		}
		t.Reset(next)
	}
}

// probeOnce makes one probe and returns the time until the next, unless there
// is none to make.
func (p *Pool) probeOnce(pause *time.Duration) (next time.Duration, more bool) {
	p.mu.Lock()
	now := p.now()
	if p.closed || p.waiting+p.health.awaiting.n == 0 && now-p.lastUse > probeUnasked {
		p.health.probing = false
		if p.health.state == StateDown && !p.closed {
			p.setStateLocked(StateSuspect, p.health.lastErr) // what is known gets old
		}
		p.unlock()
		return 0, false
	}
	l := p.probeLotLocked()
	if !p.makeRoomLocked(l, cmp.Or(l.first(), p.health.awaiting.head)) {
		next = p.pauseLocked(pause, now)
		p.unlock()
		return next, true
	}
	p.beginDialLocked(l)
	p.unlock()

	c, err := p.open(l.session, true)

	p.mu.Lock()
	defer p.unlock()
	if err == nil || isRefused(err) {
		p.health.probing = false
		p.ramp = 1
		p.endDialLocked(l, c, err, now)
		if !p.closed {
			p.setStateLocked(StateUp, nil)
		}
		return 0, false
	}
	p.endDialLocked(l, nil, err, now)
	if p.closed {
		p.health.probing = false
		return 0, false
	}
	p.dialFailedLocked(err, now)
	p.giveUpOnNodeLocked(p.now())
	p.failWaitersLocked()
	return p.pauseLocked(pause, p.now()), true
}

// giveUpOnNodeLocked declares a suspect node down if no connection answers. One
// that has connections is given BackoffMin to hear from them; an answer counts
// for BackoffMax, so that a node that serves but accepts nobody isn't down and
// suspect by turns.
func (p *Pool) giveUpOnNodeLocked(now time.Duration) {
	h := &p.health
	p.hearLanesLocked(now)
	silent := now-h.downAt >= p.cfg.BackoffMin
	if h.lastGood >= h.downAt {
		silent = now-h.lastGood >= p.cfg.BackoffMax
	}
	if h.state == StateSuspect && (silent || len(p.all) == 0) {
		p.setStateLocked(StateDown, h.lastErr)
	}
}

// hearLanesLocked notes whether lanes have been answered since it was last called.
func (p *Pool) hearLanesLocked(now time.Duration) {
	heard := false
	for c := range p.all {
		if l := c.lane; l != nil {
			n := l.watch.reads.Load()
			heard = heard || n != l.heardN
			l.heardN = n
		}
	}
	if heard {
		p.lastUse = now
		p.answeredLocked(now, now)
	}
}

// probeLotLocked returns the lot that the probe's connection is opened for.
func (p *Pool) probeLotLocked() *lot {
	if l := p.neediestLocked(); l != nil {
		return l
	}
	if p.warm != nil && !p.warm.Dead() {
		return p.lotLocked(p.warm)
	}
	if p.recent != nil && !p.recent.session.Dead() {
		return p.recent
	}
	return p.lotLocked(NewSession())
}

// pauseLocked returns how long to wait until the next probe: at the beginning
// BackoffMin and a half more each time, then a share of the outage, with a
// little less at random so that many clients don't dial together.
func (p *Pool) pauseLocked(pause *time.Duration, now time.Duration) time.Duration {
	lo, hi := p.cfg.BackoffMin, p.cfg.BackoffMax
	early := min(max(*pause*3/2, lo), time.Duration(probeEarly*float64(lo)))
	*pause = early
	d := min(max(early, (now-p.health.downAt)/probeShare), hi)
	return d - time.Duration(rand.Float64()*0.15*float64(d))
}

// failingLocked reports whether requests fail at once.
func (p *Pool) failingLocked(now time.Duration) bool {
	return p.health.state == StateDown && now-p.health.downAt >= p.cfg.FailFastAfter
}

// failWaitersLocked fails everybody who waits, if it is time to.
func (p *Pool) failWaitersLocked() {
	if !p.failingLocked(p.now()) {
		return
	}
	err := p.downErrorLocked(ErrNodeDown)
	p.releaseLocked(err)
	for _, l := range p.lots {
		p.wakeAllLocked(&l.waiters, err)
		p.wakeAllLocked(&l.riders, err)
	}
}

// armFailFastLocked has those who wait told when FailFastAfter has passed; a
// probe that hangs until then must not keep them.
func (p *Pool) armFailFastLocked() {
	h := &p.health
	left := p.cfg.FailFastAfter - (p.now() - h.downAt)
	if h.failFast == nil {
		h.failFast = time.AfterFunc(left, p.failFast)
		return
	}
	h.failFast.Reset(left)
}

func (p *Pool) failFast() {
	p.mu.Lock()
	defer p.unlock()
	if p.closed || p.health.state == StateUp {
		return
	}
	now := p.now()
	left := p.cfg.FailFastAfter - (now - p.health.downAt)
	if left <= 0 {
		p.giveUpOnNodeLocked(now) // the probe that hangs since is answer enough
	}
	p.failWaitersLocked()
	if !p.failingLocked(now) {
		p.health.failFast.Reset(max(left, p.cfg.BackoffMax))
	}
}

// downErrorLocked is an error that says what is known of the node.
func (p *Pool) downErrorLocked(sentinel error) *Error {
	e := &Error{Err: sentinel, Node: p.node.Addr}
	if h := &p.health; h.state != StateUp {
		e.Since, e.Attempts, e.Cause = h.downTime, h.failures, h.lastErr
	}
	return e
}
