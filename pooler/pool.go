package pooler

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/everpool/everpool/internal/yielding"
)

// maxOvertaken is how many later requests may go before a waiter: those of another session
// when the pool is full, before a connection is closed to make room for it, which costs far
// more than a turn; and those that don't block before one that does.
const maxOvertaken = 16

// Pool is the connections of one node: leases, fair waiting, dialing, health.
// Make one with [New]. All methods are safe for concurrent use.
//
// Its invariants, under mu:
//
//   - a connection is in one place: idle, leased, being checked, draining, or
//     closed;
//   - connections and dials together are at most MaxOpenConns, streams apart
//     (unless it was just lowered);
//   - no session has both an idle connection and a waiter;
//   - at most one prober runs, and only while the node is not up;
//   - a waiter is woken once, with a connection or an error.
type Pool struct {
	node  Node
	start time.Time // times are kept as durations since
	ctx   context.Context
	stop  context.CancelFunc
	wg    sync.WaitGroup // every goroutine of the pool

	yields *yielding.Yielder

	tenthJitter bool // ConnMaxLifetimeJitter was left to its default

	mu      sync.Mutex
	cfg     Config // defaults filled in; only what the knobs change is guarded
	closed  bool
	empty   chan struct{} // closed when the last connection of a closed pool is
	conns   conns
	lots    map[*Session]*lot
	recent  *lot     // the one used last
	warm    *Session // the one worked in last: MinIdleConns are kept in it
	queue   queue
	dials   dials
	health  health
	n       counters
	use     use
	later   deferred
	room    room
	part    *part // of a budget of several pools, nil: there is none
	doubts  doubts
	changes changes
	rides   rides
}

// conns are the pool's connections, and how many of them are used for what. Guarded by
// Pool.mu.
type conns struct {
	all      map[*Conn]struct{}
	lastID   uint64
	idle     int
	drains   int
	beyond   int // streams: they don't count for MaxOpenConns
	pinned   int // with a pin, streams apart
	lanes    int
	yielding int // of lanes: retired
}

// add makes a new connection one of the pool's.
func (cs *conns) add(c *Conn) {
	cs.lastID++
	c.id = cs.lastID
	cs.all[c] = struct{}{}
}

// remove takes one out that is closed.
func (cs *conns) remove(c *Conn) {
	delete(cs.all, c)
	if c.lease.beyond {
		cs.beyond--
	} else if c.lease.pin != "" {
		cs.pinned--
	}
}

// setPin says why the lease of c outlasts its request; "": it doesn't.
func (cs *conns) setPin(c *Conn, reason string) {
	if !c.lease.beyond {
		cs.pinned += asInt(reason != "") - asInt(c.lease.pin != "")
	}
	c.lease.pin = reason
	c.lease.kept = c.lease.kept || reason != ""
}

// setBeyond says whether c is a stream, or is to be one. It reports whether that is new.
func (cs *conns) setBeyond(c *Conn, beyond bool) bool {
	if c.lease.beyond == beyond {
		return false
	}
	c.lease.beyond = beyond
	n := 2*asInt(beyond) - 1
	cs.beyond += n
	if c.lease.pin != "" {
		cs.pinned -= n
	}
	return true
}

// asInt is 1 if it is so, else 0.
func asInt(so bool) int {
	if so {
		return 1
	}
	return 0
}

// use is when the pool was used, and what looks after what isn't. Guarded by Pool.mu.
type use struct {
	last    time.Duration
	asked   time.Duration // when a request last asked about an earlier one; 0: never
	drained bool          // and not asked for since
	tick    alarm
}

// note notes that the pool is asked for a connection.
func (u *use) note(now time.Duration) { u.last, u.drained = now, false }

// deferred is what a section under the lock has left to do; see [Pool.unlock].
type deferred struct {
	grow   bool     // connections may be missing
	work   []func() // after the lock: closing, and what lanes have to do
	events []Event  // to be told after that
}

