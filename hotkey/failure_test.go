package hotkey_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/hotkey"
	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/pooler"
)

// reply is an error that a server has sent.
type reply string

func (r reply) Error() string { return string(r) }
func (reply) RedisError()     {}

var errRefused = &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}

// scripted is a tracker that flushes to a script, at the end of each window.
func scripted(t *testing.T, cfg hotkey.Config) (*hotkey.Tracker, *script) {
	t.Helper()
	s := newScript(t)
	cfg.ReadSampleRate, cfg.MaxSamplesPerSecond = 1, -1
	cfg.Sink, cfg.Window, cfg.FlushInterval = s, 10*time.Second, time.Second
	return newTracker(t, cfg), s
}

// flushNow lets a window and a flush pass.
func flushNow() {
	time.Sleep(12 * time.Second)
	synctest.Wait()
}

func TestWhatWasSurelyNotAddedIsKeptForTheNextFlush(t *testing.T) {
	for name, err := range map[string]error{
		"refused":           errRefused,
		"refused, wrapped":  fmt.Errorf("sink: %w", errRefused),
		"the node is down":  pooler.ErrNodeDown,
		"no connection":     redis.ErrPoolTimeout,
		"an error reply":    reply("READONLY You can't write against a read only replica."),
		"the client closed": redis.ErrClosed,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tracker, s := scripted(t, hotkey.Config{})
				s.answers(failWith(err))
				read(tracker, "a", 6)
				flushNow()
				read(tracker, "a", 7)
				read(tracker, "b", 5)
				flushNow()
				if f := tracker.Stats().Flush; f.Failed != f.Flushes || f.Flushes < 2 || f.Pending != 18 || f.Unknown+f.Dropped+f.Written != 0 || f.LastError == "" {
					t.Errorf("while it fails: %+v", f)
				}
				s.answers(nil)
				flushNow()
				_, lines := s.pipelines()
				slices.Sort(lines)
				if d := cmp.Diff([]string{"everpool-hot-key-tracker-reads 13 a", "everpool-hot-key-tracker-reads 5 b"}, lines); d != "" {
					t.Errorf("-want +got\n%s", d)
				}
				if f := tracker.Stats().Flush; f.Written != 18 || f.Pending != 0 {
					t.Errorf("at the end: %+v", f)
				}
			})
		})
	}
}

func TestWhatMayHaveBeenAddedIsNotSentAgain(t *testing.T) {
	for name, answer := range map[string]answer{
		"the connection is lost": failWith(io.EOF),
		"a timeout":              failWith(context.DeadlineExceeded),
		"an unknown outcome":     failWith(pooler.ErrUnknownOutcome),
		"only the whole fails":   func(context.Context, []redis.Cmder) error { return io.EOF },
		"a panic":                func(context.Context, []redis.Cmder) error { panic("no") },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tracker, s := scripted(t, hotkey.Config{})
				s.answers(answer)
				read(tracker, "a", 5)
				flushNow()
				s.answers(nil)
				flushNow()
				if _, lines := s.pipelines(); len(lines) != 0 {
					t.Errorf("sent %q once more", lines)
				}
				if f := tracker.Stats().Flush; f.Unknown != 5 || f.Written+f.Pending+f.Dropped != 0 || f.Failed != 1 || f.LastError == "" {
					t.Errorf("%+v", f)
				}
			})
		})
	}
}

func TestEachClassHasItsOwnFate(t *testing.T) {
	for name, c := range map[string]struct {
		of   error // what the writes come to
		want hotkey.FlushStats
	}{
		"unknown":   {io.EOF, hotkey.FlushStats{Written: 6, Unknown: 10}},
		"kept":      {reply("OOM command not allowed"), hotkey.FlushStats{Written: 6, Pending: 10}},
		"half done": {reply("NOPERM ACL failure in script: no permissions to run zadd"), hotkey.FlushStats{Written: 6, Unknown: 10}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tracker, s := scripted(t, hotkey.Config{WriteSampleRate: 1})
				s.answers(func(_ context.Context, cmds []redis.Cmder) error {
					for _, cmd := range cmds {
						if cmd.Args()[3] == hotkey.DefaultWritesKey {
							cmd.SetErr(c.of)
						}
					}
					return c.of
				})
				read(tracker, "key", 6)
				write(tracker, "key", 10)
				flushNow()
				f := tracker.Stats().Flush
				if f.Written != c.want.Written || f.Unknown != c.want.Unknown || f.Pending != c.want.Pending || f.Failed == 0 || f.LastError == "" {
					t.Errorf("%+v, want %+v", f, c.want)
				}
			})
		})
	}
}

