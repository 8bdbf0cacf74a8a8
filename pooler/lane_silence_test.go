package pooler_test

import (
	"context"
	"net"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/pooler"
)

const silence = 200 * time.Millisecond

// silent returns a lane that has gone silent, alone: two riders with Again, one
// without, in this order.
func (pt *tester) silent(slow bool) (may, mayToo, mayNot *ride) {
	pt.Helper()
	sh := pt.share(pt.plain)
	pt.ride(sh, ask("ECHO", "0")).wantReply(bulk("0"))
	pt.fill(pt.plain, 2) // idle ones, as old
	pt.fake.Conns()[0].SwallowReplies(true)
	again, once := ask("ECHO", "again"), ask("ECHO", "once")
	again.Again, again.Slow = true, slow
	may = pt.ride(sh, again)
	again.Slow = false
	return may, pt.ride(sh, again), pt.ride(sh, once)
}

func TestASilentConnectionIsLeftByThoseWhoMayGoElsewhere(t *testing.T) {
	bubble(t, pooler.Config{SharedConns: 2, SilenceAfter: silence}, func(pt *tester) {
		may, mayToo, mayNot := pt.silent(false)
		began := time.Now()
		for _, r := range []*ride{may, mayToo} {
			r.await().wantLost(true)
			if d := time.Since(began); d < silence || d > 2*silence+100*time.Millisecond {
				t.Errorf("it took %s", d)
			}
		}
		mayNot.wantWaiting()
		pt.wantCloses(pooler.CloseSilence, 2) // an idle one, and a lane that nobody used
		sh := pt.share(pt.plain)
		pt.ride(sh, ask("ECHO", "1")).wantReply(bulk("1"))
		dials := pt.dialer.count()
		pt.sleep(time.Minute)
		mayNot.wantWaiting()
		// Once: whoever waits on had a connection opened every tenth of a second.
		if n := pt.dialer.count() - dials; n > 1 {
			t.Errorf("%d dials more while one waits on", n)
		}
		pt.fake.Conns()[0].Push([]byte(bulk("again") + bulk("again") + bulk("once") + "+PONG\r\n"))
		mayNot.wantReply(bulk("once"))
		pt.sleep(5 * time.Second)
		pt.wantEnds(5, 2, 0)                  // with the two leases
		pt.wantCloses(pooler.CloseSilence, 2) // what has spoken again is kept
	})
}

// A server that answers BUSY runs a script, and what it is silent on is the connection
// where it was asked for that: what is behind the script is told BUSY elsewhere, as it
// would be on connections of its own. Once: it had a timeout for each try.
func TestAServerThatIsBusyIsLeftWhereItIsSilentAlone(t *testing.T) {
	bubble(t, pooler.Config{SharedConns: 2, SilenceAfter: silence}, func(pt *tester) {
		pt.fake.Handle("PING", func(*testkit.FakeConn, []string) []byte {
			return testkit.ReplyError("BUSY Redis is busy running a script")
		})
		may, mayToo, mayNot := pt.silent(false)
		pt.sleep(4 * time.Second)
		if pt.fake.Count("PING") == 0 {
			t.Fatal("nobody has asked the server")
		}
		for _, r := range []*ride{may, mayToo} {
			r.wantLost(true)
		}
		mayNot.wantWaiting()
		pt.wantCloses(pooler.CloseSilence, 0) // what nobody uses isn't in doubt
		pt.fake.Conns()[0].Push([]byte(bulk("again") + bulk("again") + bulk("once") + "+PONG\r\n"))
		mayNot.wantReply(bulk("once"))
	})
}

func TestASilentConnectionThatNobodyWaitsForIsClosed(t *testing.T) {
	bubble(t, pooler.Config{SharedConns: 2, SilenceAfter: silence, HealthCheckTimeout: time.Second}, func(pt *tester) {
		_, _, mayNot := pt.silent(false)
		pt.sleep(time.Second)
		mayNot.rider.Close()
		pt.sleep(3 * time.Second)
		pt.wantCloses(pooler.CloseSilence, 3)
		pt.wantEnds(3, 2, 1)
	})
}

