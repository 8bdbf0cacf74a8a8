package pooler_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/pooler"
)

// many submits n exchanges that stay under way while the fake is frozen.
func (pt *tester) many(sh *pooler.Lanes, n int) []*ride {
	var rides []*ride
	for i := range n {
		r := pt.submit(sh, ask("ECHO", strconv.Itoa(i)))
		pt.settle()
		rides = append(rides, r)
	}
	return rides
}

// wantAll thaws the fake and says that all get their replies.
func (pt *tester) wantAll(rides []*ride) {
	pt.Helper()
	pt.fake.Freeze(false)
	pt.settle()
	for i, r := range rides {
		r.receive().wantReply(bulk(strconv.Itoa(i)))
	}
}

// load has as many callers at a time as often as it takes to open all the lanes that
// they get.
func (pt *tester) load(sh *pooler.Lanes, callers int) {
	pt.Helper()
	for range 8 {
		pt.fake.Freeze(true)
		pt.wantAll(pt.many(sh, callers))
	}
}

// perConn is how many ECHOs each connection has carried.
func (pt *tester) perConn() map[int64]int {
	counts := make(map[int64]int)
	for _, e := range pt.fake.Log() {
		if e.Args[0] == "ECHO" {
			counts[e.ConnID]++
		}
	}
	return counts
}

func TestFewCallersGetASharedConnectionEach(t *testing.T) {
	for conns := 1; conns <= 4; conns++ {
		bubble(t, pooler.Config{SharedConns: conns, SilenceAfter: -1}, func(pt *tester) {
			sh := pt.share(pt.plain)
			pt.load(sh, 1)
			pt.wantLanes(1)
			pt.load(sh, 2)
			pt.wantLanes(min(2, conns))
			pt.load(sh, 4)
			pt.wantLanes(conns)
			pt.fake.ResetLog()
			pt.fake.Freeze(true)
			pt.wantAll(pt.many(sh, conns))
			if n := pt.perConn(); len(n) != conns {
				t.Errorf("%d requests went to connections %v, want one to each", conns, n)
			}
			pt.wantDials(conns)
			pt.wantEnds(int64(8+16+32+conns), 0, 0)
		})
	}
}

// A server at its maxclients: what is there serves all kinds of requests, as with the
// stock client.
func TestALeaseGetsTheLaneThatCarriesNothingOfAServerThatAcceptsNoMore(t *testing.T) {
	bubble(t, pooler.Config{SilenceAfter: -1}, func(pt *tester) {
		s := session(1)
		sh := pt.share(s)
		pt.submit(sh, ask("PING")).receive().wantReply("+PONG\r\n")
		pt.fake.Handle("SELECT", func(*testkit.FakeConn, []string) []byte {
			return testkit.ReplyError("ERR max number of clients reached")
		})
		stream := pt.begin(pooler.Request{Session: s, Stream: true})
		pt.sleep(time.Second)
		stream.wantWaiting() // it would keep the lane
		pt.wantLanes(1)
		stream.cancel(context.Canceled)
		stream.await()
		c := pt.begin(pooler.Request{Session: s}).await().wantConn()
		pt.do(c, "PING")
		pt.wantLanes(0)
		pt.put(c)
	})
}

// A node that takes no new connection, while those that are open serve on: its endpoint
// was taken out of a load balancer, its name can't be looked up, this process is out of
// files. The stock pool's connections serve everything then.
func TestALeaseGetsALaneWhereNoNewConnectionIsToBeHad(t *testing.T) {
	timeout := &net.OpError{Op: "dial", Err: os.ErrDeadlineExceeded}
	for name, err := range map[string]error{
		"refused":              &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED},
		"no files":             &net.OpError{Op: "dial", Err: syscall.EMFILE},
		"accepted, and closed": io.EOF,
		"name":                 &net.OpError{Op: "dial", Err: &net.DNSError{Err: "i/o timeout", IsTimeout: true}},
		"a dialer's own":       errors.New("no tunnel"),
		"timeout":              timeout,
	} {
		for _, blocking := range []bool{false, true} {
			t.Run(name+", blocking "+strconv.FormatBool(blocking), func(t *testing.T) {
				bubble(t, pooler.Config{SharedConns: 2, SilenceAfter: -1}, func(pt *tester) {
					ping := func() { pt.submit(pt.share(pt.plain), ask("PING")).receive().wantReply("+PONG\r\n") }
					lanes := 1
					if blocking {
						lanes = 2 // the last one is for those who share
					}
					pt.load(pt.share(pt.plain), lanes)
					pt.wantLanes(lanes)
					pt.dialer.fail(err)
					lease := pt.begin(pooler.Request{Session: pt.plain, Blocking: blocking})
					pt.sleep(500 * time.Millisecond)
					if errors.Is(err, timeout) {
						lease.wantWaiting() // it may stand still
						pt.wantLanes(lanes)
						lease.cancel(context.Canceled)
						lease.await()
						return
					}
					c := lease.wantConn()
					pt.wantLanes(lanes - 1)
					pt.do(c, "PING")
					pt.put(c)
					ping()
				})
			})
		}
	}
}