// What waits is bounded, and nothing is lost without being counted.
func TestWhileTheSinkIsAwayWindowsAreMergedAndBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const topN = 8
		tracker, s := scripted(t, hotkey.Config{TopN: topN})
		s.answers(failWith(errRefused))
		total := uint64(0)
		for i := range 50 {
			read(tracker, "always", 100)
			for j := range topN - 1 {
				read(tracker, fmt.Sprint("key:", i, ":", j), 5+i)
			}
			total += 100 + (topN-1)*uint64(5+i)
			flushNow()
		}
		if f := tracker.Stats().Flush; f.Pending+f.Dropped < total-100*(topN+2) || f.Pending+f.Dropped > total || f.Dropped == 0 {
			t.Errorf("%+v, want %d altogether", f, total)
		}
		s.answers(nil)
		if err := tracker.Close(); err != nil {
			t.Fatal(err)
		}
		_, lines := s.pipelines()
		if len(lines) != 4*topN || !slices.Contains(lines, "everpool-hot-key-tracker-reads 5000 always") {
			t.Errorf("%d keys, want %d: %q", len(lines), 4*topN, lines)
		}
		if f := tracker.Stats().Flush; f.Written+f.Dropped != total || f.Pending != 0 {
			t.Errorf("%+v, want %d altogether", f, total)
		}
	})
}

// The flush has a deadline, and is marked, also for other trackers.
func TestAFlushEndsInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tracker, s := scripted(t, hotkey.Config{FlushTimeout: 3 * time.Second})
		var took []time.Duration
		s.answers(func(ctx context.Context, cmds []redis.Cmder) error {
			begun := time.Now()
			<-ctx.Done()
			took = append(took, time.Since(begun))
			return failWith(ctx.Err())(ctx, cmds)
		})
		read(tracker, "a", 5)
		time.Sleep(20 * time.Second)
		synctest.Wait()
		if len(took) != 1 || took[0] != 3*time.Second {
			t.Errorf("flushes took %v, want 3s", took)
		}
	})
}

func TestCloseDuringAFlushWaitsForItAndFlushesTheRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tracker, s := scripted(t, hotkey.Config{})
		release := make(chan struct{})
		s.answers(func(context.Context, []redis.Cmder) error { <-release; return nil })
		read(tracker, "a", 5)
		flushNow()
		read(tracker, "b", 4)
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := tracker.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
		})
		synctest.Wait()
		close(release)
		wg.Wait()
		if f := tracker.Stats().Flush; f.Written != 9 || f.Flushes != 2 {
			t.Errorf("%+v", f)
		}
	})
}

// One flush hangs when Close is called, and so does the last. Both end in time.
func TestCloseIsBoundedForBothFlushesTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tracker, s := scripted(t, hotkey.Config{})
		s.answers(func(ctx context.Context, cmds []redis.Cmder) error {
			<-ctx.Done()
			return failWith(ctx.Err())(ctx, cmds)
		})
		read(tracker, "a", 5)
		for at, _ := s.pipelines(); len(at) == 0; at, _ = s.pipelines() {
			time.Sleep(100 * time.Millisecond)
		}
		read(tracker, "b", 4)
		begun := time.Now()
		err := tracker.Close()
		if took := time.Since(begun); err == nil || !strings.Contains(err.Error(), "counts of 9 are lost") || took != 2*time.Second {
			t.Errorf("Close: %v after %v", err, took)
		}
	})
}

func TestCloseIsBoundedAndSaysWhatIsLost(t *testing.T) {
	for name, c := range map[string]struct {
		answer answer
		after  time.Duration
		want   string
	}{
		"refused":         {failWith(errRefused), 0, "(connection): counts of 3 are lost"},
		"until cancelled": {func(ctx context.Context, c []redis.Cmder) error { <-ctx.Done(); return failWith(ctx.Err())(ctx, c) }, 2 * time.Second, "counts of 3 are lost"},
		"for ever": {func(context.Context, []redis.Cmder) error {
			time.Sleep(time.Hour)
			return nil
		}, 2500 * time.Millisecond, "didn't end in 2s"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tracker, s := scripted(t, hotkey.Config{})
				s.answers(c.answer)
				read(tracker, "secret-key", 3)
				begun := time.Now()
				err := tracker.Close()
				if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "secret-key") {
					t.Errorf("Close: %v, want %q", err, c.want)
				}
				if took := time.Since(begun); took != c.after {
					t.Errorf("Close took %v, want %v", took, c.after)
				}
				if again := tracker.Close(); !errors.Is(again, err) {
					t.Errorf("again: %v", again)
				}
				if f := tracker.Stats().Flush; c.after < 2500*time.Millisecond && f.Dropped+f.Unknown != 3 {
					t.Errorf("%+v, want 3 lost", f)
				}
				time.Sleep(2 * time.Hour) // the goroutine ends when the sink lets it
			})
		})
	}
}

