package pooler_test

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/pooler"
)

// big answers BIG tag n with the tag, repeated up to n bytes.
func big(_ *testkit.FakeConn, args []string) []byte {
	return []byte(bigReply(args[1], args[2]))
}

func bigReply(tag, size string) string {
	n, _ := strconv.Atoi(size)
	return bulk(strings.Repeat(tag+" ", n/len(tag)+1)[:n])
}

// sizes are those of the memory that is received into.
var sizes = []int{1, 16, 4 << 10, 1 << 20}

func TestEachRiderGetsTheRepliesToItsOwnRequests(t *testing.T) {
	for _, slice := range []int{0, 1, 7} {
		t.Run("slices of "+strconv.Itoa(slice), func(t *testing.T) {
			var opts []testkit.FakeOption
			if slice > 0 {
				f := testkit.ByteFault{Kind: testkit.FaultSlice, Dir: testkit.ToClient, N: slice}
				opts = append(opts, testkit.WithConnWrapper(f.Wrap))
			}
			bubble(t, pooler.Config{SharedConns: 1}, func(pt *tester) {
				sh := pt.share(pt.plain)
				var wg sync.WaitGroup
				total, rounds := 0, 15
				if slice == 1 {
					rounds = 4
				}
				for i := range 24 {
					rnd := rand.New(rand.NewPCG(uint64(i), 1))
					total += rounds
					wg.Go(func() {
						r := &ride{pt: pt, rider: pooler.NewRider(), size: sizes[i%len(sizes)]}
						for round := range rounds {
							var commands [][]string
							var want strings.Builder
							for j := range 1 + rnd.IntN(5)*rnd.IntN(2) {
								tag := fmt.Sprintf("rider %d round %d command %d", i, round, j)
								commands = append(commands, []string{"ECHO", tag})
								want.WriteString(bulk(tag))
							}
							r.replies, r.used = nil, nil
							if err := sh.Submit(r.rider, pipeline(commands...)); err != nil {
								t.Errorf("Submit: %v", err)
								return
							}
							if rnd.IntN(3) == 0 {
								time.Sleep(time.Millisecond) // its replies come meanwhile
							}
							if r.receiveAll(); r.err != nil || string(r.replies) != want.String() {
								t.Errorf("received %q, %v; want %q", r.replies, r.err, want.String())
								return
							}
							r.wantClean()
						}
					})
				}
				wg.Wait()
				pt.wantDials(1)
				pt.wantEnds(int64(total), 0, 0)
				if s := pt.pool.Stats(); s.Shared != int64(total) || s.Admitted != s.Shared || s.Lanes != 1 {
					t.Errorf("stats are %+v", s)
				}
			}, opts...)
		})
	}
}

func TestLargeRepliesDoNotShiftTheSmallOnesAmongThem(t *testing.T) {
	for _, size := range sizes {
		t.Run("into "+strconv.Itoa(size), func(t *testing.T) {
			bubble(t, pooler.Config{SharedConns: 1}, func(pt *tester) {
				pt.fake.Handle("BIG", big)
				sh := pt.share(pt.plain)
				var wg sync.WaitGroup
				for i := range 8 {
					wg.Go(func() {
						for round := range 3 {
							tag := fmt.Sprintf("rider %d round %d", i, round)
							r := &ride{pt: pt, rider: pooler.NewRider(), size: size, done: make(chan struct{})}
							large := []string{"0", "40000", "100000"}[(i+round)%3]
							if i == 0 && round == 1 {
								large = "1000000"
							}
							r.x = pipeline([]string{"ECHO", tag}, []string{"BIG", tag, large}, []string{"ECHO", tag})
							want := bulk(tag) + bigReply(tag, large) + bulk(tag)
							r.begin(sh)
							<-r.done
							if r.err != nil || string(r.replies) != want {
								t.Errorf("%s: received %d bytes, %v; want %d", tag, len(r.replies), r.err, len(want))
								return
							}
							r.wantClean()
						}
					})
				}
				wg.Wait()
				pt.wantDials(1)
			})
		})
	}
}