// lot is what the pool has and lacks of one session.
type lot struct {
	session *Session
	idle    []*Conn // the last one is the most recently used
	waiters waiterList
	blocks  waiterList // those whose commands block, in a pool that shares
	riders  waiterList // those who wait for a lane: one serves them all
	late    waiterList // of the waiters, those who were passed over
	shared  *Lanes
	more    bool // another lane is wanted, when there is room
	another bool // another connection is wanted, when there is room: see pickLocked
	dialing int
	streams int // of waiters

	barred time.Duration // until when nothing is dialed without a request
}

// lists are those on which requests wait for any connection of the lot.
func (l *lot) lists() [4]*waiterList {
	return [...]*waiterList{&l.waiters, &l.blocks, &l.riders, &l.late}
}

// waiting is how many requests wait for any connection of the lot.
func (l *lot) waiting() int { return l.waiters.n + l.blocks.n + l.riders.n + l.late.n }

// needs is how many connections would serve all who wait.
func (l *lot) needs() int {
	n := l.waiters.n + l.blocks.n + l.late.n
	if l.riders.n > 0 || l.more {
		n++
	}
	if l.another {
		n++
	}
	return n
}

// begin notes that a connection is being opened.
func (l *lot) begin() { l.another, l.dialing = false, l.dialing+1 }

// first returns the waiter that is served next, or nil.
func (l *lot) first() *waiter {
	w := l.blocks.head
	for _, o := range [...]*waiter{l.waiters.head, l.riders.head} {
		if o.precedes(w) {
			w = o
		}
	}
	if late := l.late.tail; late != nil && (w == nil || w.comesLast()) {
		return late
	}
	return w
}

// New returns a pool for the node. It fails if the configuration is wrong, with
// everything that is wrong. It opens no connection.
func New(node Node, cfg Config) (*Pool, error) {
	err := cfg.Validate()
	if node.Dial == nil {
		err = errors.Join(err, fmt.Errorf("%w: Node.Dial is nil; a function is required", ErrConfig))
	}
	if err != nil {
		return nil, err
	}
	p := &Pool{
		node:   node,
		start:  time.Now(),
		yields: yielding.New(),
		cfg:    cfg.withDefaults(),
		empty:  make(chan struct{}),
		conns:  conns{all: make(map[*Conn]struct{})},
		lots:   make(map[*Session]*lot),
		dials:  dials{ramp: 1},

		tenthJitter: cfg.ConnMaxLifetimeJitter == 0,
		n:           counters{closes: make(map[CloseReason]int64), pins: make(map[string]int64)},
	}
	p.health.since = p.start
	p.queue.expiry.look, p.room.alarm.look, p.use.tick.look = p.expire, p.lookForRoom, p.tend
	p.ctx, p.stop = context.WithCancel(context.Background())
	if node.Budget != nil {
		p.part = node.Budget.join(p)
	}
	return p, nil
}

func (p *Pool) now() time.Duration { return time.Since(p.start) }

// since is a deadline as a duration since the pool's start, 0 if there is none. Of one
// without a monotonic reading it takes what is left now, so that the system's clock may be
// set meanwhile.
func (p *Pool) since(deadline time.Time) time.Duration {
	if deadline.IsZero() {
		return 0
	}
	if deadline == deadline.Round(0) {
		now := time.Now()
		deadline = now.Add(deadline.Sub(now))
	}
	return max(deadline.Sub(p.start), 1)
}

// unlock does what the section under the lock has left to do: it opens the
// connections that are missing, unlocks, closes sockets and tells events.
func (p *Pool) unlock() {
	if p.later.grow {
		p.later.grow = false
		p.growLocked()
	}
	p.yieldLocked()
	p.settleServesLocked()
	p.settlePartLocked()
	work, events := p.later.work, p.later.events
	p.later.work, p.later.events = nil, nil
	p.mu.Unlock()
	for _, do := range work {
		do()
	}
	for _, ev := range events {
		p.cfg.OnEvent(ev)
	}
}

func (p *Pool) note(ev Event) {
	if p.cfg.OnEvent != nil {
		ev.Node, ev.Time = p.node.Addr, time.Now()
		p.later.events = append(p.later.events, ev)
	}
}

