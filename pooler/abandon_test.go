package pooler_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/pooler"
)

func TestALateReplyNeverReachesTheNextUser(t *testing.T) {
	bubble(t, pooler.Config{MaxOpenConns: 1, WaitTimeout: -1}, func(pt *tester) {
		pt.fake.Handle("ECHO", func(_ *testkit.FakeConn, args []string) []byte {
			time.Sleep(100 * time.Millisecond)
			return testkit.ReplyBulk(args[1])
		})
		for i := range 30 {
			c := pt.get(pt.plain)
			late, mine := fmt.Sprintf("late-%d", i), fmt.Sprintf("mine-%d", i)
			for range 1 + i%3 {
				pt.send(c, "ECHO", late)
			}
			switch i % 3 {
			case 1: // it has seen the beginning of the first reply
				_, _, _ = c.Receive(make([]byte, 3), time.Time{})
			case 2: // it was interrupted
				c.InterruptReceive()
			}
			pt.abandon(c)
			c = pt.get(pt.plain)
			if got := pt.do(c, "ECHO", mine); !strings.Contains(got, mine) {
				t.Fatalf("round %d: received %q, want %q", i, got, mine)
			}
			pt.put(c)
		}
		pt.wantDials(1) // and the connection was used again each time
	})
}

func TestAnAbandonedConnectionThatStaysSilentIsClosed(t *testing.T) {
	bubble(t, pooler.Config{MaxOpenConns: 1, HealthCheckTimeout: time.Second}, func(pt *tester) {
		pt.fake.Handle("ECHO", func(*testkit.FakeConn, []string) []byte { return nil })
		c := pt.get(pt.plain)
		pt.send(c, "ECHO", "x")
		pt.abandon(c)
		w := pt.wait(pt.plain)
		if s := pt.pool.Stats(); s.Draining != 1 || s.InUse != 1 {
			t.Errorf("stats are %+v", s)
		}
		pt.sleep(time.Second - 1)
		w.wantWaiting()
		pt.sleep(1)
		pt.wantCloses(pooler.CloseAbandoned, 1)
		pt.put(w.wantConn())
	})
}

func TestAnAbandonedBlockingRequestIsClosedAtOnce(t *testing.T) {
	bubble(t, pooler.Config{MaxOpenConns: 1}, func(pt *tester) {
		c, err := pt.tryGet(pooler.Request{Session: pt.plain, Name: "BLPOP", Blocking: true})
		if err != nil {
			t.Fatal(err)
		}
		pt.send(c, "BLPOP", "q", "0")
		pt.abandon(c)
		pt.wantOpen(0)
		pt.wantCloses(pooler.CloseAbandoned, 1)
	})
}

func TestAnEndlessLateReplyIsNotReadToItsEnd(t *testing.T) {
	bubble(t, pooler.Config{MaxOpenConns: 1}, func(pt *tester) {
		pt.fake.Handle("GET", func(*testkit.FakeConn, []string) []byte {
			return testkit.ReplyBulk(strings.Repeat("x", 8<<20))
		})
		c := pt.get(pt.plain)
		pt.send(c, "GET", "big")
		pt.abandon(c)
		pt.wantCloses(pooler.CloseAbandoned, 1)
	})
}

func TestWhileAbandonedRequestsAreDrainedDialsGoOneByOne(t *testing.T) {
	bubble(t, pooler.Config{MaxOpenConns: 20, HealthCheckTimeout: 10 * time.Second, WaitTimeout: -1}, func(pt *tester) {
		var held []*pooler.Conn
		for range 10 {
			held = append(held, pt.get(pt.plain))
		}
		pt.fake.Freeze(true)
		for _, c := range held {
			pt.send(c, "PING")
			pt.abandon(c)
		}
		pt.dialer.hold(true)
		var line []*pending
		for range 5 {
			line = append(line, pt.wait(pt.plain))
		}
		for range 3 {
			pt.dialer.wantHeld(1)
			pt.dialer.wantDial().finish(nil)
		}
		// When the replies are in they serve the rest.
		pt.fake.Freeze(false)
		pt.dialer.hold(false)
		for _, w := range line {
			pt.put(w.await().wantConn())
		}
		pt.dialer.wantDial().finish(nil)
		pt.wantDials(14)
	})
}

func TestCloseDoesNotWaitForLateReplies(t *testing.T) {
	bubble(t, pooler.Config{HealthCheckTimeout: time.Minute}, func(pt *tester) {
		c := pt.get(pt.plain)
		pt.fake.Freeze(true)
		pt.send(c, "PING")
		pt.abandon(c)
		began := time.Now()
		_ = pt.pool.Close()
		if time.Since(began) != 0 {
			t.Errorf("Close took %s", time.Since(began))
		}
		pt.fake.Freeze(false)
	})
}

// What is announced to be more than that isn't read at all, in one piece or in many.
func TestALateReplyThatIsAnnouncedTooLargeIsNotAwaited(t *testing.T) {
	for said, open := range map[string]int{
		"$3000000\r\n": 0, "$1000000\r\n": 1,
		"*30\r\n$100000\r\n": 0, "*9\r\n$100000\r\n": 1,
		"*2000\r\n" + bigReply("a", "1000"): 0, "*900\r\n" + bigReply("a", "1000"): 1,
	} {
		byHand(t, pooler.Config{}, 0, func(pt *tester, h *hand) {
			c := pt.get(pt.plain)
			pt.send(c, "GET", "k")
			pt.abandon(c)
			h.wire(0).hear(&ride{x: ask("GET", "k")})
			h.wire(0).say(said)
			pt.wantOpen(open)
			pt.wantCloses(pooler.CloseAbandoned, int64(1-open))
		})
	}
}

func TestLateRepliesToAPipelineThatWillBeTooLargeAreNotAwaited(t *testing.T) {
	for size, open := range map[string]int{"400000": 0, "300000": 1} {
		byHand(t, pooler.Config{}, 0, func(pt *tester, h *hand) {
			c := pt.get(pt.plain)
			for range 3 {
				pt.send(c, "GET", "k")
			}
			pt.abandon(c)
			for range 3 {
				h.wire(0).hear(&ride{x: ask("GET", "k")})
			}
			h.wire(0).say("$" + size + "\r\n")
			pt.wantOpen(open)
			pt.wantCloses(pooler.CloseAbandoned, int64(1-open))
		})
	}
}
