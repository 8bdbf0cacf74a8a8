package pooler

import (
	"errors"
	"net"
	"sync/atomic"
	"time"
)

// A full pool gets room for a request that waits, in this order: by an idle connection
// of another session, by one that its handle keeps and could do without, by a lane. A
// lane isn't closed but drained; its connection then serves the request if it has its
// session.

// room is what the pool does about it that it is full. Guarded by Pool.mu.
type room struct {
	alarm alarm       // has some looked for, for those who wait
	short atomic.Bool // a request waits for the next connection that is parked; none is
}

// What a full pool has lent stays lent for a moment although a request waits that
// could use it: those who have waited for it have to get something of it.
const (
	// laneTenure is how long a lane is kept, and how long a request waits, where
	// connections may come back by themselves, before it takes one that is kept.
	laneTenure = 5 * time.Millisecond

	// keptTenure is how long a handle keeps its connection: long enough for the
	// handshake and some requests, since each change costs a dial.
	keptTenure = 50 * time.Millisecond
)

// makeRoomLocked reports whether there is room for a connection of the lot. In a full
// pool it makes some for w, if any: it closes the connection that was idle for longest
// in another lot, or one that its handle keeps and could do without.
func (p *Pool) makeRoomLocked(l *lot, w *waiter) bool {
	switch {
	case !p.fullLocked():
		return true
	case w == nil:
		return false
	case p.evictLocked(l):
		return true
	case p.conns.pinned == 0 || p.room.short.Load():
		return false
	}
	now := p.now()
	if left := laneTenure - (now - w.since); left > 0 && !p.stuckLocked() {
		p.lookForRoomLocked(left, now)
		return false
	}
	p.room.short.Store(true) // first: one that is parked while this looks must not be missed
	for c := range p.conns.all {
		if c.lease.pin != "" && !c.lease.beyond && c.parked.Load() == parked && p.reclaimLocked(c, now) {
			p.room.short.Store(false)
			p.closeLocked(c, CloseRoom, nil)
			return true
		}
	}
	return false
}

// reclaimLocked takes a parked connection from its handle, once it has had it for
// keptTenure.
func (p *Pool) reclaimLocked(c *Conn, now time.Duration) bool {
	if left := keptTenure - (now - c.lease.since); left > 0 {
		p.lookForRoomLocked(left, now)
		return false
	}
	return c.parked.CompareAndSwap(parked, reclaimed)
}

// parkedWhileShort takes a connection that was parked while a request waits for one.
// That is settled at once, or its handle would have it back first, again and again.
// Closing it, which is told, isn't: Park may be called under the lock of a handle.
func (p *Pool) parkedWhileShort(c *Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || !p.room.short.Load() || !p.reclaimLocked(c, p.now()) {
		return
	}
	p.room.short.Store(false)
	p.wg.Go(func() {
		p.mu.Lock()
		p.closeLocked(c, CloseRoom, nil)
		p.unlock()
	})
}

// lookForRoomLocked has the pool look for room after that time.
func (p *Pool) lookForRoomLocked(after, now time.Duration) {
	p.room.alarm.set(now+after, now)
}

// lookForRoom looks again whether a request that waits can be served.
func (p *Pool) lookForRoom() {
	p.mu.Lock()
	p.room.alarm.clear()
	p.later.grow = true
	p.room.short.Store(false)
	p.unlock()
}

// evictLocked closes the connection that was idle for longest in another lot than
// l, to make room.
func (p *Pool) evictLocked(l *lot) bool {
	from := p.oldestIdleLocked(l)
	if from == nil {
		return false
	}
	c := from.idle[0]
	p.unlistLocked(c)
	p.closeLocked(c, CloseRoom, nil)
	return true
}

// oldestIdleLocked returns the lot whose first idle connection was idle for longest, of
// all but the one that is given, or nil if none has one.
func (p *Pool) oldestIdleLocked(but *lot) *lot {
	var oldest *lot
	for _, o := range p.lots {
		if o != but && len(o.idle) > 0 && (oldest == nil || o.idle[0].idleSince < oldest.idle[0].idleSince) {
			oldest = o
		}
	}
	return oldest
}

// stuckLocked reports whether none of the pool's connections comes back by itself soon:
// they are lanes, kept by their handles, or lent to commands that block. The last only
// count while another one than such a command waits: it would get the lane, and those who
// share must not be held up by any number of them.
func (p *Pool) stuckLocked() bool {
	stuck := p.conns.lanes + p.conns.pinned
	if !p.onlyBlockingLocked() {
		stuck += p.blockingLocked()
	}
	return stuck >= p.countedLocked()
}

// blockingLocked is how many connections are lent to commands that block.
func (p *Pool) blockingLocked() (n int) {
	for c := range p.conns.all {
		if c.lease.blocking && c.place == placeLeased && c.lease.pin == "" {
			n++
		}
	}
	return n
}

// lacksLaneLocked reports whether those of the lot who share are without a lane in a pool
// that can't grow, and commands that block have what else there is: the next one must not have the
// last connection, too, or those who share would wait for as long as it blocks.
func (p *Pool) lacksLaneLocked(l *lot) bool {
	return l.shared != nil && !l.shared.unused && len(p.openLanesLocked(l.shared)) == 0 &&
		(p.fullLocked() || p.shutLocked()) && p.mayOpenLaneLocked() && p.blockingLocked() > 0
}

