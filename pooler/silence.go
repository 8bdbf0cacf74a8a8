package pooler

import (
	"context"
	"errors"
	"os"
	"sync/atomic"
	"time"
)

var (
	errWriteLate = errors.New("everpool: a request could not be written in time")
	errSilent    = errors.New("everpool: the connection is silent, and the server answers on others")
)

// stragglers is the time that a silent connection has for its replies after the
// server has answered on a new one: what was held up together may arrive a little
// apart.
const stragglers = 25 * time.Millisecond

// doubts are the looks into silent lanes. Changed under Pool.mu.
type doubts struct {
	running atomic.Int32  // on so many new connections
	began   time.Duration // when the last one did
	since   time.Duration // when the first of them did
	early   *asking       // whether writes are held back; nil: nothing is asked about that
}

// dueLocked reports whether another connection is to be opened to ask: each may have fallen
// into the same hole, and the next one need not.
func (d *doubts) dueLocked(now, silenceAfter time.Duration) bool {
	return d.running.Load() == 0 || now-d.began >= max(2*silenceAfter, (now-d.since)/hedgeShare)
}

// ghost takes the place of a rider that has gone to another connection: what
// comes for it is dropped.
var ghost = Rider{closed: true}

// doubt finds out whether a silent lane is dead or the server slow, by opening
// another connection. As long as nothing is said there either others are tried, less and
// less often. While the prober is at work there is none.
func (p *Pool) doubt(l *lane) {
	p.mu.Lock()
	defer p.unlock()
	now := p.now()
	if !p.doubts.dueLocked(now, p.cfg.SilenceAfter) || !p.mayDoubtLocked(l) {
		return
	}
	a := p.doubts.early // may do
	p.doubts.early = nil
	switch {
	case a != nil:
		a.doubts = true
	case p.fullLocked() && !p.evictLocked(nil):
		if spare := p.spareLaneLocked(); spare != nil && spare.inFlight() == 0 {
			p.giveUpLocked(spare, errSilent) // there is at the next look
		}
		return // no room to ask
	}
	if p.doubts.running.Add(1) == 1 {
		p.doubts.since = now
	}
	p.doubts.began = now
	p.note(Event{Kind: EventSilent})
	if a == nil {
		p.askOnNewLocked(l, &asking{doubts: true})
	}
}

// askEarly asks the server as doubt does, if the lane holds reads up and has been silent for
// long enough for that.
func (p *Pool) askEarly(l *lane, silent time.Duration) {
	p.mu.Lock()
	defer p.unlock()
	if p.doubts.early == nil && p.doubts.running.Load() == 0 && silent >= l.group.split.early(p.now(), p.cfg.SilenceAfter) && p.mayDoubtLocked(l) && !p.fullLocked() {
		p.doubts.early = new(asking)
		p.askOnNewLocked(l, p.doubts.early)
	}
}

// asking is a new connection on which the server is asked. Guarded by Pool.mu.
type asking struct {
	doubts bool // whether silent lanes are dead; else whether writes are held back
}

// mayDoubtLocked reports whether it says something that the lane is silent.
func (p *Pool) mayDoubtLocked(l *lane) bool {
	return !p.closed && p.health.state == StateUp && l.conn.lane == l && !l.deserted.Load() && !l.isSlow()
}

func (p *Pool) askOnNewLocked(l *lane, a *asking) {
	lot := p.lotLocked(l.group.session)
	p.beginDialLocked(lot)
	p.wg.Go(func() { p.settleDoubt(lot, a) })
}

// settleDoubt opens the connection and draws the conclusions.
func (p *Pool) settleDoubt(lot *lot, a *asking) {
	began := p.now()
	c, err := p.open(lot.session, true)
	p.mu.Lock()
	if p.doubts.early == a {
		p.doubts.early = nil
	}
	doubts := a.doubts
	p.mu.Unlock()
	if doubts && err == nil {
		err = p.askAgain(c)
	}
	p.settleDial(lot, c, err, began, func() {
		if doubts {
			p.doubts.running.Add(-1)
		}
		switch {
		case err != nil:
		case doubts:
			p.condemnLocked(began, c.isBusy())
		default:
			p.splitLocked(lot, began, p.now())
		}
	})
}

