package pooler_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/pooler"
)

// wire is a connection without a pool, and the server's end of it.
type wire struct {
	*testing.T
	c    *pooler.Conn
	peer *testkit.MemConn
}

func newWire(t *testing.T, buffer int, wrap ...func(net.Conn) net.Conn) *wire {
	t.Helper()
	a := &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 1}
	client, server := testkit.Pair(buffer, a, a)
	nc := net.Conn(client)
	for _, w := range wrap {
		nc = w(nc)
	}
	t.Cleanup(func() { _, _ = client.Close(), server.Close() })
	return &wire{t, pooler.NewConn(nc, pooler.NewSession()), server}
}

// reply has the peer write.
func (w *wire) reply(s string) {
	w.Helper()
	if _, err := io.WriteString(w.peer, s); err != nil {
		w.Fatal(err)
	}
}

// receive reads once, at most size bytes.
func (w *wire) receive(size int, deadline time.Time) (string, bool, error) {
	b := make([]byte, size)
	n, done, err := w.c.Receive(b, deadline)
	return string(b[:n]), done, err
}

// want reads one reply.
func (w *wire) want(reply string) {
	w.Helper()
	got, err := receive(w.c, time.Time{})
	if got != reply || err != nil {
		w.Fatalf("received %q, %v; want %q", got, err, reply)
	}
}

func TestReceiveNeverGoesPastTheEndOfAReply(t *testing.T) {
	w := newWire(t, 0)
	w.c.Owe(4)
	w.reply("+OK\r\n*2\r\n:1\r\n$3\r\nabc\r\n|1\r\n+a\r\n+b\r\n%1\r\n+k\r\n_\r\n-ERR x\r\n")
	for _, reply := range []string{"+OK\r\n", "*2\r\n:1\r\n$3\r\nabc\r\n", "|1\r\n+a\r\n+b\r\n%1\r\n+k\r\n_\r\n", "-ERR x\r\n"} {
		got, done, err := w.receive(1000, time.Time{})
		if got != reply || !done || err != nil {
			t.Errorf("received %q, %v, %v; want %q", got, done, err, reply)
		}
	}
	if w.c.Kind() != '-' || w.c.Owed() != 0 || w.c.Buffered() || w.c.Err() != nil {
		t.Errorf("kind %q, owed %d, buffered %v, %v", w.c.Kind(), w.c.Owed(), w.c.Buffered(), w.c.Err())
	}
}

func TestRepliesComeInPiecesOfAnySize(t *testing.T) {
	reply := "*2\r\n$10\r\n0123456789\r\n:42\r\n"
	for size := 1; size <= len(reply); size++ {
		w := newWire(t, 0)
		w.c.Owe(2)
		w.reply(reply + reply)
		for range 2 {
			var all string
			for done := false; !done; {
				var got string
				var err error
				got, done, err = w.receive(size, time.Time{})
				if err != nil || got == "" {
					t.Fatalf("size %d: %q, %v", size, got, err)
				}
				all += got
			}
			if all != reply {
				t.Fatalf("size %d: received %q", size, all)
			}
		}
	}
}

func TestALargeBulkGoesStraightToTheReader(t *testing.T) {
	w := newWire(t, 1<<20)
	body := strings.Repeat("x", 300_000)
	w.c.Owe(2)
	w.reply("$300000\r\n" + body + "\r\n+OK\r\n")
	buf := make([]byte, 200_000)
	var got []byte
	var biggest int
	for {
		n, done, err := w.c.Receive(buf, time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		biggest = max(biggest, n)
		got = append(got, buf[:n]...)
		if done {
			break
		}
	}
	if string(got) != "$300000\r\n"+body+"\r\n" {
		t.Errorf("received %d bytes, and they are not the reply", len(got))
	}
	if biggest != len(buf) {
		t.Errorf("the biggest piece has %d bytes, want %d: one read into the reader's own buffer", biggest, len(buf))
	}
	w.want("+OK\r\n")
}

const push = ">2\r\n+message\r\n$2\r\nhi\r\n"

func TestPushesAreDroppedInCountedMode(t *testing.T) {
	w := newWire(t, 0)
	w.c.Owe(2)
	w.reply(push + "+OK\r\n" + push + push + ":1\r\n")
	w.want("+OK\r\n")
	w.want(":1\r\n")
	if w.c.Err() != nil || w.c.Owed() != 0 {
		t.Errorf("owed %d, %v", w.c.Owed(), w.c.Err())
	}
}

func TestPushesArePassedOnInPushesMode(t *testing.T) {
	w := newWire(t, 0)
	w.c.SetMode(pooler.Pushes)
	w.c.Owe(1)
	w.reply(push + "+OK\r\n" + push)
	for _, step := range []struct {
		want string
		done bool
	}{{push, false}, {"+OK\r\n", true}, {push, false}} {
		got, done, err := w.receive(1000, time.Time{})
		if got != step.want || done != step.done || err != nil {
			t.Errorf("received %q, %v, %v; want %q, %v", got, done, err, step.want, step.done)
		}
	}
	w.reply("+unasked\r\n")
	if _, _, err := w.receive(1000, time.Time{}); !errors.Is(err, pooler.ErrProtocol) || w.c.Err() == nil {
		t.Errorf("a reply that nobody asked for: %v, %v", err, w.c.Err())
	}
}

func TestAStreamPassesOnEverything(t *testing.T) {
	w := newWire(t, 0)
	w.c.SetMode(pooler.Stream)
	const all = "+OK\r\n" + push + "+1700000000.0 \"GET\"\r\nno RESP at all"
	w.reply(all)
	if got, done, err := w.receive(1000, time.Time{}); got != all || done || err != nil {
		t.Errorf("received %q, %v, %v", got, done, err)
	}
}

func TestAReplyThatNobodyAskedForEndsTheConnection(t *testing.T) {
	bubble(t, pooler.Config{}, func(pt *tester) {
		c := pt.get(pt.plain)
		pt.fake.Handle("PING", func(*testkit.FakeConn, []string) []byte { return []byte("+PONG\r\n+PONG\r\n") })
		if got := pt.do(c, "PING"); got != "+PONG\r\n" {
			t.Errorf("received %q", got)
		}
		pt.put(c)
		pt.wantCloses(pooler.CloseUnasked, 1)
		if !errors.Is(c.Err(), pooler.ErrProtocol) {
			t.Errorf("Err is %v, want ErrProtocol", c.Err())
		}
	})
}

func TestReceiveWithNothingOwedDoesNotBlock(t *testing.T) {
	w := newWire(t, 0)
	if got, done, err := w.receive(10, time.Time{}); err == nil || done || got != "" || w.c.Err() != nil {
		t.Errorf("received %q, %v, %v; connection %v", got, done, err, w.c.Err())
	}
}

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
