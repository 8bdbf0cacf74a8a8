package testkit_test

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/everpool/everpool/internal/testkit"
)

// echoServer sends back what it gets until its peer has finished.
func echoServer(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				_, _ = io.Copy(c, c)
				_ = c.Close()
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		wg.Wait() // registered before the proxy's cleanup, so it runs after it
	})
	return l.Addr().String()
}

func newProxy(t *testing.T) *testkit.Proxy {
	t.Helper()
	return testkit.NewProxy(t, echoServer(t))
}

func dialProxy(t *testing.T, p *testkit.Proxy) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second)) // a hang is a failure
	return c.(*net.TCPConn)
}

func echo(t *testing.T, c net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(text))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != text {
		t.Fatalf("echo %q, %v", got, err)
	}
}

// wantSilence reads until a short deadline, in which nothing may come.
func wantSilence(t *testing.T, c net.Conn) {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(30 * time.Millisecond))
	n, err := c.Read(make([]byte, 1))
	if n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("read %d, %v, want silence", n, err)
	}
	_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
}

func wantReadErr(t *testing.T, c net.Conn, want error) {
	t.Helper()
	_, err := c.Read(make([]byte, 1))
	wantErr(t, "read", err, want)
}

func TestProxyResetAndClose(t *testing.T) {
	p := newProxy(t)
	a, b := dialProxy(t, p), dialProxy(t, p)
	echo(t, a, "hello")
	echo(t, b, "hello")
	if p.Accepted() != 2 || p.Live() != 2 || p.BytesTo(testkit.ToServer) != 10 || p.BytesTo(testkit.ToClient) != 10 {
		t.Fatalf("accepted %d, live %d", p.Accepted(), p.Live())
	}
	p.Reset()
	wantReadErr(t, a, syscall.ECONNRESET)
	wantReadErr(t, b, syscall.ECONNRESET)
	c := dialProxy(t, p)
	echo(t, c, "hello")
	p.CloseAll()
	wantReadErr(t, c, io.EOF)
	if p.Live() != 0 {
		t.Fatalf("live %d", p.Live())
	}
}

func TestProxyHalfClose(t *testing.T) {
	p := newProxy(t)
	c := dialProxy(t, p)
	echo(t, c, "hello")
	p.HalfClose()
	wantReadErr(t, c, io.EOF)
	if _, err := io.WriteString(c, "still"); err != nil {
		t.Fatal(err)
	}
	if p.Live() != 1 {
		t.Fatalf("live %d", p.Live())
	}
}

func TestProxySilenceSwallowsWhatExistsOnly(t *testing.T) {
	p := newProxy(t)
	old := dialProxy(t, p)
	echo(t, old, "hello")
	p.Silence(true)
	_, _ = io.WriteString(old, "lost")
	wantSilence(t, old)
	echo(t, dialProxy(t, p), "new")
	p.Silence(false)
	echo(t, old, "back")
}

func TestProxyFreezeKeepsEverythingInOrder(t *testing.T) {
	p := newProxy(t)
	old := dialProxy(t, p)
	echo(t, old, "hello")
	p.Freeze(true)
	fresh := dialProxy(t, p)
	_, _ = io.WriteString(old, "one ")
	_, _ = io.WriteString(fresh, "three")
	wantSilence(t, old)
	wantSilence(t, fresh)
	_, _ = io.WriteString(old, "two")
	p.Freeze(false)
	got := make([]byte, 7)
	if _, err := io.ReadFull(old, got); err != nil || string(got) != "one two" {
		t.Fatalf("read %q, %v", got, err)
	}
	if _, err := io.ReadFull(fresh, got[:5]); err != nil || string(got[:5]) != "three" {
		t.Fatalf("read %q, %v", got[:5], err)
	}
	p.Freeze(true) // the cleanup must end it like this
}

func TestProxyRefuseKeepsItsPort(t *testing.T) {
	p := newProxy(t)
	old := dialProxy(t, p)
	echo(t, old, "hello")
	p.Refuse(true)
	_, err := net.Dial("tcp", p.Addr())
	wantErr(t, "dial", err, syscall.ECONNREFUSED)
	echo(t, old, "still here")
	p.Refuse(false)
	echo(t, dialProxy(t, p), "again")
}

func TestProxyDelayAddsLatencyInEachDirection(t *testing.T) {
	p := newProxy(t)
	c := dialProxy(t, p)
	const d = 20 * time.Millisecond
	p.Delay(d)
	start := time.Now()
	echo(t, c, "hello")
	if took := time.Since(start); took < 2*d {
		t.Fatalf("a round trip of %v", took)
	}
}

func TestProxySliceForwardsEverything(t *testing.T) {
	p := newProxy(t)
	p.Slice(1)
	echo(t, dialProxy(t, p), "piece by piece")
}

func TestProxyCutAfterEveryOffset(t *testing.T) {
	p := newProxy(t)
	for n := int64(1); n < 5; n++ {
		p.CutAfter(testkit.ToClient, n)
		c := dialProxy(t, p)
		_, _ = io.WriteString(c, "hello")
		got, err := io.ReadAll(c)
		wantErr(t, "read", err, syscall.ECONNRESET)
		if string(got) != "hello"[:n] {
			t.Fatalf("cut after %d: %q", n, got)
		}
	}
	p.CutAfter(testkit.ToClient, -1)
	before := p.BytesTo(testkit.ToServer)
	p.CutAfter(testkit.ToServer, 2)
	c := dialProxy(t, p)
	_, _ = io.WriteString(c, "hello")
	_, err := io.ReadAll(c)
	wantErr(t, "read", err, syscall.ECONNRESET)
	if n := p.BytesTo(testkit.ToServer) - before; n != 2 {
		t.Fatalf("%d bytes reached the server", n)
	}
	p.CutAfter(testkit.ToServer, -1)
	echo(t, dialProxy(t, p), "whole")
}

// wantResetAtOnce dials and wants a reset, which the dial itself may meet.
func wantResetAtOnce(t *testing.T, p *testkit.Proxy) {
	t.Helper()
	c, err := net.Dial("tcp", p.Addr())
	if err == nil {
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
		_, err = c.Read(make([]byte, 1))
	}
	wantErr(t, "dial and read", err, syscall.ECONNRESET)
}

func TestProxyCutAfterNothingResetsAtOnce(t *testing.T) {
	p := newProxy(t)
	p.CutAfter(testkit.ToServer, 0)
	wantResetAtOnce(t, p)
	p.CutAfter(testkit.ToServer, -1)
	echo(t, dialProxy(t, p), "hello")
}

func TestProxyPassesOnHowEitherSideEnds(t *testing.T) {
	p := newProxy(t)
	c := dialProxy(t, p)
	_, _ = io.WriteString(c, "last words")
	_ = c.CloseWrite()
	got, err := io.ReadAll(c)
	if string(got) != "last words" || err != nil {
		t.Fatalf("read %q, %v", got, err)
	}
}

func TestProxyResetsWhenTheTargetIsDown(t *testing.T) {
	s := testkit.Start(t, testkit.Redis)
	p := testkit.NewProxy(t, s.Addr)
	s.Kill()
	wantResetAtOnce(t, p)
	s.Restart(t)
	c := dialProxy(t, p)
	_, _ = io.WriteString(c, "PING\r\n")
	got := make([]byte, 7)
	if _, err := io.ReadFull(c, got); err != nil || string(got) != "+PONG\r\n" {
		t.Fatalf("%q, %v", got, err)
	}
}
