package pooler_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/pooler"
)

func TestATimeoutLeavesTheConnectionGood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire(t, 0)
		w.c.Owe(1)
		w.reply("$5\r\nhel")
		w.receive(7, time.Time{})
		began := time.Now()
		for _, d := range []time.Duration{time.Second, 0, -time.Second} {
			_, _, err := w.receive(10, time.Now().Add(d))
			if d == time.Second && err == nil {
				_, _, err = w.receive(10, time.Now().Add(d)) // what was buffered
			}
			if !errors.Is(err, os.ErrDeadlineExceeded) || w.c.Err() != nil {
				t.Fatalf("deadline in %s: %v, connection %v", d, err, w.c.Err())
			}
		}
		if got := time.Since(began); got != time.Second {
			t.Errorf("it took %s, want 1s", got)
		}
		w.reply("lo\r\n")
		w.want("lo\r\n")
	})
}

func TestAWriteThatTimesOutBeforeItsFirstByteLeavesTheConnectionGood(t *testing.T) {
	w := newWire(t, 0)
	n, err := w.c.Send([]byte("x"), time.Unix(1, 0))
	if n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) || w.c.Err() != nil {
		t.Fatalf("Send: %d, %v, connection %v", n, err, w.c.Err())
	}
	if n, err := w.c.Send([]byte("xy"), time.Time{}); n != 2 || err != nil {
		t.Errorf("Send: %d, %v", n, err)
	}
}

// tlsLike behaves as a *tls.Conn whose peer doesn't read: after a write that
// timed out, all others give the same error, whatever the deadline.
type tlsLike struct{ net.Conn }

func (c tlsLike) NetConn() net.Conn         { return c.Conn }
func (c tlsLike) Write([]byte) (int, error) { return 0, os.ErrDeadlineExceeded }

func TestAWriteThatTimesOutEndsATLSConnection(t *testing.T) {
	w := newWire(t, 0, func(nc net.Conn) net.Conn { return tlsLike{nc} })
	n, err := w.c.Send([]byte("x"), time.Now().Add(time.Hour))
	if n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) || w.c.Err() == nil {
		t.Errorf("Send: %d, %v, connection %v; want it dead", n, err, w.c.Err())
	}
}

func TestAPartialWriteEndsTheConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire(t, 100)
		n, err := w.c.Send(bytes.Repeat([]byte("x"), 1000), time.Now().Add(time.Second))
		if n != 100 || !errors.Is(err, os.ErrDeadlineExceeded) || w.c.Err() == nil {
			t.Errorf("Send: %d, %v, connection %v", n, err, w.c.Err())
		}
		if n, err := w.c.Send([]byte("x"), time.Time{}); n != 0 || err == nil {
			t.Errorf("Send on a dead connection: %d, %v", n, err)
		}
	})
	bubble(t, pooler.Config{}, func(pt *tester) {
		c := pt.get(pt.plain)
		pt.fake.Freeze(true)
		c.Owe(1)
		_, err := c.Send(make([]byte, 1<<20), time.Now().Add(time.Second))
		pt.wantErr(err, os.ErrDeadlineExceeded)
		pt.fail(c)
		pt.wantCloses(pooler.CloseWrite, 1)
		pt.fake.Freeze(false)
	})
}

func TestInterruptEndsACallAndSaysNothingOfTheConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire(t, 100)
		if _, err := w.c.Send(make([]byte, 100), time.Time{}); err != nil {
			t.Fatal(err)
		}
		w.c.Owe(1)
		for _, early := range []bool{true, false} {
			result := make(chan error, 2)
			interrupt := func() { w.c.InterruptReceive(); w.c.InterruptSend() }
			if early {
				interrupt()
			}
			go func() { _, _, err := w.receive(10, time.Time{}); result <- err }()
			go func() { _, err := w.c.Send([]byte("y"), time.Time{}); result <- err }()
			synctest.Wait()
			if !early {
				interrupt()
			}
			for range 2 {
				if err := <-result; !errors.Is(err, pooler.ErrInterrupted) || w.c.Err() != nil {
					t.Fatalf("early %v: %v, connection %v", early, err, w.c.Err())
				}
			}
		}
		_, _ = io.ReadFull(w.peer, make([]byte, 100))
		w.reply("+OK\r\n")
		w.want("+OK\r\n")
		if _, err := w.c.Send([]byte("z"), time.Time{}); err != nil {
			t.Error(err)
		}
	})
}

