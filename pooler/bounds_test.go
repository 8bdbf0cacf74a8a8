package pooler_test

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/everpool/everpool/pooler"
)

func TestConnectionsAndDialsNeverExceedMaxOpenConnsInAStorm(t *testing.T) {
	for seed := range uint64(10) {
		cfg := pooler.Config{MaxOpenConns: 5, MinIdleConns: 2, MaxIdleConns: 3, ConnMaxLifetime: 200 * time.Millisecond, FailFastAfter: -1}
		bubble(t, cfg, func(pt *tester) {
			pt.dialer.take(3 * time.Millisecond)
			sessions := []*pooler.Session{pt.plain, session(1), session(2), session(3)}
			var wg sync.WaitGroup
			for g := range uint64(30) {
				wg.Go(func() { pt.storm(rand.New(rand.NewPCG(seed, g)), sessions) })
			}
			for pt.pool.Stats().Admitted < 30*50 && !t.Failed() {
				pt.sleep(101 * time.Microsecond)
				if n := pt.dialer.occupied(); n > 5 {
					t.Errorf("seed %d: %d sockets and dials at a time, want at most 5", seed, n)
				}
			}
			wg.Wait()
			if pt.dialer.count() < 20 {
				t.Errorf("seed %d: only %d dials: not much of a storm", seed, pt.dialer.count())
			}
		})
	}
}

// storm does what users do, well and badly, for a while.
func (pt *tester) storm(r *rand.Rand, sessions []*pooler.Session) {
	for range 50 {
		time.Sleep(time.Duration(r.IntN(5000)) * time.Microsecond)
		c, err := pt.tryGet(pooler.Request{
			Session:  sessions[r.IntN(len(sessions))],
			Deadline: time.Now().Add(time.Duration(r.IntN(100)) * time.Millisecond),
		})
		if s := pt.pool.Stats(); s.OpenConnections+s.Dialing > 5 {
			pt.Errorf("%d open and %d being dialed, want at most 5 together", s.OpenConnections, s.Dialing)
		}
		if err != nil {
			continue
		}
		switch r.IntN(10) {
		case 0:
			pt.send(c, "ECHO", "late")
			pt.abandon(c)
		case 1:
			c.Fail(pooler.CloseRead, pooler.ErrProtocol)
			pt.fail(c)
		case 2:
			pt.pool.Pin(c, "transaction")
			time.Sleep(time.Duration(r.IntN(20)) * time.Millisecond)
			pt.put(c)
		case 3:
			c.Fail(pooler.CloseRead, pooler.ErrProtocol)
			if c, err = pt.pool.Replace(context.Background(), c, pooler.Request{Session: sessions[0]}, pooler.Resend); err == nil {
				pt.put(c)
			}
		default:
			if got, err := exchange(c, "ECHO", "hi"); err != nil || got != "$2\r\nhi\r\n" {
				pt.Errorf("ECHO: %q, %v", got, err)
			}
			time.Sleep(time.Duration(r.IntN(2000)) * time.Microsecond)
			pt.put(c)
		}
	}
}

func TestNoMoreThanMaxIdleConnsStayIdle(t *testing.T) {
	bubble(t, pooler.Config{MaxOpenConns: 5, MaxIdleConns: 2}, func(pt *tester) {
		pt.fill(pt.plain, 5)
		pt.wantIdle(2)
		pt.wantCloses(pooler.CloseMaxIdle, 3)
		if s := pt.pool.Stats(); s.MaxIdleClosed != 3 {
			t.Errorf("MaxIdleClosed is %d, want 3", s.MaxIdleClosed)
		}
	})
	bubble(t, pooler.Config{MaxOpenConns: 5, MaxIdleConns: -1}, func(pt *tester) {
		pt.fill(pt.plain, 5)
		pt.wantOpen(0)
	})
}

func TestMinIdleConnsAreOpenedAndRefilled(t *testing.T) {
	bubble(t, pooler.Config{MaxOpenConns: 5, MinIdleConns: 3}, func(pt *tester) {
		s := session(1)
		pt.settle()
		pt.wantDials(0) // not before the first request
		pt.fill(s, 1)
		pt.wantIdle(3)
		c1, c2 := pt.get(s), pt.get(s)
		pt.wantIdle(3)
		c3 := pt.get(s)
		pt.wantIdle(2) // MaxOpenConns
		pt.put(c1, c2, c3)
		for range 3 {
			c := pt.get(s)
			c.Fail(pooler.CloseRead, pooler.ErrProtocol)
			pt.fail(c)
			pt.settle()
		}
		pt.wantIdle(3)
	})
}

