package pooler_test

import (
	"errors"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/everpool/everpool/pooler"
)

// readInto notes into which memory its connection is read.
type readInto struct {
	net.Conn
	last *byte
	most int
}

func (r *readInto) Read(b []byte) (int, error) {
	r.last, r.most = &b[0], len(b)
	return r.Conn.Read(b)
}

func TestRepliesAreReadWhereTheirReaderWantsThem(t *testing.T) {
	for name, tt := range map[string]struct {
		size int
		mode pooler.Mode
		want bool
		most int
	}{
		"into memory that is large enough": {16 << 10, pooler.Counted, true, 16 << 10},
		"pushes too":                       {16 << 10, pooler.Pushes, true, 16 << 10},
		"not into less":                    {16<<10 - 1, pooler.Counted, false, 32 << 10},
		"not a stream":                     {16 << 10, pooler.Stream, false, 32 << 10},
		"not more than 64 KiB at a time":   {100 << 10, pooler.Counted, true, 64 << 10},
	} {
		t.Run(name, func(t *testing.T) {
			var into *readInto
			w := newWire(t, 1<<20, func(nc net.Conn) net.Conn { into = &readInto{Conn: nc}; return into })
			w.c.SetMode(tt.mode)
			w.c.Owe(1)
			w.reply("+OK\r\n")
			p := make([]byte, tt.size)
			n, _, err := w.c.ReceiveInPlace(p, time.Time{})
			if string(p[:n]) != "+OK\r\n" || err != nil {
				t.Fatalf("received %q, %v", p[:n], err)
			}
			if got := into.last == &p[0]; got != tt.want {
				t.Errorf("read straight into the reader's memory: %v, want %v", got, tt.want)
			}
			if into.most != tt.most {
				t.Errorf("read up to %d bytes, want %d", into.most, tt.most)
			}
		})
	}
}

// What is read into a reader's memory beyond its own replies comes next, in order, and
// that memory may be used for anything after Withdraw.
func TestWhatIsReadIntoAReadersMemoryAndNotReceivedIsKept(t *testing.T) {
	large := bulk(strings.Repeat("x", 50_000))
	next := "+2\r\n" + push + large + ":4\r\n"
	for _, cut := range []int{0, 1, 4, 5, 10, len(next) - 5, len(next) - 1, len(next)} {
		w := newWire(t, 1<<20)
		w.c.Owe(5)
		w.reply(push + "+0\r\n" + push + "+1\r\n" + next[:cut])
		p := make([]byte, 100<<10)
		n, done, err := w.c.ReceiveInPlace(p, time.Time{})
		for err == nil && n < len("+0\r\n+1\r\n") {
			var m int
			m, done, err = w.c.ReceiveBuffered(p[n:])
			n += m
		}
		if string(p[:n]) != "+0\r\n+1\r\n" || !done || err != nil {
			t.Fatalf("received %q, %v, %v", p[:n], done, err)
		}
		w.c.Withdraw()
		for i := range p {
			p[i] = foul
		}
		w.reply(next[cut:])
		w.want("+2\r\n")
		w.want(large)
		w.want(":4\r\n")
	}
}

// A leader reads into its own memory when its own reply is the next. What comes with it
// for others reaches them, and what comes after them is there for the next leader.
func TestWhatALeaderReadsForOthersIntoItsOwnMemoryReachesThem(t *testing.T) {
	a, b := bulk(strings.Repeat("a", 9000)), bulk(strings.Repeat("b", 9000))
	for _, cut := range []int{0, 1, 5, 6, 7, 8, 9000, len(a) - 1, len(a), len(a) + 1, len(a) + 6, len(a) + 9000, len(a+b) - 1} {
		byHand(t, pooler.Config{SharedConns: 1}, 1<<20, func(pt *tester, h *hand) {
			sh := pt.share(pt.plain)
			w := h.wire(0)
			var all []*ride
			for range 4 {
				r := &ride{pt: pt, rider: pooler.NewRider(), x: ask("GET", "k"), size: 40 << 10, done: make(chan struct{})}
				r.begin(sh)
				pt.settle()
				all = append(all, r)
			}
			w.hear(all...)
			script := a + b + push + b + a
			w.say(script[:cut])
			w.say(script[cut : cut+len(b)])
			w.say(script[cut+len(b):])
			for i, want := range []string{a, b, b, a} {
				all[i].wantReply(want)
			}
		})
	}
}

