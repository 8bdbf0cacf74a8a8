//go:build linux || darwin || dragonfly || freebsd || netbsd || openbsd

package pooler_test

import (
	"bufio"
	"context"
	"errors"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/everpool/everpool/pooler"
)

// tcpPeer is a server of real sockets, which can be looked at from outside:
// what it accepts it hands to the test.
type tcpPeer struct {
	*testing.T
	pool     *pooler.Pool
	plain    *pooler.Session
	accepted chan net.Conn
	closed   chan pooler.CloseReason
}

func newTCPPeer(t *testing.T, cfg pooler.Config) *tcpPeer {
	return newTCPPeerBehind(t, cfg, func(_ *tcpPeer, nc net.Conn) net.Conn { return nc })
}

// newTCPPeerBehind gives the pool what dialed makes of each new connection.
func newTCPPeerBehind(t *testing.T, cfg pooler.Config, dialed func(*tcpPeer, net.Conn) net.Conn) *tcpPeer {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	tp := &tcpPeer{T: t, plain: pooler.NewSession(), accepted: make(chan net.Conn, 10), closed: make(chan pooler.CloseReason, 10)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			tp.accepted <- nc
		}
	}()
	cfg.OnEvent = func(ev pooler.Event) {
		if ev.Kind == pooler.EventClose {
			tp.closed <- ev.Reason
		}
	}
	tp.pool, err = pooler.New(pooler.Node{Network: "tcp", Addr: ln.Addr().String(), Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
		nc, err := new(net.Dialer).DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return dialed(tp, nc), nil
	}}, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = tp.pool.Close()
		_ = ln.Close()
		<-done
	})
	return tp
}

// lease leases a connection that is opened for it, and returns both of its
// ends.
func (tp *tcpPeer) lease() (*pooler.Conn, net.Conn) {
	tp.Helper()
	c := tp.get()
	peer := <-tp.accepted
	tp.Cleanup(func() { _ = peer.Close() })
	go func() {
		buf := make([]byte, 100)
		for {
			if _, err := peer.Read(buf); err != nil {
				return
			}
			_, _ = peer.Write([]byte("+PONG\r\n"))
		}
	}()
	if got, err := exchange(c, "PING"); got != "+PONG\r\n" || err != nil {
		tp.Fatalf("PING: %q, %v", got, err)
	}
	return c, peer
}

// share opens a lane, and returns the peer's end of it.
func (tp *tcpPeer) share() (*pooler.Lanes, net.Conn) {
	tp.Helper()
	sh, err := tp.pool.Share(tp.Context(), pooler.Request{Session: tp.plain})
	if err != nil {
		tp.Fatal(err)
	}
	peer := <-tp.accepted
	tp.Cleanup(func() { _ = peer.Close() })
	_ = tp.pool.Stats() // what has opened the lane is done: it says whether the pool serves last
	return sh, peer
}

// idle leaves one connection idle and returns both of its ends.
func (tp *tcpPeer) idle() (*pooler.Conn, net.Conn) {
	tp.Helper()
	c, peer := tp.lease()
	tp.pool.Put(c, pooler.Answered)
	return c, peer
}

func (tp *tcpPeer) get() *pooler.Conn {
	tp.Helper()
	c, err := tp.pool.Get(tp.Context(), pooler.Request{Session: tp.plain})
	if err != nil {
		tp.Fatal(err)
	}
	return c
}

// stale returns when what the peer has sent, or its end, is there to be seen,
// and the connection isn't fresh any more.
func (tp *tcpPeer) stale(c *pooler.Conn) {
	tp.Helper()
	tp.arrived(c)
	<-time.After(2 * time.Millisecond)
}

// arrived returns when what the peer has sent, or its end, is there to be seen.
func (tp *tcpPeer) arrived(c *pooler.Conn) {
	tp.Helper()
	tp.arrivedAt(c.NetConn())
}