// Commands that block have what there is but the lanes, and one more waits: that one gets no
// lane, but it isn't to keep others from one who need it for a moment. The stock pool has
// room for all.
func TestACommandThatBlocksKeepsNobodyElseFromALane(t *testing.T) {
	bubble(t, pooler.Config{MaxOpenConns: 3, SharedConns: 1, SilenceAfter: -1}, func(pt *tester) {
		pt.load(pt.share(pt.plain), 1)
		pt.wantLanes(1)
		blocking := pooler.Request{Session: pt.plain, Blocking: true}
		blocked := []*pooler.Conn{pt.begin(blocking).wantConn(), pt.begin(blocking).wantConn()}
		last := pt.begin(blocking)
		pt.sleep(time.Second)
		last.wantWaiting()
		pt.wantLanes(1)
		other := pt.begin(pooler.Request{Session: session(1)})
		pt.sleep(100 * time.Millisecond)
		c := other.wantConn()
		last.wantWaiting()
		pt.put(c)
		pt.put(blocked...)
		pt.put(last.wantConn())
	})
}

// One lane is left for those who share by commands that block.
func TestWhereNoNewConnectionIsToBeHadThoseWhoShareKeepALane(t *testing.T) {
	bubble(t, pooler.Config{SharedConns: 2, SilenceAfter: -1}, func(pt *tester) {
		sh := pt.share(pt.plain)
		pt.load(sh, 2)
		pt.wantLanes(2)
		pt.dialer.refuse(true)
		pt.fake.Freeze(true)
		rides := pt.many(sh, 2)
		blocking := pooler.Request{Session: pt.plain, Blocking: true}
		first, second := pt.begin(blocking), pt.begin(blocking)
		pt.sleep(200 * time.Millisecond)
		pt.fake.Freeze(false)
		for _, r := range rides {
			r.receive()
		}
		c := first.wantConn()
		pt.pool.Pin(c, "client-id")
		pt.sleep(200 * time.Millisecond)
		second.wantWaiting()
		pt.wantLanes(1)
		pt.submit(pt.share(pt.plain), ask("PING")).receive().wantReply("+PONG\r\n")
		pt.put(c)
		pt.sleep(200 * time.Millisecond)
		second.wantWaiting()
		second.cancel(context.Canceled)
		second.await()
	})
}

// Lanes come and go with the load. Once: each that came back was a new connection, and
// those of before stayed idle beside it.
func TestALaneThatComesBackIsAnIdleConnection(t *testing.T) {
	bubble(t, pooler.Config{SharedConns: 4, SilenceAfter: -1, HealthCheckInterval: time.Second}, func(pt *tester) {
		sh := pt.share(pt.plain)
		for range 5 {
			pt.load(sh, 2)
			pt.wantLanes(2)
			pt.load(sh, 4)
			pt.wantLanes(4)
			pt.wantDials(4)
			pt.sleep(5 * time.Second)
			pt.wantLanes(0)
			sh = pt.share(pt.plain)
		}
	})
}

