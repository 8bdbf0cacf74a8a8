package pooler_test

import (
	"sync"
	"testing"
	"time"

	"github.com/everpool/everpool/pooler"
)

// closing starts a Close on a goroutine of its own.
func (pt *tester) closing() (done func() bool) {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := pt.pool.Close(); err != nil {
			pt.Errorf("Close: %v", err)
		}
	}()
	return func() bool {
		pt.settle()
		select {
		case <-ended:
			return true
		default:
			return false
		}
	}
}

func TestGetAfterCloseFailsWithErrClosed(t *testing.T) {
	bubble(t, pooler.Config{}, func(pt *tester) {
		pt.fill(pt.plain, 3)
		for range 3 {
			if err := pt.pool.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
		}
		e := pt.wantGetErr(pt.plain, pooler.ErrClosed)
		if e.Node != addr {
			t.Errorf("node is %q", e.Node)
		}
		pt.wantOpen(0)
		pt.wantCloses(pooler.ClosePoolClosed, 3)
		if n := pt.dialer.live(); n != 0 {
			t.Errorf("%d sockets after Close", n)
		}
	})
}

func TestCloseFailsThoseWhoWait(t *testing.T) {
	bubble(t, pooler.Config{MaxOpenConns: 1, WaitTimeout: -1}, func(pt *tester) {
		c := pt.get(pt.plain)
		w1, w2 := pt.wait(pt.plain), pt.wait(session(1))
		closed := pt.closing()
		closed()
		w1.wantErr(pooler.ErrClosed)
		w2.wantErr(pooler.ErrClosed)
		pt.put(c)
		if !closed() {
			t.Error("Close still waits")
		}
	})
}

func TestCloseWaitsForLeasesForHealthCheckTimeout(t *testing.T) {
	bubble(t, pooler.Config{HealthCheckTimeout: time.Second}, func(pt *tester) {
		c := pt.get(pt.plain)
		closed := pt.closing()
		pt.sleep(500 * time.Millisecond)
		if closed() {
			t.Fatal("Close has cut a request")
		}
		pt.do(c, "PING")
		pt.put(c)
		if !closed() {
			t.Fatal("Close waits though all is returned")
		}
	})
	bubble(t, pooler.Config{HealthCheckTimeout: time.Second}, func(pt *tester) {
		c := pt.get(pt.plain)
		closed := pt.closing()
		pt.sleep(time.Second)
		if !closed() {
			t.Fatal("Close waits for ever")
		}
		if _, err := exchange(c, "PING"); err == nil {
			t.Error("the connection works after Close")
		}
		pt.fail(c)
	})
}

func TestCloseEndsBlockingAndPinnedLeasesAtOnce(t *testing.T) {
	bubble(t, pooler.Config{}, func(pt *tester) {
		blocking, err := pt.tryGet(pooler.Request{Session: pt.plain, Name: "BLPOP", Blocking: true})
		if err != nil {
			t.Fatal(err)
		}
		stream := pt.get(pt.plain)
		stream.SetMode(pooler.Stream)
		pt.pool.Pin(stream, "subscribed")
		var wg sync.WaitGroup
		for _, c := range []*pooler.Conn{blocking, stream} {
			pt.send(c, "BLPOP", "q", "0")
			wg.Go(func() {
				if _, err := receive(c, time.Time{}); err == nil {
					t.Error("a reply")
				}
			})
		}
		pt.settle()
		began := time.Now()
		_ = pt.pool.Close()
		wg.Wait()
		if time.Since(began) != 0 {
			t.Errorf("it took %s", time.Since(began))
		}
		pt.fail(blocking, stream)
	})
}

func TestCloseDoesNotWaitForDialsThatHang(t *testing.T) {
	for _, down := range []bool{false, true} {
		bubble(t, pooler.Config{DialTimeout: time.Hour, WaitTimeout: -1}, func(pt *tester) {
			pt.dialer.deaf = true
			if down {
				pt.fake.DownRefused()
				w := pt.wait(pt.plain)
				pt.dialer.hold(true)
				w.await().wantErr(pooler.ErrNodeDown)
			} else {
				pt.dialer.hold(true)
				pt.begin(pooler.Request{Session: pt.plain, Deadline: time.Now().Add(time.Second)}).await().wantErr(pooler.ErrWaitTimeout)
			}
			pt.dialer.wantHeld(1)
			began := time.Now()
			_ = pt.pool.Close()
			if time.Since(began) > time.Second {
				t.Errorf("Close took %s", time.Since(began))
			}
			pt.fake.Up()
			pt.dialer.wantDial().finish(nil) // too late: it is closed
			pt.sleep(time.Second)
			if n := pt.dialer.live(); n != 0 {
				t.Errorf("%d sockets after Close", n)
			}
		})
	}
}

func TestCloseDoesNotWaitForAReplayThatHangs(t *testing.T) {
	bubble(t, pooler.Config{DialTimeout: time.Hour}, func(pt *tester) {
		pt.fake.Freeze(true)
		w := pt.wait(session(1))
		began := time.Now()
		_ = pt.pool.Close()
		if time.Since(began) > time.Second {
			t.Errorf("Close took %s", time.Since(began))
		}
		w.wantErr(pooler.ErrClosed)
		pt.fake.Freeze(false)
	})
}

func TestEveryCloseReturnsOnlyWhenAllIsClosed(t *testing.T) {
	bubble(t, pooler.Config{HealthCheckTimeout: time.Minute}, func(pt *tester) {
		c := pt.get(pt.plain)
		first := pt.closing()
		first()
		others := []func() bool{pt.closing(), pt.closing()}
		for _, closed := range others {
			if closed() {
				t.Error("a second Close returned before the first")
			}
		}
		pt.put(c)
		for _, closed := range append(others, first) {
			if !closed() {
				t.Error("Close still waits")
			}
		}
	})
}

func TestCloseInAStormLeavesNothing(t *testing.T) {
	for range 20 {
		bubble(t, pooler.Config{MaxOpenConns: 3, MinIdleConns: 1}, func(pt *tester) {
			pt.dialer.take(time.Millisecond)
			var wg sync.WaitGroup
			for i := range 20 {
				s := session(i % 3)
				wg.Go(func() {
					for {
						c, err := pt.tryGet(pooler.Request{Session: s})
						if err != nil {
							pt.wantErrors(err, pooler.ErrClosed)
							return
						}
						_, err = exchange(c, "PING")
						time.Sleep(time.Microsecond)
						if err != nil {
							pt.fail(c)
						} else {
							pt.put(c)
						}
					}
				})
			}
			pt.sleep(10 * time.Millisecond)
			for range 3 {
				wg.Go(func() { _ = pt.pool.Close() })
			}
			wg.Wait()
		})
	}
}
