package testkit

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Proxy is a TCP proxy between a client and a server that a test makes
// misbehave. Its address stays the same whatever happens.
type Proxy struct {
	network, target string
	addr            *net.TCPAddr
	accepted        atomic.Int64
	bytes           [2]atomic.Int64 // forwarded, by Direction
	wg              sync.WaitGroup  // the accept loop and the goroutines of all links

	// Guarded by mu; changed is signalled with every change that a link may
	// wait for.
	mu       sync.Mutex
	changed  *sync.Cond
	listener *net.TCPListener // nil while connections are refused
	links    []*proxyLink     // alive, in order of arrival
	closed   bool
	frozen   bool
	delay    time.Duration
	slice    int
	cutAfter [2]int64 // for links to come; -1: no cut
}

// NewProxy starts a proxy on 127.0.0.1 for target, which is host:port or the
// path of a unix socket. The test's cleanup closes it.
func NewProxy(tb testing.TB, target string) *Proxy {
	tb.Helper()
	p, err := StartProxy(target)
	if err != nil {
		tb.Fatalf("testkit: proxy for %s: %v", target, err)
	}
	tb.Cleanup(p.Close)
	return p
}

// StartProxy is [NewProxy] for programs that aren't tests.
func StartProxy(target string) (*Proxy, error) {
	l, err := listenReserved()
	if err != nil {
		return nil, err
	}
	p := &Proxy{
		network:  "tcp",
		target:   target,
		addr:     l.Addr().(*net.TCPAddr),
		cutAfter: [2]int64{-1, -1},
	}
	if strings.HasPrefix(target, "/") {
		p.network = "unix"
	}
	p.changed = sync.NewCond(&p.mu)
	p.serve(l)
	return p, nil
}

// Addr returns the address that clients dial.
func (p *Proxy) Addr() string { return p.addr.String() }

// Accepted returns how many connections the proxy has accepted so far.
func (p *Proxy) Accepted() int64 { return p.accepted.Load() }

// Live returns how many connections are open now.
func (p *Proxy) Live() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.links)
}

// BytesTo returns how many bytes have been forwarded in that direction.
func (p *Proxy) BytesTo(dir Direction) int64 { return p.bytes[dir].Load() }

// Reset ends all live connections with an RST to both sides.
func (p *Proxy) Reset() {
	for _, l := range p.liveLinks() {
		l.close(true)
	}
}

// CloseAll closes all live connections towards both sides, as the end of a
// process does: a FIN, unless there are unread bytes.
func (p *Proxy) CloseAll() {
	for _, l := range p.liveLinks() {
		l.close(false)
	}
}

// HalfClose sends a FIN to the clients of all live connections, and returns when they
// have it. What the clients write still reaches the server.
func (p *Proxy) HalfClose() {
	for _, l := range p.liveLinks() {
		l.halfClose()
	}
}

// Silence makes black holes of the connections that exist now: what either
// side sends is read and lost, even its FIN. New connections work. Silence(false)
// lets the same connections forward again, without what was lost.
func (p *Proxy) Silence(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range p.links {
		l.silent = on
	}
}

// Freeze holds everything back, new connections included (the kernel accepts
// them), until Freeze(false) releases it in order. Nothing is lost.
func (p *Proxy) Freeze(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.frozen = on
	p.changed.Broadcast()
}

// Delay delays each byte by d in each direction, without reducing the
// throughput; 0 ends it for what is read from then on.
func (p *Proxy) Delay(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay = d
}

// Slice forwards in pieces of n bytes, a system call each; 0 ends it.
func (p *Proxy) Slice(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.slice = n
}

// CutAfter resets each connection that is accepted from now on as soon as n
// bytes have been forwarded in that direction; -1 ends it. With 0 a
// connection is reset right after it has been accepted, which the client may
// notice in its dial already.
func (p *Proxy) CutAfter(dir Direction, n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cutAfter[dir] = n
}

// Refuse closes the listener, so that new connections are refused; existing
// ones live on. Refuse(false) listens again on the same port.
func (p *Proxy) Refuse(on bool) {
	p.mu.Lock()
	l := p.listener
	if on {
		p.listener = nil
	}
	closed := p.closed
	p.mu.Unlock()
	switch {
	case on && l != nil:
		_ = l.Close()
	case !on && l == nil && !closed:
		p.listenAgain()
	}
}

// listenAgain can only fail if another process has taken the port, which is
// kept out of the range that kernels lend.
func (p *Proxy) listenAgain() {
	l, err := net.ListenTCP("tcp", p.addr)
	if err != nil {
		panic(fmt.Sprintf("testkit: the proxy's port is gone: %v", err))
	}
	p.serve(l)
}

// Close ends all connections and waits for all goroutines.
func (p *Proxy) Close() {
	p.mu.Lock()
	p.closed = true
	l := p.listener
	p.listener = nil
	links := slices.Clone(p.links)
	p.changed.Broadcast()
	p.mu.Unlock()
	if l != nil {
		_ = l.Close()
	}
	for _, l := range links {
		l.close(false)
	}
	p.wg.Wait()
	releasePort(p.addr.Port)
}

func (p *Proxy) serve(l *net.TCPListener) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.listener = l
	p.wg.Go(func() {
		for {
			conn, err := l.AcceptTCP()
			if err != nil {
				return // closed by Refuse or Close
			}
			p.accept(conn)
		}
	})
}

func (p *Proxy) accept(conn *net.TCPConn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		_ = conn.Close()
		return
	}
	p.accepted.Add(1)
	l := newProxyLink(p, conn, p.cutAfter)
	p.links = append(p.links, l)
	p.wg.Go(l.run)
}

func (p *Proxy) liveLinks() []*proxyLink {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.links)
}