// closeHook has something done at the first Close.
type closeHook struct {
	net.Conn
	hook *atomic.Pointer[func()]
}

func (c closeHook) Close() error {
	err := c.Conn.Close()
	if f := c.hook.Swap(nil); f != nil {
		(*f)()
	}
	return err
}

// Once: a request that came to an idle lane just as that was given up, with the
// silent ones, waited for its own deadline: nobody doubted the lane any more.
func TestNobodyIsLeftOnALaneThatIsBeingGivenUp(t *testing.T) {
	bubble(t, pooler.Config{SharedConns: 2, SilenceAfter: silence}, func(pt *tester) {
		var hook atomic.Pointer[func()]
		pt.dialer.dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
			nc, err := pt.fake.Dial(ctx, network, addr)
			return closeHook{nc, &hook}, err
		}
		sh := pt.share(pt.plain)
		pt.load(sh, 2)
		pt.wantLanes(2)
		pt.fill(pt.plain, 1) // it is closed before lanes are retired
		for _, c := range pt.fake.Conns() {
			c.SwallowReplies(true)
		}
		x := ask("ECHO", "0")
		x.Again = true
		late := &ride{pt: pt, rider: pooler.NewRider(), x: x, size: 100, done: make(chan struct{})}
		hook.Store(new(func() {
			late.begin(sh)
			time.Sleep(time.Nanosecond) // until it has submitted
		}))
		pt.ride(sh, x).await().wantLost(true)
		late.await()
		if late.took > silence {
			t.Errorf("it took %v", late.took)
		}
		pt.sleep(5 * time.Second)
	})
}

// Once: a small pool full of lanes that nobody used had no room to ask whether
// the one in use was dead.
func TestLanesThatNobodyUsesMakeRoomToDoubtAnother(t *testing.T) {
	bubble(t, pooler.Config{MaxOpenConns: 4, SilenceAfter: silence}, func(pt *tester) {
		sh := pt.share(pt.plain)
		pt.load(sh, 4)
		pt.wantLanes(3)
		held := []*pooler.Conn{pt.get(pt.plain)}
		for _, c := range pt.fake.Conns() {
			c.SwallowReplies(true)
		}
		x := ask("ECHO", "0")
		x.Again = true
		began := time.Now()
		pt.ride(sh, x).await().wantLost(true)
		if d := time.Since(began); d > 3*silence {
			t.Errorf("it took %v", d)
		}
		pt.put(held...)
		pt.sleep(5 * time.Second)
	})
}

func TestIdleConnectionsMakeRoomToDoubtALane(t *testing.T) {
	bubble(t, pooler.Config{MaxOpenConns: 3, SharedConns: 1, SilenceAfter: silence}, func(pt *tester) {
		sh := pt.share(pt.plain)
		pt.load(sh, 1)
		pt.fill(pt.plain, 2)
		for _, c := range pt.fake.Conns() {
			c.SwallowReplies(true)
		}
		x := ask("ECHO", "0")
		x.Again = true
		r := pt.ride(sh, x).await()
		r.wantLost(true)
		if r.took > 3*silence {
			t.Errorf("it took %v", r.took)
		}
		pt.sleep(5 * time.Second)
	})
}

// The connection that has answered is shared at once: who leaves the silent one
// would go to another that may be as silent.
func TestWhoLeavesASilentLaneFindsAFreshOne(t *testing.T) {
	bubble(t, pooler.Config{SharedConns: 2, SilenceAfter: silence}, func(pt *tester) {
		may, mayToo, mayNot := pt.silent(false)
		may.await().wantLost(true)
		pt.wantLanes(2) // the silent one, for who may not leave it, and the new one
		mayToo.await().wantLost(true)
		mayNot.rider.Close()
		pt.sleep(5 * time.Second)
	})
}

