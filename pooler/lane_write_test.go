package pooler_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/everpool/everpool/internal/resp"
	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/internal/yielding"
	"github.com/everpool/everpool/pooler"
)

func TestRequestsThatComeWhileAWriteIsHeldUpGoOutTogether(t *testing.T) {
	byHand(t, pooler.Config{SharedConns: 1}, 32, func(pt *tester, h *hand) {
		sh := pt.share(pt.plain)
		w := h.wire(0)
		all := []*ride{pt.ride(sh, ask("SET", "a", "that is longer than the buffer"))}
		for i := range 500 {
			all = append(all, pt.ride(sh, ask("SET", "b", strconv.Itoa(i))))
		}
		w.hear(all...)
		if n := w.sent.count(); n > 3 {
			t.Errorf("%d writes of 501 requests", n)
		}
		for i, r := range all {
			w.say(bulk(strconv.Itoa(i)))
			r.wantReply(bulk(strconv.Itoa(i)))
		}
	})
}

// A caller writes for others, but not for ever: then a goroutine does.
func TestACallerWritesForOthersAFewTimes(t *testing.T) {
	byHand(t, pooler.Config{SharedConns: 1}, 16, func(pt *tester, h *hand) {
		defer h.end()
		sh := pt.share(pt.plain)
		w := h.wire(0)
		last := pt.submitting(sh, ask("SET", "first", "0"))
		first := last
		for i := range 20 {
			next := pt.submitting(sh, ask("SET", "k", strconv.Itoa(i))) // while the one before is being written
			w.hear(last)
			defer last.rider.Close()
			last = next
		}
		first.wantSubmitted()
		w.hear(last)
		last.rider.Close()
	})
}

// Whose replies come together, ask together again: who writes first waits for the
// others, unless what it has itself is more than they are likely to bring.
func TestAWriterWaitsForCompanyThatIsWorthIt(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1)) // else they submit while it writes
	byHand(t, pooler.Config{SharedConns: 1}, 4<<10, func(pt *tester, h *hand) {
		sh := pt.share(pt.plain)
		w := h.wire(0)
		// round has four callers ask at a time, and answers them together.
		round := func(x pooler.Exchange) (writes int) {
			before := w.sent.count()
			var all []*ride
			for range 4 {
				r := &ride{pt: pt, rider: pooler.NewRider(), x: x, size: 4 << 10, done: make(chan struct{})}
				r.begin(sh)
				all = append(all, r)
			}
			pt.settle()
			writes = w.sent.count() - before
			w.hear(all...)
			w.say(strings.Repeat(":1\r\n", 4*x.Replies))
			for _, r := range all {
				r.wantReply(strings.Repeat(":1\r\n", x.Replies))
			}
			return writes
		}
		small := ask("GET", "a")
		large := pipeline(slices.Repeat([][]string{{"GET", "a"}}, 5)...)
		round(small)
		n, of := 0, 0
		for range 20 { // now and then the scheduler has another order
			n += round(small)
			of += round(large)
		}
		if n > 40 || of < 40 {
			t.Errorf("%d writes of 80 requests, and %d of 80 pipelines", n, of)
		}
	})
}

// Beside goroutines that compute, of which each has its processor for 10 ms, nobody waits
// for company with what all others wait for.
func TestAWriterDoesNotYieldToWhatComputes(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	byHand(t, pooler.Config{SharedConns: 1}, 4<<10, func(pt *tester, h *hand) {
		var yields int
		clock := time.Duration(1)
		now := func() time.Duration { return clock }
		pt.pool.YieldBy(yielding.With(now, now, func() {
			yields++
			clock += 10 * time.Millisecond
		}))
		sh := pt.share(pt.plain)
		w := h.wire(0)
		for range 20 {
			var all []*ride
			for range 4 {
				r := &ride{pt: pt, rider: pooler.NewRider(), x: ask("GET", "a"), size: 4 << 10, done: make(chan struct{})}
				r.begin(sh)
				all = append(all, r)
			}
			pt.settle()
			w.hear(all...)
			w.say(strings.Repeat(":1\r\n", 4))
			for _, r := range all {
				r.wantReply(":1\r\n")
			}
		}
		if yields != 2 {
			t.Errorf("%d yields, want two, the second to see that it is this program that computes", yields)
		}
	})
}