// onlyBlockingLocked reports whether nobody is the next of a session but commands that block.
func (p *Pool) onlyBlockingLocked() bool {
	for _, l := range p.lots {
		if l.riders.n > 0 || l.late.n > 0 || l.waiters.n > 0 && !l.waiters.head.blocking {
			return false
		}
	}
	return true
}

// yieldLocked retires a lane if somebody waits and no connection of a pool that can't grow
// would ever come back by itself.
func (p *Pool) yieldLocked() {
	if p.queue.waiting == 0 || p.conns.lanes == 0 || p.conns.yielding > 0 {
		return
	}
	if p.shutLocked() {
		p.lendLocked()
		return
	}
	if !p.fullLocked() || p.conns.idle > 0 || !p.anyFirstLocked() {
		return
	}
	if p.queue.waiting > p.dials.running {
		if l := p.spareLaneLocked(); l != nil {
			p.retireLocked(l)
			return
		}
	}
	if !p.stuckLocked() {
		p.yieldRestingLocked()
		return
	}
	least := p.leastLaneLocked()
	if least == nil {
		return
	}
	now := p.now()
	if left := laneTenure - (now - least.tenure.opened); left > 0 {
		p.lookForRoomLocked(left, now)
	} else {
		p.retireLocked(least)
	}
}

// yieldRestingLocked retires a lane that carries nothing where only commands that block wait:
// those that have the other connections keep them for long, and it is as good as an idle one.
// It is the lane that has rested for longest, and for a moment at least, unless there are more
// than many callers use. The last one stays for those who share.
func (p *Pool) yieldRestingLocked() {
	if p.conns.lanes < 2 || !p.onlyBlockingLocked() {
		return
	}
	now := p.now()
	var rests *lane
	for c := range p.conns.all {
		if l := c.lane; l != nil && l.lookLocked(now) && (rests == nil || l.tenure.rests < rests.tenure.rests) {
			rests = l
		}
	}
	if rests == nil {
		p.lookForRoomLocked(laneTenure, now)
		return
	}
	since := rests.tenure.rests
	if p.conns.lanes > lanesOfMany(p.cfg.SharedConns) {
		since = rests.tenure.opened
	}
	if left := laneTenure - (now - since); left > 0 {
		p.lookForRoomLocked(left, now)
	} else {
		p.retireLocked(rests)
	}
}

// shutLocked reports whether the node takes no new connection while it may well serve on
// those that are open: it has its max number of clients, it is about to be replaced, its
// name can't be looked up, or this process has no file or port left. A dial that times out
// may mean that the server stands still, whose connections are better left alone, and one
// that says that it isn't ready has restarted, or is another one.
func (p *Pool) shutLocked() bool {
	err := p.health.lastErr
	if p.health.state == StateUp || err == nil || isUnready(err) {
		return false
	}
	_, ofName := errors.AsType[*net.DNSError](err)
	timeout, ok := errors.AsType[net.Error](err)
	return ofName || !ok || !timeout.Timeout()
}

// lendLocked retires a lane for a request that needs a connection to itself where no new
// one is to be had, of its own session: one that carries nothing if there is one. The last
// lane stays where the request may block, but for one that carries nothing of a server with
// its max number of clients, of whom one may leave; and while handles keep connections, as
// this one may: those who share it would be held up, or left with none.
func (p *Pool) lendLocked() {
	now := p.now()
	for _, l := range p.lots {
		w := l.first()
		if w == nil || w == l.riders.head || w.stream || len(l.idle) > 0 || l.shared == nil {
			continue
		}
		lanes := p.openLanesLocked(l.shared)
		var least *lane
		for _, lane := range lanes {
			if least == nil || lane.inFlight() < least.inFlight() {
				least = lane
			}
		}
		if least == nil {
			continue
		}
		full := errors.Is(p.health.lastErr, errMaxClients) && least.inFlight() == 0
		if len(lanes) == 1 && (p.conns.pinned > 0 || w.blocking && !full) {
			continue
		}
		if left := laneTenure - (now - max(least.tenure.opened, w.since)); left > 0 && least.inFlight() > 0 {
			p.lookForRoomLocked(left, now)
			continue
		}
		p.retireLocked(least)
		return
	}
}

// leastLaneLocked returns the lane that carries least of those that aren't retired, or nil.
func (p *Pool) leastLaneLocked() *lane {
	var least *lane
	for c := range p.conns.all {
		if c.lane != nil && !c.lane.tenure.yielding && (least == nil || c.lane.inFlight() < least.inFlight()) {
			least = c.lane
		}
	}
	return least
}

// spareLaneLocked returns a lane that only spares a few callers each other's
// company, if there is one: whoever would have to wait needs it more.
func (p *Pool) spareLaneLocked() *lane {
	most := lanesOfMany(p.cfg.SharedConns)
	if p.conns.lanes <= most {
		return nil
	}
	var least *lane
	for _, lot := range p.lots {
		if lot.shared == nil || len(p.openLanesLocked(lot.shared)) <= most {
			continue
		}
		for _, l := range *lot.shared.lanes.Load() {
			if least == nil || l.inFlight() < least.inFlight() {
				least = l
			}
		}
	}
	return least
}

// anyFirstLocked reports whether somebody waits whom any connection would serve.
func (p *Pool) anyFirstLocked() bool {
	for _, l := range p.lots {
		if l.first() != nil {
			return true
		}
	}
	return false
}
