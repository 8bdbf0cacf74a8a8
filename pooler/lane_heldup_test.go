package pooler_test

import (
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/pooler"
)

// again is an exchange of one command that may be sent a second time.
func again(args ...string) pooler.Exchange {
	x := ask(args...)
	x.Again = true
	return x
}

// leave has the caller of the ride leave.
func (pt *tester) leave(r *ride) {
	pt.Helper()
	r.rider.Close()
	pt.settle()
}

func TestBehindALargeReplyThatNobodyWaitsForReadsLeaveAndWritesGetTheirs(t *testing.T) {
	replies := map[string][]string{ // before and after its caller leaves
		"a string":      {bigReply("large", "3000000")[:200_000], bigReply("large", "3000000")[200_000:]},
		"not begun":     {"", bigReply("large", "3000000")},
		"many in array": {"*40\r\n", repeated(bigReply("part", "100000"), 40)},
	}
	for name, reply := range replies {
		t.Run(name, func(t *testing.T) {
			byHand(t, pooler.Config{SharedConns: 1, SilenceAfter: -1}, 8<<20, func(pt *tester, h *hand) {
				sh := pt.share(pt.plain)
				w := h.wire(0)
				large := pt.ride(sh, again("GET", "large"))
				write := pt.ride(sh, ask("INCR", "n"))
				read := pt.ride(sh, again("GET", "small"))
				w.hear(large, write, read)
				w.say(reply[0])
				pt.leave(large)
				w.say(reply[1][:1_500_000])
				read.wantLost(true)
				write.wantWaiting()
				elsewhere := pt.share(pt.plain)
				next := pt.ride(elsewhere, again("GET", "next"))
				h.wire(1).hear(next)
				h.wire(1).say(":9\r\n")
				next.wantReply(":9\r\n")
				w.say(reply[1][1_500_000:] + ":1\r\n:2\r\n")
				write.wantReply(":1\r\n")
				w.drain()
				pt.wantDials(2)
				pt.wantCloses(pooler.CloseAbandoned, 0)
			})
		})
	}
}

// What those before tell of the replies to come is enough: the connection isn't read until so
// much has come.
func TestRepliesThatWillBeLargeAndThatNobodyWaitsForAreNotReadToTheirEnd(t *testing.T) {
	part := bigReply("part", "100000")
	for name, c := range map[string]struct {
		said     string
		of       int // commands
		heldUp   bool
		switched bool // the reply is an array
	}{
		"a pipeline":       {part + part[:20], 40, true, false},
		"of less":          {part + part[:20], 9, false, false},
		"an array":         {"*40\r\n" + part, 1, true, true},
		"one of less":      {"*9\r\n" + part, 1, false, true},
		"the first string": {part[:20], 40, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			byHand(t, pooler.Config{SharedConns: 1, SilenceAfter: -1}, 8<<20, func(pt *tester, h *hand) {
				defer h.end()
				sh, w := pt.share(pt.plain), h.wire(0)
				x := again("MGET", "many")
				if !c.switched {
					x = pipeline(slices.Repeat([][]string{{"GET", "large"}}, c.of)...)
					x.Again = true
				}
				large := pt.ride(sh, x)
				read := pt.ride(sh, again("GET", "small"))
				w.hear(large, read)
				pt.leave(large)
				w.say(c.said)
				if c.heldUp {
					read.wantLost(true)
				} else {
					read.wantWaiting()
				}
			})
		})
	}
}

// Others had better not wait behind what is large in many pieces either.
func TestALaneOnWhichManyRepliesComeThatAreLargeTogetherIsLeftAloneUntilTheyHave(t *testing.T) {
	byHand(t, pooler.Config{SharedConns: 1, SilenceAfter: -1}, 8<<20, func(pt *tester, h *hand) {
		sh, w := pt.share(pt.plain), h.wire(0)
		part := bigReply("part", "20000")
		large := pt.ride(sh, pipeline(slices.Repeat([][]string{{"GET", "part"}}, 10)...))
		w.hear(large)
		w.say(part[:3])
		pt.wantHeldUp(sh, 0)
		w.say(part[3:])
		pt.wantHeldUp(sh, 1)
		w.say(repeated(part, 8))
		pt.wantHeldUp(sh, 1)
		w.say(part)
		large.wantReply(repeated(part, 10))
		pt.wantHeldUp(sh, 0)
	})
}