func TestAServerThatAnswersNowhereIsWaitedFor(t *testing.T) {
	bubble(t, pooler.Config{SharedConns: 1, SilenceAfter: silence}, func(pt *tester) {
		sh := pt.share(pt.plain)
		x := ask("ECHO", "0")
		x.Again = true
		pt.ride(sh, x).wantReply(bulk("0"))
		pt.fake.Freeze(true)
		rides := []*ride{pt.ride(sh, x), pt.ride(sh, x), pt.ride(sh, ask("ECHO", "0"))}
		began := time.Now()
		for _, until := range []struct {
			after time.Duration
			dials int
		}{{500, 2}, {1000, 3}, {2000, 6}, {4000, 8}} { // one, and those that ask
			pt.sleep(until.after*time.Millisecond - time.Since(began))
			if n := pt.dialer.count(); n != until.dials {
				t.Errorf("%d dials after %v, want %d", n, time.Since(began), until.dials)
			}
		}
		for _, r := range rides {
			r.wantWaiting()
		}
		pt.fake.Freeze(false)
		for _, r := range rides {
			r.wantReply(bulk("0"))
		}
		pt.wantState(pooler.StateUp)
		pt.wantEnds(4, 0, 0)
		pt.sleep(time.Second)
		if n := len(pt.pool.Stats().Closes); n != 0 {
			t.Errorf("connections were closed: %v", pt.pool.Stats().Closes)
		}
	})
}

func TestASlowRequestAtTheHeadIsGivenItsTime(t *testing.T) {
	bubble(t, pooler.Config{SharedConns: 2, SilenceAfter: silence, MaxOpenConns: 20}, func(pt *tester) {
		may, mayToo, mayNot := pt.silent(true)
		dials := pt.dialer.count()
		pt.sleep(5 * time.Second)
		for _, r := range []*ride{may, mayToo, mayNot} {
			r.wantWaiting()
		}
		// Once: a connection was opened every tenth of a second.
		if n := pt.dialer.count() - dials; n > 2 {
			t.Errorf("%d dials while it was waited for", n)
		}
		c := pt.fake.Conns()[0]
		c.SwallowReplies(false)
		c.Push([]byte(bulk("again") + bulk("again") + bulk("once")))
		for _, r := range []*ride{may, mayToo} {
			r.wantReply(bulk("again"))
		}
		mayNot.wantReply(bulk("once"))
		if n := pt.pool.Stats().Closes[pooler.CloseSilence]; n != 0 {
			t.Errorf("%d connections closed for silence", n)
		}
	})
}

func TestAConnectionThatSaysSomethingIsNotSilent(t *testing.T) {
	byHand(t, pooler.Config{SharedConns: 1, SilenceAfter: silence}, 0, func(pt *tester, h *hand) {
		sh := pt.share(pt.plain)
		w := h.wire(0)
		x := ask("GET", "0")
		x.Again = true
		r := pt.ride(sh, x)
		w.hear(r)
		reply := bulk("a slow line")
		for i := range len(reply) {
			r.wantWaiting()
			w.say(reply[i : i+1])
			pt.sleep(silence - time.Millisecond)
		}
		r.wantReply(reply)
		pt.wantDials(1)
	})
}

func TestARiderWhoseReplyHasBegunStaysWithASilentConnection(t *testing.T) {
	for _, said := range []string{"$5\r\nab", ">1\r\n+push\r\n"} {
		byHand(t, pooler.Config{SharedConns: 1, SilenceAfter: silence}, 0, func(pt *tester, h *hand) {
			sh := pt.share(pt.plain)
			w := h.wire(0)
			x := ask("GET", "0")
			x.Again = true
			r := pt.submit(sh, x)
			r.receive()
			other := pt.ride(sh, x)
			w.hear(r, other)
			w.say(said)
			go func() { // the probe's
				time.Sleep(5 * silence / 2)
				h.mu.Lock()
				p := h.wires[1]
				h.mu.Unlock()
				for range 2 { // asks twice
					_, _ = p.Read(make([]byte, 100))
					_, _ = p.Write([]byte("+PONG\r\n"))
				}
			}()
			pt.sleep(4 * silence)
			other.wantLost(true)
			if said[0] == '>' {
				r.wantLost(true) // a push is no part of a reply
			} else {
				r.wantWaiting()
				r.rider.Close()
			}
			pt.sleep(10 * time.Second)
		})
	}
}

