package pooler

import (
	"slices"
	"time"
)

// A server that holds writes back (CLIENT PAUSE WRITE, a failover) answers reads, and each
// connection in order: so reads wait behind a write, on each lane that a write comes to.
// Once that is seen the reads leave, and writes have a lane of their own until one of them
// is answered there. They don't have it always, since what goes together costs least.

// heldBackAfter is how long a lane is silent, as a part of SilenceAfter, before the pool
// asks on an idle connection whether the server answers there. It costs no dial.
const heldBackAfter = 8

// apartFor returns the lanes that a request may ride while w is to have all writes. That
// ends with the first byte that w brings, or with w.
func (s *Lanes) apartFor(x *Exchange, w *lane, lanes []*lane) []*lane {
	if w.isClosed() || w.watch.reads.Load() > 0 || len(lanes) < 2 {
		s.writes.CompareAndSwap(w, nil)
		return lanes
	}
	if !x.Reads {
		return []*lane{w}
	}
	return slices.DeleteFunc(slices.Clone(lanes), func(l *lane) bool { return l == w })
}

// waitsForWrite reports whether the reply that comes next on the lane is that to a write.
func (l *lane) waitsForWrite() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := &l.slots[l.head.Load()%maxExchanges]
	r := s.rider.Load()
	return l.group.writes.Load() != l && r != nil && r != &ghost && !s.reads && !r.mayGo()
}

// has reports whether a request that reads is under way on the lane, or one that doesn't.
func (l *lane) has(reads bool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, tail := l.head.Load(), l.tail.Load(); i != tail; i++ {
		if l.slots[i%maxExchanges].reads == reads {
			return true
		}
	}
	return false
}

func (r *Rider) mayGo() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.mayGoLocked()
}

// silentFor is how long the lane may be silent before it is doubted, 0: for ever. The lane
// of writes that are held back is expected to be silent.
func (l *lane) silentFor() time.Duration {
	limit := l.pool.cfg.SilenceAfter
	if limit > 0 && l.group.writes.Load() == l {
		limit = max(limit, l.pool.cfg.HealthCheckTimeout)
	}
	return limit
}

// askIdle asks on an idle connection whether the server answers there, while a lane is
// silent on which reads wait behind a write.
func (p *Pool) askIdle(l *lane) {
	p.mu.Lock()
	defer p.unlock()
	lot := p.lotLocked(l.group.session)
	if p.closed || lot.asking || len(lot.idle) == 0 || p.health.state != StateUp || l.conn.lane != l || l.deserted.Load() || l.isSlow() {
		return
	}
	c := lot.idle[len(lot.idle)-1]
	p.unlistLocked(c)
	c.place = placeChecking
	lot.asking = true
	p.wg.Go(func() { p.settleAsking(lot, l, c) })
}

// settleAsking asks on c, and draws the conclusions.
func (p *Pool) settleAsking(lot *lot, l *lane, c *Conn) {
	defer p.interruptWhenClosed(c)()
	began := p.now()
	answered := c.alive() && p.answers(c)
	var w *Conn
	dialed := p.now()
	if answered {
		w = p.openAnother(lot)
		answered = p.askAgain(c) == nil && !c.isBusy()
	}
	p.mu.Lock()
	defer p.unlock()
	lot.asking = false
	if w != nil {
		p.apartLocked(lot, w, dialed, answered && l.silentSince(began) && l.waitsForWrite())
	}
	p.unborrowLocked(c, p.now())
}

// answers asks on an idle connection.
func (p *Pool) answers(c *Conn) bool {
	err := c.ping(time.Now().Add(p.cfg.HealthCheckTimeout))
	if err != nil && c.Err() == nil {
		c.Fail(CloseHealth, err)
	}
	return err == nil
}

// openAnother opens a connection for writes alone. It returns nil if there is no room for
// one, or no coming by.
func (p *Pool) openAnother(lot *lot) *Conn {
	p.mu.Lock()
	if p.closed || p.fullLocked() || p.cfg.SharedConns < 2 || p.lanes+2 > max(1, p.cfg.MaxOpenConns-1) {
		p.mu.Unlock()
		return nil
	}
	p.beginDialLocked(lot)
	p.unlock()
	began := p.now()
	c, err := p.open(lot.session, false)
	if err != nil {
		p.settleDial(lot, nil, err, began, func() {})
	}
	return c
}

// apartLocked takes in the connection w, whose dial began at that time. If writes are held
// back it has all of them from now on, those that have some are given up, and reads are to
// have the next connection.
func (p *Pool) apartLocked(lot *lot, w *Conn, began time.Duration, held bool) {
	if held {
		for _, l := range *p.groupLocked(lot).lanes.Load() {
			if !l.isClosed() && l.has(false) {
				p.giveUpLocked(l, errHeldBack)
			}
		}
	}
	lot.apart, lot.more = held, lot.more || held
	p.endDialLocked(lot, w, nil, began)
	lot.apart, lot.more = false, lot.more || held // another request may have needed it more
}
