package handle

import (
	"time"

	"github.com/everpool/everpool/internal/session"
	"github.com/everpool/everpool/pooler"
)

// way brings the replies back: a lease, or a ride on shared connections. Its methods
// are called without the handle's lock, Receive by one goroutine at a time.
type way interface {
	// Receive copies bytes of replies to p as they come, by that time; done says
	// that it has come to the end of what can be told of together: one reply on a
	// lease, all that are owed on a ride.
	Receive(p []byte, by time.Time) (n int, done bool, err error)
	// interrupt has a Receive return and be called again.
	interrupt()
	// lost says of what was under way when Receive failed with err whether the
	// server may have run some of it, and why it was lost.
	lost(err error) (ran bool, cause error)
}

// leased is the way of requests that have a connection to themselves.
type leased struct{ *pooler.Conn }

func (w leased) Receive(p []byte, by time.Time) (int, bool, error) { return w.ReceiveInPlace(p, by) }

func (w leased) interrupt() { w.InterruptReceive() }

func (w leased) lost(err error) (bool, error) {
	if dead := w.Err(); dead != nil {
		err = dead
	}
	return true, err
}

// ride is the way of requests that share a connection.
type ride struct {
	*pooler.Rider               // its place there
	shared        *pooler.Lanes // the connections of the session in
	in            *session.State
	under         bool // what is under way is there
}

func (r *ride) interrupt() { r.Interrupt() }

func (r *ride) lost(err error) (bool, error) {
	ran, cause := r.Lost()
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

// turn is the right to do what one goroutine does at a time. It is guarded by the handle's
// lock. That a mutex isn't: whoever has it may wait for a connection, and others wait for it
// until their own deadlines.
type turn struct {
	taken  bool
	ofRead bool          // by a Read, which sends by its own deadline
	over   chan struct{} // closed at the end of the turn; nil: nobody waits for that
}

// awaited returns what is closed when the turn is over.
func (t *turn) awaited() <-chan struct{} {
	if t.over == nil {
		t.over = make(chan struct{})
	}
	return t.over
}

// try takes the turn if nobody has it.
func (t *turn) try() bool {
	free := !t.taken
	t.taken = true
	return free
}

func (t *turn) end() {
	t.taken, t.ofRead = false, false
	if t.over != nil {
		close(t.over)
		t.over = nil
	}
}
