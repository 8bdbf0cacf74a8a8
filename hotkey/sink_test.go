package hotkey_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/hotkey"
)

// odder is a sink that does something of its own with a pipeline.
type odder struct {
	*script
	do func(ctx context.Context, s *script, fn func(redis.Pipeliner) error) ([]redis.Cmder, error)
}

func (o odder) Pipelined(ctx context.Context, fn func(redis.Pipeliner) error) ([]redis.Cmder, error) {
	return o.do(ctx, o.script, fn)
}

type doing = func(ctx context.Context, s *script, fn func(redis.Pipeliner) error) ([]redis.Cmder, error)

// through flushes 100 reads of a key through an odd sink, and then through one
// that does what it should, and returns what was between and what was at the end.
func through(t *testing.T, do doing, answer answer) (between, after hotkey.FlushStats, lines []string) {
	t.Helper()
	s := newScript(t)
	s.answers(answer)
	odd := true
	cfg := everything()
	cfg.Window, cfg.FlushInterval = 10*time.Second, 9*time.Second
	cfg.Sink = odder{s, func(ctx context.Context, s *script, fn func(redis.Pipeliner) error) ([]redis.Cmder, error) {
		if odd {
			odd = false
			return do(ctx, s, fn)
		}
		return s.Client.Pipelined(ctx, fn)
	}}
	tracker := newTracker(t, cfg)
	read(tracker, "k", 100)
	for tracker.Stats().Flush.Flushes == 0 {
		time.Sleep(time.Second)
		synctest.Wait()
	}
	between = tracker.Stats().Flush
	s.mu.Lock()
	s.answer = nil
	s.mu.Unlock()
	if err := tracker.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	_, lines = s.pipelines()
	return between, tracker.Stats().Flush, lines
}

func TestASinkThatDoesNotTakeTheCommandsLosesNothing(t *testing.T) {
	for name, do := range map[string]doing{
		"an error": func(context.Context, *script, func(redis.Pipeliner) error) ([]redis.Cmder, error) {
			return nil, errors.New("the circuit is open")
		},
		"nothing": func(context.Context, *script, func(redis.Pipeliner) error) ([]redis.Cmder, error) {
			return nil, nil
		},
		"a panic": func(context.Context, *script, func(redis.Pipeliner) error) ([]redis.Cmder, error) { panic("no") },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				between, after, lines := through(t, do, nil)
				if d := cmp.Diff(hotkey.FlushStats{Flushes: 1, Failed: 1, Pending: 100, LastError: "_OTHER"}, between); d != "" {
					t.Errorf("between: -want +got\n%s", d)
				}
				if after.Written != 100 || after.Pending+after.Dropped+after.Unknown != 0 {
					t.Errorf("at the end: %+v", after)
				}
				if len(lines) != 1 {
					t.Errorf("sent %q", lines)
				}
			})
		})
	}
}

// again calls fn a second time when the first was in vain.
func again(ctx context.Context, s *script, fn func(redis.Pipeliner) error) ([]redis.Cmder, error) {
	cmds, err := s.Client.Pipelined(ctx, fn)
	if err != nil {
		return s.Client.Pipelined(ctx, fn)
	}
	return cmds, err
}

func TestASinkThatTriesAgainAddsNothingTwice(t *testing.T) {
	for name, c := range map[string]struct {
		do               doing
		first            error
		written, unknown uint64
		sent             int
	}{
		"what was surely not added":      {again, errRefused, 100, 0, 2},
		"what may have been added":       {again, io.EOF, 0, 100, 1},
		"what has no error of its own":   {again, errWhole, 0, 100, 1},
		"after a success":                {twice, nil, 0, 100, 1},
		"and only when it has come back": {late, errRefused, 0, 0, 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				calls := 0
				between, after, lines := through(t, c.do, func(ctx context.Context, cmds []redis.Cmder) error {
					switch calls++; {
					case calls > 1 || c.first == nil:
						return nil
					case errors.Is(c.first, errWhole):
						return c.first
					}
					return failWith(c.first)(ctx, cmds)
				})
				if between.Written != c.written || between.Unknown != c.unknown || between.Pending != 100-c.written-c.unknown {
					t.Errorf("%+v", between)
				}
				if after.Written+after.Unknown != 100 || after.Pending+after.Dropped != 0 {
					t.Errorf("at the end: %+v", after)
				}
				if want := c.sent + int(between.Pending/100); len(lines) != want {
					t.Errorf("sent %q, want %d", lines, want)
				}
			})
		})
	}
}

// One count was refused, of the other nothing is known: it isn't among what is
// tried again, though that succeeds.
func TestASinkThatTriesAgainAddsOnlyWhatWasSurelyNotAdded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, calls := newScript(t), 0
		s.answers(func(_ context.Context, cmds []redis.Cmder) error {
			if calls++; calls > 1 {
				return nil
			}
			for _, cmd := range cmds {
				if cmd.Name() == "zincrby" && cmd.Args()[3] == "refused" {
					cmd.SetErr(errRefused)
				}
			}
			return errRefused
		})
		cfg := everything()
		cfg.Sink = odder{s, again}
		tracker := newTracker(t, cfg)
		read(tracker, "refused", 10)
		read(tracker, "unknown", 5)
		_ = tracker.Close()
		if f := tracker.Stats().Flush; f.Written != 10 || f.Unknown != 5 || f.Dropped != 0 {
			t.Errorf("%+v", f)
		}
		if _, lines := s.pipelines(); len(lines) != 3 {
			t.Errorf("sent %q, want 3", lines)
		}
	})
}

var errWhole = errors.New("something between")

