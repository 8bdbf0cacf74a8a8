package pooler_test

import (
	"context"
	"errors"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/pooler"
)

// tunnel is a connection that refuses deadlines, as one through ssh does.
type tunnel struct{ net.Conn }

var errNoDeadline = errors.New("ssh: tcpChan: deadline not supported")

func (tunnel) SetDeadline(time.Time) error      { return errNoDeadline }
func (tunnel) SetReadDeadline(time.Time) error  { return errNoDeadline }
func (tunnel) SetWriteDeadline(time.Time) error { return errNoDeadline }

// tunneled runs the script with a pool whose connections refuse deadlines.
func tunneled(t *testing.T, cfg pooler.Config, script func(pt *tester), opts ...testkit.FakeOption) {
	t.Helper()
	wrap := testkit.WithConnWrapper(func(nc net.Conn) net.Conn { return tunnel{nc} })
	bubble(t, cfg, script, append(opts, wrap)...)
}

func TestAReadThatIsLateOrInterruptedLosesNoByteOfATunnel(t *testing.T) {
	tunneled(t, pooler.Config{}, func(pt *tester) {
		c := pt.get(pt.plain)
		pt.fake.Freeze(true)
		long := strings.Repeat("x", 50_000) // more than is read ahead
		pt.send(c, "ECHO", long)
		began := time.Now()
		if _, err := receive(c, began.Add(time.Second)); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) != time.Second {
			t.Errorf("after %s: %v", time.Since(began), err)
		}
		stop := time.AfterFunc(time.Second, c.InterruptReceive)
		defer stop.Stop()
		if _, err := receive(c, time.Time{}); !errors.Is(err, pooler.ErrInterrupted) || time.Since(began) != 2*time.Second {
			t.Errorf("after %s: %v", time.Since(began), err)
		}
		pt.fake.Freeze(false)
		if got, err := receive(c, time.Now().Add(time.Second)); err != nil || got != bulk(long) {
			t.Errorf("received %d bytes, %v", len(got), err)
		}
		if got := pt.do(c, "ECHO", "hi"); got != bulk("hi") {
			t.Errorf("received %q", got)
		}
		pt.put(c)
		pt.wantIdle(1)
	})
}

func TestASharedTunnelOutlivesTheDeadlinesOfItsCallers(t *testing.T) {
	tunneled(t, pooler.Config{SharedConns: 1, SilenceAfter: -1}, func(pt *tester) {
		sh := pt.share(pt.plain)
		pt.fake.Freeze(true)
		late := pt.submit(sh, ask("ECHO", "late"))
		late.by = time.Now().Add(100 * time.Millisecond)
		late.receive()
		mine := pt.ride(sh, ask("ECHO", "mine"))
		pt.sleep(time.Second)
		late.wantErr(os.ErrDeadlineExceeded)
		late.rider.Close()
		pt.fake.Freeze(false)
		mine.wantReply(bulk("mine"))
		pt.wantDials(1)
	})
}

// Nobody knows how much was written.
func TestAWriteThatIsLateClosesATunnelAndCountsAsWritten(t *testing.T) {
	for name, late := range map[string]func(c *pooler.Conn) time.Time{
		"deadline": func(*pooler.Conn) time.Time { return time.Now().Add(time.Second) },
		"interruption": func(c *pooler.Conn) time.Time {
			time.AfterFunc(time.Second, c.InterruptSend)
			return time.Time{}
		},
	} {
		t.Run(name, func(t *testing.T) {
			tunneled(t, pooler.Config{}, func(pt *tester) {
				c := pt.get(pt.plain)
				pt.fake.Freeze(true)
				began := time.Now()
				b := make([]byte, 1000)
				c.Owe(1)
				n, err := c.Send(b, late(c))
				if n != len(b) || err == nil || c.Err() == nil || time.Since(began) != time.Second {
					t.Errorf("after %s: %d, %v; the connection: %v", time.Since(began), n, err, c.Err())
				}
				pt.fail(c)
				pt.fake.Freeze(false)
				pt.wantOpen(0)
			}, testkit.WithBuffer(100))
		})
	}
}

func TestAWriteWhoseTimeIsOverAlreadyWritesNothing(t *testing.T) {
	tunneled(t, pooler.Config{}, func(pt *tester) {
		c := pt.get(pt.plain)
		c.InterruptSend()
		if n, err := c.Send([]byte("x"), time.Time{}); n != 0 || !errors.Is(err, pooler.ErrInterrupted) {
			t.Errorf("%d, %v", n, err)
		}
		if n, err := c.Send([]byte("x"), time.Now().Add(-1)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%d, %v", n, err)
		}
		pt.do(c, "PING")
		pt.put(c)
		pt.wantIdle(1)
	})
}

// Its own deadline has not passed.
func TestAnEarlierDeadlineDoesNotCloseATunnelLater(t *testing.T) {
	tunneled(t, pooler.Config{}, func(pt *tester) {
		c := pt.get(pt.plain)
		c.Owe(1)
		if _, err := c.Send([]byte("*1\r\n$4\r\nPING\r\n"), time.Now().Add(time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := receive(c, time.Now().Add(time.Second)); err != nil {
			t.Fatal(err)
		}
		pt.sleep(time.Minute)
		pt.do(c, "PING")
		pt.put(c)
	})
}

func TestAnIdleTunnelIsLookedAtBeforeItIsUsed(t *testing.T) {
	for name, happens := range map[string]struct {
		what   func(c *testkit.FakeConn)
		reason pooler.CloseReason
	}{
		"closed":  {func(c *testkit.FakeConn) { c.CloseNow() }, pooler.ClosePeer},
		"reset":   {func(c *testkit.FakeConn) { c.ResetNow() }, pooler.CloseRead},
		"unasked": {func(c *testkit.FakeConn) { c.Push([]byte("+OK\r\n")) }, pooler.CloseUnasked},
	} {
		t.Run(name, func(t *testing.T) {
			tunneled(t, pooler.Config{MaxOpenConns: 1, SharedConns: -1, HealthCheckInterval: -1}, func(pt *tester) {
				pt.put(pt.get(pt.plain))
				happens.what(pt.fake.Conns()[0])
				pt.settle()
				c := pt.get(pt.plain)
				pt.do(c, "PING")
				pt.put(c)
				pt.wantCloses(happens.reason, 1)
			})
		})
	}
}

// last is a connection with something to say when it is closed.
type last struct {
	net.Conn
	closed chan struct{}
}

func (l last) Read(b []byte) (int, error) {
	<-l.closed
	return copy(b, "x"), nil
}

func (l last) Close() error {
	close(l.closed)
	return nil
}

func TestATunnelWhoseLastBytesComeAfterItsEndLeavesNoGoroutine(t *testing.T) {
	tunneled(t, pooler.Config{}, func(pt *tester) {
		pt.dialer.dial = func(context.Context, string, string) (net.Conn, error) {
			return tunnel{last{closed: make(chan struct{})}}, nil
		}
		c := pt.get(pt.plain)
		c.Fail(pooler.CloseRead, net.ErrClosed)
		pt.fail(c)
		pt.wantOpen(0)
	})
}

// The bubble doesn't end before all goroutines have.
func TestATunnelThatIsClosedWithBytesUnreadLeavesNoGoroutine(t *testing.T) {
	tunneled(t, pooler.Config{}, func(pt *tester) {
		c := pt.get(pt.plain)
		pt.send(c, "ECHO", strings.Repeat("x", 1000))
		pt.settle()
		c.Fail(pooler.CloseRead, net.ErrClosed)
		pt.fail(c)
		pt.wantOpen(0)
	})
}