// wantHeldUp says how many lanes others had better not wait on.
func (pt *tester) wantHeldUp(sh *pooler.Lanes, want int) {
	pt.Helper()
	pt.settle()
	if got := sh.HeldUp(); got != want {
		pt.Errorf("%d lanes are held up by large replies, want %d", got, want)
	}
}

func repeated(s string, n int) string {
	b := make([]byte, 0, n*len(s))
	for range n {
		b = append(b, s...)
	}
	return string(b)
}

func TestALargeReplyThatNobodyWaitsForEndsTheConnectionIfNobodyIsBehind(t *testing.T) {
	byHand(t, pooler.Config{SharedConns: 1, SilenceAfter: -1}, 8<<20, func(pt *tester, h *hand) {
		sh := pt.share(pt.plain)
		w := h.wire(0)
		large := pt.ride(sh, again("GET", "large"))
		w.hear(large)
		reply := bigReply("large", "3000000")
		w.say(reply[:100_000])
		pt.leave(large)
		read := pt.ride(sh, again("GET", "small"))
		w.hear(read)
		w.say(reply[100_000:200_000])
		read.wantLost(true)
		pt.wantCloses(pooler.CloseAbandoned, 1)
	})
}

func TestSmallRepliesThatNobodyWaitsForCostNoConnection(t *testing.T) {
	byHand(t, pooler.Config{SharedConns: 1, SilenceAfter: -1}, 8<<20, func(pt *tester, h *hand) {
		sh := pt.share(pt.plain)
		w := h.wire(0)
		for range 20 { // 2 MB, but others are answered between
			gone := pt.ride(sh, again("GET", "0"))
			stays := pt.ride(sh, again("GET", "1"))
			w.hear(gone, stays)
			pt.leave(gone)
			w.say(bigReply("gone", "100000") + ":1\r\n")
			stays.wantReply(":1\r\n")
		}
		pt.wantDials(1)
		pt.wantEnds(20, 0, 20)
	})
}

// What was dropped before it says nothing of a reply that its caller takes.
func TestALargeReplyThatIsTakenCostsNoConnectionWhateverWasDroppedBefore(t *testing.T) {
	for i := range 2 * len(sizes) {
		size, receives := sizes[i/2], i%2 == 0 // when the reply begins
		byHand(t, pooler.Config{SharedConns: 1, SilenceAfter: -1}, 8<<20, func(pt *tester, h *hand) {
			sh := pt.share(pt.plain)
			w := h.wire(0)
			gone := pt.ride(sh, again("GET", "gone"))
			large := pt.submit(sh, again("GET", "large"))
			large.size = size
			if receives {
				large.receive()
			}
			small := pt.ride(sh, again("GET", "small"))
			w.hear(gone, large, small)
			pt.leave(gone)
			reply := bigReply("large", "1500000")
			w.say(":1\r\n" + reply[:20_000])
			if !receives {
				large.receive()
			}
			large.wantWaiting()
			small.wantWaiting()
			w.say(reply[20_000:] + ":2\r\n")
			large.wantReply(reply)
			small.wantReply(":2\r\n")
			pt.wantDials(1)
			pt.wantLanes(1)
		})
	}
}

