package driver

import "math"

// clients are those that have handles on a node, and what they bring for its bound on
// sockets: each client of the stock pool has its own, and none may go short since another
// one came. The zero value has none. Guarded by node.mu.
type clients struct {
	of       map[*client]*stake
	first    int // what the first one has brought: the bound is that at least
	bound    int // as the pool has it
	resizing bool
}

// stake is what a client has on a node.
type stake struct{ handles, sockets int }

func (c *clients) add(b *binding) {
	s := c.of[b.client]
	if s == nil {
		if c.of == nil {
			c.of = make(map[*client]*stake)
		}
		s = &stake{sockets: b.pool.Limits().MaxOpenConns}
		c.of[b.client] = s
	}
	s.handles++
}

func (c *clients) remove(b *binding) {
	s := c.of[b.client]
	if s.handles--; s.handles == 0 {
		delete(c.of, b.client)
	}
}

// sockets is the sum of what the clients bring.
func (c *clients) sockets() int {
	sum := 0
	for _, s := range c.of {
		sum = min(sum+s.sockets, math.MaxInt32)
	}
	return max(sum, c.first)
}

// resize has the node's bound on sockets be what its clients bring together, unless the
// configuration or a knob says what it is. The pool is called without a lock, since it may
// tell of what it does; what comes meanwhile is seen by the one that resizes.
func (d *Driver) resize(n *node) {
	if n.first.driver.cfg.Pool.MaxOpenConns != 0 || d.knob("MaxOpenConns") != nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.clients.resizing || n.closed {
		return
	}
	n.clients.resizing = true
	for want := n.clients.sockets(); want != n.clients.bound; want = n.clients.sockets() {
		n.clients.bound = want
		n.mu.Unlock()
		n.pool.SetMaxOpenConns(want)
		if turn := d.knob("MaxOpenConns"); turn != nil {
			turn(n.pool) // meanwhile
		}
		n.mu.Lock()
	}
	n.clients.resizing = false
}
