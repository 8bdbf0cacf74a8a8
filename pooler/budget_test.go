package pooler_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/pooler"
)

// household is several pools with one budget.
type household struct {
	*testing.T
	budget         *pooler.Budget
	pools          []*pooler.Pool
	session        *pooler.Session
	testkit.Census // the sockets of all pools
}

// together runs the script with so many pools on a budget of so many connections.
func together(t *testing.T, pools, limit int, cfg pooler.Config, script func(h *household)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		budget, err := pooler.NewBudget(limit)
		if err != nil {
			t.Fatal(err)
		}
		h := &household{T: t, budget: budget, session: pooler.NewSession()}
		for i := range pools {
			h.add(i, cfg)
		}
		script(h)
		for _, p := range h.pools {
			if err := p.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
		}
		if n := h.Open(); n != 0 {
			t.Errorf("%d sockets are left", n)
		}
	})
}

func (h *household) add(i int, cfg pooler.Config) {
	h.Helper()
	fake := testkit.NewFake()
	h.Cleanup(fake.Close)
	p, err := pooler.New(pooler.Node{
		Network: "tcp", Addr: fmt.Sprintf("10.0.0.%d:6379", i+1), Budget: h.budget,
		Dial: h.Through(fake.Dial),
	}, cfg)
	if err != nil {
		h.Fatal(err)
	}
	h.pools = append(h.pools, p)
}

func (h *household) get(i int) *pooler.Conn {
	h.Helper()
	c, err := h.tryGet(i)
	if err != nil {
		h.Fatalf("pool %d: %v", i, err)
	}
	return c
}

func (h *household) tryGet(i int) (*pooler.Conn, error) {
	return h.pools[i].Get(h.Context(), pooler.Request{Session: h.session, Name: "GET"})
}

func (h *household) put(i int, conns ...*pooler.Conn) {
	for _, c := range conns {
		h.pools[i].Put(c, pooler.Answered)
	}
}

// wantOpen checks how many sockets each pool has.
func (h *household) wantOpen(want ...int) {
	h.Helper()
	synctest.Wait()
	for i, n := range want {
		if got := h.pools[i].Stats().OpenConnections; got != n {
			h.Errorf("pool %d has %d connections, want %d", i, got, n)
		}
	}
}

var leasesOnly = pooler.Config{SharedConns: -1, WaitTimeout: time.Minute}

// 90 callers, at pools by turns, and each holds a connection for a millisecond.
func TestABudgetBoundsAllPoolsTogetherAndEverybodyIsServed(t *testing.T) {
	const limit, calls = 5, 300
	together(t, 3, limit, leasesOnly, func(h *household) {
		for i := range h.pools {
			h.put(i, h.get(i))
		}
		began := time.Now()
		var wg sync.WaitGroup
		for i := range 90 {
			wg.Go(func() {
				for n := range calls {
					at := (i*i + n*i) % 3
					if n%100 < 50 {
						at = (n / 50) % 3 // all want the same one for a while
					}
					c := h.get(at)
					time.Sleep(time.Millisecond)
					h.put(at, c)
				}
			})
		}
		wg.Wait()
		took := time.Since(began)
		if n := h.Peak(); n > limit {
			h.Errorf("%d connections at a time, want at most %d", n, limit)
		}
		// What was given is kept for a while, by each of them.
		if n, most := h.Dials(), limit*(2+int(took/(100*time.Millisecond))); n > most {
			h.Errorf("%d dials in %v, want at most %d", n, took, most)
		}
		h.Logf("%d calls in %v, %d dials", 90*calls, took, h.Dials())
	})
}

func TestEachPoolOfABudgetMayHaveOneConnection(t *testing.T) {
	together(t, 3, 1, leasesOnly, func(h *household) {
		a, b, c := h.get(0), h.get(1), h.get(2)
		h.wantOpen(1, 1, 1)
		h.put(0, a)
		h.put(1, b)
		h.put(2, c)
	})
}

// Callers that hold one connection while they wait for one of another pool.
func TestABudgetLetsNoPoolsWaitForEachOther(t *testing.T) {
	together(t, 2, 2, leasesOnly, func(h *household) {
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				for range 20 {
					// In one order, as who holds two connections of pools that are full has to.
					a := h.get(0)
					time.Sleep(time.Duration(i) * time.Millisecond)
					b := h.get(1)
					h.put(1, b)
					h.put(0, a)
				}
			})
		}
		wg.Wait()
	})
}

func TestABudgetTakesWhatWasIdleForLongest(t *testing.T) {
	together(t, 3, 5, leasesOnly, func(h *household) {
		a0, a1 := h.get(0), h.get(0)
		b0, b1 := h.get(1), h.get(1)
		h.put(0, a0, a1)
		time.Sleep(time.Second)
		h.put(1, b0, b1)
		time.Sleep(time.Second)
		c0 := h.get(2)
		h.wantOpen(2, 2, 1)
		c1 := h.get(2) // pool 0's were idle for longer
		h.wantOpen(1, 2, 2)
		c2 := h.get(2) // it has one only, which it keeps
		h.wantOpen(1, 1, 3)
		w := make(chan *pooler.Conn)
		go func() { w <- h.get(2) }()
		synctest.Wait()
		select {
		case <-w:
			h.Fatal("a pool's only connection was taken")
		case <-time.After(10 * time.Second):
		}
		h.put(2, c0)
		h.put(2, <-w, c1, c2)
	})
}