// What has ended all connections together may end the next ones: few callers make do with
// those of many until the node has been calm for a while.
func TestFewCallersHaveNoMoreLanesThanManyJustAfterAllWereRetired(t *testing.T) {
	bubble(t, pooler.Config{SharedConns: 4, SilenceAfter: -1, HealthCheckInterval: time.Second}, func(pt *tester) {
		sh := pt.share(pt.plain)
		pt.load(sh, 4)
		pt.wantLanes(4)
		pt.fake.Handle("SET", func(*testkit.FakeConn, []string) []byte { return []byte(changes[0]) })
		c := pt.get(pt.plain)
		pt.do(c, "SET", "a", "b")
		pt.put(c)
		pt.wantRetired(1)
		sh = pt.share(pt.plain)
		pt.load(sh, 4)
		pt.wantLanes(2)
		pt.sleep(4 * time.Second)
		sh = pt.share(pt.plain)
		pt.load(sh, 4)
		pt.wantLanes(2)
		pt.sleep(2 * time.Second)
		sh = pt.share(pt.plain)
		pt.load(sh, 4)
		pt.wantLanes(4)
	})
}

func TestManyCallersShareAQuarterOfTheConnections(t *testing.T) {
	for conns, want := range map[int]int{1: 1, 2: 2, 4: 2, 8: 2, 12: 3} {
		bubble(t, pooler.Config{MaxOpenConns: 20, SharedConns: conns, SilenceAfter: -1, HealthCheckInterval: time.Second}, func(pt *tester) {
			sh := pt.share(pt.plain)
			rides := make([]*ride, 64)
			for i := range rides {
				rides[i] = &ride{pt: pt, rider: pooler.NewRider(), x: ask("ECHO", strconv.Itoa(i)), size: 64}
			}
			round := func(first int) {
				pt.fake.Freeze(true)
				for i := range rides {
					r := rides[(first+i)%len(rides)]
					if err := sh.Submit(r.rider, r.x); err != nil {
						t.Fatal(err)
					}
					pt.settle()
				}
				pt.fake.Freeze(false)
				for i, r := range rides {
					r.replies = nil
					r.receive().wantReply(bulk(strconv.Itoa(i)))
				}
			}
			for i := range 64 {
				round(i * 5)
			}
			pt.fake.ResetLog()
			round(1)
			if n := pt.perConn(); len(n) != want {
				t.Errorf("of %d connections those of many callers are %v, want %d", conns, n, want)
			}
			for range 4 {
				pt.sleep(time.Second)
				round(2)
			}
			pt.wantLanes(want) // the others were given back, and nobody wants them again
		})
	}
}

// A server that stands still would stand still on another connection too.
func TestAServerThatStandsStillGetsNoMoreConnections(t *testing.T) {
	bubble(t, pooler.Config{SharedConns: 4, SilenceAfter: time.Hour}, func(pt *tester) {
		sh := pt.share(pt.plain)
		pt.load(sh, 1)
		pt.fake.Freeze(true)
		var rides []*ride
		for range 20 {
			three := pt.many(sh, 3)
			three[2].rider.Close()
			rides = append(rides, three...)
			pt.sleep(100 * time.Millisecond)
		}
		pt.wantLanes(1)
		pt.wantDials(1)
		pt.fake.Freeze(false)
		pt.ride(sh, ask("ECHO", "last")).wantReply(bulk("last"))
		for _, r := range rides {
			r.rider.Close()
		}
	})
}

// However often it was wished for before: a server that fell silent since may stand still.
func TestAnotherConnectionIsOpenedWhenTheServerIsHeardAfterTheWish(t *testing.T) {
	bubble(t, pooler.Config{SharedConns: 2, SilenceAfter: time.Hour}, func(pt *tester) {
		sh := pt.share(pt.plain)
		pt.fake.Freeze(true)
		pt.wantAll(pt.many(sh, 2))
		pt.fake.Freeze(true)
		rides := pt.many(sh, 2)
		pt.wantDials(1)
		pt.wantAll(rides)
		pt.wantDials(2)
		pt.wantLanes(2)
	})
}

// Callers who have left are no reason for another connection.
func TestWhoHasLeftIsNoReasonForAnotherConnection(t *testing.T) {
	bubble(t, pooler.Config{SharedConns: 4, SilenceAfter: time.Hour}, func(pt *tester) {
		sh := pt.share(pt.plain)
		for range 20 {
			pt.fake.Freeze(true)
			pt.submit(sh, ask("ECHO", "0")).rider.Close()
			r := pt.ride(sh, ask("ECHO", "1"))
			pt.fake.Freeze(false)
			r.wantReply(bulk("1"))
		}
		pt.wantLanes(1)
		pt.wantDials(1)
		pt.load(sh, 2) // nor do they keep others from getting one
		pt.wantLanes(2)
	})
}

