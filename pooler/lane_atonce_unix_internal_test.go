//go:build linux || darwin || dragonfly || freebsd || netbsd || openbsd

package pooler

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"time"
)

// fullSocket takes a write whole, is full after that, and has somebody submit meanwhile.
type fullSocket struct {
	syscall.RawConn
	l      *lane
	behind func()
}

func (s *fullSocket) Write(func(uintptr) bool) error {
	s.l.conn.socket.poke.n = len(s.l.conn.socket.poke.buf)
	s.behind()
	return nil
}

// fullConn is a connection that takes nothing more until its peer has read.
type fullConn struct {
	net.Conn
	read chan struct{}
	sent chan []byte
}

func (c *fullConn) Write(b []byte) (int, error) {
	<-c.read
	c.sent <- bytes.Clone(b)
	return len(b), nil
}

// What others have submitted while a large request filled the socket isn't for its caller
// to wait with.
func TestACallerWhoseLargeRequestHasFilledTheSocketWritesForNobodyElse(t *testing.T) {
	l, _ := onTCP(t, 0)
	full := &fullConn{l.conn.nc, make(chan struct{}), make(chan []byte, 1)}
	l.conn.nc = full
	small := []byte("small")
	l.conn.socket.bare = &fullSocket{l.conn.socket.bare, l, func() {
		if ok, err := l.submit(NewRider(), &Exchange{Request: small, Replies: 1, First: len(small)}); !ok || err != nil {
			t.Error(ok, err)
		}
	}}
	large := make([]byte, 40<<10)
	done := make(chan error, 1)
	go func() {
		_, err := l.submit(NewRider(), &Exchange{Request: large, Replies: 1, First: len(large)})
		done <- err
	}()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Error("Submit waits for the peer to read")
	}
	close(full.read)
	if got := <-full.sent; !bytes.Equal(got, small) {
		t.Errorf("%q came behind", got)
	}
	l.pool.wg.Wait()
}

// endingSocket takes the first bytes of a write, and is shut down then.
type endingSocket struct {
	syscall.RawConn
	c    *Conn
	take int
}

func (s *endingSocket) Write(f func(uintptr) bool) error {
	if s.take > 0 {
		whole := s.c.socket.poke.buf
		s.c.socket.poke.buf = whole[:s.take]
		if err := s.RawConn.Write(f); err != nil {
			return err
		}
		s.c.socket.poke.buf = whole
		return s.c.nc.(*net.TCPConn).CloseWrite()
	}
	if err := s.c.nc.(*net.TCPConn).CloseWrite(); err != nil {
		return err
	}
	return s.RawConn.Write(f)
}

// What was not written can't have run, and what was is not called unwritten.
func TestAConnectionThatEndsUnderALargeRequestSaysWhetherSomeOfItMayHaveRun(t *testing.T) {
	for name, tt := range map[string]struct {
		take, first int
		ran         bool
	}{
		"nothing was written":            {0, 100, false},
		"not all of the first command":   {10 << 10, 20 << 10, false},
		"the first command, and no more": {20 << 10, 20 << 10, true},
	} {
		t.Run(name, func(t *testing.T) {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer ln.Close()
			p, err := New(Node{Network: "tcp", Addr: ln.Addr().String(), Dial: (&net.Dialer{}).DialContext}, Config{SharedConns: 1})
			if err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			sh, err := p.Share(context.Background(), Request{Session: NewSession()})
			if err != nil {
				t.Fatal(err)
			}
			l := (*sh.lanes.Load())[0]
			l.conn.socket.bare = &endingSocket{l.conn.socket.bare, l.conn, tt.take}
			r := NewRider()
			defer r.Close()
			if err := sh.Submit(r, Exchange{Request: make([]byte, 40<<10), Replies: 2, First: tt.first}); err != nil {
				t.Fatal(err)
			}
			if n, _, err := r.Receive(make([]byte, 100), time.Time{}); n > 0 || !errors.Is(err, ErrLost) {
				t.Fatal(n, err)
			}
			if ran, cause := r.Lost(); ran != tt.ran {
				t.Errorf("some of it may have run: %v, want %v (%v)", ran, tt.ran, cause)
			}
		})
	}
}

// Whoever asks a socket for its file and that for its descriptor has it wait for all calls
// (O_NONBLOCK is of both).
func TestAWriteThatDoesNotWaitDoesNotWaitOnABlockingSocketEither(t *testing.T) {
	l, far := onTCP(t, 16<<10)
	f, err := l.conn.nc.(*net.TCPConn).File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := syscall.SetNonblock(int(f.Fd()), false); err != nil {
		t.Fatal(err)
	}
	done := make(chan int, 1)
	go func() { done <- l.conn.writeNow(make([]byte, 8<<20)) }()
	select {
	case n := <-done:
		if n == 0 {
			t.Error("nothing was written")
		}
	case <-time.After(10 * time.Second):
		t.Error("the write waits for the peer to read")
		far.Close()
		<-done
	}
}

// countingConn is a socket in what somebody has put around it, which shows its socket.
type countingConn struct {
	*net.TCPConn
	written int
}

func (c *countingConn) Write(b []byte) (int, error) {
	c.written += len(b)
	return c.TCPConn.Write(b)
}

// What is around a socket sees, and may change, all that is written.
func TestNothingIsWrittenPastWhatIsAroundASocket(t *testing.T) {
	l, far := onTCP(t, 0)
	around := &countingConn{TCPConn: l.conn.nc.(*net.TCPConn)}
	l.conn = newConn(around, nil)
	x := &Exchange{Request: bytes.Repeat([]byte("x"), 40<<10), Replies: 1, First: 40 << 10}
	if ok, err := l.submit(NewRider(), x); !ok || err != nil {
		t.Fatal(ok, err)
	}
	l.pool.wg.Wait()
	if _, err := io.ReadFull(far, make([]byte, len(x.Request))); err != nil {
		t.Fatal(err)
	}
	if around.written != len(x.Request) {
		t.Errorf("%d of %d bytes went through it", around.written, len(x.Request))
	}
}
