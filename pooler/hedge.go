package pooler

import (
	"context"
	"time"
)

const (
	// hedgeShare is the part of DialTimeout after which another dial is made beside one that
	// isn't over yet, and the part of the time since it began that passes between two more.
	// By default the first is later than the system's second try of a packet that was lost,
	// after 1 s.
	hedgeShare = 4

	// hedgeLook is how soon it is looked again whether somebody waits for another dial.
	hedgeLook = 50 * time.Millisecond
)

// race is a dial, and others that are made beside it. A dial may hang where the next one
// does not: one of several servers behind the address is dead, a proxy has lost the
// connection, a credentials provider doesn't come back; and all who wait are waiting for
// this one. So another one is made after a part of DialTimeout, and further ones less and
// less often. The first that succeeds is taken; what fails counts of the dial itself
// alone. Guarded by Pool.mu.
type race struct {
	pool    *Pool
	session *Session
	probe   bool
	began   time.Duration
	next    *time.Timer
	won     func(*Conn) // takes the connection of another dial, with the lock held
	over    bool
}

// raceLocked begins one, for a dial that has just begun. It returns nil while calls fail
// fast, where nobody waits for long.
func (p *Pool) raceLocked(s *Session, probe bool, began time.Duration, won func(*Conn)) *race {
	if p.failingLocked(began) {
		return nil
	}
	r := &race{pool: p, session: s, probe: probe, began: began, won: won}
	r.next = time.AfterFunc(p.cfg.DialTimeout/hedgeShare, r.hedge)
	return r
}

// end notes that the dial itself has come to c or err. If another one was taken before
// it drops c, and reports false.
func (r *race) end(c *Conn, err error) bool {
	if r == nil {
		return true
	}
	r.pool.mu.Lock()
	defer r.pool.unlock()
	r.next.Stop()
	if r.over {
		r.dropLocked(c, err)
		return false
	}
	r.over = true
	return true
}

// hedge makes another dial if somebody waits for it and there is room.
func (r *race) hedge() {
	p := r.pool
	p.mu.Lock()
	defer p.unlock()
	if r.over || p.closed {
		return
	}
	now := p.now()
	if p.queue.waiting+p.health.awaiting.n == 0 || p.failingLocked(now) || p.dials.running >= p.cfg.MaxConcurrentDials || p.fullLocked() {
		r.next.Reset(hedgeLook)
		return
	}
	r.next.Reset((now - r.began) / hedgeShare)
	p.dials.running++
	p.n.dials++
	p.wg.Go(r.dialBeside)
}

// dialBeside makes another dial, which has no longer than the first.
func (r *race) dialBeside() {
	p := r.pool
	ctx, cancel := context.WithTimeout(p.ctx, p.cfg.DialTimeout-(p.now()-r.began))
	defer cancel()
	c, err := p.openWithin(ctx, r.session, r.probe)
	p.mu.Lock()
	defer p.unlock()
	if err != nil || r.over || p.closed {
		r.dropLocked(c, err)
		return
	}
	r.over = true // that one dial is still under way is counted until its end
	r.won(c)
}

// dropLocked settles a dial of which nothing is needed.
func (r *race) dropLocked(c *Conn, err error) {
	p := r.pool
	p.dials.running--
	p.later.grow = true
	if err != nil {
		p.n.dialErrors++
		return
	}
	p.later.work = append(p.later.work, func() { _ = c.nc.Close() })
}