// Lanes that only spare few callers each other's company are for whoever needs them
// more.
func TestSpareLanesAreGivenToWhoeverWaits(t *testing.T) {
	bubble(t, pooler.Config{MaxOpenConns: 4, SilenceAfter: -1}, func(pt *tester) {
		sh := pt.share(pt.plain)
		pt.load(sh, 4)
		pt.wantLanes(3)
		a := pt.get(pt.plain)
		pt.wantLanes(3) // there was room for that
		b := pt.get(pt.plain)
		pt.wantLanes(2)
		pt.load(sh, 4)
		pt.wantLanes(2)
		pt.put(a, b)
		pt.sleep(pooler.Config{}.Limits().HealthCheckInterval + 1)
		pt.load(sh, 4)
		pt.wantLanes(3)
	})
}

func TestTwoSessionsLeaveAConnectionForLeases(t *testing.T) {
	bubble(t, pooler.Config{MaxOpenConns: 4, SharedConns: 2, SilenceAfter: -1}, func(pt *tester) {
		a, b := pt.share(session(1)), pt.share(session(2))
		pt.dialer.take(10 * time.Millisecond)
		for range 8 {
			pt.fake.Freeze(true)
			rides := append(pt.many(a, 2), pt.many(b, 2)...)
			pt.sleep(20 * time.Millisecond)
			pt.wantAll(rides[:2])
			pt.wantAll(rides[2:])
		}
		pt.wantLanes(3)
	})
}

func TestALaneIsNotOpenedWhereMaxOpenConnsLeavesNoneForLeases(t *testing.T) {
	bubble(t, pooler.Config{MaxOpenConns: 2, SharedConns: 2, SilenceAfter: -1}, func(pt *tester) {
		sh := pt.share(pt.plain)
		pt.fake.Freeze(true)
		rides := pt.many(sh, 50)
		pt.wantLanes(1)
		c := pt.get(pt.plain)
		pt.wantAll(rides)
		pt.put(c)
	})
}

func TestALaneThatNobodyUsesIsGivenBackAtTheSecondLook(t *testing.T) {
	bubble(t, pooler.Config{SharedConns: 1, HealthCheckInterval: time.Second}, func(pt *tester) {
		for range 3 {
			sh := pt.share(pt.plain)
			pt.ride(sh, ask("ECHO", "0")).wantReply(bulk("0"))
			pt.sleep(time.Second)
			pt.wantLanes(1)
			pt.sleep(time.Second + 1)
			pt.wantLanes(0)
			pt.wantIdle(1)
		}
		pt.wantDials(1)
		sh := pt.share(pt.plain)
		for range 10 { // while it is used it stays
			pt.sleep(700 * time.Millisecond)
			pt.ride(sh, ask("ECHO", "0")).wantReply(bulk("0"))
			pt.wantLanes(1)
		}
		c := pt.get(pt.plain) // a lease is another connection
		pt.wantDials(2)
		pt.put(c)
		pt.wantEnds(14, 0, 0)
	})
}

func TestALaneWithRequestsUnderWayIsNotGivenBack(t *testing.T) {
	bubble(t, pooler.Config{SharedConns: 1, HealthCheckInterval: time.Second, SilenceAfter: -1}, func(pt *tester) {
		sh := pt.share(pt.plain)
		pt.fake.Freeze(true)
		r := pt.ride(sh, ask("ECHO", "0"))
		pt.sleep(time.Minute)
		pt.wantLanes(1)
		next := pt.ride(sh, ask("ECHO", "1"))
		next.wantWaiting() // it takes requests
		pt.fake.Freeze(false)
		r.wantReply(bulk("0"))
		next.wantReply(bulk("1"))
	})
}

