package pooler_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/pooler"
)

// turns are replies that say that the server can't serve any more, as its kind.
var changes = []string{
	"-READONLY You can't write against a read only replica.\r\n",
	"-LOADING Redis is loading the dataset in memory\r\n",
	"-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.\r\n",
	"-MOVED 3999 " + addr + "\r\n",
}

// wantRetired says that the node's connections were retired, so often.
func (pt *tester) wantRetired(n int) {
	pt.Helper()
	pt.settle()
	if got := len(pt.eventsOf(pooler.EventRetire)); got != n {
		pt.Fatalf("the connections were retired %d times, want %d", got, n)
	}
}

func TestWhenTheServerHasTurnedAllConnectionsOfTheNodeAreRetired(t *testing.T) {
	for _, reply := range changes {
		for _, on := range []string{"lane", "lease"} {
			t.Run(on+" "+reply[:6], func(t *testing.T) {
				byHand(t, pooler.Config{SharedConns: 1, MaxOpenConns: 9}, 0, func(pt *tester, h *hand) {
					sh := pt.share(pt.plain)
					w := h.wire(0)
					pt.sleep(time.Millisecond)
					lease, spare, idle := pt.get(pt.plain), pt.get(pt.plain), pt.get(pt.plain)
					pt.put(idle)
					pt.sleep(time.Millisecond)
					other := pt.ride(sh, ask("GET", "1"))
					w.hear(other)
					if on == "lane" {
						r := pt.ride(sh, ask("SET", "a", "b"))
						w.hear(r)
						w.say(":1\r\n" + reply)
						other.wantReply(":1\r\n")
						r.wantReply(reply)
						pt.wantCloses(pooler.CloseRetired, 0)
						h.wire(4).drain()                     // a new one is answered
						pt.wantCloses(pooler.CloseRetired, 2) // the idle one too
						pt.put(lease, spare)
					} else {
						pt.send(lease, "SET", "a", "b")
						h.wire(1).hear(&ride{x: ask("SET", "a", "b")})
						h.wire(1).say(reply)
						if got, err := receive(lease, time.Time{}); got != reply || err != nil {
							t.Errorf("received %q, %v", got, err)
						}
						pt.put(lease)
						pt.wantCloses(pooler.CloseRetired, 0)
						h.wire(4).drain() // a new one is answered
						pt.wantCloses(pooler.CloseRetired, 2)
						other.wantWaiting() // on the lane that drains
						w.say(":1\r\n")
						other.wantReply(":1\r\n")
						w.drain()
						pt.put(spare)
					}
					pt.wantCloses(pooler.CloseRetired, 4)
					pt.wantOpen(1)
					pt.wantRetired(1)
					pt.sleep(time.Millisecond)
					r := pt.ride(pt.share(pt.plain), ask("GET", "2"))
					pt.wantDials(5)
					h.wire(4).hear(r)
					h.wire(4).say(":2\r\n")
					r.wantReply(":2\r\n")
				})
			})
		}
	}
}

// The name of a server that has become a replica may lead elsewhere a moment later, so
// the first conclusions follow each other soon; a server that stays what it is isn't
// dialed all the time.
func TestAServerThatKeepsSayingItIsRetiredSoonAtFirstAndThenOnceASecond(t *testing.T) {
	bubble(t, pooler.Config{SharedConns: 1}, func(pt *tester) {
		pt.fake.Handle("SET", func(*testkit.FakeConn, []string) []byte { return []byte(changes[0]) })
		pt.sleep(time.Millisecond)
		says := func(times int) (retired, dials int) { // 10 ms each
			retired, dials = len(pt.eventsOf(pooler.EventRetire)), pt.dialer.count()
			for range times {
				pt.ride(pt.share(pt.plain), ask("SET", "a", "b")).wantReply(changes[0])
				c := pt.get(pt.plain)
				pt.do(c, "SET", "a", "b")
				pt.put(c)
				pt.sleep(10 * time.Millisecond)
			}
			return len(pt.eventsOf(pooler.EventRetire)) - retired, pt.dialer.count() - dials
		}
		if n, _ := says(10); n < 3 || n > 5 {
			t.Errorf("retired %d times in the first 100 ms, want 3 to 5", n)
		}
		if n, dials := says(190); n > 5 || dials > 10 {
			t.Errorf("retired %d times, with %d dials, until 2 s have passed", n, dials)
		}
		if n, dials := says(300); n < 2 || n > 4 || dials > 10 {
			t.Errorf("retired %d times, with %d dials, in 3 s", n, dials)
		}
	})
}

