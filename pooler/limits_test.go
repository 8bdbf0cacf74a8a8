package pooler_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/everpool/everpool/pooler"
)

func TestNoMoreDialsRunAtATimeThanMaxConcurrentDials(t *testing.T) {
	for limit, want := range map[int]int{0: 16, -1: 16, 3: 3, 1: 1} {
		bubble(t, pooler.Config{MaxOpenConns: 20, MaxConcurrentDials: limit, WaitTimeout: -1}, func(pt *tester) {
			pt.dialer.take(10 * time.Millisecond)
			var line []*pending
			for range 20 {
				line = append(line, pt.wait(pt.plain))
			}
			for _, w := range line {
				defer func() { pt.put(w.conn) }()
				if err := w.await().err; err != nil {
					t.Error(err)
				}
			}
			if most := pt.dialer.peak(); most > want || limit == 0 && most < 5 {
				t.Errorf("MaxConcurrentDials %d: %d dials at a time", limit, most)
			}
		})
	}
}

// Clients share a pool, each with a timeout of its own.
func TestARequestsOwnWaitTimeoutHoldsInThePlaceOfThePools(t *testing.T) {
	const pools = time.Second
	for own, want := range map[time.Duration]time.Duration{
		0:                      pools,
		200 * time.Millisecond: 200 * time.Millisecond,
		3 * time.Second:        3 * time.Second,
		-1:                     time.Minute, // only the deadline
	} {
		bubble(t, pooler.Config{MaxOpenConns: 1, WaitTimeout: pools}, func(pt *tester) {
			c := pt.get(pt.plain)
			w := pt.begin(pooler.Request{Session: pt.plain, WaitTimeout: own, Deadline: time.Now().Add(time.Minute)})
			e := w.await().wantErr(pooler.ErrWaitTimeout)
			if w.took != want || e.Waited != want {
				t.Errorf("WaitTimeout %v: it waited for %v, want %v", own, w.took, want)
			}
			pt.put(c)
		})
	}
}

// A request's own WaitTimeout is about a full pool, as PoolTimeout is of the stock pool:
// neither a dial that takes longer nor an outage is one. Its deadline ends both.
func TestARequestsOwnWaitTimeoutIsOfAFullPool(t *testing.T) {
	const own, deadline = 100 * time.Millisecond, 5050 * time.Millisecond
	type end struct {
		conn *pooler.Conn
		err  error
		took time.Duration
	}
	for _, shared := range []bool{false, true} {
		// begin has a request wait.
		begin := func(pt *tester) <-chan end {
			ended := make(chan end, 1)
			began := time.Now()
			r := pooler.Request{Session: pt.plain, WaitTimeout: own, Deadline: began.Add(deadline)}
			go func() {
				var e end
				if shared {
					_, e.err = pt.pool.Share(context.Background(), r)
				} else {
					e.conn, e.err = pt.pool.Get(context.Background(), r)
				}
				e.took = time.Since(began)
				ended <- e
			}()
			pt.settle()
			return ended
		}
		want := func(pt *tester, what string, ended <-chan end, took time.Duration, err error) {
			pt.Helper()
			e := <-ended
			if e.conn != nil {
				defer pt.put(e.conn)
			}
			if e.took != took || !errors.Is(e.err, err) {
				pt.Errorf("shared %t, %s: error %v after %v, want %v after %v", shared, what, e.err, e.took, err, took)
			}
		}
		cfg := pooler.Config{MaxOpenConns: 2, SharedConns: 1, MaxConcurrentDials: 1, FailFastAfter: time.Minute}
		bubble(t, cfg, func(pt *tester) {
			pt.dialer.take(time.Second)
			first, second := begin(pt), begin(pt)
			want(pt, "the first of two dials", first, time.Second, nil)
			want(pt, "the second", second, time.Second, nil)
			pt.sleep(time.Second) // the second dial ends
		})
		bubble(t, cfg, func(pt *tester) {
			held := pt.get(pt.plain)
			pt.dialer.take(time.Second)
			first, second := begin(pt), begin(pt)
			if !shared {
				want(pt, "a full pool that opens a connection for another one", second, own, pooler.ErrWaitTimeout)
			} else {
				want(pt, "a full pool that opens one for all", second, time.Second, nil)
			}
			want(pt, "a full pool that opens a connection", first, time.Second, nil)
			pt.put(held)
		})
		bubble(t, cfg, func(pt *tester) {
			pt.fake.DownRefused()
			time.AfterFunc(1500*time.Millisecond, pt.fake.Up)
			ended := begin(pt)
			e := <-ended
			if e.conn != nil {
				pt.put(e.conn)
			}
			if e.err != nil || e.took < 1500*time.Millisecond {
				pt.Errorf("shared %t, an outage of 1.5 s: error %v after %v", shared, e.err, e.took)
			}
		})
		for _, conns := range []int{1, 2} { // the prober's dial is all that fits into a pool of one
			cfg.MaxOpenConns = conns
			bubble(t, cfg, func(pt *tester) {
				pt.fake.DownRefused()
				time.AfterFunc(1500*time.Millisecond, func() { pt.fake.HangDials(true); pt.fake.Up() })
				time.AfterFunc(2500*time.Millisecond, func() { pt.fake.HangDials(false) })
				first, second := begin(pt), begin(pt)
				pt.sleep(2400 * time.Millisecond)
				if len(second) > 0 {
					pt.Errorf("shared %t, %d connections: the second's wait ended in the outage", shared, conns)
				}
				want(pt, "an outage that ends with a dial that hangs", first, 2500*time.Millisecond, nil)
				if e := <-second; e.conn != nil {
					pt.put(e.conn)
				}
				pt.sleep(time.Second) // another dial may be under way
			})
		}
		for pools, most := range map[time.Duration]time.Duration{0: 5 * time.Second, -1: deadline, time.Second: time.Second, own / 2: own, time.Hour: deadline} {
			cfg.WaitTimeout = pools
			bubble(t, cfg, func(pt *tester) {
				pt.fake.DownRefused()
				want(pt, "an outage without end", begin(pt), most, pooler.ErrWaitTimeout)
			})
		}
	}
}
