package pooler

import (
	"sync"
	"sync/atomic"
	"time"
)

// watch has a lane looked at when something may be due: the end of a rider's or
// the writer's time, or of the silence that is put up with. It is one timer for
// all of them, which a lane without exchanges doesn't have.
type watch struct {
	at     atomic.Int64 // when it goes off, since Pool.start; 0: it doesn't
	listen atomic.Bool  // it goes off in time to notice a silence
	reads  atomic.Int64 // that brought bytes
	mu     sync.Mutex   // taken under Lane.mu and Rider.mu
	timer  *time.Timer
	over   bool
	putOff bool          // the last look came late, and has left all to the next one
	heardN int64         // reads at the last look
	quiet  time.Duration // since when nothing was heard, as far as the looks tell
	elders elders
}

// elders are the exchanges that were under way at a look at the lane, until all of them are
// answered. Exchanges don't note when they have begun, which would take each a look at the
// clock: that one of the elders is still under way tells how old it is at least. Guarded by
// Lane.mu.
type elders struct {
	tail uint64        // lane.tail then
	at   time.Duration // since Pool.start
}

// look takes those that are under way now for the elders if none of them is left.
func (e *elders) look(head, tail uint64, now time.Duration) {
	if head >= e.tail {
		e.tail, e.at = tail, now
	}
}

// age is how long the exchange at head has been under way at least, 0: not since a look.
func (e *elders) age(head uint64, now time.Duration) time.Duration {
	if head >= e.tail {
		return 0
	}
	return max(0, now-e.at)
}

// heard notes that bytes have come.
func (w *watch) heard() { w.reads.Add(1) }

// by has the lane looked at by the given time, 0: never.
func (w *watch) by(l *lane, d time.Duration) {
	if at := time.Duration(w.at.Load()); d == 0 || at != 0 && at <= d {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if at := time.Duration(w.at.Load()); w.over || at != 0 && at <= d {
		return
	}
	w.at.Store(int64(d))
	left := max(d-l.pool.now(), 0)
	if w.timer == nil {
		w.timer = time.AfterFunc(left, l.onWatch)
	} else {
		w.timer.Reset(left)
	}
}

// start begins to watch for silence when a lane has become busy. Lane.mu is held.
func (w *watch) start(l *lane) {
	if w.listen.Load() || l.pool.cfg.SilenceAfter == 0 {
		return
	}
	w.listen.Store(true)
	now := l.pool.now()
	w.elders.look(l.head.Load(), l.tail.Load(), now)
	w.mu.Lock()
	w.heardN, w.quiet = w.reads.Load(), now
	w.mu.Unlock()
	w.by(l, now+min(heldAfter, l.pool.cfg.SilenceAfter))
}

// stop ends the watch.
func (w *watch) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.over = true
	if w.timer != nil {
		w.timer.Stop()
	}
}

// silence reports whether the lane owes replies, and has said nothing since the
// time that it returns, at least.
func (l *lane) silence() (owes bool, since time.Duration) {
	w := &l.watch
	w.mu.Lock()
	defer w.mu.Unlock()
	if l.inFlight() == 0 || w.reads.Load() != w.heardN {
		return false, 0
	}
	return true, w.quiet
}

// lateLook is by how much a look comes late from which on what has come meanwhile is to be read
// first, and how much time there is for that: the process was stopped, or had no processor.
const lateLook = 20 * time.Millisecond

// isLate puts a look off that comes late, once. Nobody was able to read what was answered in
// time, and the timers of a process that goes on are mostly faster than its readers.
func (w *watch) isLate(now time.Duration) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	at := time.Duration(w.at.Load())
	w.putOff = !w.over && !w.putOff && at > 0 && now-at > lateLook
	if w.putOff {
		w.at.Store(int64(now + lateLook))
		w.timer.Reset(lateLook)
	}
	return w.putOff
}

// onWatch wakes those whose time is over, and has a lane that is silent probed.
func (l *lane) onWatch() {
	w := &l.watch
	if w.isLate(l.pool.now()) {
		return
	}
	l.mu.Lock()
	// Who comes from here on sets it anew; who came before is seen below. Not
	// sooner: while a look waits for the lock, others would be begun.
	w.at.Store(0)
	w.listen.Store(false)
	now := l.pool.now()
	w.elders.look(l.head.Load(), l.tail.Load(), now)
	var next time.Duration
	soonest := func(d time.Duration) {
		if d > now && (next == 0 || d < next) {
			next = d
		}
	}
	see := func(r *Rider) {
		r.mu.Lock()
		if !r.dueLocked(now) && r.state != riderRunning {
			soonest(r.by)
		}
		r.mu.Unlock()
	}
	for _, e := range l.room.all {
		if e.expired = e.by > 0 && e.by <= now; e.expired {
			e.call()
		} else {
			soonest(e.by)
		}
	}
	for i, tail := l.head.Load(), l.tail.Load(); i != tail; i++ {
		if r := l.slots[i%maxExchanges].rider.Load(); r != nil {
			see(r)
		}
	}
	cut := false
	if l.writeBy > 0 && l.writeBy <= now {
		l.writeBy = 0
		if cut = l.conn.socket.opaque; cut {
			l.conn.Fail(CloseWrite, errWriteLate) // what has begun can't be left to another
		}
		_ = l.conn.nc.SetWriteDeadline(past)
	} else {
		soonest(l.writeBy)
	}
	busy := l.inFlight() > 0 && l.conn.Err() == nil
	l.mu.Unlock()
	l.group.growing.Store(false)
	if cut {
		l.die()
	}
	if busy {
		l.untaken()
	}

	if limit := l.pool.cfg.SilenceAfter; busy && limit > 0 {
		w.listen.Store(true)
		soonest(l.listen(now, limit))
	}
	w.by(l, next)
}

// listen has a busy lane doubted that has been silent for so long, and returns when
// to listen again. While nobody read something may have come, so the verdict is left
// until the replies are attended to. That takes nothing from the silence: what had
// come would be read at once.
func (l *lane) listen(now, limit time.Duration) (next time.Duration) {
	w := &l.watch
	unread := l.attend()
	w.mu.Lock()
	if n := w.reads.Load(); n != w.heardN {
		w.heardN, w.quiet = n, now
	}
	due := w.quiet + limit
	w.mu.Unlock()
	switch {
	case now < due:
		if !unread && l.holdsReadsUp() {
			l.pool.askEarly(l, now-(due-limit))
		}
		return min(due, now+min(heldAfter, limit/2))
	case unread:
		return now + stragglers
	}
	l.pool.doubt(l)
	return now + limit/2
}

// attend has the replies read that nobody waits for, while there are any, if
// nobody else reads.
func (l *lane) attend() bool {
	if l.inFlight() == 0 || l.leader.Load() != nil {
		return false
	}
	a := NewRider()
	a.receiving = true
	if !l.leader.CompareAndSwap(nil, a) {
		return false
	}
	l.pool.wg.Go(func() {
		for {
			owner := l.deliver()
			if owner != nil && l.handTo(owner, a) {
				return
			}
			if l.conn.Err() != nil || l.inFlight() == 0 || l.parked.Load() > 0 {
				l.stepDown(a)
				return
			}
			if !l.conn.Buffered() {
				l.fill(a)
			}
		}
	})
	return true
}
