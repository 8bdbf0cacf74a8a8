package testkit_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/everpool/everpool/internal/testkit"
)

func TestFakeFreezeHoldsEverythingBack(t *testing.T) {
	bubble(t, func(t *testing.T, f *testkit.Fake) {
		p := dialFake(t, f)
		f.Freeze(true)
		q := dialFake(t, f)
		p.send("INCR n")
		q.send("INCR n")
		synctest.Wait()
		if f.Count("INCR") != 0 || f.Accepted() != 1 || f.Dials() != 2 || f.Live() != 2 {
			t.Fatalf("executed %d, accepted %d, dials %d, live %d",
				f.Count("INCR"), f.Accepted(), f.Dials(), f.Live())
		}
		_ = p.conn.SetReadDeadline(time.Now().Add(time.Second))
		p.wantEnd(os.ErrDeadlineExceeded)
		_ = p.conn.SetReadDeadline(time.Time{})
		f.Freeze(false)
		p.wantLine(":")
		q.wantLine(":")
		if f.Accepted() != 2 || f.Count("incr") != 2 {
			t.Fatalf("accepted %d, executed %v", f.Accepted(), f.Commands())
		}
	})
}

func TestFakeDownResetsAndRefuses(t *testing.T) {
	bubble(t, func(t *testing.T, f *testkit.Fake) {
		p := dialFake(t, f)
		p.send("SET k v")
		p.want("+OK")
		f.DownRefused()
		p.wantEnd(syscall.ECONNRESET)
		_, err := f.Dial(t.Context(), "tcp", "10.0.0.1:6379")
		wantErr(t, "dial", err, syscall.ECONNREFUSED)
		if oe, ok := errors.AsType[*net.OpError](err); !ok || oe.Op != "dial" {
			t.Fatalf("%#v isn't a dial error", err)
		}
		mine := errors.New("no route")
		f.Down(mine)
		_, err = f.Dial(t.Context(), "tcp", "10.0.0.1:6379")
		wantErr(t, "dial", err, mine)
		f.Up()
		p = dialFake(t, f)
		p.send("GET k")
		p.want("$1 v")
	})
}

func TestFakeHangingDialsEndWithTheirContext(t *testing.T) {
	bubble(t, func(t *testing.T, f *testkit.Fake) {
		f.HangDials(true)
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		start := time.Now()
		_, err := f.Dial(ctx, "tcp", "10.0.0.1:6379")
		wantErr(t, "dial", err, context.DeadlineExceeded)
		if took := time.Since(start); took != 5*time.Second {
			t.Fatalf("took %v", took)
		}
		time.AfterFunc(time.Second, func() { f.HangDials(false) })
		dialFake(t, f).send("PING")
	})
}

func TestFakeHandlersAndFaultsOfOneConnection(t *testing.T) {
	bubble(t, func(t *testing.T, f *testkit.Fake) {
		f.Handle("slow", func(_ *testkit.FakeConn, args []string) []byte {
			time.Sleep(time.Minute) // of the bubble; others aren't held up
			return testkit.ReplyArray(testkit.ReplyBulk(args[1]), testkit.ReplyInt(7))
		})
		f.Handle("client tracking", func(*testkit.FakeConn, []string) []byte { return nil })
		p, q := dialFake(t, f), dialFake(t, f)
		p.send("SLOW x", "CLIENT TRACKING ON", "MULTI", "SLOW y", "INCR n", "EXEC")
		q.send("PING")
		q.want("+PONG")
		p.want("*2 $1 x :7 +OK +QUEUED +QUEUED *2 *2 $1 y :7 :1")
		c := f.Conns()[0]
		c.Push([]byte(">1\r\n+hey\r\n"))
		p.want(">1 +hey")
		c.SwallowReplies(true)
		p.send("INCR n")
		synctest.Wait()
		c.SwallowReplies(false)
		p.send("INCR n")
		p.want(":3")
		f.CutReply(3)
		p.send("PING")
		b, err := io.ReadAll(p.r)
		if string(b) != "+PO" || err != nil {
			t.Fatalf("read %q, %v", b, err)
		}
		f.Conns()[0].ResetNow()
		q.wantEnd(syscall.ECONNRESET)
		if f.Live() != 0 || c.Alive() {
			t.Fatal("connections left")
		}
		r, victim := dialFake(t, f), dialFake(t, f)
		r.send("CLIENT KILL ID 4", "CLIENT KILL ID 3")
		r.want(":1 :1")
		r.wantEnd(io.EOF)
		victim.wantEnd(io.EOF)
	})
}

func TestFakeExecutesWhatWasSentBeforeTheEnd(t *testing.T) {
	bubble(t, func(t *testing.T, f *testkit.Fake) {
		p := dialFake(t, f)
		p.send("INCR n", "INCR n")
		_, _ = io.WriteString(p.conn, "INCR")
		_ = p.conn.Close()
		synctest.Wait()
		want := []string{"1 INCR n", "1 INCR n"}
		if diff := cmp.Diff(want, f.Commands()); diff != "" {
			t.Fatal(diff)
		}
		if f.Live() != 0 {
			t.Fatal("the connection lives on")
		}
	})
}

func TestFakeHasBackPressure(t *testing.T) {
	bubble(t, func(t *testing.T, f *testkit.Fake) {
		p := dialFake(t, f)
		f.Freeze(true)
		_ = p.conn.SetWriteDeadline(time.Now().Add(time.Second))
		n, err := p.conn.Write(make([]byte, 100))
		wantErr(t, "write", err, os.ErrDeadlineExceeded)
		if n < 64 || n == 100 {
			t.Fatalf("wrote %d", n)
		}
	}, testkit.WithBuffer(64))
}
