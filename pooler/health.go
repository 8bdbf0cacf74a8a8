package pooler

import (
	"cmp"
	"math/rand/v2"
	"sync"
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
	next     *time.Timer   // the prober's next probe; nil: there is no prober
	probed   time.Duration // when the last probe began
	slow     bool          // the last failed dial has taken long, or the probe under way does
	lost     bool          // a connection was, and no dial has been answered since
	lostAt   time.Duration // when the last one was
	unproven atomic.Bool   // since then it has not answered other than that it isn't ready
	failFast *time.Timer
	serves   atomic.Bool // servesLocked, for those without the lock
	answers  atomic.Bool // answersLocked, likewise
	ill      atomic.Bool // illnessLocked, likewise
	awaiting waiterList  // callers that wait until the node serves
	look     sync.Mutex  // held by who looks around before a request; taken before Pool.mu

	unreadyUntil time.Duration // until when nothing is dialed without a request
}

func (h *health) stopLocked() {
	if h.failFast != nil {
		h.failFast.Stop()
	}
}

// loseLocked notes that a connection was lost.
func (h *health) loseLocked(now time.Duration) {
	h.lost, h.lostAt = true, now
	settle(&h.unproven, true)
}

// restartedLocked reports whether the peer has closed all connections and has said nothing
// since but that it isn't ready. Where it just isn't, what it says is a reply as any.
func (p *Pool) restartedLocked() bool {
	if !p.health.unproven.Load() {
		return false
	}
	for c := range p.conns.all {
		if c.created < p.health.lostAt && c.lease.pin == "" && !p.unlookedLocked(c) {
			return false
		}
	}
	return true
}

// unlookedFor is how long before the last loss a connection may have been lent that nobody has
// looked at yet: whoever has it may be without a processor.
const unlookedFor = time.Second

// unlookedLocked reports whether the connection was just lent and nothing was sent on it: it is
// looked at first, and may be found closed as well.
func (p *Pool) unlookedLocked(c *Conn) bool {
	return c.place == placeLeased && c.lane == nil && c.owed.Load() == 0 && c.lease.since > p.health.lostAt-unlookedFor
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
		if h.state == StateDown {
			p.forgetSizesLocked()
		}
	}
	h.state, h.since = s, time.Now()
	p.note(ev)
	if s != StateUp {
		p.sendAwayLocked()
	}
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

// dialFailedLocked draws the conclusions from a failed dial that began at the given
// time, or from a connection that was dialed in vain, and sees to it that one prober
// works. The counting is its caller's: a dial that has succeeded stays one.
func (p *Pool) dialFailedLocked(err error, began time.Duration) {
	h := &p.health
	p.dials.ramp = 1
	if !p.mistakenLocked(h.lastErr) || !isWordless(err) { // which takes back nothing that was said
		h.lastErr = err
	}
	h.failures++
	h.slow = p.now()-began >= min(contactTime, p.cfg.DialTimeout)
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
	var lanes []*lane
	for c := range p.conns.all {
		if c.lane != nil {
			lanes = append(lanes, c.lane)
		}
	}
	p.unlock()
	for _, l := range lanes {
		l.check()
	}
	p.checkIdle(p.now()+1, func(c *Conn, _ bool) bool { return c.socket.raw == nil })
}

// Look looks at the socket of a connection that nobody uses. See [Pooler].
func (p *Pool) Look(lanes *Lanes, r *Rider) {
	if !p.Serves() {
		return
	}
	looked, open := lanes.lookFor(r)
	if looked && open {
		return
	}
	p.health.look.Lock() // not beside a look around that is to find the same
	defer p.health.look.Unlock()
	if looked || !p.mayBeOpen() {
		p.lookAround()
	}
}

// mayBeOpen looks at one connection, if nobody uses any: who does would be told. It reports
// false if the peer has closed it.
func (p *Pool) mayBeOpen() bool {
	p.mu.Lock()
	defer p.unlock()
	if p.servingLocked() > p.conns.idle+p.conns.lanes {
		return true
	}
	for c := range p.conns.all {
		switch {
		case c.lane != nil:
			return c.lane.mayBeOpen()
		case c.place == placeIdle:
			return c.alive()
		}
	}
	return true
}

// startProbeLocked has the prober work if the node isn't up.
func (p *Pool) startProbeLocked() {
	if h := &p.health; h.state != StateUp && h.next == nil {
		next := time.NewTimer(0) // the first probe is at once
		h.next = next
		p.wg.Go(func() { p.probe(next) })
	}
}

// probe dials until the node is well again, one after the other, for everybody.
func (p *Pool) probe(next *time.Timer) {
	defer next.Stop()
	for pause, more := time.Duration(0), true; more; {
		select {
		case <-next.C:
		case <-p.ctx.Done():
		}
		more = p.probeOnce(&pause)
	}
}

