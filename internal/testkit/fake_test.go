package testkit_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/everpool/everpool/internal/testkit"
)

// peer is a raw client of a fake: what the tests write is exactly what is
// sent.
type peer struct {
	t    *testing.T
	conn net.Conn
	r    *bufio.Reader
}

func dialFake(t *testing.T, f *testkit.Fake) *peer {
	t.Helper()
	conn, err := f.Dial(t.Context(), "tcp", "10.0.0.1:6379")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return &peer{t: t, conn: conn, r: bufio.NewReader(conn)}
}

func (p *peer) send(lines ...string) {
	p.t.Helper()
	for _, l := range lines {
		if _, err := io.WriteString(p.conn, l+"\r\n"); err != nil {
			p.t.Fatal(err)
		}
	}
}

// want reads exactly the wanted bytes; spaces stand for CRLF.
func (p *peer) want(reply string) {
	p.t.Helper()
	reply = strings.ReplaceAll(reply, " ", "\r\n") + "\r\n"
	got := make([]byte, len(reply))
	n, err := io.ReadFull(p.r, got)
	if diff := cmp.Diff(reply, string(got[:n])); diff != "" || err != nil {
		p.t.Fatalf("error %v, reply (-want +got):\n%s", err, diff)
	}
}

// wantLine reads one line with that prefix.
func (p *peer) wantLine(prefix string) {
	p.t.Helper()
	line, err := p.r.ReadString('\n')
	if err != nil || !strings.HasPrefix(line, prefix) {
		p.t.Fatalf("got %q, %v, want %q...", line, err, prefix)
	}
}

func (p *peer) wantEnd(want error) {
	p.t.Helper()
	_, err := p.r.ReadByte()
	wantErr(p.t, "read", err, want)
}

func bubble(t *testing.T, test func(t *testing.T, f *testkit.Fake), opts ...testkit.FakeOption) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f := testkit.NewFake(opts...)
		defer f.Close()
		test(t, f)
	})
}

func TestFakeAnswersAsAServerDoes(t *testing.T) {
	bubble(t, func(t *testing.T, f *testkit.Fake) {
		p := dialFake(t, f)
		for _, step := range [][2]string{
			{"PING", "+PONG"},
			{"echo x", "$1 x"},
			{"SET k v", "+OK"},
			{"GET k", "$1 v"},
			{"GET none", "$-1"},
			{"SET k w NX", "$-1"},
			{"SET k w GET", "$1 v"},
			{"MGET k none", "*2 $1 w $-1"},
			{"EXISTS k k none", ":2"},
			{"INCR n", ":1"},
			{"INCRBY n 5", ":6"},
			{"DECR n", ":5"},
			{"LPUSH l a b", ":2"},
			{"RPUSH l c", ":3"},
			{"LRANGE l 0 -1", "*3 $1 b $1 a $1 c"},
			{"LLEN l", ":3"},
			{"LPOP l", "$1 b"},
			{"RPOP l", "$1 c"},
			{"DEL k none", ":1"},
			{"SELECT 1", "+OK"},
			{"EXISTS n", ":0"},
			{"CLIENT ID", ":1"},
			{"CLIENT SETNAME me", "+OK"},
			{"CLIENT GETNAME", "$2 me"},
			{"WAIT 0 0", ":0"},
			{"READONLY", "+OK"},
			{"COMMAND INFO nosuch", "*1 *-1"},
			{"BLPOP l2 0.5", "*-1"},
			{"RESET", "+RESET"},
			{"EXISTS n", ":1"},
			{"QUIT", "+OK"},
		} {
			p.send(step[0])
			p.want(step[1])
		}
		p.wantEnd(io.EOF)
	})
}

func TestFakeRefusesAsAServerDoes(t *testing.T) {
	bubble(t, func(t *testing.T, f *testkit.Fake) {
		p := dialFake(t, f)
		p.send("FOO a b")
		p.wantLine("-ERR unknown command 'FOO', with args beginning with: 'a' 'b' \r\n")
		p.send("GET")
		p.wantLine("-ERR wrong number of arguments for 'get' command\r\n")
		p.send("CONFIG GET x")
		p.wantLine("-ERR unknown command 'CONFIG'")
		p.send("SELECT 16")
		p.wantLine("-ERR DB index is out of range")
		p.send("RPUSH l x", "INCR l")
		p.wantLine(":1")
		p.wantLine("-WRONGTYPE")
		p.send("*-\r\nPING") // the server closes at the first
		p.wantLine("-ERR Protocol error: invalid multibulk length")
		// An RST and not a FIN, if the server hadn't read the rest.
		if _, err := p.r.ReadByte(); !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
			t.Fatal(err)
		}
	})
}