func (p *Pool) lotLocked(s *Session) *lot {
	if p.recent != nil && p.recent.session == s {
		return p.recent
	}
	l := p.lots[s]
	if l == nil {
		l = &lot{session: s, blocks: waiterList{yields: true}}
		p.lots[s] = l
	}
	p.recent = l
	return l
}

// Get leases a connection. See [Pooler].
func (p *Pool) Get(ctx context.Context, r Request) (*Conn, error) {
	p.mu.Lock()
	if r.NoWait && p.wouldWaitLocked(r) {
		p.unlock()
		return nil, ErrWouldWait
	}
	if r.account = r.Rider.handOver(); r.account == nil {
		p.n.admitted++
	}
	return p.lease(ctx, r)
}

// wouldWaitLocked reports whether there is no connection for the request, and no reason to
// refuse it. One that only a certain connection can serve waits for that in any case.
func (p *Pool) wouldWaitLocked(r Request) bool {
	return r.Want == nil && len(p.lotLocked(r.Session).idle) == 0 && !p.failingLocked(p.now()) && p.refuseLocked(r) == nil && p.elsewhereLocked(r.Place) == nil
}

// Replace gives c back and leases another connection for its request. See
// [Pooler].
func (p *Pool) Replace(ctx context.Context, c *Conn, r Request, why Again) (*Conn, error) {
	_ = c.lastWords(nil)
	p.mu.Lock()
	if why == Move {
		p.n.moved++
	} else {
		p.n.resent++
	}
	c.Fail(CloseRead, errors.New("everpool: replaced"))
	r.account, r.NoWait = c.lease.account, false
	p.returnLocked(c)
	return p.lease(ctx, r)
}

// lease finds a connection for the request or waits for one. It is called with
// mu held and returns without. When it fails the request has ended.
func (p *Pool) lease(ctx context.Context, r Request) (*Conn, error) {
	now := p.now() // one look for all that follows: it isn't cheap everywhere
	p.use.note(now)
	for {
		if err := p.refuseLocked(r); err != nil {
			p.failLocked(r.account, err)
			p.unlock()
			return nil, err
		}
		c := p.takeIdleLocked(r, now)
		switch {
		case c == nil && r.NoWait && p.wouldWaitLocked(r): // what was idle was dead
			p.failLocked(r.account, ErrElsewhere)
			p.unlock()
			return nil, ErrWouldWait
		case c == nil:
			w, err := p.wait(ctx, r, false, now)
			return w.conn, err
		}
		p.leaseLocked(c, r.Name, r.Blocking, now)
		c.user = r.Rider
		p.setBeyondLocked(c, r.Stream)
		c.lease.account = r.account
		p.later.grow = p.later.grow || p.lackLocked() != nil
		p.unlock()
		// However briefly it was idle: the peer may have closed it, which would
		// cost this request its answer, or have said something that would be
		// taken for its reply.
		if c.alive() {
			return c, nil
		}
		p.mu.Lock()
		p.closeLocked(c, CloseUnasked, nil)
	}
}

// refuseLocked returns why the request can't be served, or nil.
func (p *Pool) refuseLocked(r Request) error {
	switch {
	case p.closed:
		return &Error{Err: ErrClosed, Node: p.node.Addr}
	case r.Session.Dead():
		return &Error{Err: ErrSessionLost, Node: p.node.Addr}
	case r.Want != nil && (r.Want.place == placeClosed || r.Want.Err() != nil ||
		r.Want.place == placeIdle && r.Want.session != r.Session):
		return &Error{Err: ErrConnGone, Node: p.node.Addr}
	case p.doubts.running.Load() > 0: // however many connections there are
		return p.elsewhereLocked(r.Place)
	}
	return nil
}