func TestBehindTooManyForsakenRequestsNothingIsSent(t *testing.T) {
	for _, silence := range []time.Duration{time.Hour, -1} {
		t.Run(fmt.Sprint("SilenceAfter ", silence), func(t *testing.T) {
			byHand(t, pooler.Config{SharedConns: 1, SilenceAfter: silence}, 8<<20, func(pt *tester, h *hand) {
				sh := pt.share(pt.plain)
				w := h.wire(0)
				sent, unsent := 0, 0
				for i := range 1000 { // each gives up after 100 ms
					x := ask("INCR", fmt.Sprint(i))
					x.Deadline = time.Now().Add(100 * time.Millisecond)
					r := &ride{pt: pt, rider: pooler.NewRider(), x: x, size: 100, by: x.Deadline, done: make(chan struct{})}
					r.begin(sh)
					r.await()
					r.wantErr(os.ErrDeadlineExceeded)
					if r.rider.Conn() == nil {
						unsent++
					} else {
						sent++
					}
					pt.leave(r)
				}
				if sent > 64 || unsent != 1000-sent {
					pt.Fatalf("%d requests were sent to a server that stands still, %d not; want 64 at most", sent, unsent)
				}
				waits := pt.ride(sh, ask("GET", "k"))
				waits.wantWaiting()
				for i := range sent {
					w.hear(&ride{x: ask("INCR", fmt.Sprint(i))})
				}
				w.wantSilence()
				w.say(repeated(":1\r\n", sent))
				w.hear(waits)
				w.say(":2\r\n")
				waits.wantReply(":2\r\n")
				pt.wantDials(1)
			})
		})
	}
}

func TestARiderThatTakesNothingHoldsNobodyUpForLong(t *testing.T) {
	bubble(t, pooler.Config{SharedConns: 1, SilenceAfter: -1}, func(pt *tester) {
		pt.fake.Handle("GET", func(*testkit.FakeConn, []string) []byte {
			return testkit.ReplyBulk(string(make([]byte, 500<<10)))
		})
		sh := pt.share(pt.plain)
		lazy := pt.submit(sh, ask("GET", "k"))
		other := pt.ride(sh, ask("INCR", "n"))
		other.wantWaiting()
		pt.sleep(100 * time.Millisecond)
		other.wantReply(":1\r\n")
		lazy.receive().wantReply(string(testkit.ReplyBulk(string(make([]byte, 500<<10)))))
		pt.wantDials(1)
	})
}

func TestARiderThatTakesNothingOfMuchKeepsTheConnectionAlone(t *testing.T) {
	bubble(t, pooler.Config{SharedConns: 1, SilenceAfter: -1, HealthCheckTimeout: time.Second}, func(pt *tester) {
		reply := testkit.ReplyBulk(string(make([]byte, 5<<20)))
		pt.fake.Handle("GET", func(_ *testkit.FakeConn, args []string) []byte {
			if args[1] == "large" {
				return reply
			}
			return testkit.ReplyBulk("small")
		})
		sh := pt.share(pt.plain)
		lazy := pt.submit(sh, ask("GET", "large"))
		read := pt.ride(sh, again("GET", "small"))
		write := pt.ride(sh, ask("INCR", "n"))
		pt.sleep(time.Second)
		read.wantLost(true)
		write.wantWaiting() // for the answer that is behind that one
		next := pt.ride(pt.share(pt.plain), again("GET", "small"))
		next.wantReply(bulk("small"))
		pt.sleep(time.Second)
		write.wantLost(true)
		pt.sleep(time.Minute)
		lazy.size = 64 << 10
		lazy.receive().wantReply(string(reply))
		pt.sleep(time.Second)
		pt.wantDials(2)
	})
}

func TestACallerMaySendMoreBeforeItReadsThanALaneHolds(t *testing.T) {
	for _, silence := range []time.Duration{time.Second, -1} {
		bubble(t, pooler.Config{SharedConns: 1, SilenceAfter: silence}, func(pt *tester) {
			sh := pt.share(pt.plain)
			rider := pooler.NewRider()
			var want []byte
			for i := range 5000 {
				x := ask("ECHO", fmt.Sprint(i))
				x.Follows = i > 0
				x.Deadline = time.Now().Add(time.Second)
				if err := sh.Submit(rider, x); err != nil {
					pt.Fatalf("request %d: %v", i, err)
				}
				want = append(want, bulk(fmt.Sprint(i))...)
			}
			r := &ride{pt: pt, rider: rider, size: 4 << 10}
			r.receive().wantReply(string(want))
			pt.wantDials(1)
		})
	}
}