func TestConnMaxLifetimeDrainsALaneAndCutsNothing(t *testing.T) {
	byHand(t, pooler.Config{SharedConns: 1, ConnMaxLifetime: time.Minute, ConnMaxLifetimeJitter: -1, SilenceAfter: -1}, 0, func(pt *tester, h *hand) {
		sh := pt.share(pt.plain)
		w := h.wire(0)
		old := pt.ride(sh, ask("GET", "0"))
		w.hear(old)
		pt.sleep(2 * time.Minute)
		old.wantWaiting()
		if err := sh.Submit(pooler.NewRider(), ask("GET")); !errors.Is(err, pooler.ErrNotShared) {
			t.Errorf("Submit on a lane that drains: %v", err)
		}
		sh = pt.share(pt.plain)
		young := pt.ride(sh, ask("GET", "1"))
		h.wire(1).hear(young)
		pt.wantLanes(2)
		pt.sleep(30 * time.Second)
		w.say(":0\r\n")
		old.wantReply(":0\r\n")
		w.drain()
		pt.wantCloses(pooler.CloseLifetime, 1)
		pt.wantLanes(1)
		h.wire(1).say(":1\r\n")
		young.wantReply(":1\r\n")
		pt.wantEnds(2, 0, 0)
		if s := pt.pool.Stats(); s.Shared != 2 {
			t.Errorf("%d shared requests, want 2: the pool's own don't count", s.Shared)
		}
	})
}

func TestALaneThatDrainsAndDiesHasEndedItsOwnRequestsOnly(t *testing.T) {
	byHand(t, pooler.Config{SharedConns: 1, ConnMaxLifetime: time.Minute, ConnMaxLifetimeJitter: -1, SilenceAfter: -1}, 0, func(pt *tester, h *hand) {
		sh := pt.share(pt.plain)
		w := h.wire(0)
		answered, lost := pt.ride(sh, ask("GET", "0")), pt.ride(sh, ask("GET", "1"))
		w.hear(answered, lost)
		w.say(":0\r\n")
		answered.wantReply(":0\r\n")
		pt.sleep(2 * time.Minute)
		if s := pt.pool.Stats(); s.Shared != 2 || s.InFlight != 1 {
			t.Errorf("while it drains: %d shared requests, %d in flight; want 2 and 1", s.Shared, s.InFlight)
		}
		w.Reset()
		lost.wantLost(true)
		pt.wantEnds(1, 1, 0)
	})
}

func TestALaneWhoseUsersHaveAllLeftIsNotWaitedForLongerThanHealthCheckTimeout(t *testing.T) {
	byHand(t, pooler.Config{SharedConns: 1, SilenceAfter: -1, HealthCheckTimeout: time.Second}, 0, func(pt *tester, h *hand) {
		sh := pt.share(pt.plain)
		gone, stays := pt.submit(sh, ask("GET", "0")), pt.ride(sh, ask("GET", "0"))
		gone.rider.Close()
		pt.pool.Drain()
		pt.sleep(time.Minute)
		stays.wantWaiting()
		pt.wantOpen(1)
		stays.rider.Close()
		pt.sleep(2 * time.Second)
		pt.wantOpen(0)
		pt.wantCloses(pooler.CloseAbandoned, 1)
		pt.wantEnds(0, 0, 2)
	})
}

func TestDrainLetsALaneEndAndIsForgottenWhenItIsUsedAgain(t *testing.T) {
	byHand(t, pooler.Config{SharedConns: 1}, 0, func(pt *tester, h *hand) {
		sh := pt.share(pt.plain)
		r := pt.ride(sh, ask("GET", "0"))
		pt.pool.Drain()
		w := h.wire(0)
		w.hear(r)
		w.say(":0\r\n")
		r.wantReply(":0\r\n")
		w.drain()
		pt.wantCloses(pooler.CloseDrained, 1)
		pt.wantOpen(0)
		sh = pt.share(pt.plain)
		r = pt.ride(sh, ask("GET", "1"))
		w = h.wire(1)
		w.hear(r)
		w.say(":1\r\n")
		r.wantReply(":1\r\n")
	})
}

func TestAnIdleClientHasNoTimers(t *testing.T) {
	bubble(t, pooler.Config{SharedConns: 1, HealthCheckInterval: -1, ConnMaxIdleTime: -1}, func(pt *tester) {
		sh := pt.share(pt.plain)
		for range 3 {
			r := pt.submit(sh, ask("ECHO", "0"))
			r.by = time.Now().Add(time.Hour)
			r.receive().wantReply(bulk("0"))
		}
		pt.sleep(2 * time.Hour) // those that were set go off once
		if pt.pool.Watching() || pt.pool.Ticking() {
			t.Error("a timer runs")
		}
		dials := pt.dialer.count()
		pt.sleep(24 * time.Hour)
		if pt.dialer.count() != dials || pt.fake.Count("PING") != 0 {
			t.Error("an idle client has done something")
		}
	})
}

