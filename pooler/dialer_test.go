package pooler_test

import (
	"context"
	"net"
	"sync"
	"syscall"
	"time"
)

// dialer counts dials and sockets, and holds dials up on demand.
type dialer struct {
	pt   *tester
	dial func(ctx context.Context, network, addr string) (net.Conn, error)

	mu      sync.Mutex
	times   []time.Time   // of all dials
	takes   time.Duration // how long a dial takes
	deaf    bool          // a held dial ignores its context
	fails   error         // if set; connections live on, unlike with Fake.Down
	holding bool
	held    []*heldDial
	dialing int
	most    int // dials at a time
	sockets int
}

// heldDial is a dial that waits for the test.
type heldDial struct {
	d      *dialer
	result chan error
}

// finish ends the dial: with err, or by really dialing if it is nil.
func (h *heldDial) finish(err error) {
	h.result <- err
	h.d.pt.settle()
}

// Dial is the node's.
func (d *dialer) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	d.mu.Lock()
	d.times = append(d.times, time.Now())
	d.dialing++
	d.most = max(d.most, d.dialing)
	takes, deaf, fails := d.takes, d.deaf, d.fails
	var h *heldDial
	if d.holding {
		h = &heldDial{d, make(chan error, 1)}
		d.held = append(d.held, h)
	}
	d.mu.Unlock()

	if deaf {
		ctx = context.WithoutCancel(ctx)
	}
	err := d.pass(ctx, h, takes, deaf)
	var nc net.Conn
	switch {
	case err != nil:
	case fails != nil:
		err = fails
	default:
		nc, err = d.dial(ctx, network, addr)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.dialing--
	if err != nil {
		return nil, err
	}
	d.sockets++
	return &countedConn{Conn: nc, d: d}, nil
}

func (d *dialer) pass(ctx context.Context, h *heldDial, takes time.Duration, deaf bool) error {
	if takes > 0 {
		time.Sleep(takes)
	}
	switch {
	case h == nil:
		return nil
	case deaf:
		return <-h.result
	}
	select {
	case err := <-h.result:
		return err
	case <-ctx.Done():
		return &net.OpError{Op: "dial", Net: "tcp", Err: ctx.Err()}
	}
}

// hold makes dials wait for the test from now on.
func (d *dialer) hold(on bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.holding = on
}

// refuse makes dials fail, whatever the server does.
func (d *dialer) refuse(on bool) {
	var err error
	if on {
		err = &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	}
	d.fail(err)
}

// fail makes dials fail with err, unless it is nil.
func (d *dialer) fail(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fails = err
}

// take sets how long each dial takes.
func (d *dialer) take(t time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.takes = t
}

// wantDial returns the oldest held dial.
func (d *dialer) wantDial() *heldDial {
	d.pt.Helper()
	d.pt.settle()
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.held) == 0 {
		d.pt.Fatal("no dial is under way")
	}
	h := d.held[0]
	d.held = d.held[1:]
	return h
}

// wantHeld says how many dials are under way.
func (d *dialer) wantHeld(n int) {
	d.pt.Helper()
	d.pt.settle()
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.held) != n {
		d.pt.Fatalf("%d dials are under way, want %d", len(d.held), n)
	}
}

// finishAll has the dials that are still held succeed.
func (d *dialer) finishAll() {
	d.mu.Lock()
	held := d.held
	d.held = nil
	d.mu.Unlock()
	for _, h := range held {
		h.finish(nil)
	}
}

// releaseAll fails the dials that are still held.
func (d *dialer) releaseAll() {
	d.mu.Lock()
	held := d.held
	d.holding, d.held = false, nil
	d.mu.Unlock()
	for _, h := range held {
		h.result <- net.ErrClosed
	}
	if len(held) > 0 {
		time.Sleep(time.Second) // what is late is waited for a little (fake time)
	}
}

func (d *dialer) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.times)
}

// since returns the dials from t on, as durations after it.
func (d *dialer) since(t time.Time) []time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	var at []time.Duration
	for _, dt := range d.times {
		if !dt.Before(t) {
			at = append(at, dt.Sub(t))
		}
	}
	return at
}

func (d *dialer) live() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.sockets
}

// occupied is the number of sockets and of dials under way.
func (d *dialer) occupied() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.sockets + d.dialing
}

// peak is the most dials at a time since resetPeak.
func (d *dialer) peak() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.most
}

func (d *dialer) resetPeak() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.most = d.dialing
}

// countedConn is a socket that is counted until it is closed.
type countedConn struct {
	net.Conn
	d    *dialer
	once sync.Once
}

func (c *countedConn) Close() error {
	c.once.Do(func() {
		c.d.mu.Lock()
		defer c.d.mu.Unlock()
		c.d.sockets--
	})
	return c.Conn.Close()
}