func twice(ctx context.Context, s *script, fn func(redis.Pipeliner) error) ([]redis.Cmder, error) {
	_, _ = s.Client.Pipelined(ctx, fn)
	return s.Client.Pipelined(ctx, fn)
}

// late calls fn once more when the flush is over.
func late(ctx context.Context, s *script, fn func(redis.Pipeliner) error) ([]redis.Cmder, error) {
	time.AfterFunc(time.Millisecond, func() { _, _ = s.Client.Pipelined(ctx, fn) })
	return s.Client.Pipelined(ctx, fn)
}

// An AutoPipeliner sends commands with a context of its own, so that nothing marks
// them as the tracker's.
func TestTheSetsAreNotCountedWhateverTheContext(t *testing.T) {
	rdb := newClient(t, miniredis.RunT(t).Addr())
	sink, err := rdb.AutoPipeline()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sink.Close() })
	cfg := everything()
	cfg.Sink = sink
	cfg.Window, cfg.FlushInterval = 100*time.Millisecond, 100*time.Millisecond
	tracker := newTracker(t, cfg)
	attach(t, tracker, rdb)
	rdb.Get(t.Context(), "k")
	for tracker.Stats().Flush.Written == 0 {
		time.Sleep(10 * time.Millisecond)
	}
	if _, err := tracker.Global(t.Context(), hotkey.Reads, 3); err != nil {
		t.Fatal(err)
	}
	rdb.ZIncrBy(t.Context(), hotkey.DefaultWritesKey, 0, "by hand")
	if s := tracker.Stats(); s.Reads.Samples != 1 || s.Writes.Samples != 0 {
		t.Errorf("%+v, want one read and nothing else", s)
	}
}

// Hardly anything is hot here, and what a full sketch says of its keys is mostly
// of others.
func TestKeysThatAreReadOnceAreNeitherHotNorFlushedTooOften(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScript(t)
		cfg := everything()
		log := hotLog(&cfg, 20)
		cfg.Sink, cfg.Window = s, time.Second
		tracker := newTracker(t, cfg)
		f := feed(tracker, "get", "")
		for i := range 100_000 {
			f.key(fmt.Sprint("key:", i), 1)
		}
		f.key("hot", 5000)
		time.Sleep(time.Second + time.Millisecond)
		synctest.Wait()
		top := tracker.Top(hotkey.Reads, 2)
		if len(top) != 2 || top[1].Count < 20 {
			t.Fatalf("the estimates are too good for this test: %v", top)
		}
		if err := tracker.Close(); err != nil {
			t.Fatal(err)
		}
		if len(*log) != 1 || !strings.Contains((*log)[0], " hot ") {
			t.Errorf("told of %d, such as %v, want the hot one", len(*log), (*log)[:min(3, len(*log))])
		}
		_, lines := s.pipelines()
		hot := 0
		for _, line := range lines {
			var n int
			var key string
			if _, err := fmt.Sscanf(line, "zincrby everpool-hot-key-tracker-reads %d %s", &n, &key); err != nil {
				t.Fatal(err)
			}
			if key == "hot" {
				hot = n
			} else if n != 1 {
				t.Errorf("%s gets %d, but was read once", key, n)
			}
		}
		if hot < 4900 || 5000 < hot {
			t.Errorf("hot gets %d of 5000", hot)
		}
	})
}

// Below a rate of 1 the chance in the sampling is in the bound.
func TestOnHotAllowsForTheChanceInTheSampling(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told []hotkey.Hot
		cfg := hotkey.Config{ReadSampleRate: 0.01, MaxSamplesPerSecond: -1, HotRate: 100}
		cfg.OnHot = func(h hotkey.Hot) { told = append(told, h) }
		tracker := newTracker(t, cfg)
		for range 200 {
			read(tracker, "about HotRate", 1000)
			read(tracker, "twice", 4000)
			time.Sleep(10*time.Second + time.Millisecond/100)
			synctest.Wait()
		}
		if !slices.ContainsFunc(told, func(h hotkey.Hot) bool { return h.Key == "twice" }) {
			t.Error("not told of the hot key")
		}
		for _, h := range told {
			if h.Lower < 1000 {
				t.Errorf("told of %+v, whose lower bound is below 1000 in 10 s", h)
			}
		}
	})
}

func TestOfACommandWithVeryManyKeysTheFirstAreCounted(t *testing.T) {
	cfg := everything()
	cfg.WriteSampleRate = 0
	tracker := newTracker(t, cfg)
	args := []any{"mget"}
	for i := range 5000 {
		args = append(args, fmt.Sprint("key:", i/1024))
	}
	feed(tracker, args...).key("key:0", 1)
	args[0] = "del"
	feed(tracker, args...).key("key:0", 1)
	if got := counts(tracker.Top(hotkey.Reads, 9)); got != "key:0=1024" {
		t.Errorf("reads %s", got)
	}
	if s := tracker.Stats(); s.Reads.Samples != 1024 || s.Reads.Skipped != 5000-1024 || s.Writes.Skipped != 0 {
		t.Errorf("%+v", s)
	}
}

func TestCloseSaysThatThereWasNoRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := everything()
		cfg.Sink, cfg.TopN, cfg.Window, cfg.FlushInterval = newScript(t), 1, time.Second, time.Hour
		tracker := newTracker(t, cfg)
		for i := range 4 {
			read(tracker, fmt.Sprint("key:", i), 10)
			time.Sleep(time.Second + time.Millisecond)
			synctest.Wait()
		}
		read(tracker, "one more", 7)
		err := tracker.Close()
		if err == nil || strings.Contains(err.Error(), "failed") || !strings.Contains(err.Error(), "counts of 7 are lost: too many keys waited") {
			t.Errorf("Close: %v", err)
		}
	})
}
