package pooler

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"time"
)

// Lanes are the shared connections of one session. They come from [Pool.Share];
// safe for concurrent use.
type Lanes struct {
	pool    *Pool
	session *Session
	lanes   atomic.Pointer[[]*lane] // open ones; changed under Pool.mu
	tickets atomic.Uint32
	growing atomic.Bool // another lane was asked for
	unused  bool        // the last lane went since nobody used it; guarded by Pool.mu
	sizes   sizes
	deaths  atomic.Uint32 // lanes that the peer has closed
	trial   trial
	split   split
}

// Submit sends the exchange on one of the connections; its request is not kept.
// Where others' requests go out just then it goes with them, and Submit doesn't
// wait for that. It blocks until the exchange's deadline at most. It fails with
// [ErrNotShared], [ErrLarge], [ErrLost], os.ErrDeadlineExceeded, [context.Canceled],
// net.ErrClosed or [ErrWouldWait]; then nothing of the exchange was sent. After
// ErrNotShared the request isn't over: it may be submitted to what Share returns next;
// after ErrLarge it goes on with a lease, by [Request].Rider. A rider that is owed replies
// must say so in the exchange, which is then part of the request that it is owed them for.
func (s *Lanes) Submit(r *Rider, x Exchange) error {
	if x.Follows {
		if ok, err := r.aboard().submit(r, &x); ok || err != nil {
			return err
		}
		return ErrNotShared
	}
	if x.known = featuresOf(x.Request, x.Replies); x.Leaves && s.sizes.isLarge(x.known) {
		r.known = x.known
		return ErrLarge
	}
	if r.ticket == 0 {
		r.ticket = s.tickets.Add(1)
	}
	lanes := *s.lanes.Load()
	if len(lanes) == 0 {
		return ErrNotShared
	}
	at, more := s.choose(r, lanes, x.Spread)
	if s.split.on.Load() {
		at, more = s.split.choose(at, lanes, x.Reads)
	}
	for i := range lanes {
		l := lanes[(at+i)%len(lanes)]
		if i < len(lanes)-1 && l.large.Load() {
			continue // it would wait for somebody's large reply
		}
		ok, err := l.submit(r, &x)
		if !ok && err == nil {
			continue
		}
		if errors.Is(err, errAboard) {
			x.Follows = true
			return s.Submit(r, x)
		}
		if more {
			l.wish()
		}
		return err
	}
	return ErrNotShared
}

// Answered notes how many bytes of replies the rider's request had on another
// connection, which Submit has refused with [ErrLarge].
func (s *Lanes) Answered(r *Rider, size int64) { s.sizes.answered(r.known, size, true) }

// lanesOfMany is how many of a session's lanes many callers use.
func lanesOfMany(limit int) int { return max(min(limit, 2), limit/4) }

// maxSpread is over how many nodes requests are spread at most, as far as it matters to lanes.
const maxSpread = 4

// metByFew is how many exchanges under way few callers meet at most, in eighths, where each
// gets a lane, and metByTwo where only two do, or three.
const (
	metByFew = 44
	metByTwo = 12
)

// met is how many exchanges under way those meet at most who get a lane each, in eighths.
func (s *Lanes) met() int {
	if s.trial.together.Load() {
		return metByTwo
	}
	return min(8*s.pool.cfg.SharedConns-4, metByFew)
}

// seat is which of the lanes the rider's requests go to while nobody is on it, of so many that
// many use.
func seat(r *Rider, lanes []*lane, most int) int { return int(r.ticket) % min(len(lanes), most) }

// choose returns which lane the rider's request goes to, and whether there had
// better be one more. Few callers get a lane each, where that is the faster: none waits
// for another's reply, nor to be woken by another. Many share the first ones, since what
// goes together costs least.
//
// Of a client whose requests are spread over several nodes each node has a part of the callers,
// and half of the lanes do for many: all nodes together still have more than one has.
func (s *Lanes) choose(r *Rider, lanes []*lane, spread int) (at int, more bool) {
	limit := s.pool.cfg.SharedConns
	most := lanesOfMany(limit)
	if spread = min(max(spread, 1), maxSpread); spread > 1 {
		most = max(most/2, 1)
	}
	at = seat(r, lanes, most)
	own := lanes[at].inFlight()
	others, idle := own, -1
	if own < len(lanes) { // else there are enough of them to know
		for i, l := range lanes {
			n := l.inFlight()
			switch {
			case i != at && l.isClosed():
			case n == 0:
				idle = i
			case i != at:
				others += n
			}
		}
	}
	// What each meets itself decides: one count of all would cost more than it tells.
	r.others += others - (r.others+7)/8
	few := (r.others+7)*spread-7 < s.met() // a steady n has become 8*n-7
	switch {
	case own == 0:
		return at, false
	case few && idle >= 0:
		return idle, false
	case few:
		most = limit
	}
	return at, len(lanes) < most
}