// takeIdleLocked takes an idle connection for the request off its list.
func (p *Pool) takeIdleLocked(r Request, now time.Duration) *Conn {
	if r.Want != nil {
		p.use.asked = max(now, 1)
		if r.Want.place != placeIdle {
			return nil
		}
		p.unlistLocked(r.Want)
		return r.Want
	}
	l := p.lotLocked(r.Session)
	i := p.pickLocked(l, r.Rider, now)
	if i < 0 {
		return nil
	}
	c := l.idle[i]
	l.idle = slices.Delete(l.idle, i, i+1)
	p.conns.idle--
	return c
}

// unlistLocked takes c off the idle list that it is on.
func (p *Pool) unlistLocked(c *Conn) {
	l := p.lotLocked(c.session)
	i := slices.Index(l.idle, c)
	l.idle = slices.Delete(l.idle, i, i+1)
	p.conns.idle--
}

func (p *Pool) leaseLocked(c *Conn, name string, blocking bool, now time.Duration) {
	c.place, c.lease.holder, c.lease.blocking, c.lease.since = placeLeased, name, blocking, now
	c.lease.contended, c.lease.session, c.lease.noWork, c.lease.account = p.queue.waiting > 0, c.session, false, nil
	c.lease.kept = false
}

// setBeyondLocked says whether the connection is a stream, or is to be one. Its room is
// free then.
func (p *Pool) setBeyondLocked(c *Conn, beyond bool) {
	if p.conns.setBeyond(c, beyond) {
		p.later.grow = true
	}
}

// concludeLocked counts the end of a request in its account, or among the leases.
func (p *Pool) concludeLocked(a account, o Outcome) {
	switch {
	case a != nil:
		a.conclude(p, o)
	case o == Answered:
		p.n.answered++
	case o == Abandoned:
		p.n.abandoned++
	default:
		p.n.failed++
	}
}

// failLocked counts the end of a request that got no connection.
func (p *Pool) failLocked(a account, err error) {
	p.concludeLocked(a, Failed)
	if errors.Is(err, ErrElsewhere) {
		p.n.sentAway++
	}
}

// failWaiterLocked ends a request's wait in vain.
func (p *Pool) failWaiterLocked(w *waiter, err error, now time.Duration) {
	p.failLocked(w.account, err)
	p.wakeLocked(w, nil, err, now)
}

// Put gives c back. See [Pooler].
func (p *Pool) Put(c *Conn, o Outcome) {
	if c.changed {
		p.nodeChanged(c)
	}
	p.mu.Lock()
	p.concludeLocked(c.lease.account, o)
	switch o {
	case Unknown:
		p.n.unknown++
	case Answered:
		p.notePaceLocked(c)
	}
	p.returnLocked(c)
	p.unlock()
}

// returnLocked finds the next place of a connection that nobody holds.
func (p *Pool) returnLocked(c *Conn) {
	if c.place == placeClosed {
		return
	}
	if c.lease.pin == "" && !c.lease.blocking && !p.closed && c.Err() == nil && c.Mode() == Counted && c.owed.Load() > 0 {
		p.drainLocked(c)
		return
	}
	if c.Mode() == Counted { // no stream has come of it
		p.setBeyondLocked(c, false)
	}
	now := p.now()
	if reason, err := p.judgeLocked(c, now); reason != "" {
		p.closeLocked(c, reason, err)
		c.in.release() // a handle may remember the connection
		return
	}
	c.idleSince, c.checked, c.lease.holder = now, now, ""
	p.answeredLocked(c.lease.since, now)
	if c.session == c.lease.session && !c.lease.noWork { // else it was a handshake, see SetSession
		p.workLocked(c.session)
	}
	if n := c.pushDropped.Swap(0); n > 0 {
		p.n.pushes += n
	}
	p.placeLocked(c, now)
}