// probeOnce makes one probe and sets the time of the next, unless there is none to
// make.
func (p *Pool) probeOnce(pause *time.Duration) (more bool) {
	p.mu.Lock()
	now := p.now()
	h := &p.health
	if p.closed || p.queue.waiting+h.awaiting.n == 0 && now-p.use.last > probeUnasked && p.lackLocked() == nil {
		h.next = nil
		if h.state == StateDown && !p.closed {
			p.setStateLocked(StateSuspect, h.lastErr) // what is known gets old
		}
		p.unlock()
		return false
	}
	l := p.probeLotLocked()
	if !p.makeRoomLocked(l, cmp.Or(l.first(), h.awaiting.head)) {
		p.failWaitersLocked(now) // it can't be asked
		h.next.Reset(p.pauseLocked(pause, now))
		p.unlock()
		return true
	}
	h.probed = now
	p.beginDialLocked(l)
	r := p.raceLocked(l.session, true, now, func(c *Conn) { p.recoverLocked(l, c, nil, now) })
	p.unlock()

	hangs := time.AfterFunc(contactTime, p.probeHangs)
	c, err := p.open(l.session, true)
	hangs.Stop()
	if !r.end(c, err) {
		return false
	}

	p.mu.Lock()
	defer p.unlock()
	if err == nil || ofSession(err) {
		p.recoverLocked(l, c, err, now)
		return false
	}
	p.endDialLocked(l, nil, err, now)
	if p.closed {
		h.next = nil
		return false
	}
	p.n.dialErrors++
	p.dialFailedLocked(err, now)
	p.giveUpOnNodeLocked(p.now())
	p.failWaitersLocked(now)
	next := p.pauseLocked(pause, p.now())
	if p.failingLocked(p.now()) && p.queue.waiting+h.awaiting.n > 0 {
		next = min(next, p.soonestProbeLocked(p.now())) // for those who came since it began
	}
	h.next.Reset(next)
	return true
}

// recoverLocked ends the prober's work: the node has answered, to a probe that began at
// the given time.
func (p *Pool) recoverLocked(l *lot, c *Conn, err error, began time.Duration) {
	p.health.next = nil
	p.dials.ramp = 1
	p.endDialLocked(l, c, err, began)
	if !p.closed {
		settle(&p.health.unproven, false)
		p.setStateLocked(StateUp, nil)
	}
}

// probeHangs notes that the probe under way isn't answered soon: while calls fail
// fast, none waits for it any more.
func (p *Pool) probeHangs() {
	p.mu.Lock()
	p.health.slow = true
	p.failWaitersLocked(p.now())
	p.unlock()
}

// soonestProbeLocked is how long BackoffMin keeps the next probe back.
func (p *Pool) soonestProbeLocked(now time.Duration) time.Duration {
	return max(p.health.probed+p.cfg.BackoffMin-now, 0)
}

// askLocked reports whether to wait for the node makes sense, and has it probed if it
// isn't up. While calls fail fast a call waits for a probe that begins after it, so
// that it isn't told what is true no more; but only if that is likely to be answered
// soon.
func (p *Pool) askLocked(now time.Duration) bool {
	p.startProbeLocked()
	if !p.failingLocked(now) {
		return true
	}
	d := p.soonestProbeLocked(now)
	if p.health.slow || d > contactTime {
		return false
	}
	p.health.next.Reset(d)
	return true
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
	if h.state == StateSuspect && (silent || len(p.conns.all) == 0) {
		p.setStateLocked(StateDown, h.lastErr)
	}
}

// hearLanesLocked notes whether lanes have been answered since it was last called.
func (p *Pool) hearLanesLocked(now time.Duration) {
	heard := false
	for c := range p.conns.all {
		if l := c.lane; l != nil {
			n := l.watch.reads.Load()
			heard = heard || n != l.tenure.heardN
			l.tenure.heardN = n
		}
	}
	if heard {
		p.use.last = now
		p.answeredLocked(now, now)
	}
}

// probeLotLocked returns the lot that the probe's connection is opened for.
func (p *Pool) probeLotLocked() *lot {
	if l := p.neediestLocked(); l != nil {
		return l
	}
	if p.warm != nil && !p.warm.abandoned() {
		return p.lotLocked(p.warm)
	}
	if p.recent != nil && !p.recent.session.abandoned() {
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
	return p.health.state == StateDown &&
		(now-p.health.downAt >= p.cfg.FailFastAfter || p.mistakenLocked(p.health.lastErr))
}

// failWaitersLocked fails those who wait, if it is time to: those who came before the
// node was last asked, at the given time, and all if the answer takes long.
func (p *Pool) failWaitersLocked(asked time.Duration) {
	if !p.failingLocked(p.now()) {
		return
	}
	if p.health.slow {
		asked = everyone
	}
	err := p.downErrorLocked(ErrNodeDown)
	p.releaseLocked(asked, err)
	for _, l := range p.lots {
		p.wakeLotLocked(l, asked, err)
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
	p.failWaitersLocked(min(p.health.probed, now+left)) // who came later has a probe of its own
	if !p.failingLocked(now) {
		p.health.failFast.Reset(max(left, p.cfg.BackoffMax))
	}
}

// downErrorLocked is an error that says what is known of the node.
func (p *Pool) downErrorLocked(sentinel error) *Error {
	e := &Error{Err: sentinel, Node: p.node.Addr}
	if h := &p.health; h.state != StateUp {
		e.Since, e.Attempts, e.Cause = h.downTime, h.failures, h.lastErr
		e.NeverAnswered = !p.dials.heard.Load()
	}
	return e
}