func TestALeaseGetsTheOnlyConnectionWhenItsLaneHasDrained(t *testing.T) {
	for _, conns := range []int{1, 2} {
		byHand(t, pooler.Config{MaxOpenConns: conns, SharedConns: 1, WaitTimeout: -1, SilenceAfter: -1}, 0, func(pt *tester, h *hand) {
			sh := pt.share(pt.plain)
			w := h.wire(0)
			r := pt.ride(sh, ask("GET", "0"))
			w.hear(r)
			var held []*pooler.Conn
			for range conns - 1 {
				held = append(held, pt.get(pt.plain))
				pt.pool.Pin(held[0], "transaction")
			}
			lease := pt.wait(pt.plain)
			pt.sleep(time.Second)
			lease.wantWaiting()
			w.say(":0\r\n")
			r.wantReply(":0\r\n")
			w.drain()
			c := lease.wantConn()
			pt.wantLanes(0)
			shared := make(chan *pooler.Lanes, 1)
			go func() { shared <- pt.share(pt.plain) }()
			pt.settle()
			if len(shared) > 0 {
				t.Fatal("Share has a connection that is leased")
			}
			pt.put(c)
			r = pt.ride(<-shared, ask("GET", "1"))
			w.hear(r)
			w.say(":1\r\n")
			r.wantReply(":1\r\n")
			for _, c := range held {
				pt.pool.Pin(c, "")
				pt.put(c)
			}
			pt.wantDials(conns)
		})
	}
}

func TestLeasesAndSharersOfAFullPoolTakeTurns(t *testing.T) {
	for _, conns := range []int{1, 2} {
		for _, sessions := range []int{1, 3} {
			bubble(t, pooler.Config{MaxOpenConns: conns, SharedConns: 1, WaitTimeout: 20 * time.Second}, func(pt *tester) {
				pt.dialer.take(time.Millisecond)
				pt.fake.Handle("ECHO", func(_ *testkit.FakeConn, args []string) []byte {
					time.Sleep(100 * time.Microsecond)
					return testkit.ReplyBulk(args[1])
				})
				var ss []*pooler.Session
				for db := range sessions {
					ss = append(ss, session(db))
				}
				const rounds = 20
				var wg sync.WaitGroup
				for i := range 20 {
					s := ss[i%sessions]
					wg.Go(func() {
						for range rounds {
							c, err := pt.tryGet(pooler.Request{Session: s, Name: "GET"})
							if err != nil {
								t.Errorf("Get: %v", err)
								return
							}
							if got, err := exchange(c, "ECHO", "lease"); err != nil || got != bulk("lease") {
								t.Errorf("received %q, %v", got, err)
							}
							pt.put(c)
						}
					})
					wg.Go(func() {
						for range rounds {
							r := &ride{pt: pt, rider: pooler.NewRider(), size: 100}
							err := pooler.ErrNotShared
							for errors.Is(err, pooler.ErrNotShared) {
								sh, serr := pt.pool.Share(context.Background(), pooler.Request{Session: s})
								if serr != nil {
									t.Errorf("Share: %v", serr)
									return
								}
								err = sh.Submit(r.rider, ask("ECHO", strconv.Itoa(i)))
							}
							if r.receiveAll(); r.err != nil || string(r.replies) != bulk(strconv.Itoa(i)) {
								t.Errorf("received %q, %v", r.replies, r.err)
							}
						}
					})
				}
				wg.Wait()
				pt.wantEnds(2*20*rounds, 0, 0)
			})
		}
	}
}

func TestWhoWantsTheConnectionOfALaneGetsItWhenItHasDrained(t *testing.T) {
	byHand(t, pooler.Config{MaxOpenConns: 5, SharedConns: 1}, 0, func(pt *tester, h *hand) {
		sh := pt.share(pt.plain)
		w := h.wire(0)
		r := pt.ride(sh, ask("GET", "0"))
		w.hear(r)
		wants := pt.begin(pooler.Request{Session: pt.plain, Want: r.rider.Conn()})
		wants.wantWaiting()
		// Others ride elsewhere from now on.
		other := pt.ride(pt.share(pt.plain), ask("GET", "1"))
		h.wire(1).hear(other)
		w.say(":0\r\n")
		r.wantReply(":0\r\n")
		w.drain()
		c := wants.wantConn()
		if c != r.rider.Conn() {
			t.Error("it is another connection")
		}
		h.wire(1).say(":1\r\n")
		other.wantReply(":1\r\n")
		pt.put(c)
		again := pt.begin(pooler.Request{Session: pt.plain, Want: c}) // it is idle now
		pt.put(again.wantConn())
	})
}

