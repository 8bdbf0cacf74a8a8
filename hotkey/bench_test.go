package hotkey_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
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
			ctx, op := context.Background(), &hooks.Operation{Command: hooks.CommandOf(cmds[0]), Cmds: make([]redis.Cmder, 1)}
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
				ctx, op := context.Background(), &hooks.Operation{Command: hooks.CommandOf(cmds[0]), Cmds: make([]redis.Cmder, 1)}
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

// switched is a tracker that can be left out.
type switched struct {
	*hotkey.Tracker
	on atomic.Bool
}

func (s *switched) End(ctx context.Context, op *hooks.Operation) {
	if s.on.Load() {
		s.Tracker.End(ctx, op)
	}
}

// BenchmarkGet is a GET of a server on this machine with the tracker at 1 %,
// relative to one without. Both sides are one client with the same connections
// and the same hook, which has the tracker or leaves it out: two clients differ by
// more than the tracker costs. Rounds are off, on, off, off again, in an order that
// turns; the last two are the control, which says what the benchmark can't tell
// from nothing. Reported are the medians of the ratios of all quadruples, and how
// far apart the middle half of the control's are.
func BenchmarkGet(b *testing.B) {
	server := testkit.Start(b, testkit.Redis)
	keys := make([]string, 1024)
	z := newZipf(0.99)
	for i := range keys {
		keys[i] = rankKey(z.rank())
	}
	observer := &switched{Tracker: newTracker(b, hotkey.Config{ReadSampleRate: 0.01, WriteSampleRate: 0.01, Sink: newClient(b, server.Addr)})}
	hook, err := hooks.New(observer)
	if err != nil {
		b.Fatal(err)
	}
	client := newClient(b, server.Addr)
	if _, err := hook.Attach(client); err != nil {
		b.Fatal(err)
	}
	const goroutines = 8
	round := func(on bool) float64 {
		observer.on.Store(on)
		begun := time.Now()
		var wg sync.WaitGroup
		for g := range goroutines {
			wg.Go(func() {
				for i := g; i < len(keys); i += goroutines {
					if err := client.Get(context.Background(), keys[i]).Err(); err != nil && !errors.Is(err, redis.Nil) {
						b.Error(err)
					}
				}
			})
		}
		wg.Wait()
		return float64(time.Since(begun))
	}
	round(true)
	var tracked, control []float64
	sides := [4]bool{1: true}
	n := 0
	for b.Loop() {
		var took [4]float64
		for i := range sides {
			side := (i + n) % len(sides)
			took[side] = round(sides[side])
		}
		tracked = append(tracked, took[1]/took[0])
		control = append(control, took[3]/took[2])
		n++
	}
	slices.Sort(tracked)
	slices.Sort(control)
	b.ReportMetric(tracked[n/2], "tracker/without")
	b.ReportMetric(control[n/2], "control")
	b.ReportMetric(control[n*3/4]-control[n/4], "control-spread")
}