// A stream of replies, and how many belong to each of three riders.
var threeRiders = [][]string{
	{"+OK\r\n"},
	{":1\r\n", "$5\r\nhello\r\n", "|1\r\n+ttl\r\n:3\r\n$-1\r\n"},
	{"*2\r\n$1\r\na\r\n-ERR no\r\n"},
}

func TestRepliesThatAreCutAtAnyByteReachTheirRiders(t *testing.T) {
	byHand(t, pooler.Config{SharedConns: 1}, 0, func(pt *tester, h *hand) {
		var stream strings.Builder
		for _, replies := range threeRiders {
			stream.WriteString(strings.Join(replies, ""))
		}
		sh := pt.share(pt.plain)
		for _, size := range []int{1, 5, 4 << 10} {
			for waiting := range 4 { // so many wait when the replies come, the last ones
				for cut := 1; cut < stream.Len(); cut++ {
					var rides []*ride
					for i, replies := range threeRiders {
						x := pipeline([]string{"A", strconv.Itoa(i)}, []string{"B"}, []string{"C"})
						x.Replies = len(replies)
						r := pt.submit(sh, x)
						r.size = size
						rides = append(rides, r)
					}
					for _, r := range rides[3-waiting:] {
						r.receive()
					}
					w := h.wire(0)
					w.hear(rides...)
					w.say(stream.String()[:cut])
					w.say(stream.String()[cut:])
					for i, r := range rides {
						if i < 3-waiting {
							r.receive()
						}
						r.wantReply(strings.Join(threeRiders[i], ""))
						if !r.rider.Idle() || r.rider.Owed() != 0 {
							t.Fatal("it is done and not idle")
						}
					}
				}
			}
		}
		pt.wantDials(1)
	})
}

func TestPushesOnASharedConnectionAreDroppedAndCountedAndShiftNothing(t *testing.T) {
	const push = ">2\r\n+invalidate\r\n*1\r\n$3\r\nkey\r\n"
	byHand(t, pooler.Config{SharedConns: 1, HealthCheckInterval: time.Second}, 0, func(pt *tester, h *hand) {
		sh := pt.share(pt.plain)
		pushes := int64(0)
		for cut := range len(push) + 1 {
			var rides []*ride
			var stream strings.Builder
			stream.WriteString(push)
			for i := range 3 {
				x := pipeline([]string{"A", strconv.Itoa(i)}, []string{"B"})
				r := pt.submit(sh, x)
				if i != 1 {
					r.receive()
				}
				rides = append(rides, r)
				stream.WriteString(bulk(fmt.Sprint("a", i)) + push + bulk(fmt.Sprint("b", i)) + push)
			}
			pushes += 7
			w := h.wire(0)
			w.hear(rides...)
			w.say(stream.String()[:cut])
			w.say(stream.String()[cut:])
			for i, r := range rides {
				if i == 1 {
					r.receive()
				}
				r.wantReply(bulk(fmt.Sprint("a", i)) + bulk(fmt.Sprint("b", i)))
			}
		}
		pt.sleep(3 * time.Second) // the lane is given back
		pt.wantLanes(0)
		if got := pt.pool.Stats().PushesDropped; got != pushes {
			t.Errorf("%d pushes dropped, want %d", got, pushes)
		}
	})
}

// The rest of a large reply is read by its owner, straight into its own memory. That
// of a push isn't, although it comes where somebody's reply is due.
func TestALargePushIsReadByWhoeverLeadsAndIntoNobodysMemory(t *testing.T) {
	push := ">2\r\n+message\r\n" + bulk(strings.Repeat("push ", 40_000))
	replies := []string{bulk("first"), bulk(strings.Repeat("second ", 40_000))}
	for _, size := range []int{4 << 10, 1 << 20} {
		for _, waiting := range []int{1, 2} { // so many wait when the pushes come, the last ones
			t.Run(fmt.Sprintf("%d wait with %d bytes", waiting, size), func(t *testing.T) {
				byHand(t, pooler.Config{SharedConns: 1}, 1<<20, func(pt *tester, h *hand) {
					sh := pt.share(pt.plain)
					rides := []*ride{pt.submit(sh, ask("A")), pt.submit(sh, ask("B"))}
					for _, r := range rides {
						r.size = size
					}
					for _, r := range rides[2-waiting:] {
						r.receive()
					}
					w := h.wire(0)
					w.hear(rides...)
					w.say(push + replies[0] + push + replies[1])
					rides[1].wantReply(replies[1])
					if waiting == 1 {
						rides[0].receive()
					}
					rides[0].wantReply(replies[0])
					if got := pt.pool.Stats().PushesDropped; got != 2 {
						t.Errorf("%d pushes dropped, want 2", got)
					}
				})
			})
		}
	}
}