func TestAShareThatIsGivenUpIsAbandonedOnce(t *testing.T) {
	byHand(t, pooler.Config{MaxOpenConns: 1, SharedConns: 1, WaitTimeout: time.Second}, 0, func(pt *tester, _ *hand) {
		c := pt.get(pt.plain)
		_, err := pt.pool.Share(context.Background(), pooler.Request{Session: pt.plain})
		pt.wantErr(err, pooler.ErrWaitTimeout)
		pt.wantEnds(0, 1, 0)
		pt.put(c)
		pt.share(pt.plain)
		pt.wantEnds(1, 1, 0)
	})
	bubble(t, pooler.Config{SharedConns: -1}, func(pt *tester) {
		if sh, err := pt.pool.Share(context.Background(), pooler.Request{Session: pt.plain}); sh != nil || err != nil {
			t.Errorf("Share where it is off: %v, %v", sh, err)
		}
	})
}

// A lane that was just opened is kept for a moment: the requests that have waited for it get
// something of it. One that is older goes at once.
func TestALaneIsKeptForAMomentAlthoughARequestWaits(t *testing.T) {
	for name, c := range map[string]struct{ age, wait time.Duration }{
		"new": {wait: 5 * time.Millisecond},
		"old": {age: 5 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, pooler.Config{MaxOpenConns: 1}, func(pt *tester) {
				pt.share(pt.plain)
				pt.sleep(c.age)
				began := time.Now()
				pt.put(pt.get(pt.plain))
				if d := time.Since(began); d != c.wait {
					pt.Errorf("the lane was kept for %v, want %v", d, c.wait)
				}
			})
		})
	}
}

// blocking starts a Get for a command that blocks.
func (pt *tester) blocking() *pending {
	return pt.begin(pooler.Request{Session: pt.plain, Name: "BLPOP", Blocking: true})
}

// Any number of blocked callers, who may wait for long, must not hold up those who share:
// one connection serves all of them.
func TestWhoSharesGoesBeforeCommandsThatBlock(t *testing.T) {
	bubble(t, pooler.Config{MaxOpenConns: 2, SharedConns: 2}, func(pt *tester) {
		first, second, third := pt.blocking(), pt.blocking(), pt.blocking()
		third.wantWaiting()
		go func() { _, _ = pt.pool.Share(context.Background(), pooler.Request{Session: pt.plain}) }()
		pt.settle()
		pt.wantLanes(0)
		pt.put(first.wantConn())
		pt.settle()
		pt.wantLanes(1)
		pt.ride(pt.share(pt.plain), ask("ECHO", "a")).wantReply(bulk("a"))
		third.wantWaiting()
		pt.put(second.wantConn())
		pt.put(third.wantConn())
	})
}

// A lane goes to a request that doesn't block if commands that block have the other
// connections. When that is over they don't get it, too.
func TestCommandsThatBlockLeaveAConnectionToThoseWhoShare(t *testing.T) {
	bubble(t, pooler.Config{MaxOpenConns: 2, SharedConns: 2, HealthCheckInterval: time.Second}, func(pt *tester) {
		pt.ride(pt.share(pt.plain), ask("ECHO", "a")).wantReply(bulk("a"))
		first := pt.blocking()
		blocked := first.wantConn()
		watch := pt.begin(pooler.Request{Session: pt.plain, Name: "WATCH"})
		pt.sleep(10 * time.Millisecond)
		pt.wantLanes(0)
		second := pt.blocking()
		pt.put(watch.wantConn())
		pt.wantLanes(1)
		second.wantWaiting()
		pt.ride(pt.share(pt.plain), ask("ECHO", "b")).wantReply(bulk("b"))

		pt.sleep(2500 * time.Millisecond) // nobody shares any more
		pt.wantLanes(0)
		pt.put(second.wantConn(), blocked)
	})
}
