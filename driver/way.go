package driver

import (
	"time"

	"github.com/everpool/everpool/pooler"
)

// way carries requests to the server, and their replies back: a lease, or a ride on
// shared connections. send and receive block; they are called without the handle's
// lock, by one goroutine each.
type way interface {
	// send sends an exchange, and returns how many of its bytes may have gone out.
	send(x pooler.Exchange) (int, error)
	// receive copies bytes of replies to p as they come, by that time; done says
	// that it has come to the end of what can be told of together: one reply on a
	// lease, all that are owed on a ride.
	receive(p []byte, by time.Time) (n int, done bool, err error)
	// interrupt has a receive return and be called again.
	interrupt()
	// lost says of what was under way when receive failed with err whether the
	// server may have run some of it, and why it was lost.
	lost(err error) (ran bool, cause error)
}

// leased is the way of requests that have a connection to themselves.
type leased struct{ conn *pooler.Conn }

func (w leased) send(x pooler.Exchange) (int, error) { return w.conn.Send(x.Request, x.Deadline) }

func (w leased) receive(p []byte, by time.Time) (int, bool, error) {
	return w.conn.ReceiveInPlace(p, by)
}

func (w leased) interrupt() { w.conn.InterruptReceive() }

func (w leased) lost(err error) (bool, error) {
	if dead := w.conn.Err(); dead != nil {
		err = dead
	}
	return true, err
}

// ride is the way of requests that share a connection.
type ride struct {
	rider  *pooler.Rider // its place there
	shared *pooler.Lanes // the connections of the session in
	in     *session
	under  bool // what is under way is there
}

func (r *ride) send(x pooler.Exchange) (int, error) {
	if err := r.shared.Submit(r.rider, x); err != nil {
		return 0, err
	}
	return len(x.Request), nil
}

func (r *ride) receive(p []byte, by time.Time) (int, bool, error) { return r.rider.Receive(p, by) }

func (r *ride) interrupt() { r.rider.Interrupt() }

func (r *ride) lost(err error) (bool, error) {
	ran, cause := r.rider.Lost()
	if cause == nil {
		cause = err
	}
	return ran, cause
}

// gate is where one goroutine waits for what another one does. It is guarded by the
// handle's lock.
type gate struct {
	ch      chan struct{} // capacity 1; made by the first that waits
	waiting bool
}

// open ends the wait, if there is one.
func (g *gate) open() {
	if !g.waiting {
		return
	}
	select {
	case g.ch <- struct{}{}:
	default:
	}
}

// begin returns what to wait for.
func (g *gate) begin() <-chan struct{} {
	if g.ch == nil {
		g.ch = make(chan struct{}, 1)
	}
	g.waiting = true
	return g.ch
}

// end ends the waiting: what the gate was opened for is seen now.
func (g *gate) end() {
	g.waiting = false
	select {
	case <-g.ch:
	default:
	}
}