func TestStreamsDoNotCountForMaxOpenConns(t *testing.T) {
	bubble(t, pooler.Config{MaxOpenConns: 1}, func(pt *tester) {
		var streams []*pooler.Conn
		for range 3 {
			c := pt.get(pt.plain)
			c.SetMode(pooler.Stream)
			pt.pool.Pin(c, "subscribed")
			streams = append(streams, c)
		}
		c := pt.get(pt.plain)
		w := pt.wait(pt.plain)
		if s := pt.pool.Stats(); s.Streams != 3 || s.Pinned != 3 || s.OpenConnections != 4 || s.Pins["subscribed"] != 3 {
			t.Errorf("stats are %+v", s)
		}
		pt.put(streams[0])
		w.wantWaiting() // a stream that ends makes no room: it had none
		pt.put(c)
		pt.put(w.wantConn())
		pt.put(streams[1:]...)
		pt.wantCloses(pooler.CloseState, 3)
		pt.wantOpen(1)
	})
}

func TestAPinnedConnectionIsClosedWhenItComesBack(t *testing.T) {
	bubble(t, pooler.Config{MaxOpenConns: 1}, func(pt *tester) {
		c := pt.get(pt.plain)
		pt.pool.Pin(c, "watch")
		w := pt.wait(pt.plain)
		pt.put(c)
		fresh := w.wantConn()
		if fresh == c {
			t.Fatal("the pinned connection serves somebody else")
		}
		pt.pool.Pin(fresh, "watch")
		pt.pool.Pin(fresh, "") // UNWATCH
		pt.put(fresh)
		pt.wantIdle(1)
	})
}

func TestUnboundedMeansUnbounded(t *testing.T) {
	bubble(t, pooler.Config{MaxOpenConns: -1}, func(pt *tester) {
		pt.fill(pt.plain, 200)
		pt.wantIdle(200)
		if got := pt.pool.Stats().MaxOpenConnections; got != -1 {
			t.Errorf("MaxOpenConnections is %d, want -1", got)
		}
	})
}

// As on the stock pool, where a full pool doesn't keep subscriptions from being made.
func TestAStreamWaitsForNoRoom(t *testing.T) {
	bubble(t, pooler.Config{MaxOpenConns: 2}, func(pt *tester) {
		other := session(1)
		a, b := pt.get(pt.plain), pt.get(other)
		before := pt.wait(pt.plain)
		elsewhere := pt.wait(other)
		for range 2 {
			c, err := pt.tryGet(pooler.Request{Session: pt.plain, Stream: true})
			if err != nil {
				t.Fatal(err)
			}
			if s := pt.pool.Stats(); s.Streams != 1 || s.OpenConnections != 3 {
				t.Errorf("%d streams, %d connections open; want 1 and 3", s.Streams, s.OpenConnections)
			}
			pt.put(c) // no stream has come of it
			if c.Err() == nil {
				t.Error("it takes room that isn't there")
			}
		}
		before.wantWaiting()
		elsewhere.wantWaiting()
		c, err := pt.tryGet(pooler.Request{Session: other, Stream: true})
		if err != nil {
			t.Fatal(err)
		}
		c.SetMode(pooler.Stream)
		pt.pool.Pin(c, "subscribed")
		if s := pt.pool.Stats(); s.Streams != 1 || s.Pinned != 1 {
			t.Errorf("%d streams, %d pinned; want 1 and 1", s.Streams, s.Pinned)
		}
		pt.put(a, b)
		pt.put(before.wantConn(), elsewhere.wantConn(), c)
		pt.wantOpen(2)
	})
}

// Where there is room it has its turn: a thousand that come again after a restart keep
// nobody waiting.
func TestAStreamOvertakesNobodyWhereThereIsRoom(t *testing.T) {
	bubble(t, pooler.Config{MaxOpenConns: 2}, func(pt *tester) {
		a := pt.get(pt.plain)
		pt.fake.HangDials(true)
		first := pt.wait(pt.plain)
		stream := pt.begin(pooler.Request{Session: pt.plain, Stream: true})
		pt.put(a)
		c := first.wantConn()
		stream.wantWaiting()
		pt.fake.HangDials(false)
		pt.sleep(time.Second)
		pt.put(c, stream.wantConn())
	})
}