func TestWhatMayBeSaidByAGoodServerRetiresNothing(t *testing.T) {
	readOnly := pooler.NewSession(step("+OK\r\n", "readonly"))
	for _, tc := range []struct {
		s     *pooler.Session
		reply string
	}{
		{readOnly, changes[0]},
		{nil, "-MOVED 3999 10.0.0.2:6379\r\n"},
		{nil, "-ERR READONLY\r\n"},
		{nil, "-READONLYX no\r\n"},
		{nil, "$9\r\n-READONLY\r\n"},
		{nil, "*2\r\n" + changes[0] + changes[1]}, // of a script
		{nil, "+READONLY\r\n"},
	} {
		bubble(t, pooler.Config{SharedConns: 1}, func(pt *tester) {
			if tc.s == nil {
				tc.s = pt.plain
			}
			pt.fake.Handle("SET", func(*testkit.FakeConn, []string) []byte { return []byte(tc.reply) })
			pt.ride(pt.share(tc.s), ask("SET", "a", "b")).wantReply(tc.reply)
			c := pt.get(tc.s)
			pt.do(c, "SET", "a", "b")
			pt.put(c)
			pt.wantRetired(0)
			pt.wantOpen(2)
		})
	}
}

// Names of managed servers are long; those that only begin alike are others.
func TestAServerThatPointsToItsOwnLongNameHasTurned(t *testing.T) {
	const managed = "my-cluster-0001-001.my-cluster.abcdef.euw1.cache.amazonaws.com:6379"
	longest := strings.Repeat("long-name.", 25) + "local" + ":65535"
	for _, tc := range []struct {
		own, to string
		turned  int
	}{
		{managed, managed, 1},
		{managed, managed + "0", 0},
		{managed, managed[:len(managed)-1], 0},
		{managed, "other-" + managed, 0},
		{longest, longest, 1},
		{longest, longest + "0", 0},
		{longest, longest + strings.Repeat("x", 1000), 0},
	} {
		for _, on := range []string{"lane", "lease"} {
			synctest.Test(t, func(t *testing.T) {
				pt := newTesterAt(t, tc.own, pooler.Config{SharedConns: 1})
				reply := "-MOVED 16383 " + tc.to + "\r\n"
				pt.fake.Handle("SET", func(*testkit.FakeConn, []string) []byte { return []byte(reply) })
				if on == "lane" {
					pt.ride(pt.share(pt.plain), ask("SET", "a", "b")).wantReply(reply)
				} else {
					c := pt.get(pt.plain)
					if got := pt.do(c, "SET", "a", "b"); got != reply {
						t.Errorf("received %q", got)
					}
					pt.put(c)
				}
				pt.wantRetired(tc.turned)
			})
		}
	}
}