// Pool 0 is always busy, and has all that there is.
func TestABudgetSharesOutAmongBusyPools(t *testing.T) {
	together(t, 2, 6, leasesOnly, func(h *household) {
		ctx, stop := context.WithCancel(h.Context())
		var wg sync.WaitGroup
		for i := range 24 {
			wg.Go(func() {
				if i >= 12 {
					time.Sleep(time.Second)
				}
				for ctx.Err() == nil {
					c := h.get(i / 12)
					time.Sleep(5 * time.Millisecond)
					h.put(i/12, c)
				}
			})
		}
		time.Sleep(900 * time.Millisecond)
		h.wantOpen(6, 0)
		time.Sleep(2 * time.Second)
		h.wantOpen(3, 3)
		dials := h.Dials()
		time.Sleep(10 * time.Second)
		if n := h.Dials() - dials; n != 0 {
			h.Errorf("%d dials while all have the same", n)
		}
		stop()
		wg.Wait()
		if n := h.Peak(); n > 7 { // one until the other pool has given back what the first needs
			h.Errorf("%d connections at a time", n)
		}
	})
}

// Requests of three pools wait, and are served in the order in which they have come.
func TestABudgetServesPoolsInTheirOrder(t *testing.T) {
	together(t, 4, 6, leasesOnly, func(h *household) {
		held := []*pooler.Conn{h.get(0), h.get(0), h.get(0)} // 3 and 1 each for the others
		ones := []*pooler.Conn{h.get(1), h.get(2), h.get(3)}
		time.Sleep(time.Second)
		order := make(chan int, 2)
		for _, i := range []int{2, 1} {
			go func() {
				c := h.get(i)
				order <- i
				h.put(i, c)
			}()
			synctest.Wait()
		}
		h.put(0, held[0])
		time.Sleep(time.Second)
		h.put(0, held[1])
		time.Sleep(time.Second)
		if len(order) != 2 {
			h.Errorf("%d are served, want 2", len(order))
		} else if first := <-order; first != 2 {
			h.Errorf("%d was served first", first)
		}
		h.put(0, held[2])
		for i, c := range ones {
			h.put(i+1, c)
		}
	})
}

func TestAClosedPoolLeavesItsPartToOthers(t *testing.T) {
	together(t, 2, 4, leasesOnly, func(h *household) {
		for range 3 {
			h.put(1, h.get(1))
		}
		a, b, c := h.get(1), h.get(1), h.get(1)
		d := h.get(0)
		got := make(chan *pooler.Conn)
		go func() { got <- h.get(0) }()
		synctest.Wait()
		h.put(1, a, b, c)
		if err := h.pools[1].Close(); err != nil {
			h.Fatal(err)
		}
		h.put(0, d, <-got)
		held := []*pooler.Conn{h.get(0), h.get(0), h.get(0), h.get(0)}
		h.wantOpen(4)
		h.put(0, held...)
	})
}

// Pool 0 has most, and keeps it with commands that block; pool 1 has less, and gives.
func TestABudgetAsksAnotherPoolWhereTheFirstGivesNothing(t *testing.T) {
	together(t, 3, 8, leasesOnly, func(h *household) {
		held := []*pooler.Conn{h.get(0), h.get(0), h.get(0), h.get(0)}
		more := []*pooler.Conn{h.get(1), h.get(1), h.get(1)}
		one := h.get(2)
		time.Sleep(time.Second)
		got := make(chan *pooler.Conn)
		go func() { got <- h.get(2) }()
		time.Sleep(time.Second)
		h.put(1, more[0])
		select {
		case c := <-got:
			h.put(2, c)
		case <-time.After(time.Second):
			h.Error("what the second pool doesn't need isn't taken")
			h.put(0, held[0])
			held = held[1:]
			h.put(2, <-got)
		}
		h.put(0, held...)
		h.put(1, more[1:]...)
		h.put(2, one)
	})
}

// A pool without connections is served at once, though others have all that there is;
// those come back under the bound.
func TestAPoolThatJoinsAFullBudgetIsServedAtOnce(t *testing.T) {
	together(t, 1, 3, leasesOnly, func(h *household) {
		held := []*pooler.Conn{h.get(0), h.get(0), h.get(0)}
		time.Sleep(time.Second)
		h.add(1, leasesOnly)
		began := time.Now()
		c := h.get(1)
		if took := time.Since(began); took > 0 {
			h.Errorf("its first connection took %v", took)
		}
		h.put(0, held...)
		h.wantOpen(2, 1)
		h.put(1, c)
	})
}

// Pools that aren't used have no part of it.
func TestPoolsWithoutConnectionsLeaveAllOfABudgetToOthers(t *testing.T) {
	cfg := leasesOnly
	cfg.ConnMaxIdleTime = time.Minute
	together(t, 8, 4, cfg, func(h *household) {
		for range 2 {
			for i := range 8 {
				held := []*pooler.Conn{h.get(i), h.get(i), h.get(i), h.get(i)}
				h.wantOpen(slices.Concat(make([]int, i), []int{4}, make([]int, 7-i))...)
				h.put(i, held...)
				time.Sleep(3 * time.Minute)
				h.wantOpen(make([]int, 8)...)
			}
		}
	})
}

// Idle connections that are kept for requests to come are nobody's loss.
func TestMinIdleConnsTakeNothingFromOtherPools(t *testing.T) {
	cfg := leasesOnly
	cfg.MinIdleConns = 3
	together(t, 2, 4, cfg, func(h *household) {
		h.put(0, h.get(0))
		time.Sleep(time.Second)
		h.wantOpen(3, 0)
		h.put(1, h.get(1))
		time.Sleep(time.Minute)
		h.wantOpen(3, 1)
		if n := h.Dials(); n != 4 {
			h.Errorf("%d dials for 4 connections", n)
		}
	})
}

func TestABudgetOfNothingIsRefused(t *testing.T) {
	for _, n := range []int{0, -1} {
		if _, err := pooler.NewBudget(n); !errors.Is(err, pooler.ErrConfig) {
			t.Errorf("%d: %v", n, err)
		}
	}
}