// wish notes that the session had better have one lane more. It has, once something is
// heard from this one after two wishes with an answer between them: a server that stands
// still gets up for no connection more.
func (l *lane) wish() {
	now := l.watch.reads.Load() + 1
	switch before := l.asked.Load(); {
	case before < 0:
	case before > 0 && before < now:
		l.asked.Store(-now)
	default:
		l.asked.Store(now)
	}
}

// grantWish has another lane opened if there was a wish. It is called when something was
// heard, by the leader.
func (l *lane) grantWish() {
	if was := l.asked.Load(); was < 0 && l.asked.CompareAndSwap(was, -was) && l.group.growing.CompareAndSwap(false, true) {
		l.pool.growShared(l.group, l.live())
	}
}

// Again notes that the rider's request, which was lost, goes on another connection:
// what is submitted next is the same request.
func (s *Lanes) Again(r *Rider, why Again) {
	r.goOn()
	if why == Move {
		s.pool.rides.moved.Add(1)
	} else {
		s.pool.rides.resent.Add(1)
	}
}

// Unknown notes that the outcome of a request that was lost is unknown.
func (s *Lanes) Unknown() { s.pool.rides.unknown.Add(1) }

// aboard is the lane of the rider's last exchange.
func (r *Rider) aboard() *lane {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lane
}

// Share returns the shared connections of a session. See [Pooler].
func (p *Pool) Share(ctx context.Context, r Request) (*Lanes, error) {
	if p.cfg.SharedConns == 0 {
		return nil, nil
	}
	p.mu.Lock()
	now := p.now()
	p.use.note(now)
	for {
		if err := p.refuseLocked(r); err != nil {
			p.failLocked(orNew(r.Rider), err)
			p.unlock()
			return nil, err
		}
		if sh := p.groupLocked(p.lotLocked(r.Session)); len(p.openLanesLocked(sh)) > 0 {
			p.unlock()
			return sh, nil
		}
		switch c := p.offerIdleLocked(r, now); {
		case c == nil && r.NoWait && p.wouldWaitLocked(r):
			p.unlock()
			return nil, ErrWouldWait
		case c == nil:
			if r.Rider != nil {
				r.Rider.admit(p)
			}
			r.account = orNew(r.Rider)
			w, err := p.wait(ctx, r, true, now)
			return w.shared, err
		case c.place == placeIdle:
			p.unlistLocked(c)
			p.openLaneLocked(p.lotLocked(r.Session), c, now)
		}
	}
}

// orNew is what a request is counted by that ends without a rider.
func orNew(r *Rider) *Rider {
	if r == nil {
		return NewRider()
	}
	return r
}

// offerIdleLocked looks at an idle connection for the request, without the lock,
// and gives it to whoever wants it by then. It returns the connection, which may be
// anything afterwards, or nil if there is none.
func (p *Pool) offerIdleLocked(r Request, now time.Duration) *Conn {
	c := p.takeIdleLocked(r, now)
	if c == nil {
		return nil
	}
	p.leaseLocked(c, sharedHolder, false, now)
	p.unlock()
	_ = c.alive() // if it isn't, judge sees why
	p.mu.Lock()
	if reason, err := p.judgeLocked(c, now); reason != "" {
		p.closeLocked(c, reason, err)
	} else {
		p.placeLocked(c, now)
	}
	return c
}

// groupLocked returns the lot's shared connections, of which none need be open.
func (p *Pool) groupLocked(l *lot) *Lanes {
	if l.shared == nil {
		l.shared = &Lanes{pool: p, session: l.session}
		l.shared.lanes.Store(new([]*lane))
	}
	return l.shared
}

// sharedHolder is what a lane's lease is for.
const sharedHolder = "shared requests"

// lookFor looks at the lane that the rider's next request would go to, and reports false if the
// peer has closed it. While requests are under way nothing is looked at: they would be told.
func (s *Lanes) lookFor(r *Rider) (looked, open bool) {
	if s == nil {
		return false, true
	}
	lanes := *s.lanes.Load()
	if len(lanes) == 0 {
		return false, true
	}
	used := func(l *lane) bool { return l.inFlight() > 0 }
	return true, slices.ContainsFunc(lanes, used) || lanes[seat(r, lanes, lanesOfMany(s.pool.cfg.SharedConns))].mayBeOpen()
}

// openLanesLocked returns the lanes that take requests, and forgets the others.
func (p *Pool) openLanesLocked(s *Lanes) []*lane {
	lanes := *s.lanes.Load()
	if !slices.ContainsFunc(lanes, (*lane).isClosed) {
		return lanes
	}
	open := slices.DeleteFunc(slices.Clone(lanes), (*lane).isClosed)
	s.lanes.Store(&open)
	return open
}