func TestARiderThatIsOwedRepliesStaysOnItsConnection(t *testing.T) {
	bubble(t, pooler.Config{SharedConns: 2}, func(pt *tester) {
		sh := pt.share(pt.plain)
		rides := pt.many(sh, 4)
		home := rides[0].rider.Conn()
		pt.load(sh, 2) // another lane is opened
		pt.wantLanes(2)
		pt.fake.Freeze(true)
		for i := range 20 {
			x := ask("ECHO", strconv.Itoa(100+i))
			x.Follows = true
			for _, r := range rides {
				if err := sh.Submit(r.rider, x); err != nil {
					t.Fatal(err)
				}
			}
			pt.settle()
		}
		others := pt.submit(sh, ask("ECHO", "x"))
		x := ask("ECHO", "last")
		x.Follows = true
		for _, r := range rides {
			if err := sh.Submit(r.rider, x); err != nil {
				t.Fatal(err)
			}
		}
		pt.fake.Freeze(false)
		others.receive().wantReply(bulk("x"))
		for i, r := range rides {
			var want strings.Builder
			want.WriteString(bulk(strconv.Itoa(i)))
			for j := range 20 {
				want.WriteString(bulk(strconv.Itoa(100 + j)))
			}
			want.WriteString(bulk("last"))
			if r.rider.Conn() != home {
				t.Errorf("rider %d has moved", i)
			}
			r.receive().wantReply(want.String())
		}
		moved := false
		for i, r := range rides { // now they may go elsewhere
			if err := sh.Submit(r.rider, ask("ECHO", strconv.Itoa(i))); err != nil {
				t.Fatal(err)
			}
			r.replies = nil
			r.receive().wantReply(bulk(strconv.Itoa(i)))
			moved = moved || r.rider.Conn() != home
		}
		if !moved {
			t.Error("all have stayed on the first connection for ever")
		}
	})
}

// Its replies on another connection would overtake those that are to come.
func TestARiderStaysOnItsConnectionAlsoWhenItsCallerForgetsWhatItIsOwed(t *testing.T) {
	bubble(t, pooler.Config{SharedConns: 2}, func(pt *tester) {
		sh := pt.share(pt.plain)
		pt.load(sh, 2)
		pt.wantLanes(2)
		pt.fake.Freeze(true)
		r := pt.submit(sh, ask("ECHO", "first"))
		home := r.rider.Conn()
		for range 3 { // the other lane has nothing to do
			if err := sh.Submit(r.rider, ask("ECHO", "next")); err != nil {
				t.Fatal(err)
			}
			if r.rider.Conn() != home {
				t.Fatal("it has moved")
			}
		}
		pt.fake.Freeze(false)
		r.receive().wantReply(bulk("first") + bulk("next") + bulk("next") + bulk("next"))
	})
}

// A request that waits for room is overtaken by none that would fit.
func TestASmallRequestDoesNotOvertakeALargeOneThatWaitsForRoom(t *testing.T) {
	byHand(t, pooler.Config{SharedConns: 1}, 1<<10, func(pt *tester, h *hand) {
		sh := pt.share(pt.plain)
		w := h.wire(0)
		var rides []*ride
		for _, size := range []int{600 << 10, 600 << 10, 600 << 10, 1} { // one is being written, one unsent
			rides = append(rides, pt.submitting(sh, ask("ECHO", strings.Repeat("x", size))))
		}
		rides[0].wantSubmitted()
		rides[1].wantSubmitted()
		for i, r := range rides[2:] {
			if r.ended() {
				pt.Fatalf("request %d didn't wait: %v", i+2, r.err)
			}
		}
		w.hear(rides...)
		w.say(strings.Repeat("+OK\r\n", len(rides)))
		for _, r := range rides {
			r.receive().await().wantReply("+OK\r\n")
		}
	})
}
