package hotkey_test

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/hooks"
	"github.com/everpool/everpool/hotkey"
	"github.com/everpool/everpool/internal/testkit"
)

// heap is what is in use after a collection.
func heap() uint64 {
	runtime.GC()
	runtime.GC() // what was in sync.Pools
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func TestATrackerHasItsMemoryAndNoMore(t *testing.T) {
	if testkit.Race {
		t.Skip("the race detector takes memory of its own")
	}
	for name, c := range map[string]struct {
		keyLen int
		limit  uint64
	}{"short keys": {24, 96 << 10}, "the longest keys": {500, 128 << 10}} {
		t.Run(name, func(t *testing.T) {
			const trackers = 20
			var all []*hotkey.Tracker
			key := strings.Repeat("k", c.keyLen-8)
			before := heap()
			for range trackers {
				tracker, err := hotkey.New(everything())
				if err != nil {
					t.Fatal(err)
				}
				defer tracker.Close()
				for i := range 5000 {
					k := fmt.Sprintf("%08d%s", i, key)
					read(tracker, k, 1+i/1000)
					write(tracker, k, 1+i/1000)
				}
				all = append(all, tracker)
			}
			each := (heap() - before) / trackers
			t.Logf("%d bytes for a tracker with both classes full of keys of %d bytes", each, min(c.keyLen, 96))
			if each > c.limit {
				t.Errorf("%d bytes, want %d at most", each, c.limit)
			}
			runtime.KeepAlive(all)
		})
	}
}

func TestEndDoesNotAllocate(t *testing.T) {
	if testkit.Race {
		t.Skip("the race detector allocates")
	}
	ctx := context.Background()
	cmds := []redis.Cmder{
		redis.NewCmd(ctx, "get", "key"), redis.NewCmd(ctx, "set", "key", "v"), redis.NewCmd(ctx, "mset", "a", 1, "b", 2),
		redis.NewCmd(ctx, "ping"), redis.NewCmd(ctx, "xread", "count", 1, "streams", "a", "0"),
	}
	for _, rate := range []float64{0, 0.01, 1} {
		tracker := newTracker(t, hotkey.Config{ReadSampleRate: rate, WriteSampleRate: rate})
		op := &hooks.Operation{Kind: hooks.Pipeline, Cmds: cmds[:4]}
		if rate < 1 {
			op.Cmds = cmds // numbers among arguments are printed, if sampled
		}
		tracker.End(ctx, op)
		if n := testing.AllocsPerRun(1000, func() { tracker.End(ctx, op) }); n != 0 {
			t.Errorf("rate %v: %v allocations", rate, n)
		}
	}
}