func TestALoneRequestIsOneWriteAtOnce(t *testing.T) {
	byHand(t, pooler.Config{SharedConns: 1}, 0, func(pt *tester, h *hand) {
		sh := pt.share(pt.plain)
		w := h.wire(0)
		for i := range 10 {
			r := pt.ride(sh, ask("GET", strconv.Itoa(i)))
			w.hear(r)
			w.say(":1\r\n")
			r.wantReply(":1\r\n")
		}
		if n := w.sent.count(); n != 10 {
			t.Errorf("%d writes of 10 requests", n)
		}
	})
}

func TestAWriteThatBlocksHoldsItsCallerUntilItsDeadlineAndTheRestFollowsInOrder(t *testing.T) {
	byHand(t, pooler.Config{SharedConns: 1, SilenceAfter: -1}, 16, func(pt *tester, h *hand) {
		sh := pt.share(pt.plain)
		w := h.wire(0)
		x := ask("SET", "a", "that is longer than the buffer")
		x.Deadline = time.Now().Add(time.Second)
		first := pt.submitting(sh, x)
		x = ask("SET", "b", "that is longer than the buffer")
		second := pt.submitting(sh, x)
		second.wantSubmitted() // the first writes
		pt.sleep(time.Second - 1)
		if first.ended() {
			t.Fatal("the first has ended before its time")
		}
		pt.sleep(1)
		first.wantSubmitted()
		third := pt.submitting(sh, ask("SET", "c", "that is longer than the buffer"))
		third.wantSubmitted()
		w.hear(first, second, third)
		w.wantSilence()
		w.say(":1\r\n:2\r\n:3\r\n")
		first.receive().wantReply(":1\r\n")
		second.receive().wantReply(":2\r\n")
		third.receive().wantReply(":3\r\n")
		if first.took != time.Second && third.took != 0 {
			t.Errorf("it took %s", first.took)
		}
	})
}

func TestRepliesAreReadWhileAWriteBlocks(t *testing.T) {
	byHand(t, pooler.Config{SharedConns: 1, SilenceAfter: -1}, 64, func(pt *tester, h *hand) {
		sh := pt.share(pt.plain)
		w := h.wire(0)
		a := pt.ride(sh, ask("GET", "0"))
		b := pt.ride(sh, ask("GET", "1"))
		w.hear(a, b)
		writer := pt.submitting(sh, ask("SET", "a", strings.Repeat("long", 1000)))
		c := pt.ride(sh, ask("GET", "2"))
		if writer.ended() {
			t.Fatal("the write doesn't block")
		}
		w.say(":0\r\n")
		a.wantReply(":0\r\n")
		w.say(":1\r\n")
		b.wantReply(":1\r\n")
		w.hear(writer, c)
		w.say(":2\r\n:3\r\n")
		c.wantReply(":3\r\n")
		writer.wantSubmitted()
		writer.receive().wantReply(":2\r\n")
	})
}

func TestALargeRequestDoesNotHoldItsCaller(t *testing.T) {
	byHand(t, pooler.Config{SharedConns: 1, SilenceAfter: -1}, 64, func(pt *tester, h *hand) {
		sh := pt.share(pt.plain)
		w := h.wire(0)
		large := pt.submitting(sh, ask("SET", "a", strings.Repeat("x", 17<<10)))
		large.wantSubmitted()
		next := pt.ride(sh, ask("GET", "a"))
		w.hear(large, next)
		w.say("+OK\r\n:1\r\n")
		large.receive().wantReply("+OK\r\n")
		next.wantReply(":1\r\n")
	})
}

