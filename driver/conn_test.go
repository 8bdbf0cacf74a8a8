package driver_test

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/pooler"
)

// chunkScript is requests whose replies have every form, and what they are
// answered whatever the pieces in which they are written.
var chunkScript = frames("HELLO 3", "SET k value", "GET k", "MGET k none", "INCR n", "MULTI", "INCR n", "GET k", "EXEC",
	"WATCH k", "UNWATCH", "SELECT 1", "GET k", "SELECT 0", "NOSUCH x", "ASKING", "GET k", "WAIT 0 0", "BLPOP none 0.01",
	"CLIENT GETNAME", "ECHO end")

// exchange writes the request in the given pieces and returns the replies, up to
// and with the one that ends with "end".
func (v *virtual) exchange(request string, pieces ...int) string {
	v.l.Helper()
	done := make(chan string)
	go func() {
		var got []byte
		buf := make([]byte, 64)
		for !bytes.HasSuffix(got, []byte("\r\nend\r\n")) {
			n, err := v.Read(buf)
			if got = append(got, buf[:n]...); err != nil {
				got = fmt.Appendf(got, " and %v", err)
				break
			}
		}
		done <- string(got)
	}()
	for _, n := range pieces {
		n = min(n, len(request))
		v.write(request[:n])
		request = request[n:]
	}
	v.write(request)
	return <-done
}

func TestWritesCutAnywhereGiveTheSameRepliesAsWholeOnes(t *testing.T) {
	replies := func(cfg driver.Config, pieces ...int) (got string) {
		inLab(t, cfg, func(t *lab) {
			got = t.handle().exchange(chunkScript, pieces...)
			t.checkRuns(1)
		})
		return got
	}
	// One connection: the replies tell its number.
	want := replies(leased(one()))
	if strings.Count(want, "\r\n") < 30 {
		t.Fatalf("only %q", want)
	}
	for _, cfg := range []driver.Config{one(), leased(one())} {
		for at := range len(chunkScript) {
			if got := replies(cfg, at); got != want {
				t.Fatalf("cut at %d: got %q, want %q", at, got, want)
			}
			if at == 0 {
				continue
			}
			pieces := make([]int, len(chunkScript)/at)
			for i := range pieces {
				pieces[i] = at
			}
			if got := replies(cfg, pieces...); got != want {
				t.Fatalf("in pieces of %d: got %q, want %q", at, got, want)
			}
		}
	}
}

// checkRuns checks that the script's commands ran that often.
func (l *lab) checkRuns(n int) {
	l.Helper()
	if l.f.Count("SET") != n || l.f.Count("INCR") != 2*n || l.f.Count("EXEC") != n || l.f.Count("ASKING") != n {
		l.Errorf("executed %q", l.ran())
	}
}

func TestCommandsOfAllSizesPassInPiecesOfAllSizes(t *testing.T) {
	for _, size := range []int{0, 1, 100, 4095, 4096, 32 << 10, 64<<10 - 40, 64 << 10, 64<<10 + 1, 200_000, 3 << 20} {
		for _, piece := range []int{1000, 4096, 65536, 70_000, 5 << 20} {
			inBothLabs(t, one(), func(t *lab) {
				value := strings.Repeat("x", size)
				request := frames("PING") + fmt.Sprintf("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$%d\r\n%s\r\n", size, value) + frames("INCR n", "GET k", "ECHO end")
				var pieces []int
				for n := 0; n < len(request); n += piece {
					pieces = append(pieces, piece)
				}
				v := t.handle()
				got := v.exchange(request, pieces...)
				want := fmt.Sprintf("+PONG\r\n+OK\r\n:1\r\n$%d\r\n%s\r\n$3\r\nend\r\n", size, value)
				if got != want {
					t.Errorf("size %d in pieces of %d: %d bytes of replies, want %d", size, piece, len(got), len(want))
				}
				v.do("PING", "+PONG")
				if s := t.stats(); s.Dials != 1 || leases(s) != 0 {
					t.Errorf("size %d in pieces of %d: dials %d, in use %d", size, piece, s.Dials, leases(s))
				}
			})
		}
	}
}

func TestAPipelineOfTwentyThousandCommands(t *testing.T) {
	inBothLabs(t, one(), func(t *lab) {
		const n = 20_000
		var request, want strings.Builder
		for i := range n {
			request.WriteString(frames(fmt.Sprint("ECHO payload-", i)))
			want.WriteString(string(testkit.ReplyBulk(fmt.Sprint("payload-", i))))
		}
		request.WriteString(frames("ECHO end"))
		want.WriteString("$3\r\nend\r\n")
		v := t.handle()
		if got := v.exchange(request.String(), 4096, 4096, 100_000); got != want.String() {
			t.Errorf("%d bytes of replies, want %d", len(got), want.Len())
		}
	})
}

