package pooler_test

import (
	"context"
	"errors"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/everpool/everpool/pooler"
)

func TestWhenTheConnectionDiesEveryRiderIsToldAndTheNextGetsANewOne(t *testing.T) {
	for _, death := range []struct {
		name, said string // by the server, before
		how        func(w *lineEnd)
		reason     pooler.CloseReason
	}{
		{"EOF", "", func(w *lineEnd) { _ = w.CloseWrite() }, pooler.ClosePeer},
		{"EOF in a reply", "$5\r\nab", func(w *lineEnd) { _ = w.CloseWrite() }, pooler.ClosePeer},
		{"reset", "", func(w *lineEnd) { w.Reset() }, pooler.CloseRead},
		{"reset in a reply", "*2\r\n:1\r\n", func(w *lineEnd) { w.Reset() }, pooler.CloseRead},
		{"garbage", "what?\r\n", func(*lineEnd) {}, pooler.CloseProtocol},
		{"garbage in a reply", "*2\r\n:1\r\n:x", func(*lineEnd) {}, pooler.CloseProtocol},
	} {
		for parked := range 4 {
			t.Run(death.name+" "+strconv.Itoa(parked), func(t *testing.T) {
				byHand(t, pooler.Config{SharedConns: 1}, 0, func(pt *tester, h *hand) {
					sh := pt.share(pt.plain)
					w := h.wire(0)
					var rides []*ride
					for i := range 4 {
						rides = append(rides, pt.submit(sh, ask("GET", strconv.Itoa(i))))
					}
					for _, r := range rides[3-parked:] {
						r.receive()
					}
					w.hear(rides...)
					w.say(":0\r\n" + death.said)
					death.how(w)
					pt.settle()
					for i, r := range rides {
						if i < 3-parked {
							r.receive()
						}
						if i == 0 {
							r.wantReply(":0\r\n")
							continue
						}
						r.wantLost(true)
						if got := string(r.replies); !strings.HasPrefix(death.said, got) || i > 1 && got != "" {
							t.Errorf("rider %d has received %q", i, got)
						}
					}
					pt.wantCloses(death.reason, 1)
					pt.wantEnds(1, 3, 0)
					sh = pt.share(pt.plain)
					for i, r := range rides[1:] { // they may go on
						r.rider.Forgive()
						if err := sh.Submit(r.rider, r.x); err != nil {
							t.Fatal(err)
						}
						r.replies = nil
						w = h.wire(1)
						w.hear(r)
						w.say(bulk(strconv.Itoa(i)))
						r.receive().wantReply(bulk(strconv.Itoa(i)))
					}
					pt.wantEnds(4, 3, 0)
				})
			})
		}
	}
}

func TestAReplyThatNoRiderAskedForEndsTheConnection(t *testing.T) {
	byHand(t, pooler.Config{SharedConns: 1}, 0, func(pt *tester, h *hand) {
		sh := pt.share(pt.plain)
		w := h.wire(0)
		r := pt.ride(sh, ask("GET", "0"))
		w.hear(r)
		w.say(":0\r\n:1\r\n")
		r.wantReply(":0\r\n")
		next := pt.ride(sh, ask("GET", "2"))
		if next.ended() {
			next.wantErr(pooler.ErrNotShared) // or it never gets there
		} else {
			t.Error("the next request was sent")
		}
		pt.wantCloses(pooler.CloseUnasked, 1)
		pt.wantEnds(1, 0, 0)
	})
}

func TestOnASocketWhatCameWhileIdleIsSeenBeforeTheNextRequest(t *testing.T) {
	for _, said := range []string{":666\r\n", ""} { // or the peer has closed it
		srv, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer srv.Close()
		pool, err := pooler.New(pooler.Node{Network: "tcp", Addr: srv.Addr().String(), Dial: (&net.Dialer{}).DialContext}, pooler.Config{})
		if err != nil {
			t.Fatal(err)
		}
		defer pool.Close()
		session := pooler.NewSession()
		sh, err := pool.Share(t.Context(), pooler.Request{Session: session})
		if err != nil {
			t.Fatal(err)
		}
		peer, err := srv.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if _, err = peer.Write([]byte(said)); err != nil {
			t.Fatal(err)
		}
		_ = peer.(*net.TCPConn).CloseWrite()
		// On loopback it is there when Write returns.
		if err = sh.Submit(pooler.NewRider(), ask("GET")); !errors.Is(err, pooler.ErrNotShared) {
			t.Errorf("the peer has said %q; Submit: %v, want ErrNotShared", said, err)
		}
		peer.Close()
	}
}