func TestFakeHelloAuthAndOldServers(t *testing.T) {
	bubble(t, func(t *testing.T, f *testkit.Fake) {
		f.SetPassword("", "secret")
		f.SetPassword("bob", "pw")
		p := dialFake(t, f)
		p.send("GET k", "HELLO 3", "AUTH wrong", "HELLO 3 AUTH bob bad")
		p.wantLine("-NOAUTH Authentication required.")
		p.wantLine("-NOAUTH HELLO must be called")
		p.wantLine("-WRONGPASS")
		p.wantLine("-WRONGPASS")
		p.send("HELLO 3 AUTH bob pw SETNAME me")
		p.want("%7 $6 server $5 redis $7 version $6 7.0.15 $5 proto :3 $2 id :1 $4 mode " +
			"$10 standalone $4 role $6 master $7 modules *0")
		p.send("GET none", "CLIENT SETINFO LIB-NAME x")
		p.want("_")
		p.wantLine("-ERR unknown subcommand 'SETINFO'. Try CLIENT HELP.")
		want := testkit.SessionInfo{User: "bob", Proto: 3, Name: "me"}
		if diff := cmp.Diff(want, f.Conns()[0].Session()); diff != "" {
			t.Fatal(diff)
		}
		f.SetPassword("bob", "rotated")
		p.send("PING")
		p.want("+PONG")
		q := dialFake(t, f)
		q.send("AUTH bob pw", "AUTH secret")
		q.wantLine("-WRONGPASS")
		q.want("+OK")
	}, testkit.WithoutSetInfo())
	bubble(t, func(t *testing.T, f *testkit.Fake) {
		p := dialFake(t, f)
		p.send("HELLO 3")
		p.wantLine("-ERR unknown command 'HELLO', with args beginning with: '3' ")
	}, testkit.WithoutHello())
}

func TestFakeTransactionsDetectConflicts(t *testing.T) {
	bubble(t, func(t *testing.T, f *testkit.Fake) {
		p, q := dialFake(t, f), dialFake(t, f)
		p.send("WATCH k", "MULTI", "SET k mine", "EXEC")
		p.want("+OK +OK +QUEUED *1 +OK")
		p.send("WATCH k")
		p.want("+OK")
		q.send("SET k theirs")
		q.want("+OK")
		p.send("MULTI", "SET k mine", "EXEC", "GET k")
		p.want("+OK +QUEUED *-1 $6 theirs")
		p.send("MULTI", "NOSUCH", "EXEC")
		p.want("+OK")
		p.wantLine("-ERR unknown command")
		p.wantLine("-EXECABORT")
		p.send("MULTI", "MULTI", "DISCARD", "EXEC")
		p.want("+OK")
		p.wantLine("-ERR MULTI calls can not be nested")
		p.want("+OK")
		p.wantLine("-ERR EXEC without MULTI")
	})
}

func TestFakeBlockedPopsAreServedInOrder(t *testing.T) {
	bubble(t, func(t *testing.T, f *testkit.Fake) {
		first, second, gone, pusher := dialFake(t, f), dialFake(t, f), dialFake(t, f), dialFake(t, f)
		gone.send("BLPOP l 0")
		synctest.Wait()
		_ = gone.conn.Close()
		synctest.Wait()
		first.send("BLPOP l 0")
		synctest.Wait()
		second.send("BRPOP other l 0")
		synctest.Wait()
		pusher.send("MULTI", "RPUSH l a b c", "LLEN l", "EXEC")
		pusher.want("+OK +QUEUED +QUEUED *2 :3 :3") // one step, before anybody is served
		first.want("*2 $1 l $1 a")
		second.want("*2 $1 l $1 c")
		start := time.Now()
		first.send("BLPOP none 2.5")
		first.want("*-1")
		if took := time.Since(start); took != 2500*time.Millisecond {
			t.Fatalf("blocked for %v", took)
		}
	})
}

func TestFakePubSubInBothProtocols(t *testing.T) {
	bubble(t, func(t *testing.T, f *testkit.Fake) {
		two, three, pub := dialFake(t, f), dialFake(t, f), dialFake(t, f)
		two.send("SUBSCRIBE a b", "GET k", "PING")
		two.want("*3 $9 subscribe $1 a :1 *3 $9 subscribe $1 b :2")
		two.wantLine("-ERR Can't execute 'get'")
		two.want("*2 $4 pong $0 ")
		three.send("HELLO 3")
		for range 23 { // the map's header, keys and values by line
			three.wantLine("")
		}
		three.wantLine("$7")
		three.wantLine("modules")
		three.wantLine("*0")
		three.send("PSUBSCRIBE a*", "GET k")
		three.want(">3 $10 psubscribe $2 a* :1 _")
		pub.send("PUBLISH a hi")
		pub.want(":2")
		two.want("*3 $7 message $1 a $2 hi")
		three.want(">4 $8 pmessage $2 a* $1 a $2 hi")
		two.send("UNSUBSCRIBE", "GET k")
		two.want("*3 $11 unsubscribe $1 a :1 *3 $11 unsubscribe $1 b :0 $-1")
	})
}