// TestACallerThatWritesForOthersIsFreeToReadForThem: the peer reads the next
// request when its last reply has been taken.
func TestACallerThatWritesForOthersIsFreeToReadForThem(t *testing.T) {
	bubble(t, pooler.Config{SharedConns: 1, SilenceAfter: -1, HealthCheckTimeout: time.Second}, func(pt *tester) {
		pt.dialer.dial = func(context.Context, string, string) (net.Conn, error) {
			client, server := testkit.Pair(256, &net.TCPAddr{Port: 1}, &net.TCPAddr{Port: 2})
			go func() {
				time.Sleep(time.Second)
				r := bufio.NewReaderSize(server, 16)
				for {
					size, err := r.ReadString('\n') // one SET or ECHO each: *n, $4, ...
					if err != nil {
						return
					}
					n, _ := strconv.Atoi(strings.TrimSpace(size[1:]))
					var last string
					for range n {
						length, _ := r.ReadString('\n')
						m, _ := strconv.Atoi(strings.TrimSpace(length[1:]))
						arg := make([]byte, m+2)
						_, _ = io.ReadFull(r, arg)
						last = string(arg[:m])
					}
					if _, err = server.Write([]byte(bulk(last))); err != nil {
						return
					}
				}
			}()
			return client, nil
		}
		sh := pt.share(pt.plain)
		first := strings.Repeat("first", 100)
		began := time.Now()
		a := pt.submitting(sh, ask("ECHO", first)) // is held up
		var commands [][]string
		for range 500 {
			commands = append(commands, []string{"ECHO", strings.Repeat("other", 20)})
		}
		x := pipeline(commands...)
		x.Deadline = time.Now().Add(time.Hour)
		other := pt.submitting(sh, x)
		other.wantSubmitted()
		other.rider.Close() // so that nobody else reads
		pt.sleep(3 * time.Second)
		if !a.ended() {
			// Once: it writes what has gathered, and doesn't come to read.
			a.x.Deadline = time.Time{}
			t.Fatal("the caller writes what the peer won't read before somebody reads its replies")
		}
		a.receive().await().wantReply(bulk(first))
		if d := time.Since(began); d > 5*time.Second {
			t.Errorf("it took %s", d)
		}
		last := pt.ride(sh, ask("ECHO", "last"))
		last.await().wantReply(bulk("last"))
	})
}

func TestWhenALaneIsFullTheNextWaitsForRoom(t *testing.T) {
	byHand(t, pooler.Config{SharedConns: 1, SilenceAfter: -1}, 1<<20, func(pt *tester, h *hand) {
		sh := pt.share(pt.plain)
		w := h.wire(0)
		var all []*ride
		for range 2047 {
			all = append(all, pt.submit(sh, ask("GET", "x")))
		}
		w.hear(all...)
		x := ask("GET", "late")
		x.Deadline = time.Now().Add(time.Second)
		late := pt.submitting(sh, x)
		x.Deadline = time.Now().Add(time.Hour)
		var line []*ride
		for i := range 3 {
			x.Request = resp.AppendCommand(nil, "GET", strconv.Itoa(i))
			line = append(line, pt.submitting(sh, x))
		}
		closes := pt.submitting(sh, ask("GET", "closes"))
		closes.rider.Close()
		closes.wantErr(net.ErrClosed)
		pt.sleep(time.Second - 1)
		if late.ended() {
			t.Fatalf("it hasn't waited: %v", late.err)
		}
		pt.sleep(1)
		late.wantErr(os.ErrDeadlineExceeded)
		w.wantSilence()

		leader := all[2046].receive() // others' replies make room
		for i := range 3 {
			if line[i].ended() {
				t.Errorf("%d got in without room", i)
			}
			w.say(":1\r\n")
			line[i].wantSubmitted()
			w.hear(line[i])
		}
		w.wantSilence()
		w.say(strings.Repeat(":1\r\n", 2044))
		leader.wantReply(":1\r\n")
		for _, r := range all[:2046] {
			r.receive().wantReply(":1\r\n")
		}
		w.say(":10\r\n:11\r\n:12\r\n")
		for i, r := range line {
			r.receive().wantReply(":1" + strconv.Itoa(i) + "\r\n")
		}
		pt.wantEnds(2050, 1, 1)
	})
}

func TestWhoWaitsForRoomIsToldWhenTheConnectionDies(t *testing.T) {
	byHand(t, pooler.Config{SharedConns: 1, SilenceAfter: -1}, 1<<20, func(pt *tester, h *hand) {
		sh := pt.share(pt.plain)
		var all []*ride
		for range 2047 {
			all = append(all, pt.submit(sh, ask("GET", "x")))
		}
		all[0].receive()
		late := pt.submitting(sh, ask("GET", "late"))
		h.wire(0).Reset()
		late.wantErr(pooler.ErrNotShared)
		for _, r := range all {
			if r != all[0] {
				r.receive()
			}
			r.wantLost(true)
		}
		pt.wantEnds(0, 2047, 0)
		late.rider.Close() // it doesn't go elsewhere
		pt.wantEnds(0, 2047, 1)
	})
}