func TestWhatWasProvablyNeverWrittenHasNotRun(t *testing.T) {
	for _, death := range []string{"read", "write", "close"} {
		for _, receiving := range []bool{false, true} {
			byHand(t, pooler.Config{SharedConns: 1, HealthCheckTimeout: time.Second}, 16, func(pt *tester, h *hand) {
				sh := pt.share(pt.plain)
				w := h.wire(0)
				writer := pt.submitting(sh, ask("SET", "a", "that is longer than the buffer"))
				var rides []*ride
				for i := range 3 {
					r := pt.submitting(sh, ask("SET", "b", strconv.Itoa(i)))
					r.wantSubmitted()
					if rides = append(rides, r); receiving {
						r.receive()
					}
				}
				switch death {
				case "read":
					w.say("?")
				case "write":
					w.Reset()
				case "close":
					_ = pt.pool.Close()
				}
				for _, r := range rides {
					if !receiving {
						r.receive()
					}
					r.wantLost(false)
				}
				// What nobody has read the end of may have been written whole.
				writer.wantSubmitted()
				switch writer.receive().wantErr(pooler.ErrLost); {
				case death == "read":
					writer.wantLost(true)
				case death == "write" && !receiving:
					writer.wantLost(false) // its own error says how much was
				}
			})
		}
	}
}

func TestOfWhatWasWrittenTogetherOnlyThatHasRunWhichWasWrittenWhole(t *testing.T) {
	byHand(t, pooler.Config{SharedConns: 1}, 16, func(pt *tester, h *hand) {
		sh := pt.share(pt.plain)
		w := h.wire(0)
		writer := pt.submitting(sh, ask("SET", "a", "that is longer than the buffer"))
		var rides []*ride
		for i := range 4 {
			x := pipeline([]string{"SET", "b", strconv.Itoa(i)}, []string{"GET", "b"})
			rides = append(rides, pt.submitting(sh, x))
		}
		w.hear(writer, rides[0]) // and 16 bytes of the next, not even its first command
		w.Reset()
		writer.receive().wantLost(true)
		rides[0].receive().wantLost(true)
		for _, r := range rides[1:] {
			r.receive().wantLost(false)
		}
	})
	byHand(t, pooler.Config{SharedConns: 1}, 64, func(pt *tester, h *hand) {
		sh := pt.share(pt.plain)
		w := h.wire(0)
		writer := pt.submitting(sh, ask("SET", "a", strings.Repeat("that is longer than the buffer", 3)))
		half := pt.submitting(sh, pipeline([]string{"SET", "b", "1"}, []string{"SET", "c", strings.Repeat("long", 100)}))
		w.hear(writer) // and the first command of the next
		w.Reset()
		writer.receive().wantLost(true)
		half.receive().wantLost(true)
	})
}

func TestAPipelineOfWhichPartWasAnsweredHasRun(t *testing.T) {
	byHand(t, pooler.Config{SharedConns: 1, SilenceAfter: -1}, 32, func(pt *tester, h *hand) {
		sh := pt.share(pt.plain)
		w := h.wire(0)
		r := pt.submit(sh, ask("GET", "0"))
		other := pt.submitting(sh, ask("GET", "1"))
		w.hear(r, other)
		other.receive()
		w.say(":0\r\n:1\r\n")
		other.wantReply(":1\r\n")
		// The second half of a pipeline, as it were: the first is answered, and its
		// rider hasn't read that yet. Of the second nothing is written whole.
		x := ask("SET", "a", strings.Repeat("that is longer than the buffer", 3))
		x.Follows = true
		go func() {
			time.Sleep(time.Second)
			w.Reset()
		}()
		if err := sh.Submit(r.rider, x); err != nil {
			t.Fatal(err)
		}
		r.receive().wantLost(true)
		if got := string(r.replies); got != ":0\r\n" {
			t.Errorf("received %q", got)
		}
	})
}

