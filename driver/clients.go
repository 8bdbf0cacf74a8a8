package driver

import (
	"math"

	"github.com/everpool/everpool/internal/session"
)

// clients are those that have handles on a node, and what they bring for its bound on
// sockets: each client of the stock pool has its own, and none may go short since another
// one came. The zero value has none. Guarded by node.mu.
type clients struct {
	of       map[*session.Identity]*stake
	first    int  // what the first one has brought: the bound is that at least
	bound    int  // as the pool has it
	fixed    bool // by the configuration, or by who has made the pool
	resizing bool
}

// stake is what a client has on a node.
type stake struct{ handles, sockets int }

func (c *clients) add(b *binding) {
	s := c.of[b.Identity]
	if s == nil {
		if c.of == nil {
			c.of = make(map[*session.Identity]*stake)
		}
		s = &stake{sockets: b.pool.Limits().MaxOpenConns}
		c.of[b.Identity] = s
	}
	s.handles++
}

func (c *clients) remove(who *session.Identity) {
	s := c.of[who]
	if s.handles--; s.handles == 0 {
		delete(c.of, who)
	}
}

// sockets is the sum of what the clients bring.
func (c *clients) sockets() int {
	sum := 0
	for _, s := range c.of {
		sum = int(min(int64(sum)+int64(s.sockets), math.MaxInt32))
	}
	return max(sum, c.first)
}

// resize has the node's bound on sockets be what its clients bring together, unless the
// configuration or a knob says what it is. The pool is called without a lock, since it may
// tell of what it does; what comes meanwhile is seen by the one that resizes.
func (d *Driver) resize(n *node) {
	if d.knob("MaxOpenConns") != nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	c := &n.clients
	if c.fixed || c.resizing || n.closed {
		return
	}
	c.resizing = true
	defer func() { c.resizing = false }()
	for want := c.sockets(); want != c.bound; want = c.sockets() {
		c.bound = want
		n.outside(func() {
			n.Pool.SetMaxOpenConns(want)
			if turn := d.knob("MaxOpenConns"); turn != nil {
				turn(n.Pool) // meanwhile
			}
		})
	}
}

// outside runs f without the lock.
func (n *node) outside(f func()) {
	n.mu.Unlock()
	defer n.mu.Lock() // whatever a user's code in there does
	f()
}