// judgeLocked returns why the connection can't serve another request, or "".
func (p *Pool) judgeLocked(c *Conn, now time.Duration) (CloseReason, error) {
	clean := c.tidy()
	switch {
	case c.Err() != nil:
		return CloseRead, nil // closeLocked knows better
	case p.closed:
		return ClosePoolClosed, nil
	case c.lease.pin != "" || c.Mode() != Counted:
		return CloseState, nil
	case !clean:
		return CloseAbandoned, nil
	case c.session.Dead():
		return CloseSessionLost, nil
	case c.id <= p.changes.retiredTo:
		return CloseRetired, errChanged
	case p.countedLocked() > p.maxLocked():
		return CloseRoom, nil
	case p.expiredLocked(c, now):
		return CloseLifetime, nil
	}
	return "", nil
}

// placeLocked gives a good connection to whoever waits for it, or keeps it.
func (p *Pool) placeLocked(c *Conn, now time.Duration) {
	for w := c.wanted.head; w != nil; w = c.wanted.head {
		if w.session == c.session {
			p.wakeLocked(w, c, nil, now)
			return
		}
		p.failWaiterLocked(w, &Error{Err: ErrConnGone, Node: p.node.Addr}, now) // it serves another session now
	}
	l := p.lotLocked(c.session)
	if l.streams > l.dialing && p.countedLocked() > p.boundLocked() { // it is there for a stream
		p.wakeLocked(l.waiters.firstStream(), c, nil, now)
		return
	}
	p.passOverLocked(l, now)
	w := l.first()
	if l.late.n > 0 && p.queue.paces.tries() {
		w = l.late.tail
	}
	if w != nil {
		if p.overtakenLocked(w) {
			p.closeLocked(c, CloseRoom, nil)
			return
		}
		l.overtake(w)
		if w == l.riders.head || w.blocking && p.lacksLaneLocked(l) {
			p.openLaneLocked(l, c, now)
		} else {
			p.wakeLocked(w, c, nil, now)
		}
		return
	}
	l.more = l.more && p.mayOpenLaneLocked()
	switch {
	case l.more && !p.use.drained:
		p.openLaneLocked(l, c, now)
		p.tickLocked()
		return
	case p.use.drained:
		p.closeLocked(c, CloseDrained, nil)
		return
	case p.conns.idle >= p.cfg.MaxIdleConns:
		p.closeLocked(c, CloseMaxIdle, nil)
		return
	}
	c.place = placeIdle
	l.idle = append(l.idle, c)
	p.conns.idle++
	if p.queue.waiting > 0 || p.lackLocked() != nil {
		p.later.grow = true // another session may need its room, or this one has too few
	}
	p.tickLocked()
}

// overtakenLocked reports whether a full pool has to serve a waiter of another session before
// w: it came before and was passed over too often; or w blocks, it doesn't, and a pool that
// shares has no lane left.
func (p *Pool) overtakenLocked(w *waiter) bool {
	if p.queue.waiting == p.lotLocked(w.session).waiting() || !p.fullLocked() {
		return false // nobody else waits, or there is room
	}
	var oldest *waiter
	for _, l := range p.lots {
		o := l.first()
		switch {
		case o == nil || l.dialing > 0:
		case w.comesLast() && !o.comesLast() && p.conns.lanes == 0:
			return true
		case o.seq < w.seq && (oldest == nil || o.seq < oldest.seq):
			oldest = o
		}
	}
	if oldest == nil {
		return false
	}
	oldest.overtaken++
	return oldest.overtaken > maxOvertaken
}

// closeLocked ends a connection that is on no list. If the connection itself
// knows why it is dead, that reason counts.
func (p *Pool) closeLocked(c *Conn, reason CloseReason, err error) {
	if c.place == placeClosed {
		return
	}
	if cl := c.cause.Load(); cl != nil {
		reason, err = cl.reason, cl.err
	}
	c.Fail(reason, &Error{Err: ErrClosed, Node: p.node.Addr})
	c.place = placeClosed
	p.conns.remove(c)
	p.n.closes[reason]++
	if reason == ClosePeer || reason == CloseRead || reason == CloseWrite {
		p.dials.ramp = 1 // the node may be gone; one dial finds out as well as many
		p.health.loseLocked(p.now())
	}
	p.n.pushes += c.pushDropped.Swap(0)
	p.note(Event{Kind: EventClose, Conn: c.id, Reason: reason, Err: err})
	p.wakeAllLocked(&c.wanted, everyone, &Error{Err: ErrConnGone, Node: p.node.Addr})
	lane := c.lane
	p.later.work = append(p.later.work, func() {
		_ = c.nc.Close()
		if lane != nil {
			lane.die()
		}
	})
	p.later.grow = true
	if !p.closed && p.mistakenLocked(err) {
		p.dialFailedLocked(err, p.now()) // it was dialed in vain
	}
	if p.closed && len(p.conns.all) == 0 {
		close(p.empty)
	}
}

