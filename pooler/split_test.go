package pooler_test

import (
	"testing"
	"time"

	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/pooler"
)

// holdWrites has the server answer no INCR and GETDEL, and what is behind it on its connection, until
// release is called.
func (pt *tester) holdWrites() (release func()) {
	gate := make(chan struct{})
	held := func(*testkit.FakeConn, []string) []byte { <-gate; return []byte(":1\r\n") }
	pt.fake.Handle("INCR", held)
	pt.fake.Handle("GETDEL", held)
	return func() { close(gate); pt.settle() }
}

// soon is by when what reads leaves a lane whose writes are held back.
const soon = 60 * time.Millisecond

// While the server holds writes back, what reads goes on elsewhere, soon, and no later read
// meets a write: one connection does for that. Once a write is answered they share again.
func TestReadsLeaveAWriteThatIsHeldBack(t *testing.T) {
	bubble(t, pooler.Config{SharedConns: 2, SilenceAfter: silence}, func(pt *tester) {
		for range 3 {
			sh := pt.share(pt.plain)
			pt.ride(sh, ask("ECHO", "0")).wantReply(bulk("0"))
			dials := pt.dialer.count()
			release := pt.holdWrites()
			write, mayGo := pt.ride(sh, ask("INCR", "n")), pt.ride(sh, again("GETDEL", "n"))
			left := pt.ride(sh, read("GET", "k")).await()
			if left.wantLost(true); left.took < 25*time.Millisecond || left.took > soon {
				t.Errorf("a read left after %v", left.took)
			}
			var writes []*ride
			for range 20 {
				writes = append(writes, pt.ride(pt.share(pt.plain), ask("INCR", "n")))
				pt.ride(pt.share(pt.plain), read("GET", "k")).wantReply("$-1\r\n")
			}
			write.wantWaiting()
			mayGo.wantWaiting()
			release()
			write.wantReply(":1\r\n")
			mayGo.wantReply(":1\r\n")
			for _, w := range writes {
				w.wantReply(":1\r\n")
			}
			if n := pt.dialer.count() - dials; n > 1 {
				t.Errorf("%d dials", n)
			}
			left.rider.Forgive()
			pt.sleep(10 * time.Second) // after which the next one is asked about as soon
		}
		pt.wantCloses(pooler.CloseSilence, 0)
		pt.wantEnds(3*43, 3, 0)
	})
}

// A lane that is only slow costs a connection, and the next ones only after longer.
func TestALaneThatIsSlowIsSeldomAskedAbout(t *testing.T) {
	bubble(t, pooler.Config{SharedConns: 1, SilenceAfter: silence}, func(pt *tester) {
		const late = 40 * time.Millisecond
		pt.fake.Handle("INCR", func(*testkit.FakeConn, []string) []byte { time.Sleep(late); return []byte(":1\r\n") })
		pt.fake.Handle("PING", func(*testkit.FakeConn, []string) []byte { time.Sleep(late); return []byte("+PONG\r\n") })
		sh := pt.share(pt.plain)
		for range 100 {
			write, behind := pt.ride(sh, ask("INCR", "n")), pt.ride(sh, read("GET", "k"))
			write.await().wantReply(":1\r\n")
			behind.await().wantReply("$-1\r\n")
		}
		if n := pt.dialer.count(); n > 4 {
			t.Errorf("%d dials", n)
		}
		dials := pt.dialer.count()
		pt.sleep(61 * time.Second)
		sh = pt.share(pt.plain)
		write, behind := pt.ride(sh, ask("INCR", "n")), pt.ride(sh, read("GET", "k"))
		write.await().wantReply(":1\r\n")
		behind.await().wantReply("$-1\r\n")
		if n := pt.dialer.count() - dials; n != 1 {
			t.Errorf("%d dials after a minute", n)
		}
		pt.wantCloses(pooler.CloseSilence, 0)
	})
}