func TestARiderThatGoesOnAtOnceAfterALossIsNotLostAgain(t *testing.T) {
	// It has two exchanges on the connection, far apart.
	for range 20 {
		bubble(t, pooler.Config{SharedConns: 2}, func(pt *tester) {
			sh := pt.share(pt.plain)
			pt.load(sh, 2)
			pt.ride(sh, ask("ECHO", "0")).wantReply(bulk("0")) // the next one's turn is the first lane
			pt.fake.Freeze(true)
			r := pt.submit(sh, ask("ECHO", "1"))
			home := r.rider.Conn()
			var others, elsewhere []*ride
			for range 2000 {
				if o := pt.submit(sh, ask("ECHO", "x")); o.rider.Conn() == home {
					others = append(others, o)
				} else {
					elsewhere = append(elsewhere, o)
				}
				pt.settle()
			}
			x := ask("ECHO", "2")
			x.Follows = true
			if err := sh.Submit(r.rider, x); err != nil {
				t.Fatal(err)
			}
			for _, o := range others {
				o.begun() // those have to be woken, which takes its time
			}
			var wg sync.WaitGroup
			wg.Go(func() {
				if r.receiveAll(); !errors.Is(r.err, pooler.ErrLost) {
					t.Errorf("received %q, %v", r.replies, r.err)
				}
				r.rider.Forgive()
				if err := sh.Submit(r.rider, ask("ECHO", "3")); err != nil {
					t.Errorf("Submit: %v", err)
					return
				}
				// Once: it is told of the loss of its second exchange when it is on
				// another connection already.
				if r.receiveAll(); r.err != nil || string(r.replies) != bulk("3") {
					t.Errorf("after the loss: received %q, %v", r.replies, r.err)
				}
			})
			pt.settle()
			pt.fake.Conns()[0].ResetNow()
			pt.fake.Freeze(false)
			wg.Wait()
			for _, o := range append(others, elsewhere...) {
				o.rider.Close()
			}
			pt.sleep(time.Second)
		})
		if t.Failed() {
			return
		}
	}
}

func TestPoolCloseLetsRequestsOnASharedConnectionEndAndThenEndsThem(t *testing.T) {
	byHand(t, pooler.Config{HealthCheckTimeout: time.Second}, 0, func(pt *tester, h *hand) {
		sh := pt.share(pt.plain)
		r := pt.ride(sh, ask("GET", "0"))
		closed := pt.closing()
		if closed() {
			t.Error("Close has cut a request")
		}
		w := h.wire(0)
		w.hear(r)
		w.say(":0\r\n")
		r.wantReply(":0\r\n")
		w.drain()
		if !closed() {
			t.Error("Close waits though all is answered")
		}
		if err := sh.Submit(pooler.NewRider(), ask("GET")); !errors.Is(err, pooler.ErrNotShared) {
			t.Errorf("Submit after Close: %v", err)
		}
		_, err := pt.pool.Share(context.Background(), pooler.Request{Session: pt.plain})
		pt.wantErr(err, pooler.ErrClosed)
		pt.wantEnds(1, 1, 0)
	})
	for _, frozen := range []bool{false, true} { // it answers never
		for range 20 {
			bubble(t, pooler.Config{SharedConns: 2, HealthCheckTimeout: time.Second}, func(pt *tester) {
				sh := pt.share(pt.plain)
				pt.fake.Freeze(true)
				var rides []*ride
				for range 30 {
					rides = append(rides, pt.ride(sh, ask("ECHO", "x")))
				}
				closed := pt.closing()
				closed()
				if !frozen {
					pt.fake.Freeze(false)
				}
				pt.sleep(time.Second)
				if !closed() {
					t.Fatal("Close waits for ever")
				}
				for _, r := range rides {
					if frozen {
						r.wantLost(true)
					} else {
						r.wantReply(bulk("x"))
					}
				}
				if frozen {
					pt.wantEnds(0, 30, 0)
				}
				pt.fake.Freeze(false)
			})
		}
	}
}