// go-redis would send a pipeline again whose connection was lost, three times by
// default. The server here runs each EVAL and hangs up before it has answered.
func TestGoRedisDoesNotSendAFlushAgain(t *testing.T) {
	for _, pool := range []string{"stock", "everpool"} {
		t.Run(pool, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				fake := testkit.NewFake()
				defer fake.Close()
				var ran atomic.Int64
				fake.Handle("EVAL", func(*testkit.FakeConn, []string) []byte {
					ran.Add(1)
					fake.ResetAll()
					return nil
				})
				options := &redis.Options{Addr: "192.0.2.1:6379", Dialer: fake.Dial}
				if pool == "everpool" {
					d, err := driver.New(driver.Config{Dial: fake.Dial})
					if err != nil {
						t.Fatal(err)
					}
					defer d.Close()
					options = d.Options(&redis.Options{Addr: "192.0.2.1:6379"})
				}
				rdb := redis.NewClient(options)
				defer rdb.Close()
				tracker, err := hotkey.New(hotkey.Config{WriteSampleRate: 1, Sink: rdb})
				if err != nil {
					t.Fatal(err)
				}
				write(tracker, "a", 3)
				if err := tracker.Close(); err == nil {
					t.Error("Close: no error")
				}
				if ran.Load() != 1 {
					t.Errorf("EVAL has run %d times", ran.Load())
				}
				if f := tracker.Stats().Flush; f.Unknown != 3 {
					t.Errorf("%+v", f)
				}
			})
		})
	}
}

// The user's client is one thing and the sink another: it refuses, then hangs.
func TestASinkThatFailsCostsTheUserNothing(t *testing.T) {
	server := testkit.Start(t, testkit.Redis)
	proxy := testkit.NewProxy(t, server.Addr)
	sink := redis.NewClient(&redis.Options{Addr: proxy.Addr(), ContextTimeoutEnabled: true, DialerRetries: 1})
	t.Cleanup(func() { _ = sink.Close() })
	cfg := hotkey.Config{
		ReadSampleRate: 1, MaxSamplesPerSecond: -1, Sink: sink,
		Window: 100 * time.Millisecond, FlushInterval: 100 * time.Millisecond, FlushTimeout: 200 * time.Millisecond,
	}
	tracker := newTracker(t, cfg)
	rdb := newClient(t, server.Addr)
	attach(t, tracker, rdb)
	total := uint64(0)
	until := func(when string, done func(hotkey.FlushStats) bool) {
		t.Helper()
		testkit.Await(t, "the tracker's figures are those of a sink that is "+when, func() bool {
			if done(tracker.Stats().Flush) {
				return true
			}
			if err := rdb.Get(t.Context(), "key").Err(); !errors.Is(err, redis.Nil) {
				t.Fatalf("%s: the user got %v", when, err)
			}
			total++
			return false
		})
	}
	proxy.Refuse(true)
	until("refused", func(s hotkey.FlushStats) bool { return s.Failed >= 2 && s.Pending > 0 && s.Unknown == 0 })
	proxy.Refuse(false)
	until("back", func(s hotkey.FlushStats) bool { return s.Written > 0 })
	proxy.Freeze(true)
	failed := tracker.Stats().Flush.Failed
	until("hanging", func(s hotkey.FlushStats) bool { return s.Failed >= failed+2 && s.Unknown > 0 })
	// Lost replies, but not lost counts: what hung is added now, once.
	proxy.Freeze(false)
	written := tracker.Stats().Flush.Written
	until("thawed", func(s hotkey.FlushStats) bool { return s.Written > written })
	if err := tracker.Close(); err != nil {
		t.Fatal(err)
	}
	s := tracker.Stats()
	if s.Reads.Samples != total || s.Flush.Written+s.Flush.Unknown+s.Flush.Dropped != total {
		t.Errorf("%d reads, and %+v", total, s)
	}
	score := uint64(rdb.ZScore(t.Context(), hotkey.DefaultReadsKey, "key").Val())
	if score < s.Flush.Written || s.Flush.Written+s.Flush.Unknown < score {
		t.Errorf("the set has %d, %+v", score, s.Flush)
	}
}
