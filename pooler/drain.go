package pooler

import (
	"context"
	"time"
)

// drainLimit is how many bytes of abandoned replies are read before a new
// connection is the cheaper way.
const drainLimit = 1 << 20

// drainLocked has the replies to an abandoned request read and dropped. The
// exchange keeps its place until then: to take it out would hand every later
// reply to the wrong request.
func (p *Pool) drainLocked(c *Conn) {
	c.place = placeDraining
	p.conns.drains++
	p.wg.Go(func() { p.drain(c, p.cfg.HealthCheckTimeout) })
}

func (p *Pool) drain(c *Conn, limit time.Duration) {
	stop := context.AfterFunc(p.ctx, c.InterruptReceive)
	ok := c.discard(p.ctx, time.Now().Add(limit), drainLimit)
	stop()
	p.mu.Lock()
	p.conns.drains--
	if c.place == placeDraining {
		c.place = placeLeased // by the pool, for the moment
		if ok {
			p.notePaceLocked(c)
			p.returnLocked(c)
		} else {
			p.closeLocked(c, CloseAbandoned, nil)
		}
	}
	p.later.grow = true
	p.unlock()
}
