package pooler_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/everpool/everpool/pooler"
)

func TestTheLateReplyOfARiderThatLeftIsDroppedAndShiftsNothing(t *testing.T) {
	replies := []string{"+OK\r\n", bulk("a reply of some length"), "*2\r\n:1\r\n:2\r\n"}
	for _, reply := range replies {
		byHand(t, pooler.Config{SharedConns: 1, SilenceAfter: -1}, 0, func(pt *tester, h *hand) {
			sh := pt.share(pt.plain)
			w := h.wire(0)
			abandoned := int64(0)
			for seen := range len(reply) { // so much has come before it leaves
				gone := pt.submit(sh, ask("GONE"))
				gone.by = time.Now().Add(time.Second)
				gone.receive()
				next, last := pt.ride(sh, ask("NEXT")), pt.ride(sh, ask("LAST"))
				w.hear(gone, next, last)
				w.say(reply[:seen])
				pt.sleep(time.Second)
				if seen == 0 {
					gone.wantErr(os.ErrDeadlineExceeded)
				}
				gone.rider.Close()
				abandoned++
				next.wantWaiting()
				w.say(reply[seen:] + ":7\r\n")
				next.wantReply(":7\r\n")
				w.say(":8\r\n")
				last.wantReply(":8\r\n")
				gone.wantClean()
				if _, _, err := gone.rider.Receive(make([]byte, 10), time.Time{}); !errors.Is(err, net.ErrClosed) {
					t.Errorf("Receive after Close: %v", err)
				}
			}
			pt.wantDials(1)
			pt.wantEnds(2*abandoned, 0, abandoned)
		})
	}
}

func TestARiderThatTimedOutGetsItsReplyWhenItReadsAgain(t *testing.T) {
	byHand(t, pooler.Config{SharedConns: 1, SilenceAfter: -1}, 0, func(pt *tester, h *hand) {
		sh := pt.share(pt.plain)
		w := h.wire(0)
		for _, again := range []string{"before", "after"} { // its reply has come
			late := pt.submit(sh, ask("LATE"))
			late.by = time.Now().Add(time.Second)
			late.receive()
			next := pt.ride(sh, ask("NEXT"))
			w.hear(late, next)
			pt.sleep(time.Second - 1)
			late.wantWaiting()
			pt.sleep(1)
			late.wantErr(os.ErrDeadlineExceeded)
			if late.took != time.Second {
				t.Errorf("it took %s", late.took)
			}
			late.by = time.Time{}
			if again == "before" {
				late.receive().wantWaiting()
			}
			w.say(":1\r\n:2\r\n")
			next.wantReply(":2\r\n")
			if again == "after" {
				late.receive()
			}
			late.wantReply(":1\r\n")
		}
		pt.wantEnds(4, 0, 0)
	})
}

