package hotkey_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
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

// odder is a sink whose pipelines do something of their own.
type odder struct {
	*script
	pipeline func(*script) redis.Pipeliner
}

func (o odder) Pipeline() redis.Pipeliner { return o.pipeline(o.script) }

// oddPipe is a pipeline that is executed otherwise.
type oddPipe struct {
	redis.Pipeliner
	exec func(ctx context.Context, inner redis.Pipeliner) ([]redis.Cmder, error)
}

func (p oddPipe) Exec(ctx context.Context) ([]redis.Cmder, error) { return p.exec(ctx, p.Pipeliner) }

// Whatever a sink does, nothing is added twice, and nothing goes uncounted.
func TestASinkThatIsOddAddsNothingTwice(t *testing.T) {
	executed := func(exec func(context.Context, redis.Pipeliner) ([]redis.Cmder, error)) func(*script) redis.Pipeliner {
		return func(s *script) redis.Pipeliner { return oddPipe{s.Client.Pipeline(), exec} }
	}
	for name, c := range map[string]struct {
		pipeline         func(*script) redis.Pipeliner
		pending, unknown uint64
		errorType        string
	}{
		"no pipeline":    {func(*script) redis.Pipeliner { return nil }, 100, 0, "_OTHER"},
		"a panic before": {func(*script) redis.Pipeliner { panic("no") }, 100, 0, "_OTHER"},
		"a panic": {executed(func(context.Context, redis.Pipeliner) ([]redis.Cmder, error) {
			panic("no")
		}), 0, 100, "_OTHER"},
		"a refusal that says so": {executed(func(context.Context, redis.Pipeliner) ([]redis.Cmder, error) {
			return nil, fmt.Errorf("sink: %w", errRefused)
		}), 100, 0, "connection"},
		"an error of unknown meaning": {executed(func(context.Context, redis.Pipeliner) ([]redis.Cmder, error) {
			return nil, errors.New("the circuit is open")
		}), 0, 100, "_OTHER"},
		"nothing": {executed(func(context.Context, redis.Pipeliner) ([]redis.Cmder, error) {
			return nil, nil
		}), 0, 100, "_OTHER"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, odd := newScript(t), true
				cfg := everything()
				cfg.Window, cfg.FlushInterval = 10*time.Second, 9*time.Second
				cfg.Sink = odder{s, func(s *script) redis.Pipeliner {
					if odd {
						odd = false
						return c.pipeline(s)
					}
					return s.Client.Pipeline()
				}}
				tracker := newTracker(t, cfg)
				read(tracker, "k", 100)
				for tracker.Stats().Flush.Flushes == 0 {
					time.Sleep(time.Second)
					synctest.Wait()
				}
				want := hotkey.FlushStats{Flushes: 1, Failed: 1, Pending: c.pending, Unknown: c.unknown, LastError: c.errorType}
				if d := cmp.Diff(want, tracker.Stats().Flush); d != "" {
					t.Errorf("between: -want +got\n%s", d)
				}
				if err := tracker.Close(); err != nil {
					t.Errorf("Close: %v", err)
				}
				if f := tracker.Stats().Flush; f.Written != c.pending || f.Unknown != c.unknown || f.Pending+f.Dropped != 0 {
					t.Errorf("at the end: %+v", f)
				}
				if _, lines := s.pipelines(); len(lines) != int(c.pending/100) {
					t.Errorf("sent %q", lines)
				}
			})
		})
	}
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
	for range 5 {
		rdb.Get(t.Context(), "k")
	}
	for tracker.Stats().Flush.Written == 0 {
		time.Sleep(10 * time.Millisecond)
	}
	if _, err := tracker.Global(t.Context(), hotkey.Reads, 3); err != nil {
		t.Fatal(err)
	}
	rdb.ZIncrBy(t.Context(), hotkey.DefaultWritesKey, 0, "by hand")
	if s := tracker.Stats(); s.Reads.Samples != 5 || s.Writes.Samples != 0 {
		t.Errorf("%+v, want five reads and nothing else", s)
	}
}

// Hardly anything is hot here, and what a full sketch says of its keys is mostly
// of others.
func TestKeysThatAreReadOnceAreNeitherHotNorFlushedTooOften(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScript(t)
		cfg := everything()
		log := hotLog(&cfg, 10)
		cfg.Sink, cfg.Window = s, time.Second
		tracker := newTracker(t, cfg)
		f := feed(tracker, "get", "")
		for i := range 100_000 {
			f.key(fmt.Sprint("key:", i), 1)
		}
		f.key("hot", 5000)
		if all := tracker.All(hotkey.Reads, 2); len(all) != 2 || all[1].Count < 10 {
			t.Fatalf("the estimates are too good for this test: %v", all)
		}
		time.Sleep(time.Second + time.Millisecond)
		synctest.Wait()
		if top := tracker.Top(hotkey.Reads, 2); len(top) != 1 || top[0].Key != "hot" {
			t.Errorf("shown are %+v, want the hot one", top)
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
			if _, err := fmt.Sscanf(line, "everpool-hot-key-tracker-reads %d %s", &n, &key); err != nil {
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

// deaf is a sink that ends no read until it is released, whatever its context says.
type deaf struct {
	*script
	release chan struct{}
}

func (d deaf) ZRevRangeWithScores(context.Context, string, int64, int64) *redis.ZSliceCmd {
	<-d.release
	return redis.NewZSliceCmdResult([]redis.Z{{Score: 3, Member: "late"}}, nil)
}

func TestReadingTheSetsEndsInTimeWhateverTheSinkDoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := everything()
		d := deaf{newScript(t), make(chan struct{})}
		cfg.Sink, cfg.FlushTimeout = d, 3*time.Second
		tracker := newTracker(t, cfg)
		for name, do := range map[string]func() error{
			"Global": func() error { _, err := tracker.Global(t.Context(), hotkey.Reads, 10); return err },
			"the page": func() error {
				w := get(t, tracker, "/?source=redis")
				if w.Code != http.StatusBadGateway || !strings.Contains(w.Body.String(), "timeout") {
					t.Errorf("the page: %d %s", w.Code, w.Body)
				}
				return context.DeadlineExceeded
			},
		} {
			for range 5 { // more than there may be at a time
				begun := time.Now()
				if err := do(); !errors.Is(err, context.DeadlineExceeded) || time.Since(begun) != 3*time.Second {
					t.Errorf("%s: %v after %v, want 3s", name, err, time.Since(begun))
				}
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := tracker.Global(ctx, hotkey.Reads, 10); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v", err)
		}
		close(d.release)
		synctest.Wait()
		if top, err := tracker.Global(t.Context(), hotkey.Reads, 10); err != nil || counts(top) != "late=3" {
			t.Errorf("once it is released: %v, %v", top, err)
		}
	})
}

type panicky struct{ *script }

func (panicky) ZRevRangeWithScores(context.Context, string, int64, int64) *redis.ZSliceCmd {
	panic("no")
}

func TestAPanicOfTheSinkIsAnErrorOfGlobal(t *testing.T) {
	cfg := everything()
	cfg.Sink = panicky{newScript(t)}
	if _, err := newTracker(t, cfg).Global(t.Context(), hotkey.Reads, 1); err == nil || !strings.Contains(err.Error(), "panicked") {
		t.Errorf("got %v", err)
	}
}