// What nobody can take just now is in no leader's memory: the rider that it is for has
// as much as is kept for it, and comes later.
func TestWhatALeaderReadsAndNobodyCanTakeIsKept(t *testing.T) {
	byHand(t, pooler.Config{SharedConns: 1, SilenceAfter: -1}, 1<<20, func(pt *tester, h *hand) {
		sh := pt.share(pt.plain)
		w := h.wire(0)
		late := pt.submit(sh, pipeline(slices.Repeat([][]string{{"GET", "k"}}, 10)...))
		lead := &ride{pt: pt, rider: pooler.NewRider(), x: ask("GET", "k"), size: 40 << 10, done: make(chan struct{})}
		lead.begin(sh)
		pt.settle()
		more := ask("GET", "k")
		more.Follows = true
		if err := sh.Submit(late.rider, more); err != nil {
			t.Fatal(err)
		}
		w.hear(late, lead, &ride{x: more})
		small, large := bulk(strings.Repeat("a", 6<<10)), bulk(strings.Repeat("b", 20<<10))
		for range 10 {
			w.say(small)
		}
		w.say(":1\r\n" + large)
		lead.wantReply(":1\r\n")
		late.receive().wantReply(strings.Repeat(small, 10) + large)
	})
}

// Whatever the sizes, the pieces, the pushes, the interruptions and the mode: what is
// received in place is what was sent, in order, and memory that was withdrawn is free.
func TestWhatIsReceivedInPlaceIsWhatWasSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for seed := range uint64(60) {
			rnd := rand.New(rand.NewPCG(seed, 21))
			w := newWire(t, 4<<20)
			mode := pooler.Mode(rnd.IntN(2))
			w.c.SetMode(mode)
			around := func() int {
				n := []int{0, 1, 16 << 10, 32 << 10, 64 << 10}[rnd.IntN(5)] + rnd.IntN(60) - 30
				return max(n, 0)
			}
			var script, want strings.Builder
			replies := 1 + rnd.IntN(12)
			for range replies {
				for rnd.IntN(3) == 0 {
					p := ">2\r\n+message\r\n" + bulk(strings.Repeat("p", around()))
					script.WriteString(p)
					if mode != pooler.Counted {
						want.WriteString(p)
					}
				}
				r := bulk(strings.Repeat(string(rune('a'+rnd.IntN(26))), around()))
				script.WriteString(r)
				want.WriteString(r)
			}
			w.c.Owe(replies)
			left, got, ends := script.String(), []byte(nil), 0
			for ends < replies {
				if n := min(len(left), around()); rnd.IntN(2) == 0 && n > 0 {
					w.reply(left[:n])
					left = left[n:]
				}
				if rnd.IntN(8) == 0 {
					w.c.InterruptReceive()
				}
				p := make([]byte, 1+around())
				n, done, err := w.c.ReceiveInPlace(p, time.Now().Add(time.Microsecond))
				for err == nil {
					if done {
						ends++
					}
					if n == len(p) || rnd.IntN(4) == 0 {
						break
					}
					var m int
					if m, done, err = w.c.ReceiveBuffered(p[n:]); m == 0 {
						break
					}
					n += m
				}
				got = append(got, p[:n]...)
				w.c.Withdraw()
				for i := range p {
					p[i] = foul
				}
				if err != nil && !errors.Is(err, pooler.ErrInterrupted) && !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Fatalf("seed %d: %v after %d of %d bytes", seed, err, len(got), want.Len())
				}
			}
			if string(got) != want.String() {
				t.Fatalf("seed %d: received %d bytes, want %d, or others", seed, len(got), want.Len())
			}
		}
	})
}

// A connection that becomes a stream while its receiver waits passes on all that comes,
// what comes behind the first piece too.
func TestAConnectionThatBecomesAStreamWhileItsReceiverWaitsPassesAllOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire(t, 1<<20)
		w.c.Owe(1)
		script := push + "+OK\r\n" + push + bulk(strings.Repeat("x", 40_000)) + "+1\r\n"
		got := make(chan string)
		go func() {
			var all []byte
			for len(all) < len(script) {
				p := make([]byte, 20_000)
				n, _, err := w.c.ReceiveInPlace(p, time.Now().Add(time.Minute))
				if err != nil {
					t.Errorf("after %q: %v", all, err)
					break
				}
				all = append(all, p[:n]...)
				w.c.Withdraw()
				for i := range p {
					p[i] = foul
				}
			}
			got <- string(all)
		}()
		synctest.Wait()
		w.c.SetMode(pooler.Stream)
		w.reply(script)
		if all := <-got; all != script {
			t.Errorf("received %d bytes, want the %d that were sent", len(all), len(script))
		}
	})
}