func TestWhoeverLeavesAllOthersStillGetTheirReplies(t *testing.T) {
	const riders = 4
	ways := []string{"deadline", "interrupt", "close"}
	for _, way := range ways {
		for leaves := range riders {
			for second := range riders { // leaves later, with some bytes of a reply there
				t.Run(fmt.Sprintf("%s %d %d", way, leaves, second), func(t *testing.T) {
					byHand(t, pooler.Config{SharedConns: 1, SilenceAfter: -1}, 0, func(pt *tester, h *hand) {
						sh := pt.share(pt.plain)
						w := h.wire(0)
						var rides []*ride
						for i := range riders {
							r := pt.submit(sh, ask("GET", strconv.Itoa(i)))
							switch {
							case way != "deadline":
							case i == leaves:
								r.by = time.Now().Add(time.Second)
							case i == second:
								r.by = time.Now().Add(2 * time.Second)
							}
							rides = append(rides, r)
						}
						order := rides
						if leaves%2 == 1 { // the last one leads
							order = []*ride{rides[3], rides[2], rides[1], rides[0]}
						}
						for _, r := range order {
							r.receive()
						}
						w.hear(rides...)
						leave := func(r *ride, seen int) {
							switch way {
							case "deadline":
								pt.sleep(time.Second)
								if r != rides[0] || seen == 0 {
									r.wantErr(os.ErrDeadlineExceeded)
								}
							case "interrupt":
								r.rider.Interrupt()
								if r != rides[0] || seen == 0 {
									r.wantErr(pooler.ErrInterrupted)
								}
							case "close":
								r.rider.Close()
								if r != rides[0] || seen == 0 {
									r.wantErr(net.ErrClosed)
								}
							}
						}
						leave(rides[leaves], 0)
						w.say("$3\r\n") // of the reply to the first
						if second != leaves {
							leave(rides[second], 4)
						}
						w.say("abc\r\n:1\r\n")
						w.say(":2\r\n:3\r\n")
						for i, r := range rides {
							if i == leaves || i == second || i == 0 && r.ended() && len(r.replies) < 9 {
								if way != "close" && !r.rider.Idle() {
									r.by = time.Time{}
									r.receive()
								}
								if way == "close" {
									r.wantClean()
									continue
								}
							}
							r.wantReply([]string{"$3\r\nabc\r\n", ":1\r\n", ":2\r\n", ":3\r\n"}[i])
						}
						next := pt.ride(sh, ask("GET", "next")) // behind what nobody waits for
						w.hear(next)
						w.say(":9\r\n")
						next.wantReply(":9\r\n")
						pt.wantDials(1)
					})
				})
			}
		}
	}
}

func TestAnInterruptBeforeReceiveEndsTheNextWaitAndNothingElse(t *testing.T) {
	byHand(t, pooler.Config{SharedConns: 1}, 0, func(pt *tester, h *hand) {
		sh := pt.share(pt.plain)
		r := pt.submit(sh, ask("GET", "1"))
		r.rider.Interrupt()
		r.receive().wantErr(pooler.ErrInterrupted)
		r.receive().wantWaiting()
		w := h.wire(0)
		w.hear(r)
		w.say(":1\r\n")
		r.wantReply(":1\r\n")
		r = pt.submit(sh, ask("GET", "1"))
		w.hear(r)
		other := pt.ride(sh, ask("GET", "2"))
		w.hear(other)
		w.say(":1\r\n:2\r\n") // it needn't wait
		r.rider.Interrupt()
		r.receive().wantReply(":1\r\n")
		other.wantReply(":2\r\n")
	})
}

func TestARiderThatIsClosedAtTheMomentItIsToLeadHandsOn(t *testing.T) {
	// On one processor who is woken runs when the other has to wait: Close comes
	// between the waking and the running.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	for _, partial := range []string{"", "$3\r\n"} {
		byHand(t, pooler.Config{SharedConns: 1, SilenceAfter: -1}, 0, func(pt *tester, h *hand) {
			sh := pt.share(pt.plain)
			w := h.wire(0)
			leader := pt.submit(sh, ask("GET", "0"))
			heir := pt.submit(sh, ask("GET", "1"))
			other := pt.submit(sh, ask("GET", "2"))
			go func() {
				leader.receiveAll()
				heir.rider.Close()
			}()
			pt.settle()
			go func() { _, _, _ = heir.rider.Receive(make([]byte, 100), time.Time{}) }() // and never again
			pt.settle()
			other.by = time.Now().Add(time.Minute)
			other.receive()
			w.hear(leader, heir, other)
			w.say(":0\r\n" + partial)
			w.say("$3\r\nabc\r\n"[len(partial):] + ":2\r\n")
			// Once: with a part of the heir's reply there its Receive returns it, and
			// stays the one that leads next: nobody reads any more.
			other.wantReply(":2\r\n")
		})
	}
}