// What nobody reads behind, or is a read itself, isn't asked about before SilenceAfter.
func TestOnlyAWriteWithReadsBehindItIsAskedAboutEarly(t *testing.T) {
	for name, requests := range map[string][]pooler.Exchange{
		"writes":               {ask("INCR", "n"), ask("INCR", "n")},
		"a read comes first":   {read("GET", "slow"), ask("INCR", "n"), read("GET", "k")},
		"a read before writes": {read("GET", "slow"), ask("INCR", "n")},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, pooler.Config{SharedConns: 1, SilenceAfter: silence}, func(pt *tester) {
				sh := pt.share(pt.plain)
				pt.ride(sh, ask("ECHO", "0")).wantReply(bulk("0"))
				pt.fake.Conns()[0].SwallowReplies(true)
				var rides []*ride
				for _, x := range requests {
					rides = append(rides, pt.ride(sh, x))
				}
				pt.sleep(silence - time.Millisecond)
				pt.wantDials(1)
				for _, r := range rides {
					r.rider.Close()
				}
			})
		})
	}
}

// Where writes are held back for longer than a connection may be silent, they move on to
// others, and no read meets one for long.
func TestReadsAreNotHeldUpWhileWritesMoveOn(t *testing.T) {
	bubble(t, pooler.Config{SharedConns: 4, SilenceAfter: silence}, func(pt *tester) {
		pt.ride(pt.share(pt.plain), ask("ECHO", "0")).wantReply(bulk("0"))
		release := pt.holdWrites()
		var writes []*ride
		left := 0
		for range 300 { // 3 s
			writes = append(writes, pt.ride(pt.share(pt.plain), ask("INCR", "n")))
			r := pt.ride(pt.share(pt.plain), read("GET", "k")).await()
			if r.took > soon {
				t.Errorf("a read took %v", r.took)
			}
			if r.err != nil {
				left++
				r.rider.Forgive()
			}
			pt.sleep(10 * time.Millisecond)
		}
		if n := pt.dialer.count(); left > 3 || n > 20 {
			t.Errorf("%d reads were sent twice, %d dials", left, n)
		}
		release()
		for _, w := range writes {
			w.wantReply(":1\r\n")
		}
	})
}

// In a full pool there is nothing to ask on.
func TestAFullPoolOpensNoConnectionToAsk(t *testing.T) {
	bubble(t, pooler.Config{MaxOpenConns: 1, SharedConns: 1, SilenceAfter: silence}, func(pt *tester) {
		sh := pt.share(pt.plain)
		release := pt.holdWrites()
		write, behind := pt.ride(sh, ask("INCR", "n")), pt.ride(sh, read("GET", "k"))
		pt.sleep(silence * 3 / 4)
		pt.wantDials(1)
		behind.wantWaiting()
		release()
		write.wantReply(":1\r\n")
		behind.wantReply("$-1\r\n")
	})
}

// A server that stands still is asked no more often for this.
func TestAServerThatStandsStillIsAskedOnAsManyConnections(t *testing.T) {
	bubble(t, pooler.Config{SharedConns: 2, SilenceAfter: silence}, func(pt *tester) {
		sh := pt.share(pt.plain)
		pt.ride(sh, ask("ECHO", "0")).wantReply(bulk("0"))
		pt.fake.Freeze(true)
		write, behind := pt.ride(sh, ask("INCR", "n")), pt.ride(sh, read("GET", "k"))
		pt.sleep(time.Second)
		write.wantWaiting()
		behind.wantWaiting()
		pt.wantDials(3)
		pt.fake.Freeze(false)
		write.wantReply(":1\r\n")
		behind.wantReply("$-1\r\n")
	})
}

// A connection that is dead with a write on it isn't where later writes go for ever.
func TestWritesDoNotStayOnALaneThatIsDead(t *testing.T) {
	bubble(t, pooler.Config{SharedConns: 2, SilenceAfter: silence}, func(pt *tester) {
		sh := pt.share(pt.plain)
		pt.ride(sh, ask("ECHO", "0")).wantReply(bulk("0"))
		pt.fake.Conns()[0].SwallowReplies(true)
		set := again("SET", "k", "v")
		write := pt.ride(sh, set)
		pt.ride(sh, read("GET", "k")).await().wantLost(true)
		next := pt.ride(pt.share(pt.plain), set)
		write.await().wantLost(true)
		next.await().wantLost(true)
		if write.took > 2*silence+100*time.Millisecond {
			t.Errorf("after %v", write.took)
		}
		for range 3 {
			pt.ride(pt.share(pt.plain), set).wantReply("+OK\r\n")
			pt.ride(pt.share(pt.plain), read("GET", "k")).wantReply(bulk("v"))
		}
	})
}
