package pooler_test

import (
	"errors"
	"io"
	"net"
	"strings"
	"testing"
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
			var all strings.Builder
			for done := false; !done; {
				var got string
				var err error
				got, done, err = w.receive(size, time.Time{})
				if err != nil || got == "" {
					t.Fatalf("size %d: %q, %v", size, got, err)
				}
				all.WriteString(got)
			}
			if all.String() != reply {
				t.Fatalf("size %d: received %q", size, all.String())
			}
		}
	}
}

func TestReceiveBufferedTakesWhatIsHereAndReadsNothing(t *testing.T) {
	w := newWire(t, 0)
	w.c.Owe(3)
	w.reply("+1\r\n" + push + "+2\r\n+3")
	if n, done, err := w.c.ReceiveBuffered(make([]byte, 100)); n != 0 || done || err != nil {
		t.Errorf("received %d, %v, %v before anything was read", n, done, err)
	}
	w.want("+1\r\n")
	b := make([]byte, 100)
	var got strings.Builder
	for range 3 {
		n, _, err := w.c.ReceiveBuffered(b)
		if err != nil {
			t.Fatal(err)
		}
		got.WriteString(string(b[:n]))
	}
	if got.String() != "+2\r\n+3" || w.c.Owed() != 1 || w.c.Buffered() {
		t.Errorf("received %q, %d owed", got.String(), w.c.Owed())
	}
	w.reply("\r\n")
	w.want("\r\n")
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