func TestAReplyThatComesWhenItsOnlyRiderHasLeftCostsNoConnection(t *testing.T) {
	for _, way := range []string{"leaves", "stays and doesn't read"} {
		byHand(t, pooler.Config{SharedConns: 1, SilenceAfter: 200 * time.Millisecond}, 0, func(pt *tester, h *hand) {
			sh := pt.share(pt.plain)
			w := h.wire(0)
			r := pt.submit(sh, ask("GET", "0"))
			r.by = time.Now().Add(100 * time.Millisecond)
			r.receive()
			w.hear(r)
			pt.sleep(100 * time.Millisecond)
			r.wantErr(os.ErrDeadlineExceeded)
			if way == "leaves" {
				r.rider.Close()
			}
			pt.sleep(10 * time.Millisecond)
			w.say(":0\r\n")
			pt.sleep(time.Second)
			// Once: nobody reads it, so the connection is taken for silent.
			if n, closes := pt.dialer.count(), pt.pool.Stats().Closes; n != 1 || len(closes) > 0 {
				t.Errorf("it %s: %d dials, want 1; closes: %v", way, n, closes)
			}
			if way != "leaves" {
				r.by = time.Time{}
				r.receive().wantReply(":0\r\n")
			}
			pt.ride(sh, ask("GET", "1")).rider.Close() // the last replies come to nobody
			next := pt.ride(pt.share(pt.plain), ask("GET", "2"))
			w.hear(&ride{x: ask("GET", "1")}, next)
			w.say(":1\r\n:2\r\n")
			next.wantReply(":2\r\n")
		})
	}
}

func TestALargeReplyIsReadByItsOwnerAndItsOwnerMayLeaveInTheMiddle(t *testing.T) {
	for _, size := range []int{16, 64 << 10} {
		for _, way := range []string{"stays", "close", "deadline", "interrupt"} {
			t.Run(fmt.Sprint(way, " ", size), func(t *testing.T) {
				byHand(t, pooler.Config{SharedConns: 1, SilenceAfter: -1}, 8<<10, func(pt *tester, h *hand) {
					sh := pt.share(pt.plain)
					w := h.wire(0)
					first := pt.submit(sh, ask("GET", "0"))
					first.receive()
					large := pt.submit(sh, ask("GET", "1"))
					large.size = size
					if way == "deadline" {
						large.by = time.Now().Add(time.Second)
					}
					large.receive()
					last := pt.ride(sh, ask("GET", "2"))
					w.hear(first, large, last)
					reply := bigReply("large", "200000")
					w.say(":0\r\n")
					first.wantReply(":0\r\n")
					for i := 0; i < 100_000; i += 5000 {
						w.say(reply[i : i+5000])
					}
					switch way {
					case "close":
						large.rider.Close()
						large.wantErr(net.ErrClosed)
					case "interrupt":
						large.rider.Interrupt()
						large.wantErr(pooler.ErrInterrupted)
					case "deadline":
						pt.sleep(2 * time.Second)
						large.wantErr(os.ErrDeadlineExceeded)
					}
					large.by = time.Time{}
					if way != "close" && way != "stays" {
						large.receive()
					}
					for i := 100_000; i < len(reply); i += 5000 {
						w.say(reply[i:min(i+5000, len(reply))])
					}
					w.say(":2\r\n")
					if way != "close" {
						large.wantReply(reply)
					}
					last.wantReply(":2\r\n")
					large.wantClean()
				})
			})
		}
	}
}

func TestRepliesThatNobodyFetchesWaitForTheirRider(t *testing.T) {
	byHand(t, pooler.Config{SharedConns: 1, SilenceAfter: -1}, 1<<20, func(pt *tester, h *hand) {
		sh := pt.share(pt.plain)
		w := h.wire(0)
		lazy := pt.submit(sh, ask("GET", "0"))
		last := pt.ride(sh, ask("GET", "1"))
		w.hear(lazy, last)
		var reply strings.Builder
		reply.WriteString("*20\r\n")
		for range 20 {
			reply.WriteString(bigReply("part", "10000"))
		}
		w.say(reply.String() + ":1\r\n")
		last.wantWaiting() // behind more than is held for anybody
		lazy.receive().wantReply(reply.String())
		last.wantReply(":1\r\n")

		// One that leaves instead lets the others pass.
		lazy = pt.submit(sh, ask("GET", "0"))
		last = pt.ride(sh, ask("GET", "1"))
		w.hear(lazy, last)
		w.say(reply.String() + ":1\r\n")
		last.wantWaiting()
		lazy.rider.Close()
		last.wantReply(":1\r\n")
		pt.wantEnds(3, 0, 1)
	})
}