func (tp *tcpPeer) arrivedAt(nc net.Conn) {
	tp.Helper()
	raw, err := nc.(*net.TCPConn).SyscallConn()
	if err != nil {
		tp.Fatal(err)
	}
	err = raw.Read(func(fd uintptr) bool {
		_, _, err := syscall.Recvfrom(int(fd), make([]byte, 1), syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		return err != syscall.EAGAIN
	})
	if err != nil {
		tp.Fatal(err)
	}
}

func TestAPeersCloseIsNoticedBeforeTheFirstWrite(t *testing.T) {
	tp := newTCPPeer(t, pooler.Config{HealthCheckInterval: -1})
	c, peer := tp.idle()
	_ = peer.Close()
	tp.stale(c)
	fresh := tp.get()
	if fresh == c {
		t.Error("Get returned a connection that the peer has closed")
	}
	if reason := <-tp.closed; reason != pooler.ClosePeer {
		t.Errorf("closed for %q, want %q", reason, pooler.ClosePeer)
	}
	tp.pool.Put(fresh, pooler.Answered)
}

// Who isn't to wait comes again when it can: nothing is dialed for it here.
func TestARequestThatIsNotToWaitDoesNotWhereAllThatWasIdleIsDead(t *testing.T) {
	tp := newTCPPeer(t, pooler.Config{HealthCheckInterval: -1})
	c, peer := tp.idle()
	_ = peer.Close()
	tp.stale(c)
	before := tp.pool.Stats()
	_, err := tp.pool.Get(tp.Context(), pooler.Request{Session: tp.plain, NoWait: true})
	if !errors.Is(err, pooler.ErrWouldWait) {
		t.Errorf("%v, want that it would wait", err)
	}
	s := tp.pool.Stats()
	if s.SentAway != before.SentAway+1 || s.InFlight != 0 || s.Dials != before.Dials {
		t.Errorf("sent away %d, in flight %d, %d dials", s.SentAway, s.InFlight, s.Dials)
	}
}

// A dial may end just before all connections are closed: whoever waits for it would lose a
// request that was never under way. With the stock pool nobody gets what another one has dialed.
func TestAConnectionThatIsClosedWhileItIsDialedIsLentToNobody(t *testing.T) {
	first := true
	tp := newTCPPeerBehind(t, pooler.Config{HealthCheckInterval: -1}, func(tp *tcpPeer, nc net.Conn) net.Conn {
		if first {
			_ = (<-tp.accepted).Close()
			tp.arrivedAt(nc)
		}
		first = false
		return nc
	})
	c, _ := tp.lease() // a PING is answered
	if reason := <-tp.closed; reason != pooler.ClosePeer {
		t.Errorf("closed for %q, want %q", reason, pooler.ClosePeer)
	}
	tp.pool.Put(c, pooler.Answered)
}

// plain is what programs put around a connection, to count its bytes, say.
type plain struct{ net.Conn }

// buffering reads ahead of those who read from it.
type buffering struct {
	Inner net.Conn
	*bufio.Reader
}

func (b *buffering) Read(p []byte) (int, error)         { return b.Reader.Read(p) }
func (b *buffering) Write(p []byte) (int, error)        { return b.Inner.Write(p) }
func (b *buffering) Close() error                       { return b.Inner.Close() }
func (b *buffering) LocalAddr() net.Addr                { return b.Inner.LocalAddr() }
func (b *buffering) RemoteAddr() net.Addr               { return b.Inner.RemoteAddr() }
func (b *buffering) SetDeadline(t time.Time) error      { return b.Inner.SetDeadline(t) }
func (b *buffering) SetReadDeadline(t time.Time) error  { return b.Inner.SetReadDeadline(t) }
func (b *buffering) SetWriteDeadline(t time.Time) error { return b.Inner.SetWriteDeadline(t) }

// What somebody has put around a connection hides its socket from go-redis, too, which
// runs a request again that was lost with it. A request that may not run twice would be
// unknown each time.
func TestAPeersCloseIsNoticedThroughWhatIsAroundTheConnection(t *testing.T) {
	for name, wrap := range map[string]func(net.Conn) net.Conn{
		"a struct":               func(nc net.Conn) net.Conn { return plain{nc} },
		"a pointer, which reads": func(nc net.Conn) net.Conn { return &buffering{Inner: nc, Reader: bufio.NewReader(nc)} },
		"several":                func(nc net.Conn) net.Conn { return &plain{plain{&plain{nc}}} },
		"beneath TLS":            func(nc net.Conn) net.Conn { return beneath{plain{nc}} },
	} {
		t.Run(name, func(t *testing.T) {
			var bare net.Conn
			tp := newTCPPeerBehind(t, pooler.Config{HealthCheckInterval: -1}, func(_ *tcpPeer, nc net.Conn) net.Conn {
				bare = nc
				return wrap(nc)
			})
			c, peer := tp.idle()
			if again := tp.get(); again != c {
				t.Error("one that is well isn't used again")
			}
			tp.pool.Put(c, pooler.Answered)
			_ = peer.Close()
			tp.arrivedAt(bare)
			fresh := tp.get()
			if fresh == c {
				t.Error("Get returned a connection that the peer has closed")
			}
			tp.pool.Put(fresh, pooler.Answered)
		})
	}
}

// beneath says what it is around, as *tls.Conn does.
type beneath struct{ hidden net.Conn }

func (b beneath) NetConn() net.Conn                  { return b.hidden }
func (b beneath) Read(p []byte) (int, error)         { return b.hidden.Read(p) }
func (b beneath) Write(p []byte) (int, error)        { return b.hidden.Write(p) }
func (b beneath) Close() error                       { return b.hidden.Close() }
func (b beneath) LocalAddr() net.Addr                { return b.hidden.LocalAddr() }
func (b beneath) RemoteAddr() net.Addr               { return b.hidden.RemoteAddr() }
func (b beneath) SetDeadline(t time.Time) error      { return b.hidden.SetDeadline(t) }
func (b beneath) SetReadDeadline(t time.Time) error  { return b.hidden.SetReadDeadline(t) }
func (b beneath) SetWriteDeadline(t time.Time) error { return b.hidden.SetWriteDeadline(t) }

func TestAPeersResetIsNoticedBeforeTheFirstWrite(t *testing.T) {
	tp := newTCPPeer(t, pooler.Config{HealthCheckInterval: -1})
	c, peer := tp.idle()
	_ = peer.(*net.TCPConn).SetLinger(0)
	_ = peer.Close()
	tp.stale(c)
	fresh := tp.get()
	if fresh == c {
		t.Error("Get returned a connection that the peer has reset")
	}
	tp.pool.Put(fresh, pooler.Answered)
}

func TestAPeersCloseIsNoticedInTheBackground(t *testing.T) {
	tp := newTCPPeer(t, pooler.Config{HealthCheckInterval: 5 * time.Millisecond})
	_, peer := tp.idle()
	_ = peer.Close()
	if reason := <-tp.closed; reason != pooler.ClosePeer {
		t.Errorf("closed for %q, want %q", reason, pooler.ClosePeer)
	}
	if s := tp.pool.Stats(); s.OpenConnections != 0 {
		t.Errorf("%d open, want 0", s.OpenConnections)
	}
}

func TestACloseIsNoticedInTheBackgroundOnOneThatIsNotPinged(t *testing.T) {
	tp := newTCPPeer(t, pooler.Config{HealthCheckInterval: 5 * time.Millisecond})
	quietest, _ := tp.lease()
	other, peer := tp.lease()
	tp.pool.Put(quietest, pooler.Answered)
	tp.pool.Put(other, pooler.Answered)
	_ = peer.Close()
	if reason := <-tp.closed; reason != pooler.ClosePeer {
		t.Errorf("closed for %q, want %q", reason, pooler.ClosePeer)
	}
}

func TestAReplyThatNobodyAskedForKillsAnIdleConnection(t *testing.T) {
	tp := newTCPPeer(t, pooler.Config{HealthCheckInterval: -1})
	c, peer := tp.idle()
	if _, err := peer.Write([]byte("+OK\r\n")); err != nil {
		t.Fatal(err)
	}
	tp.stale(c)
	fresh := tp.get()
	if fresh == c {
		t.Error("the next request would get somebody else's reply")
	}
	if reason := <-tp.closed; reason != pooler.CloseUnasked {
		t.Errorf("closed for %q, want %q", reason, pooler.CloseUnasked)
	}
	tp.pool.Put(fresh, pooler.Answered)
}

func TestAPushToAnIdleConnectionIsDroppedAndCounted(t *testing.T) {
	tp := newTCPPeer(t, pooler.Config{HealthCheckInterval: -1})
	c, peer := tp.idle()
	for range 2 {
		if _, err := peer.Write([]byte(">2\r\n+invalidate\r\n*1\r\n$1\r\nk\r\n")); err != nil {
			t.Fatal(err)
		}
		tp.stale(c)
		if got := tp.get(); got != c {
			t.Fatal("a push has killed the connection")
		}
		tp.pool.Put(c, pooler.Answered)
	}
	if got := tp.pool.Stats().PushesDropped; got != 2 {
		t.Errorf("%d pushes dropped, want 2", got)
	}
}

func TestHalfAPushEndsAnIdleConnection(t *testing.T) {
	tp := newTCPPeer(t, pooler.Config{HealthCheckInterval: -1})
	c, peer := tp.idle()
	if _, err := peer.Write([]byte(">2\r\n+invalidate\r\n")); err != nil {
		t.Fatal(err)
	}
	tp.stale(c)
	fresh := tp.get()
	if fresh == c {
		t.Error("the next user would get the rest")
	}
	tp.pool.Put(fresh, pooler.Answered)
}

func TestAnIdleConnectionThatWasInterruptedIsLookedAtAllTheSame(t *testing.T) {
	tp := newTCPPeer(t, pooler.Config{HealthCheckInterval: -1})
	c, peer := tp.idle()
	if got := tp.get(); got != c {
		t.Fatal("another connection")
	}
	c.InterruptReceive() // too late for the reply
	c.InterruptSend()
	tp.pool.Put(c, pooler.Answered)
	if _, err := peer.Write([]byte(">1\r\n+push\r\n")); err != nil {
		t.Fatal(err)
	}
	<-time.After(2 * time.Millisecond)
	if got := tp.get(); got != c {
		t.Error("an interruption has cost the connection")
	}
	tp.pool.Put(c, pooler.Answered)
}

func TestNoRequestGetsAConnectionThatThePeerHasClosedHoweverRecently(t *testing.T) {
	tp := newTCPPeer(t, pooler.Config{HealthCheckInterval: -1})
	c, peer := tp.idle()
	_ = peer.Close()
	tp.arrived(c)
	fresh := tp.get()
	if fresh == c {
		t.Error("Get returned a connection that the peer has closed")
	}
	tp.pool.Put(fresh, pooler.Answered)
}

// A look before a request is for that request: what is closed later is seen before a later one.
func TestALookAtALaneHoldsForTheNextRequestAlone(t *testing.T) {
	tp := newTCPPeer(t, pooler.Config{SharedConns: 1})
	sh, peer := tp.share()
	r := pooler.NewRider()
	tp.pool.Look(sh, r)
	if !tp.pool.Serves() {
		t.Error("it doesn't serve, with a connection that is open")
	}
	time.Sleep(2 * time.Millisecond)
	_ = peer.(*net.TCPConn).CloseWrite() // on loopback it is there at once
	if err := sh.Submit(r, ask("GET")); !errors.Is(err, pooler.ErrNotShared) {
		t.Errorf("Submit: %v, want ErrNotShared", err)
	}
	if tp.pool.Serves() {
		t.Error("it serves, without a connection")
	}
}

func TestALookFindsThatThePeerHasClosedWhatNobodyUses(t *testing.T) {
	for name, lease := range map[string]bool{"lane": false, "idle": true} {
		t.Run(name, func(t *testing.T) {
			tp := newTCPPeer(t, pooler.Config{SharedConns: 1})
			var sh *pooler.Lanes
			var peer net.Conn
			if lease {
				var c *pooler.Conn
				c, peer = tp.lease()
				tp.pool.Put(c, pooler.Answered)
			} else {
				sh, peer = tp.share()
			}
			_ = peer.(*net.TCPConn).CloseWrite()
			if !tp.pool.Serves() {
				t.Error("it is known before somebody looks")
			}
			tp.pool.Look(sh, pooler.NewRider())
			if s := tp.pool.Stats(); tp.pool.Serves() || s.OpenConnections > 0 || s.State != pooler.StateUp {
				t.Errorf("it serves: %t, %v", tp.pool.Serves(), s)
			}
		})
	}
}
