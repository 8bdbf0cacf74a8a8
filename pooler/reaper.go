package pooler

import (
	"cmp"
	"slices"
	"time"
)

// tickLocked has the pool look after its idle connections while it has any. A
// pool without connections has no timer.
func (p *Pool) tickLocked() {
	if p.closed || len(p.conns.all) == 0 {
		return
	}
	if d := p.periodLocked(); d > 0 && p.use.tick.at == 0 {
		now := p.now()
		p.use.tick.set(now+d, now)
	}
}

// periodLocked is the time between two looks, 0 if nothing needs one.
func (p *Pool) periodLocked() time.Duration {
	var period time.Duration
	for _, d := range []time.Duration{p.cfg.HealthCheckInterval, p.cfg.ConnMaxIdleTime, p.cfg.ConnMaxLifetime} {
		if d > 0 && (period == 0 || d < period) {
			period = d
		}
	}
	if period == 0 {
		return 0
	}
	return max(period, 5*time.Millisecond)
}

// tend closes what has been idle or alive for too long and checks the rest.
func (p *Pool) tend() {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return
	}
	p.wg.Add(1)
	defer p.wg.Done()
	now := p.now()
	p.reapLocked(now)
	p.lookAtLanesLocked(now)
	p.sweepLocked()
	check := p.cfg.HealthCheckInterval > 0
	p.later.grow = true
	p.unlock()
	if check {
		// The one that has been quiet for longest; if that isn't answered, the next
		// one too, and so on.
		p.checkIdle(now, func(c *Conn, answered bool) bool {
			return !answered && now-c.idleSince >= p.cfg.HealthCheckInterval
		})
	}
	p.mu.Lock()
	p.use.tick.clear()
	p.tickLocked()
	p.unlock()
}

// reapLocked closes idle connections that are too old or too long idle. Those
// that MinIdleConns asks for stay.
func (p *Pool) reapLocked(now time.Duration) {
	for _, l := range p.lots {
		keep, left := l.idle[:0], len(l.idle)
		for _, c := range l.idle {
			reason := CloseReason("")
			switch {
			case p.expiredLocked(c, now):
				reason = CloseLifetime
			case p.cfg.ConnMaxIdleTime > 0 && now-c.idleSince >= p.cfg.ConnMaxIdleTime && (left > p.cfg.MinIdleConns || l.session != p.warm):
				reason = CloseIdle
			}
			if reason == "" {
				keep = append(keep, c)
				continue
			}
			left--
			p.conns.idle--
			p.closeLocked(c, reason, nil)
		}
		clear(l.idle[len(keep):])
		l.idle = keep
	}
}

// sweepLocked forgets the sessions that have nothing and lack nothing.
func (p *Pool) sweepLocked() {
	for s, l := range p.lots {
		if len(l.idle) == 0 && l.first() == nil && l.dialing == 0 && (l.shared == nil || len(*l.shared.lanes.Load()) == 0) {
			delete(p.lots, s)
			if p.recent == l {
				p.recent = nil
			}
		}
	}
}

// checkIdle looks at every connection that has been idle since before the given
// time, one after the other, the one that has been quiet for longest first, and
// sends a PING where ask says so; answered is whether one has been answered already.
func (p *Pool) checkIdle(began time.Duration, ask func(c *Conn, answered bool) bool) {
	answered := false
	for {
		c := p.borrowIdle(began)
		if c == nil {
			return
		}
		asked, heard := p.now(), false
		if c.alive() && ask(c, answered) {
			if err := c.ping(time.Now().Add(p.cfg.HealthCheckTimeout)); err == nil || isUnready(err) {
				heard, answered = true, true
			} else if c.Err() == nil {
				c.Fail(CloseHealth, err)
			}
		}
		if c.changed {
			p.nodeChanged(c)
		}
		p.mu.Lock()
		now := p.now()
		c.checked = max(now, began) // once is enough
		if heard {
			p.answeredLocked(asked, now)
		}
		p.unborrowLocked(c, now)
		p.unlock()
	}
}

// borrowIdle takes the idle connection that wasn't checked since the given time
// and has been quiet for longest.
func (p *Pool) borrowIdle(began time.Duration) *Conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	var c *Conn
	for _, l := range p.lots {
		for _, o := range l.idle {
			if o.checked < began && (c == nil || o.idleSince < c.idleSince) {
				c = o
			}
		}
	}
	if c != nil && !p.closed {
		p.unlistLocked(c)
		c.place = placeChecking
		return c
	}
	return nil
}