func TestNothingIsReadOrWrittenForZeroBytes(t *testing.T) {
	inBothLabs(t, driver.Config{}, func(t *lab) {
		v := t.handle()
		if n, err := v.Write(nil); n != 0 || err != nil {
			t.Errorf("write: %d, %v", n, err)
		}
		if n, err := v.Conn.Read(nil); n != 0 || err != nil {
			t.Errorf("read: %d, %v", n, err)
		}
		v.do("PING", "+PONG")
		if a := v.RemoteAddr(); a.String() != labAddr || a.Network() != "tcp" || v.LocalAddr() == nil {
			t.Errorf("addresses %v, %v", a, v.LocalAddr())
		}
	})
}

// The race detector is half of this test; the other half is that nobody hangs
// and that the books balance.
func TestAHandleMayBeUsedByManyGoroutinesAtOnce(t *testing.T) {
	requests := []string{
		"PING", "GET k", "INCR n", "SELECT 1", "SELECT 0", "CLIENT ID", "WATCH k", "UNWATCH", "MULTI", "EXEC",
		"ASKING", "QUIT", "RESET", "NOSUCH", "SUBSCRIBE c", "CLIENT SETNAME x", "BLPOP q 0.01", "SET k v",
	}
	for seed := range uint64(200) {
		inBothLabs(t, driver.Config{Pool: pooler.Config{MaxOpenConns: 3}}, func(t *lab) {
			var wg sync.WaitGroup
			for h := range 3 {
				v := t.handle()
				_ = v.SetDeadline(time.Now().Add(time.Minute))
				for g := range 4 {
					rnd := rand.New(rand.NewPCG(seed, uint64(h*4+g)))
					wg.Go(func() {
						buf := make([]byte, 300)
						for range 10 {
							switch g {
							case 0:
								if _, err := io.WriteString(v, frames(requests[rnd.IntN(len(requests))], requests[rnd.IntN(len(requests))])); err != nil {
									return
								}
							case 1:
								if _, err := v.Conn.Read(buf); err != nil {
									return
								}
							case 2:
								_ = v.SetReadDeadline(time.Now().Add(time.Duration(rnd.IntN(50)) * time.Millisecond))
								_ = v.SetWriteDeadline(time.Now().Add(time.Duration(rnd.IntN(50)) * time.Millisecond))
								time.Sleep(time.Duration(rnd.IntN(3)) * time.Millisecond)
							default:
								_ = fmt.Sprintf("%+v %v %v", v.Conn, t.d.Nodes(), v.RemoteAddr())
								time.Sleep(time.Duration(rnd.IntN(10)) * time.Millisecond)
								if rnd.IntN(8) == 0 {
									_ = v.Close()
								}
							}
						}
					})
				}
			}
			if seed%4 == 0 {
				time.Sleep(time.Duration(seed%7) * time.Millisecond)
				t.f.ResetAll()
			}
			wg.Wait()
			synctest.Wait()
		})
	}
}

// responder answers every command that is written with the same reply, without a
// goroutine and without memory.
type responder struct {
	net.Conn
	reply   string
	pending int
}

func (r *responder) Write(b []byte) (int, error) {
	r.pending += bytes.Count(b, []byte("*2\r\n"))
	return len(b), nil
}

func (r *responder) Read(b []byte) (int, error) {
	if r.pending == 0 {
		return 0, io.EOF
	}
	r.pending--
	return copy(b, r.reply), nil
}

func (r *responder) Close() error                     { return nil }
func (r *responder) SetDeadline(time.Time) error      { return nil }
func (r *responder) SetReadDeadline(time.Time) error  { return nil }
func (r *responder) SetWriteDeadline(time.Time) error { return nil }

// A connection that a handle keeps must not remember what came behind a reply in the
// memory of the Read that it came with.
func TestWhatComesBehindAReplyIsNotLeftInTheReadersMemory(t *testing.T) {
	inBothLabs(t, one(), func(t *lab) {
		t.f.Handle("WATCH", func(*testkit.FakeConn, []string) []byte {
			return []byte("+OK\r\n>2\r\n+message\r\n$2\r\nhi\r\n")
		})
		v := t.handle()
		v.send("WATCH k")
		p := make([]byte, 32<<10)
		if n, err := v.Conn.Read(p); string(p[:n]) != "+OK\r\n" || err != nil {
			t.Fatalf("received %q, %v", p[:n], err)
		}
		clear(p)
		v.do("PING", "+PONG")
		if s := t.stats(); s.Dials != 1 {
			t.Errorf("%d dials", s.Dials)
		}
	})
}