// lateDeadline holds up the deadlines in the past that interrupt.
type lateDeadline struct {
	net.Conn
	release chan struct{}
}

func (c lateDeadline) SetReadDeadline(t time.Time) error {
	if t.Equal(time.Unix(1, 0)) {
		<-c.release
	}
	return c.Conn.SetReadDeadline(t)
}

func (c lateDeadline) SetWriteDeadline(t time.Time) error {
	if t.Equal(time.Unix(1, 0)) {
		<-c.release
	}
	return c.Conn.SetWriteDeadline(t)
}

func TestAnInterruptionThatComesLateDoesNotExpireWhatFollows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		w := newWire(t, 0, func(nc net.Conn) net.Conn { return lateDeadline{nc, release} })
		w.c.Owe(1)
		go w.c.InterruptReceive()
		go w.c.InterruptSend()
		synctest.Wait()
		// The interruptions are taken note of before they set their deadlines.
		if _, _, err := w.receive(10, time.Time{}); !errors.Is(err, pooler.ErrInterrupted) {
			t.Fatalf("Receive: %v", err)
		}
		if _, err := w.c.Send([]byte("x"), time.Time{}); !errors.Is(err, pooler.ErrInterrupted) {
			t.Fatalf("Send: %v", err)
		}
		close(release)
		synctest.Wait()
		w.reply("+OK\r\n")
		w.want("+OK\r\n")
		if _, err := w.c.Send([]byte("x"), time.Time{}); err != nil {
			t.Errorf("Send: %v", err)
		}
	})
}

// crossing has one interruption set its deadline late, just after a call has set its
// own, and another come just when the call repairs that.
type crossing struct {
	net.Conn
	own       time.Time // the call's deadline
	interrupt func()
	set       int
}

func (c *crossing) cross(t time.Time, set func(time.Time) error) error {
	if !t.Equal(c.own) {
		return set(t)
	}
	if c.set++; c.set == 2 {
		c.interrupt()
	}
	if err := set(t); err != nil {
		return err
	}
	if c.set == 1 {
		return set(time.Unix(1, 0))
	}
	return nil
}

func (c *crossing) SetReadDeadline(t time.Time) error  { return c.cross(t, c.Conn.SetReadDeadline) }
func (c *crossing) SetWriteDeadline(t time.Time) error { return c.cross(t, c.Conn.SetWriteDeadline) }

func TestAnInterruptionIsNotTakenBackWithOneThatCameLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		var cross *crossing
		w := newWire(t, 0, func(nc net.Conn) net.Conn {
			cross = &crossing{Conn: nc, own: began.Add(time.Hour)}
			return cross
		})
		w.c.Owe(1)
		cross.interrupt = func() { w.c.InterruptReceive() }
		if _, _, err := w.receive(10, cross.own); !errors.Is(err, pooler.ErrInterrupted) {
			t.Errorf("Receive: %v", err)
		}
		cross.set, cross.interrupt = 0, func() { w.c.InterruptSend() }
		if _, err := w.c.Send([]byte("x"), cross.own); !errors.Is(err, pooler.ErrInterrupted) {
			t.Errorf("Send: %v", err)
		}
		if d := time.Since(began); d != 0 || cross.set != 2 {
			t.Errorf("it took %v, with %d deadlines", d, cross.set)
		}
	})
}

func TestAConnectionLostIsDeadAndSaysWhy(t *testing.T) {
	for _, tc := range []struct {
		lose   func(*testkit.FakeConn)
		reason pooler.CloseReason
	}{
		{(*testkit.FakeConn).CloseNow, pooler.ClosePeer},
		{(*testkit.FakeConn).ResetNow, pooler.CloseRead},
	} {
		bubble(t, pooler.Config{}, func(pt *tester) {
			c := pt.get(pt.plain)
			pt.do(c, "PING")
			c.Owe(1)
			tc.lose(pt.fake.Conns()[0])
			if _, err := receive(c, time.Time{}); err == nil || c.Err() == nil {
				t.Errorf("Receive: %v, connection %v", err, c.Err())
			}
			pt.fail(c)
			pt.wantCloses(tc.reason, 1)
		})
	}
}
