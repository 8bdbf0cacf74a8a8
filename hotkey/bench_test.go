package hotkey_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/hooks"
	"github.com/everpool/everpool/hotkey"
	"github.com/everpool/everpool/internal/testkit"
)

// benchKeys are what benchmarks ask for, some far more often than others.
func benchKeys() []redis.Cmder {
	z := newZipf(0.99)
	cmds := make([]redis.Cmder, 1<<16)
	for i := range cmds {
		cmds[i] = redis.NewCmd(context.Background(), "get", rankKey(z.rank()))
	}
	return cmds
}

// BenchmarkEnd is what a tracker costs an operation. Without a budget, so that
// rate=1 is what a sample costs.
func BenchmarkEnd(b *testing.B) {
	cmds := benchKeys()
	for _, rate := range []float64{0, 0.01, 1} {
		b.Run(fmt.Sprintf("rate=%v", rate), func(b *testing.B) {
			tracker := newTracker(b, hotkey.Config{ReadSampleRate: rate, MaxSamplesPerSecond: -1})
			ctx, op := context.Background(), &hooks.Operation{Cmds: make([]redis.Cmder, 1)}
			i := 0
			b.ReportAllocs()
			for b.Loop() {
				op.Cmds[0] = cmds[i&(len(cmds)-1)]
				tracker.End(ctx, op)
				i++
			}
		})
		b.Run(fmt.Sprintf("rate=%v/parallel", rate), func(b *testing.B) {
			tracker := newTracker(b, hotkey.Config{ReadSampleRate: rate, MaxSamplesPerSecond: -1})
			var start atomic.Int64
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				ctx, op := context.Background(), &hooks.Operation{Cmds: make([]redis.Cmder, 1)}
				for i := int(start.Add(7919)); pb.Next(); i++ {
					op.Cmds[0] = cmds[i&(len(cmds)-1)]
					tracker.End(ctx, op)
				}
			})
		})
	}
}

// BenchmarkTop is what reading the top keys costs, from the live window.
func BenchmarkTop(b *testing.B) {
	tracker := newTracker(b, hotkey.Config{ReadSampleRate: 1, MaxSamplesPerSecond: -1, Window: time.Hour})
	newZipf(0.99).stream(tracker, 100_000)
	b.ReportAllocs()
	for b.Loop() {
		tracker.Top(hotkey.Reads, 32)
	}
}

// BenchmarkGet is a GET of a server on this machine, without the tracker, with the
// hook alone, and with the tracker at 1 %, in turn: each iteration is a round of
// each. It reports the time of a round relative to that without.
func BenchmarkGet(b *testing.B) {
	server := testkit.Start(b, testkit.Redis)
	keys := make([]string, 1024)
	z := newZipf(0.99)
	for i := range keys {
		keys[i] = rankKey(z.rank())
	}
	sides := make([]struct {
		client *redis.Client
		took   time.Duration
	}, 3)
	for i := range sides {
		sides[i].client = newClient(b, server.Addr)
	}
	idle, err := hooks.New(hooks.Func{})
	if err != nil {
		b.Fatal(err)
	}
	if _, err := idle.Attach(sides[1].client); err != nil {
		b.Fatal(err)
	}
	attach(b, newTracker(b, hotkey.Config{ReadSampleRate: 0.01, WriteSampleRate: 0.01, Sink: newClient(b, server.Addr)}), sides[2].client)
	const goroutines = 8
	round := func(c *redis.Client) time.Duration {
		begun := time.Now()
		var wg sync.WaitGroup
		for g := range goroutines {
			wg.Go(func() {
				for i := g; i < len(keys); i += goroutines {
					if err := c.Get(context.Background(), keys[i]).Err(); err != nil && err != redis.Nil { //nolint:errorlint // go-redis returns it as it is
						b.Error(err)
					}
				}
			})
		}
		wg.Wait()
		return time.Since(begun)
	}
	for i := range sides {
		round(sides[i].client)
	}
	n := 0
	for b.Loop() {
		for i := range sides {
			side := &sides[(i+n)%len(sides)]
			side.took += round(side.client)
		}
		n++
	}
	b.ReportMetric(float64(sides[0].took.Nanoseconds())/float64(n*len(keys)), "without-ns/get")
	b.ReportMetric(float64(sides[1].took)/float64(sides[0].took), "hook/without")
	b.ReportMetric(float64(sides[2].took)/float64(sides[0].took), "tracker/without")
	b.ReportMetric(float64(sides[2].took)/float64(sides[1].took), "tracker/hook")
}