// gone returns a pool's only lane when all that is said on it is lost from now on.
func (pt *tester) gone() *pooler.Lanes {
	pt.Helper()
	sh := pt.share(pt.plain)
	pt.fake.Conns()[0].SwallowReplies(true)
	return sh
}

// Once: what nobody was reading at a look was taken for having just spoken, so a
// caller whose tries are shorter than SilenceAfter had them all on a dead lane.
func TestASilenceLastsThoughNobodyReadsForAWhile(t *testing.T) {
	bubble(t, pooler.Config{SharedConns: 1, SilenceAfter: silence}, func(pt *tester) {
		sh := pt.gone()
		x := ask("ECHO", "0")
		x.Again = true
		left := pt.ride(sh, x)
		pt.sleep(silence * 3 / 4)
		left.rider.Close()
		pt.sleep(silence * 3 / 10) // it is looked at meanwhile
		r := pt.ride(sh, x).await()
		r.wantLost(true)
		if r.took > silence/2 {
			t.Errorf("it took %v more", r.took)
		}
		pt.sleep(5 * time.Second)
	})
}

func TestWhatNobodyHasReadIsNoSilence(t *testing.T) {
	bubble(t, pooler.Config{SharedConns: 1, SilenceAfter: silence}, func(pt *tester) {
		r := pt.submit(pt.share(pt.plain), ask("ECHO", "0"))
		pt.sleep(3 * silence)
		pt.wantDials(1)
		r.receive().wantReply(bulk("0"))
	})
}

// Once: a look for another reason, such as a caller's deadline, put the next look for
// silence off by half of SilenceAfter.
func TestALaneIsDoubtedWhenItsTimeIsOver(t *testing.T) {
	bubble(t, pooler.Config{SharedConns: 1, SilenceAfter: silence}, func(pt *tester) {
		sh := pt.gone()
		x := ask("ECHO", "0")
		x.Again = true
		r := pt.ride(sh, x)
		other := &ride{pt: pt, rider: pooler.NewRider(), x: x, size: 100, by: time.Now().Add(silence * 3 / 4), done: make(chan struct{})}
		other.begin(sh)
		other.await().wantErr(os.ErrDeadlineExceeded)
		other.rider.Close()
		if r.await().wantLost(true); r.took > silence*5/4 {
			t.Errorf("it took %v", r.took)
		}
		pt.sleep(5 * time.Second)
	})
}

// Once: a request that came to a silent lane during a look began its silence anew.
func TestARequestMoreDoesNotEndASilence(t *testing.T) {
	var during func()
	cfg := pooler.Config{SharedConns: 1, SilenceAfter: silence, OnEvent: func(ev pooler.Event) {
		if ev.Kind == pooler.EventSilent && during != nil {
			during() // the look goes on when that is over
			during = nil
		}
	}}
	bubble(t, cfg, func(pt *tester) {
		sh := pt.gone()
		x := ask("ECHO", "0")
		x.Again = true
		more := pooler.NewRider()
		during = func() {
			time.Sleep(time.Millisecond)
			_ = sh.Submit(more, x)
		}
		r := pt.ride(sh, x).await()
		r.wantLost(true)
		if r.took > silence*5/4 {
			t.Errorf("it took %v", r.took)
		}
		more.Close()
		pt.sleep(5 * time.Second)
	})
}