// closeIdleLocked ends all idle connections of the lot.
func (p *Pool) closeIdleLocked(l *lot, reason CloseReason, err error) {
	p.conns.idle -= len(l.idle)
	for _, c := range l.idle {
		p.closeLocked(c, reason, err)
	}
	l.idle = nil
}

// Pin notes that the lease of c outlasts its request. See [Pooler].
func (p *Pool) Pin(c *Conn, reason string) {
	p.mu.Lock()
	if reason != "" && reason != c.lease.pin {
		p.n.pins[reason]++
		p.note(Event{Kind: EventPin, Conn: c.id, Pin: reason})
	}
	p.conns.setPin(c, reason)
	p.later.grow = p.later.grow || p.queue.waiting > 0 // it may be parked soon
	if c.Mode() == Stream && c.place == placeLeased {
		p.setBeyondLocked(c, true)
	}
	p.unlock()
}

// fullLocked reports whether there is no room for one connection more.
func (p *Pool) fullLocked() bool { return p.countedLocked() >= p.maxLocked() }

// countedLocked is the number of connections that count for MaxOpenConns, dials
// included.
func (p *Pool) countedLocked() int { return len(p.conns.all) + p.dials.running - p.conns.beyond }

// expiredLocked reports whether c has reached its own lifetime.
func (p *Pool) expiredLocked(c *Conn, now time.Duration) bool {
	if p.cfg.ConnMaxLifetime <= 0 {
		return false
	}
	jitter := time.Duration(c.jitter * float64(min(p.cfg.ConnMaxLifetimeJitter, p.cfg.ConnMaxLifetime)))
	return now-c.created >= p.cfg.ConnMaxLifetime+jitter
}

// adoptLocked makes a new connection the pool's own.
func (p *Pool) adoptLocked(c *Conn, now time.Duration) {
	p.conns.add(c)
	c.created, c.idleSince, c.checked = now, now, now
	c.jitter = 2*rand.Float64() - 1
	p.tickLocked()
}

// Close ends the pool. See [Pooler].
func (p *Pool) Close() error {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		<-p.empty
		p.wg.Wait()
		return nil
	}
	p.closed = true
	gone := &Error{Err: ErrClosed, Node: p.node.Addr}
	for _, l := range p.lots {
		p.wakeLotLocked(l, everyone, gone)
		p.closeIdleLocked(l, ClosePoolClosed, nil)
	}
	p.releaseLocked(everyone, gone)
	for c := range p.conns.all {
		if c.lane != nil {
			p.retireLocked(c.lane)
		}
		if c.lease.pin != "" || c.lease.blocking || c.Mode() != Counted {
			p.closeLocked(c, ClosePoolClosed, nil)
		}
	}
	p.use.tick.cancel()
	p.queue.expiry.cancel()
	p.room.alarm.cancel()
	p.health.stopLocked()
	if len(p.conns.all) == 0 {
		select {
		case <-p.empty:
		default:
			close(p.empty)
		}
	}
	grace := p.cfg.HealthCheckTimeout
	p.unlock()
	p.stop()

	t := time.NewTimer(grace)
	defer t.Stop()
	select {
	case <-p.empty:
	case <-t.C:
		p.mu.Lock()
		for c := range p.conns.all {
			p.closeLocked(c, ClosePoolClosed, nil)
		}
		p.unlock()
	}
	p.wg.Wait()
	if p.part != nil {
		p.part.budget.leave(p)
	}
	return nil
}