// unborrowLocked puts a checked connection back where it was: its being checked
// is no use of it.
func (p *Pool) unborrowLocked(c *Conn, now time.Duration) {
	since := c.idleSince
	if c.place != placeChecking {
		return // closed meanwhile
	}
	if reason, err := p.judgeLocked(c, now); reason != "" {
		p.closeLocked(c, reason, err)
		return
	}
	c.place = placeLeased
	p.placeLocked(c, now)
	if c.place != placeIdle {
		return
	}
	c.idleSince = since
	l := p.lotLocked(c.session)
	l.idle = l.idle[:len(l.idle)-1]
	i, _ := slices.BinarySearchFunc(l.idle, since, func(o *Conn, t time.Duration) int { return cmp.Compare(o.idleSince, t) })
	l.idle = slices.Insert(l.idle, i, c)
}

// Drain closes what is idle. See [Pooler].
func (p *Pool) Drain() {
	p.mu.Lock()
	p.warm, p.use.drained = nil, true
	for _, l := range p.lots {
		l.more = false
		p.closeIdleLocked(l, CloseDrained, nil)
		p.retireAllLocked(l)
	}
	p.sweepLocked()
	p.unlock()
}

// SetMaxOpenConns changes the bound on open connections; 0 and -1 mean what
// they mean in [Config]. Connections beyond it are closed as they come back.
// MaxIdleConns follows if it was the same, and is lowered if need be.
func (p *Pool) SetMaxOpenConns(n int) {
	p.set(func(c *Config) {
		asMany := c.MaxIdleConns == c.MaxOpenConns
		c.MaxOpenConns = Config{MaxOpenConns: max(n, off)}.withDefaults().MaxOpenConns
		if asMany || c.MaxIdleConns > c.MaxOpenConns {
			c.MaxIdleConns = c.MaxOpenConns
		}
		c.MinIdleConns = min(c.MinIdleConns, c.MaxIdleConns)
	})
}

// SetMaxIdleConns changes the bound on idle connections; 0 means as many as
// MaxOpenConns, less than 0 none.
func (p *Pool) SetMaxIdleConns(n int) {
	p.set(func(c *Config) {
		c.MaxIdleConns = min(orDefault(max(n, off), c.MaxOpenConns, 0), c.MaxOpenConns)
		c.MinIdleConns = min(c.MinIdleConns, c.MaxIdleConns)
	})
}

// SetConnMaxIdleTime changes how long a connection may be idle; 0 means the
// default, less than 0 for ever.
func (p *Pool) SetConnMaxIdleTime(d time.Duration) {
	p.set(func(c *Config) {
		c.ConnMaxIdleTime = Config{ConnMaxIdleTime: max(d, off)}.withDefaults().ConnMaxIdleTime
	})
}

// SetConnMaxLifetime changes how old a connection may grow; 0 or less means
// that there is no bound. The jitter becomes a tenth of it, unless it was
// configured.
func (p *Pool) SetConnMaxLifetime(d time.Duration) {
	p.set(func(c *Config) {
		c.ConnMaxLifetime = max(d, 0)
		if p.tenthJitter {
			c.ConnMaxLifetimeJitter = c.ConnMaxLifetime / 10
		}
	})
}

// Config returns the configuration in force. See [Pooler].
func (p *Pool) Config() Config {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cfg.inForce()
}

// set changes the configuration and applies it to the idle connections.
func (p *Pool) set(change func(*Config)) {
	p.mu.Lock()
	change(&p.cfg)
	now := p.now()
	p.reapLocked(now)
	for p.conns.idle > p.cfg.MaxIdleConns || p.countedLocked() > p.maxLocked() {
		l := p.oldestIdleLocked(nil)
		if l == nil {
			break
		}
		reason := CloseMaxIdle
		if p.countedLocked() > p.maxLocked() {
			reason = CloseRoom
		}
		c := l.idle[0]
		p.unlistLocked(c)
		p.closeLocked(c, reason, nil)
	}
	for more := p.countedLocked() - p.maxLocked() - p.conns.yielding; more > 0; more-- {
		if l := p.leastLaneLocked(); l != nil {
			p.retireLocked(l)
		}
	}
	p.use.tick.cancel()
	p.tickLocked()
	p.later.grow = true
	p.unlock()
}