func TestARiderReceivesWhileItsNextRequestWaitsForRoom(t *testing.T) {
	for _, first := range []string{"receives", "submits"} {
		byHand(t, pooler.Config{SharedConns: 1, SilenceAfter: -1}, 1<<20, func(pt *tester, h *hand) {
			sh := pt.share(pt.plain)
			w := h.wire(0)
			r := pt.submit(sh, ask("GET", "mine"))
			all := []*ride{r}
			for range 2046 {
				all = append(all, pt.submit(sh, ask("GET", "x")))
			}
			w.hear(all...)
			x := ask("GET", "more")
			x.Follows, x.Deadline = true, time.Now().Add(time.Hour)
			submitted := make(chan error, 1)
			if first == "receives" {
				r.receive()
			}
			go func() { submitted <- sh.Submit(r.rider, x) }()
			if first == "submits" {
				r.receive()
			}
			pt.settle()
			last := all[2046].receive()
			w.say(":1\r\n")
			select {
			case err := <-submitted:
				if err != nil {
					t.Fatalf("Submit: %v", err)
				}
			default:
				t.Fatal("it waits though there is room")
			}
			w.say(strings.Repeat(":1\r\n", 2046) + ":2\r\n")
			last.wantReply(":1\r\n")
			if !r.ended() { // one Receive may have come before the other reply
				t.Error("the rider waits though its replies are there")
			} else if r.err == nil && !r.rider.Idle() {
				r.receive()
			}
			r.wantReply(":1\r\n:2\r\n")
			for _, o := range all[1:2046] {
				o.receive().wantReply(":1\r\n")
			}
		})
	}
}

func TestNoMoreThanAMegabyteWaitsToBeWritten(t *testing.T) {
	byHand(t, pooler.Config{SharedConns: 1, SilenceAfter: -1}, 64, func(pt *tester, h *hand) {
		sh := pt.share(pt.plain)
		w := h.wire(0)
		var all []*ride
		for range 6 {
			all = append(all, pt.submitting(sh, ask("SET", "a", strings.Repeat("x", 300<<10))))
		}
		waiting := 0
		for _, r := range all {
			if !r.ended() {
				waiting++
			}
		}
		if waiting != 2 { // one is being written, three gathered
			t.Errorf("%d wait for room, want 2", waiting)
		}
		w.hear(all...)
		w.say(strings.Repeat(":1\r\n", len(all)))
		for _, r := range all {
			r.wantSubmitted()
			r.receive().wantReply(":1\r\n")
		}
	})
}

// Once: nothing was held beyond 64 KB, and the leader went round in circles, with
// the rider's lock and the lane's held.
func TestWhatComesForARiderThatIsHeldUpInSubmitIsKeptForIt(t *testing.T) {
	byHand(t, pooler.Config{SharedConns: 1, SilenceAfter: -1}, 8<<10, func(pt *tester, h *hand) {
		sh := pt.share(pt.plain)
		w := h.wire(0)
		r := pt.submit(sh, ask("GET", "0"))
		other := pt.ride(sh, ask("GET", "1"))
		w.hear(r, other)
		more := &ride{x: ask("SET", "a", strings.Repeat("x", 15<<10))}
		more.x.Follows = true
		submitted := make(chan error, 1)
		go func() { submitted <- sh.Submit(r.rider, more.x) }()
		pt.settle()
		reply := bigReply("large", "30000") + ""
		reply = "*5\r\n" + strings.Repeat(reply, 5)
		for i := 0; i < len(reply); i += 5000 {
			w.say(reply[i:min(i+5000, len(reply))])
		}
		w.say(":1\r\n")
		other.wantReply(":1\r\n") // the one who is held up keeps nobody
		w.hear(more)
		if err := <-submitted; err != nil {
			t.Fatal(err)
		}
		w.say("+OK\r\n")
		r.receive().wantReply(reply + "+OK\r\n")
	})
}
