package pooler_test

import (
	"testing"
	"time"

	"github.com/everpool/everpool/pooler"
)

// A command that blocks keeps what it gets for as long as it blocks: a request that doesn't
// must not wait for that one's turn, and the end of others of its kind, only because both
// are of one session.
func TestARequestThatDoesNotBlockGoesBeforeACommandThatDoes(t *testing.T) {
	bubble(t, pooler.Config{MaxOpenConns: 2, SilenceAfter: -1}, func(pt *tester) {
		first, second := pt.blocking().wantConn(), pt.blocking().wantConn()
		third := pt.blocking()
		watch := pt.begin(pooler.Request{Session: pt.plain, Name: "WATCH"})
		pt.put(first)
		pt.put(watch.wantConn(), second)
		pt.put(third.wantConn())
	})
}

// Others may go first sixteen times, of its own session and of another one.
func TestACommandThatBlocksGetsItsTurn(t *testing.T) {
	for name, s := range map[string]*pooler.Session{"own session": nil, "another session": session(1)} {
		t.Run(name, func(t *testing.T) {
			bubble(t, pooler.Config{MaxOpenConns: 2, SilenceAfter: -1, WaitTimeout: -1}, func(pt *tester) {
				if s == nil {
					s = pt.plain
				}
				kept, c := pt.get(s), pt.get(s)
				blocked := pt.blocking()
				turns := 0
				for next := pt.wait(s); !blocked.ended(); turns++ {
					if turns == 100 {
						t.Fatal("it was overtaken 100 times")
					}
					after := pt.wait(s)
					pt.put(c)
					pt.settle()
					if blocked.ended() {
						pt.put(blocked.wantConn())
						pt.put(next.await().wantConn())
						pt.put(after.await().wantConn(), kept)
						break
					}
					c = next.wantConn()
					next = after
				}
				if turns < 16 {
					t.Errorf("%d others went first, want 16 at least", turns)
				}
			})
		})
	}
}

// Nor is it passed over for ever by requests of which each has a session of its own, for
// which a connection is dialed.
func TestACommandThatBlocksGetsItsTurnAmongManySessions(t *testing.T) {
	bubble(t, pooler.Config{MaxOpenConns: 1, SilenceAfter: -1, WaitTimeout: -1}, func(pt *tester) {
		c := pt.get(session(0))
		blocked := pt.blocking()
		for turns := 1; ; turns++ {
			next := pt.wait(session(1 + turns%15))
			pt.put(c)
			pt.settle()
			if blocked.ended() {
				if turns <= 16 {
					t.Errorf("it was served at the %dth turn, want 16 others before", turns)
				}
				pt.put(blocked.wantConn())
				pt.put(next.await().wantConn())
				return
			}
			if turns == 100 {
				t.Fatal("it was overtaken 100 times")
			}
			c = next.wantConn()
		}
	})
}

// A pipeline may both block and begin a stream.
func TestAStreamThatBlocksWaitsForNoRoom(t *testing.T) {
	bubble(t, pooler.Config{MaxOpenConns: 1, SilenceAfter: -1}, func(pt *tester) {
		c := pt.get(pt.plain)
		stream := pt.begin(pooler.Request{Session: pt.plain, Blocking: true, Stream: true})
		pt.put(c, stream.wantConn())
	})
}

// In a pool without shared connections all go in their order, as they do in the stock pool.
func TestWithoutSharedConnectionsCommandsThatBlockKeepTheirPlace(t *testing.T) {
	bubble(t, pooler.Config{MaxOpenConns: 1, SharedConns: -1}, func(pt *tester) {
		c := pt.get(pt.plain)
		blocked := pt.blocking()
		next := pt.wait(pt.plain)
		pt.put(c)
		c = blocked.wantConn()
		next.wantWaiting()
		pt.put(c)
		pt.put(next.wantConn())
	})
}

// As many callers as connections: with the stock pool none of them would wait. A session that
// nobody uses any more must not keep a lane from a command that blocks, which would wait for
// the end of another one.
func TestALaneThatRestsIsGivenToACommandThatBlocks(t *testing.T) {
	bubble(t, pooler.Config{MaxOpenConns: 4, SilenceAfter: -1}, func(pt *tester) {
		busy, resting := pt.share(pt.plain), pt.share(session(1))
		pt.ride(busy, ask("ECHO", "a")).wantReply(bulk("a"))
		pt.ride(resting, ask("ECHO", "b")).wantReply(bulk("b"))
		pt.wantLanes(2)
		first, second := pt.blocking().wantConn(), pt.blocking().wantConn()
		third := pt.blocking()
		for range 10 {
			pt.ride(busy, ask("ECHO", "a")).wantReply(bulk("a"))
			pt.sleep(time.Millisecond)
		}
		c := third.wantConn()
		pt.wantLanes(1)
		fourth := pt.blocking()
		for range 10 {
			pt.ride(busy, ask("ECHO", "a")).wantReply(bulk("a"))
			pt.sleep(100 * time.Millisecond)
		}
		fourth.wantWaiting() // the last lane isn't for it
		pt.wantLanes(1)
		pt.put(first, second, c)
		pt.put(fourth.wantConn())
	})
}

// Each of many sessions has its lane, and all are used all the time, by a single caller: more
// than many callers need aren't kept from a command that blocks.
func TestLanesOfManySessionsAreGivenToCommandsThatBlock(t *testing.T) {
	bubble(t, pooler.Config{MaxOpenConns: 8, SilenceAfter: -1}, func(pt *tester) {
		sessions := []*pooler.Session{session(1), session(2), session(3), session(4)}
		round := func(each time.Duration) {
			for _, s := range sessions {
				pt.ride(pt.share(s), ask("ECHO", "a")).wantReply(bulk("a"))
				pt.sleep(each)
			}
		}
		round(0)
		pt.wantLanes(4)
		var leased []*pooler.Conn
		for range 4 {
			leased = append(leased, pt.blocking().wantConn())
		}
		blocked := pt.blocking()
		for range 5 {
			round(time.Millisecond)
		}
		leased = append(leased, blocked.wantConn())
		pt.put(leased...)
	})
}