func (l *lane) isClosed() bool { return l.shut.Load() }

// openLaneLocked makes a connection that nobody has a lane of the lot, and wakes
// those who wait for one.
func (p *Pool) openLaneLocked(l *lot, c *Conn, now time.Duration) {
	sh := p.groupLocked(l)
	p.leaseLocked(c, sharedHolder, false, now)
	c.lease.noWork = true
	p.workLocked(l.session)
	c.lane = newLane(p, c, sh)
	c.lane.tenure.opened, c.lane.tenure.rests = now, now
	p.conns.lanes++
	p.wg.Add(1) // until it has ended
	open := append(slices.Clone(p.openLanesLocked(sh)), c.lane)
	sh.lanes.Store(&open)
	sh.growing.Store(false)
	sh.unused = false
	l.more = false
	for w := l.riders.head; w != nil; w = l.riders.head {
		w.shared = sh
		p.wakeLocked(w, nil, nil, now)
	}
}

// growShared opens another lane, on an idle connection or a new one, if there is
// room for it. Those whose callers have left are no reason: a server that stands
// still has many. If it opens none it is asked again after a look at the lanes.
func (p *Pool) growShared(s *Lanes, callers int) {
	if callers < 2 {
		s.growing.Store(false)
		return
	}
	p.mu.Lock()
	defer p.unlock()
	l := p.lotLocked(s.session)
	for before := len(p.openLanesLocked(s)); ; {
		open := len(p.openLanesLocked(s))
		if open > before || p.closed || l.shared != s || open >= p.mostLanesLocked() || !p.mayOpenLaneLocked() {
			return
		}
		l.more = true
		if now := p.now(); p.returningLocked(now) || p.offerIdleLocked(Request{Session: s.session}, now) == nil {
			p.later.grow = true
			return
		}
	}
}

// calmFor is for how long after the pool has looked whether to give up its connections it
// dials for nothing that can wait.
const calmFor = 5 * time.Second

// mostLanesLocked is how many lanes a session may have: until the node has been calm for a
// while as many as many callers use, since what has ended those may end the next ones, and a
// server that gets up has other work.
func (p *Pool) mostLanesLocked() int {
	if last := max(p.changes.at, p.doubts.began); last > 0 && p.now()-last < calmFor {
		return lanesOfMany(p.cfg.SharedConns)
	}
	return p.cfg.SharedConns
}

// mayOpenLaneLocked reports whether another lane would leave a connection for
// leases.
func (p *Pool) mayOpenLaneLocked() bool { return p.conns.lanes < max(1, p.cfg.MaxOpenConns-1) }

// endLane takes back the connection of a lane that has ended.
func (p *Pool) endLane(l *lane) {
	l.watch.stop()
	p.mu.Lock()
	defer p.unlock()
	c := l.conn
	if c.lane != l {
		return
	}
	_ = c.nc.SetWriteDeadline(time.Time{}) // a writer may have been cut short
	p.openLanesLocked(l.group)
	p.conns.lanes--
	if l.tenure.yielding {
		p.conns.yielding--
	}
	c.lane = nil
	if l.stillSilent() {
		c.Fail(CloseSilence, errSilent)
	}
	p.returnLocked(c)
}

// retireLocked has the lane end when it is drained, after the lock is released.
func (p *Pool) retireLocked(l *lane) {
	if !l.tenure.yielding {
		l.tenure.yielding = true
		p.conns.yielding++
		l.shut.Store(true)
		p.later.work = append(p.later.work, l.retire)
	}
}

// retireAllLocked ends all lanes of the lot.
func (p *Pool) retireAllLocked(l *lot) {
	if l.shared == nil {
		return
	}
	for _, lane := range *l.shared.lanes.Load() {
		p.retireLocked(lane)
	}
}

// lookLocked notes since when the lane has carried nothing, as far as the looks tell, and
// reports whether it does.
func (l *lane) lookLocked(now time.Duration) bool {
	rests := l.inFlight() == 0
	if tail := l.tail.Load(); !rests || l.tenure.seen != tail {
		l.tenure.seen, l.tenure.rests = tail, now
	}
	return rests
}

// lookAtLanesLocked retires lanes that are too old, or that nobody has used since
// the last look.
func (p *Pool) lookAtLanesLocked(now time.Duration) {
	for c := range p.conns.all {
		l := c.lane
		if l == nil {
			continue
		}
		unused := l.lookLocked(now) && now-l.tenure.rests >= p.periodLocked()
		if unused || p.expiredLocked(c, now) {
			p.retireLocked(l)
		}
		if unused && len(p.openLanesLocked(l.group)) == 0 {
			l.group.unused = true
		}
		l.group.growing.Store(false)
	}
}
