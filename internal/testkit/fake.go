package testkit

import (
	"context"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// Fake is a RESP server without sockets, for synctest bubbles: create it and
// all that uses it inside the bubble. It has no goroutines of its own, only
// those of its connections, which end when the client closes or [Fake.Close]
// is called. Its data survives [Fake.Down].
//
// It speaks RESP2 and RESP3 and knows connection commands, strings, lists,
// transactions and pub/sub; [Fake.Handle] adds the rest. Commands run one at
// a time, as on a real server, except for handlers.
type Fake struct {
	opts fakeOptions

	// mu guards everything below and all FakeConns. No connection is read or
	// written under it.
	mu        sync.Mutex
	changed   *sync.Cond // frozen, hanging, down, a connection's end
	conns     []*FakeConn
	nextID    int64
	dials     int
	accepted  int
	running   int // goroutines of connections
	frozen    bool
	hanging   bool
	down      bool
	downErr   error
	closed    bool
	cutReply  int // -1: no cut
	passwords map[string]string
	handlers  map[string]Handler
	log       []LogEntry
	store     fakeStore
	blocked   []*blockedPop // in order of arrival
}

// Handler answers a command in place of the fake: it returns the raw bytes of
// the reply, nil for none. It runs on the connection's own goroutine under no
// lock, so it may block, and may call the methods of the fake.
type Handler func(c *FakeConn, args []string) []byte

// NewFake returns a server that is up and has no password.
func NewFake(opts ...FakeOption) *Fake {
	f := &Fake{
		cutReply:  -1,
		passwords: map[string]string{},
		handlers:  map[string]Handler{},
		store:     newFakeStore(),
	}
	f.changed = sync.NewCond(&f.mu)
	for _, o := range opts {
		o(&f.opts)
	}
	return f
}

// Dial opens a connection; network and addr only name it. It blocks while
// HangDials is on, and succeeds while the fake is frozen, as the kernel
// accepts for a process that stands still.
func (f *Fake) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	stop := context.AfterFunc(ctx, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.changed.Broadcast()
	})
	defer stop()
	conn, err := f.dial(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	if f.opts.wrap != nil {
		return f.opts.wrap(conn), nil
	}
	return conn, nil
}

func (f *Fake) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	remote := fakeAddr(addr)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dials++
	for f.hanging && !f.down && !f.closed && ctx.Err() == nil {
		f.changed.Wait()
	}
	switch {
	case ctx.Err() != nil:
		return nil, &net.OpError{Op: "dial", Net: network, Addr: remote, Err: ctx.Err()}
	case f.down && f.downErr != nil:
		return nil, f.downErr
	case f.down || f.closed:
		return nil, &net.OpError{
			Op: "dial", Net: network, Addr: remote,
			Err: os.NewSyscallError("connect", syscall.ECONNREFUSED),
		}
	}
	f.nextID++
	local := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 33000 + int(f.nextID)}
	client, server := Pair(f.opts.buffer, local, remote)
	c := newFakeConn(f, f.nextID, server)
	f.conns = append(f.conns, c)
	if f.frozen {
		c.unaccepted = true
		server.hold(true)
	} else {
		f.accepted++
	}
	f.running += 3
	go c.readLoop()
	go c.execLoop()
	go c.writeLoop()
	return client, nil
}

func fakeAddr(addr string) net.Addr {
	host, port, _ := net.SplitHostPort(addr)
	ip := net.ParseIP(host)
	if ip == nil {
		ip = net.IPv4(127, 0, 0, 1)
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		n = 6379
	}
	return &net.TCPAddr{IP: ip, Port: n}
}

// Close resets all connections, refuses dials from now on, and waits for the
// goroutines of the connections; those of a blocked [Handler] included.
func (f *Fake) Close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	f.resetAllLocked()
	for f.running > 0 {
		f.changed.Wait()
	}
}

// Down makes dials fail with err, or with ECONNREFUSED if err is nil, and
// resets all connections.
func (f *Fake) Down(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.down, f.downErr = true, err
	f.resetAllLocked()
}

// DownRefused is Down with the error of a port where nobody listens.
func (f *Fake) DownRefused() { f.Down(nil) }

// Up ends Down.
func (f *Fake) Up() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.down, f.downErr = false, nil
}

// ResetAll resets all connections; the fake stays up.
func (f *Fake) ResetAll() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.resetAllLocked()
}

func (f *Fake) resetAllLocked() {
	for _, c := range slices.Clone(f.conns) {
		c.endLocked(true)
	}
	f.changed.Broadcast()
}

// HangDials makes dials block until their context is done, as when SYNs are
// dropped. Those that hang when it is switched off succeed.
func (f *Fake) HangDials(on bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hanging = on
	f.changed.Broadcast()
}

// Freeze makes the fake stand still like a stopped process: dials succeed,
// nothing is read, executed or answered until Freeze(false). Its clients can
// write until the buffers are full.
func (f *Fake) Freeze(on bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.frozen = on
	for _, c := range f.conns {
		c.conn.hold(on)
		if !on && c.unaccepted {
			c.unaccepted = false
			f.accepted++
		}
	}
	f.changed.Broadcast()
}

// SetPassword sets a user's password for new connections; "" or "default" is
// the user of AUTH with one argument, and an empty password lets it in
// without one. Connections that are authenticated stay so.
func (f *Fake) SetPassword(user, pw string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if user == "" {
		user = "default"
	}
	f.passwords[user] = pw
}

// Handle makes fn answer the command, known or not. name is one word, or two
// for a subcommand ("CLIENT KILL"), in any case; nil restores the fake's own.
func (f *Fake) Handle(name string, fn func(c *FakeConn, args []string) []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	name = strings.ToUpper(name)
	if fn == nil {
		delete(f.handlers, name)
		return
	}
	f.handlers[name] = fn
}

// CutReply makes the next reply, on whichever connection, end after that many
// bytes, and closes that connection behind them. -1 calls it off.
func (f *Fake) CutReply(after int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cutReply = after
}

// Dials returns how many times Dial was called.
func (f *Fake) Dials() int { return locked(&f.mu, func() int { return f.dials }) }

// Accepted returns how many connections have been accepted so far.
func (f *Fake) Accepted() int { return locked(&f.mu, func() int { return f.accepted }) }

// Live returns how many connections are open now.
func (f *Fake) Live() int { return locked(&f.mu, func() int { return len(f.conns) }) }

// Conns returns the open connections, oldest first.
func (f *Fake) Conns() []*FakeConn {
	return locked(&f.mu, func() []*FakeConn { return slices.Clone(f.conns) })
}

func locked[T any](mu *sync.Mutex, get func() T) T {
	mu.Lock()
	defer mu.Unlock()
	return get()
}