// askAgain gives the stragglers their time, and sees that the server still
// answers then.
func (p *Pool) askAgain(c *Conn) error {
	stop := context.AfterFunc(p.ctx, c.InterruptReceive)
	defer stop()
	t := time.NewTimer(stragglers)
	defer t.Stop()
	select {
	case <-t.C:
	case <-p.ctx.Done():
	}
	err := c.ping(time.Now().Add(p.cfg.HealthCheckTimeout))
	if err == nil && !c.tidy() {
		err = c.Err()
	}
	if err != nil {
		_ = c.nc.Close()
	}
	return err
}

// condemnLocked gives up all lanes that have been silent since the given time: the
// server answers, but not there. Where it answers that a script keeps it busy, the
// script is what holds them up, and connections that nobody uses aren't in doubt.
func (p *Pool) condemnLocked(since time.Duration, busy bool) {
	silent := p.leaveSilentLocked(since)
	for _, l := range silent {
		p.lotLocked(l.group.session).more = true // on the connection that has answered
	}
	if len(silent) > 0 && !busy {
		p.closeUnusedLocked()
	}
}

// leaveSilentLocked gives up the lanes that have been silent since the given time, and
// returns them.
func (p *Pool) leaveSilentLocked(since time.Duration) (silent []*lane) {
	for c := range p.conns.all {
		if l := c.lane; l != nil && !l.deserted.Load() && l.silentSince(since) {
			p.giveUpLocked(l, errSilent)
			silent = append(silent, l)
		}
	}
	return silent
}

// closeUnusedLocked ends what nobody uses, lane or not: what leaves silent lanes would
// come there, and nobody knows whether it still works; but of lanes that reads have just been
// moved to.
func (p *Pool) closeUnusedLocked() {
	for c := range p.conns.all {
		if l := c.lane; l != nil && !l.deserted.Load() && l.inFlight() == 0 && !l.isForReads() {
			p.giveUpLocked(l, errSilent)
		}
	}
	for _, l := range p.lots {
		p.closeIdleLocked(l, CloseSilence, errSilent)
	}
}

// giveUpLocked has the lane take nothing more, and its riders leave whose requests may
// be sent again. The others wait on: what they have sent may run yet (a paused server
// does that), and to tell them sooner that nobody knows would help nobody. The lane's
// connection ends with it unless something is heard from it yet.
func (p *Pool) giveUpLocked(l *lane, cause error) {
	l.desertedN = l.watch.reads.Load()
	l.deserted.Store(true)
	p.retireLocked(l)
	p.later.work = append(p.later.work, func() { l.part(0, cause, (*Rider).mayGoLocked) })
}

// mayGoLocked reports whether nothing of what the rider waits for has come, and all
// of it may be sent again.
func (r *Rider) mayGoLocked() bool { return r.trip.again && !r.trip.began }

// mayGo reports the same of a rider that may be none, or have left.
func (r *Rider) mayGo() bool {
	if r == nil {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return !r.closed && r.mayGoLocked()
}

// silentSince reports whether the lane owes replies and nothing has been heard
// from it since before the given time. A request that may take long on its own
// account is given that time.
func (l *lane) silentSince(t time.Duration) bool {
	owes, since := l.silence()
	return owes && since <= t && !l.isSlow()
}

// isSlow reports whether the reply that comes next may take long.
func (l *lane) isSlow() bool {
	r := l.slots[l.head.Load()%maxExchanges].rider.Load()
	return r != nil && r.isSlow()
}

func (r *Rider) isSlow() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.trip.slow
}

// giveUp ends a lane that was deserted, or whose last users have left.
func (l *lane) giveUp(err error) {
	reason := CloseAbandoned
	if errors.Is(err, os.ErrDeadlineExceeded) && l.stillSilent() {
		reason, err = CloseSilence, errSilent
	}
	l.conn.Fail(reason, err)
	l.die()
}

// stillSilent reports whether nothing was heard from the lane since it was given up.
func (l *lane) stillSilent() bool {
	return l.deserted.Load() && l.watch.reads.Load() == l.desertedN
}
