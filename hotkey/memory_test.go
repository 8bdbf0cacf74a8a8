package hotkey_test

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

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

// topN is the default of Config.TopN.
const topN = 32

func TestATrackerHasItsMemoryAndNoMore(t *testing.T) {
	if testkit.Race {
		t.Skip("the race detector takes memory of its own")
	}
	for name, c := range map[string]struct {
		keyLen int
		limit  uint64
	}{"short keys": {24, 100 << 10}, "long keys": {64, 128_000}, "the longest keys": {500, 140 << 10}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				// So many that what the process allocates beside them is nothing to speak of.
				all := make([]*hotkey.Tracker, 200)
				before := heap()
				for i := range all {
					all[i] = newTracker(t, everything())
				}
				fill(all, "first", c.keyLen)
				time.Sleep(11 * time.Second) // the last window is kept, too
				fill(all, "second", c.keyLen)
				each := (heap() - before) / uint64(len(all))
				t.Logf("%d bytes for a tracker with both classes full of keys of %d bytes", each, min(c.keyLen, 96))
				if n := len(all[0].Top(hotkey.Reads, 1000)); n != topN {
					t.Errorf("the last window has %d keys, want %d", n, topN)
				}
				if each > c.limit {
					t.Errorf("%d bytes, want %d at most", each, c.limit)
				}
			})
		})
	}
}

// fill has all counters of trackers taken, some by keys that are used so much more than
// the others that they are significant.
func fill(all []*hotkey.Tracker, name string, keyLen int) {
	rest := strings.Repeat("k", keyLen-len(name)-4)
	for i := range 1000 {
		key, n := fmt.Sprintf("%s%04d%s", name, i, rest), 1
		if i < topN {
			n = 50
		}
		for _, tracker := range all {
			read(tracker, key, n)
			write(tracker, key, n)
		}
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