func TestThatTheServerHasTurnedIsHeardHoweverItIsSaid(t *testing.T) {
	const reply = "-READONLY You can't write.\r\n"
	for name, stream := range map[string]string{
		"alone":                reply,
		"with an error behind": reply + "-ERR other\r\n",
		"in a transaction":     "+OK\r\n" + reply + "-EXECABORT Transaction discarded because of previous errors.\r\n",
	} {
		for cut := 1; cut <= len(stream); cut++ {
			for _, on := range []string{"lane", "lease"} {
				byHand(t, pooler.Config{SharedConns: 1}, 0, func(pt *tester, h *hand) {
					x := pipeline([]string{"SET"}, []string{"GET"}, []string{"GET"})
					switch name {
					case "alone":
						x.Replies = 1
					case "in a transaction":
						x.Replies, x.Transaction = 3, true
					default:
						x.Replies = 2
					}
					if on == "lane" {
						sh := pt.share(pt.plain)
						r := pt.submit(sh, x)
						r.receive()
						w := h.wire(0)
						w.hear(r)
						w.say(stream[:cut])
						w.say(stream[cut:])
						r.wantReply(stream)
						defer w.say("+PONG\r\n")
					} else {
						c := pt.get(pt.plain)
						c.Owe(x.Replies)
						w := h.wire(0)
						done := make(chan string)
						go func() {
							var got strings.Builder
							for range x.Replies {
								s, _ := receive(c, time.Time{})
								got.WriteString(s)
							}
							done <- got.String()
						}()
						w.say(stream[:cut])
						w.say(stream[cut:])
						if got := <-done; got != stream {
							t.Errorf("received %q", got)
						}
						pt.put(c)
					}
					pt.settle()
					if n := pt.dialer.count() - 1; n != 1 {
						// Once: only the last error in what came together was looked at.
						t.Errorf("%s, on a %s, cut at %d: %d connections to see about it, want 1", name, on, cut, n)
					}
				})
			}
		}
	}
}

func TestATransactionWhoseExecIsUnknownEndsTheConnection(t *testing.T) {
	for _, tc := range []struct {
		exec  string
		fatal bool
	}{
		{"-ERR unknown command 'EXEC', with args beginning with: \r\n", true},
		{"-ERR unknown command `EXEC`\r\n", true},
		{"-EXECABORT Transaction discarded because of previous errors.\r\n", false},
		{"*1\r\n-ERR unknown command 'X'\r\n", false},
		{"*-1\r\n", false},
	} {
		for _, queued := range []string{"+QUEUED\r\n", "-ERR unknown command 'X'\r\n"} {
			stream := "+OK\r\n" + queued + tc.exec
			for cut := 1; cut < len(stream); cut++ {
				byHand(t, pooler.Config{SharedConns: 1}, 0, func(pt *tester, h *hand) {
					sh := pt.share(pt.plain)
					w := h.wire(0)
					x := pipeline([]string{"MULTI"}, []string{"X"}, []string{"EXEC"})
					x.Transaction = true
					r := pt.submit(sh, x)
					r.receive()
					next := pt.ride(sh, ask("GET", "a"))
					w.hear(r, next)
					w.say(stream[:cut])
					w.say(stream[cut:])
					r.wantReply(stream)
					if tc.fatal {
						next.wantLost(true)
						pt.wantCloses(pooler.CloseState, 1)
						return
					}
					w.say(":1\r\n")
					next.wantReply(":1\r\n")
				})
				if t.Failed() {
					t.Fatalf("%q cut at %d", stream, cut)
				}
			}
		}
	}
}

func TestOtherSessionsConnectionsAreRetiredToo(t *testing.T) {
	bubble(t, pooler.Config{SharedConns: 1, MaxOpenConns: 9}, func(pt *tester) {
		for db := range 3 {
			pt.ride(pt.share(session(db)), ask("ECHO", strconv.Itoa(db))).wantReply(bulk(fmt.Sprint(db)))
		}
		pt.sleep(time.Millisecond)
		pt.fake.Handle("SET", func(*testkit.FakeConn, []string) []byte { return []byte(changes[0]) })
		pt.ride(pt.share(pt.plain), ask("SET", "a", "b")).wantReply(changes[0])
		pt.wantCloses(pooler.CloseRetired, 4)
		pt.wantLanes(0)
	})
}
