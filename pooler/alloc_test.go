package pooler_test

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/pooler"
)

func wantNoAllocs(t *testing.T, what string, f func()) {
	t.Helper()
	if testkit.Race {
		t.Skip("the race detector allocates")
	}
	if got := testing.AllocsPerRun(2000, f); got != 0 {
		t.Errorf("%s: %v allocations, want 0", what, got)
	}
}

func TestGetAndPutOfAnIdleConnectionAllocateNothing(t *testing.T) {
	pt := newTester(t, pooler.Config{})
	s := session(1)
	r := pooler.Request{Session: s, Name: "GET", Deadline: time.Now().Add(time.Hour)}
	wantNoAllocs(t, "Get+Put", func() {
		c, err := pt.pool.Get(context.Background(), r)
		if err != nil {
			t.Fatal(err)
		}
		pt.pool.Put(c, pooler.Answered)
	})
}

func TestAWaitAllocatesNothing(t *testing.T) {
	pt := newTester(t, pooler.Config{MaxOpenConns: 1})
	ctx := t.Context()
	turn := func() {
		c, err := pt.pool.Get(ctx, pooler.Request{Session: pt.plain, Name: "GET"})
		if err != nil {
			t.Error(err)
			return
		}
		runtime.Gosched() // until the others have come to wait
		pt.pool.Put(c, pooler.Answered)
	}
	var stop atomic.Bool
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for !stop.Load() {
				turn()
			}
		})
	}
	defer wg.Wait()
	defer stop.Store(true)
	turn()
	before := pt.pool.Stats().WaitCount
	wantNoAllocs(t, "wait", turn)
	if waits := pt.pool.Stats().WaitCount - before; waits < 1000 {
		t.Errorf("only %d of the requests had to wait", waits)
	}
}
