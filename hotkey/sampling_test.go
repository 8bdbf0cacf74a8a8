package hotkey_test

import (
	"context"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/hooks"
	"github.com/everpool/everpool/hotkey"
	"github.com/everpool/everpool/internal/testkit"
)

// Each class has its rate. Six standard deviations are left to chance.
func TestSamplesAreTheShareThatWasAskedFor(t *testing.T) {
	const n = 200_000
	for _, c := range []struct{ reads, writes float64 }{{0, 1}, {1, 0}, {0.01, 0.5}, {0.3, 0.001}} {
		tracker := newTracker(t, hotkey.Config{ReadSampleRate: c.reads, WriteSampleRate: c.writes, MaxSamplesPerSecond: -1})
		read(tracker, "read", n)
		write(tracker, "written", n)
		s := tracker.Stats()
		for class, of := range map[hotkey.Class]struct {
			rate  float64
			stats hotkey.ClassStats
		}{hotkey.Reads: {c.reads, s.Reads}, hotkey.Writes: {c.writes, s.Writes}} {
			if off := math.Abs(float64(of.stats.Samples) - n*of.rate); off > 6*math.Sqrt(n*of.rate*(1-of.rate)) {
				t.Errorf("%v at %v: %d samples of %d", class, of.rate, of.stats.Samples, n)
			}
			if of.stats.SampleRate != of.rate {
				t.Errorf("%v: the rate is said to be %v, want %v", class, of.stats.SampleRate, of.rate)
			}
		}
	}
}

// At a rate p, counts stand for 1/p times as many; 95 of 100 intervals hold the
// truth. Of 2,000 intervals, fewer than 90 in 100 is out of chance's reach.
func TestCountsAreScaledAndTheirBoundsHoldTheTruth(t *testing.T) {
	const keys = 2000
	for _, rate := range []float64{0.05, 0.5, 1} {
		// One window, however slow the machine is: the second would hold only a part.
		tracker := newTracker(t, hotkey.Config{ReadSampleRate: rate, MaxSamplesPerSecond: -1, TopN: 1000, Window: time.Hour})
		uses := func(i int) int { return 200 + i }
		f := feed(tracker, "get", "")
		for i := range keys {
			f.key(fmt.Sprint("key:", i), uses(i))
		}
		held, seen, sum := 0, 0, 0.0
		for _, c := range tracker.All(hotkey.Reads, keys) {
			i := 0
			if _, err := fmt.Sscanf(c.Key, "key:%d", &i); err != nil {
				t.Fatal(err)
			}
			seen++
			sum += float64(c.Count) / float64(uses(i))
			if c.Lower <= uint64(uses(i)) && uint64(uses(i)) <= c.Upper {
				held++
			}
			if c.Lower > c.Count || c.Count > c.Upper {
				t.Errorf("%+v isn't within its bounds", c)
			}
		}
		t.Logf("rate %v: %d of %d intervals hold the truth, the mean estimate is %.3f of it", rate, held, seen, sum/float64(seen))
		if rate == 1 && held < seen || held < seen*9/10 || seen != keys {
			t.Errorf("rate %v: only %d of %d intervals hold the truth", rate, held, seen)
		}
	}
}

func TestEachCommandOfABatchIsSampledAndCountsItsKeys(t *testing.T) {
	tracker := newTracker(t, everything())
	ctx := context.Background()
	op := &hooks.Operation{Kind: hooks.Pipeline, Cmds: []redis.Cmder{
		redis.NewCmd(ctx, "get", "a"), redis.NewCmd(ctx, "mget", "a", "b"), redis.NewCmd(ctx, "ping"),
		redis.NewCmd(ctx, "set", "a", "v"), redis.NewCmd(ctx, "unheard-of", "a"), redis.NewCmd(ctx, "mset", "c", 1, "d", 2),
	}}
	tracker.End(ctx, op)
	if got := counts(tracker.All(hotkey.Reads, 9)); got != "a=2 b=1" {
		t.Errorf("reads %s", got)
	}
	if got := counts(tracker.All(hotkey.Writes, 9)); got != "a=1 c=1 d=1" {
		t.Errorf("writes %s", got)
	}

	half := newTracker(t, hotkey.Config{ReadSampleRate: 0.5, MaxSamplesPerSecond: -1})
	op.Cmds = nil
	for range 1000 {
		op.Cmds = append(op.Cmds, redis.NewCmd(ctx, "get", "a"))
	}
	half.End(ctx, op)
	if n := half.Stats().Reads.Samples; n < 400 || 600 < n {
		t.Errorf("%d of 1000 commands of a batch were sampled, want half", n)
	}
}

func TestNormalizeNamesKeysAndLeavesSomeOut(t *testing.T) {
	cfg := everything()
	calls := 0
	cfg.Normalize = func(key string) string {
		calls++
		if key == "secret" {
			return ""
		}
		prefix, _, _ := strings.Cut(key, ":")
		return prefix + ":*"
	}
	tracker := newTracker(t, cfg)
	for _, key := range []string{"user:1", "user:2", "secret", "item:1"} {
		read(tracker, key, 1)
	}
	if got := counts(tracker.All(hotkey.Reads, 9)); got != "user:*=2 item:*=1" {
		t.Errorf("reads %s", got)
	}
	cfg = hotkey.Config{ReadSampleRate: 0, WriteSampleRate: 1, Normalize: cfg.Normalize}
	before := calls
	read(newTracker(t, cfg), "user:1", 1000)
	if calls != before {
		t.Errorf("%d calls for keys that aren't sampled", calls-before)
	}
}

// The hook catches it, and the tracker goes on: no lock is held.
func TestAPanicInNormalizeHoldsNothingUp(t *testing.T) {
	muteLog(t)
	cfg := everything()
	cfg.Normalize = func(key string) string {
		if key == "bad" {
			panic("no")
		}
		return key
	}
	tracker := newTracker(t, cfg)
	hook, err := hooks.New(tracker)
	if err != nil {
		t.Fatal(err)
	}
	process := hook.ProcessHook(func(context.Context, redis.Cmder) error { return nil })
	for _, key := range []string{"bad", "good", "bad", "good"} {
		if err := process(t.Context(), redis.NewCmd(t.Context(), "get", key)); err != nil {
			t.Fatal(err)
		}
	}
	if got := counts(tracker.All(hotkey.Reads, 9)); got != "good=2" {
		t.Errorf("reads %s", got)
	}
}

func TestLongKeysAreCut(t *testing.T) {
	cfg := everything()
	cfg.MaxKeyLen = 24
	tracker := newTracker(t, cfg)
	for key, want := range map[string]string{
		"exactly 24 bytes of text":          "exactly 24 bytes of text",
		"just 25 bytes of text now":         "just 25 bytes…",
		"twelve bytes\u00e9 and still more": "twelve bytes…",
		strings.Repeat("\xff\xfe", 13):      "\xff\xfe\xff\xfe\xff\xfe\xff\xfe\xff\xfe\xff\xfe\xff…",
		strings.Repeat("\x80", 30):          strings.Repeat("\x80", 13) + "…",
	} {
		read(tracker, key, 5)
		found := slices.ContainsFunc(tracker.Top(hotkey.Reads, 9), func(c hotkey.Count) bool {
			hash, cut := strings.CutPrefix(c.Key, want)
			return cut && (hash == "" && c.Key == key || regexp.MustCompile("^[0-9a-f]{8}$").MatchString(hash))
		})
		if !found {
			t.Errorf("%q isn't counted as %q: %v", key, want, tracker.Top(hotkey.Reads, 9))
		}
	}
}

// One key, used ten times, is hot among a thousand that begin as it does.
func TestLongKeysThatBeginAlikeAreCountedApart(t *testing.T) {
	tracker, other := newTracker(t, everything()), newTracker(t, everything())
	url := "https://shop.example/articles/" + strings.Repeat("of-a-long-name-", 6)
	for i := range 250 {
		read(tracker, fmt.Sprint(url, i), 1)
	}
	read(tracker, fmt.Sprint(url, 7), 10)
	read(other, fmt.Sprint(url, 7), 10)
	top, same := tracker.Top(hotkey.Reads, 9), other.Top(hotkey.Reads, 9)
	if len(top) != 1 || top[0].Count != 11 || len(top[0].Key) > 96 || !utf8.ValidString(top[0].Key) {
		t.Fatalf("shown are %+v, want one key with 11", top)
	}
	if len(same) != 1 || same[0].Key != top[0].Key {
		t.Errorf("another program calls it %+v", same)
	}
}

func TestTheEmptyKeyIsAKey(t *testing.T) {
	tracker := newTracker(t, everything())
	read(tracker, "", 7)
	if got := counts(tracker.Top(hotkey.Reads, 9)); got != "=7" {
		t.Errorf("reads %q", got)
	}
	c, err := tracker.Collector(hotkey.CollectorConfig{Client: "shop", Allow: func(string) bool { return true }})
	if err != nil {
		t.Fatal(err)
	}
	// A label that is empty is one that isn't there.
	if got := rates(t, c); len(got) != 1 || got[`reads ""`] <= 0 {
		t.Errorf("exported are %v", got)
	}
	if body := get(t, tracker, "/").Body.String(); !strings.Contains(body, "&#34;&#34;") {
		t.Errorf("the page:\n%s", body)
	}
}

// A burst ends its window early, and lowers the rate; quiet raises it again.
func TestTheBudgetLowersTheRateAndRaisesItAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tracker := newTracker(t, hotkey.Config{ReadSampleRate: 1, MaxSamplesPerSecond: 100, Window: 10 * time.Second})
		f := feed(tracker, "get", "")
		second := func(n int) {
			f.key("key", n)
			time.Sleep(time.Second)
			synctest.Wait()
		}
		second(99)
		if s := tracker.Stats().Reads; s.SampleRate != 1 {
			t.Fatalf("below the budget: %+v", s)
		}
		second(9901) // more than a window may have: it ends here
		if s := tracker.Stats().Reads; s.Samples != 10_000 || math.Abs(s.SampleRate-0.02) > 0.001 {
			t.Fatalf("after 10000 in 2 s at 100/s: %+v, want a rate of 0.02", s)
		}
		if c, _ := countOf(tracker, hotkey.Reads, "key"); math.Abs(c.Rate-5000) > 1 {
			t.Errorf("the short window has %+v, want 5000/s", c)
		}
		before := tracker.Stats().Reads.Samples
		for range 10 {
			second(5000)
		}
		if n := tracker.Stats().Reads.Samples - before; n < 800 || 1200 < n {
			t.Errorf("%d samples in 10 s, want about 1000", n)
		}
		if c, _ := countOf(tracker, hotkey.Reads, "key"); c.Rate < 4000 || 6000 < c.Rate {
			t.Errorf("at the lower rate: %+v, want about 5000/s", c)
		}
		for range 21 {
			second(50) // 10 samples in a window, so that it isn't one without any
		}
		if s := tracker.Stats().Reads; s.SampleRate != 1 {
			t.Errorf("after it was quiet: %+v", s)
		}
	})
}

func TestCountingFromManyGoroutines(t *testing.T) {
	tracker := newTracker(t, everything())
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			f := feed(tracker, "get", "")
			for i := range 500 {
				f.key(fmt.Sprint("key:", i%10), 1)
				if g == 0 && i%50 == 0 {
					tracker.All(hotkey.Reads, 5)
					tracker.Stats()
				}
			}
		})
	}
	wg.Wait()
	for _, c := range tracker.All(hotkey.Reads, 10) {
		if c.Count != 400 || c.Lower != 400 || c.Upper != 400 {
			t.Errorf("%+v, want 400", c)
		}
	}
}

func TestCommandsOfGoRedisCountTheirKeysByWhatIsDoneWithThem(t *testing.T) {
	server := testkit.Start(t, testkit.Redis)
	ctx := t.Context()
	for name, c := range map[string]struct {
		do            func(redis.UniversalClient)
		reads, writes string
	}{
		"MSET":       {func(r redis.UniversalClient) { r.MSet(ctx, "a", 1, "b", 2) }, "", "a=1 b=1"},
		"MGET":       {func(r redis.UniversalClient) { r.MGet(ctx, "a", "b", "a") }, "a=2 b=1", ""},
		"SET GET":    {func(r redis.UniversalClient) { r.SetArgs(ctx, "a", "v", redis.SetArgs{Get: true}) }, "", "a=1"},
		"BITFIELD":   {func(r redis.UniversalClient) { r.BitField(ctx, "a", "GET", "u8", 0) }, "a=1", ""},
		"BITFIELD W": {func(r redis.UniversalClient) { r.BitField(ctx, "a", "SET", "u8", 0, 1) }, "", "a=1"},
		"SORT STORE": {func(r redis.UniversalClient) { r.SortStore(ctx, "a", "d", &redis.Sort{Order: "ASC"}) }, "a=1", "d=1"},
		"EVAL":       {func(r redis.UniversalClient) { r.Eval(ctx, "return 1", []string{"a", "b"}, "c") }, "", "a=1 b=1"},
		"EVAL_RO":    {func(r redis.UniversalClient) { r.EvalRO(ctx, "return 1", []string{"a"}, "c") }, "a=1", ""},
		"XREAD": {func(r redis.UniversalClient) {
			r.XRead(ctx, &redis.XReadArgs{Streams: []string{"a", "b", "0", "0"}, Count: 1, Block: -1})
		}, "a=1 b=1", ""},
		"WATCH": {func(r redis.UniversalClient) {
			_ = r.Watch(ctx, func(tx *redis.Tx) error { return tx.Get(ctx, "b").Err() }, "a")
		}, "b=1", ""},
		"MULTI": {func(r redis.UniversalClient) {
			_, _ = r.TxPipelined(ctx, func(p redis.Pipeliner) error { p.Get(ctx, "a"); return p.Incr(ctx, "n").Err() })
		}, "a=1", "n=1"},
		"RENAME":       {func(r redis.UniversalClient) { r.Rename(ctx, "a", "b") }, "", "a=1 b=1"},
		"ZUNIONSTORE":  {func(r redis.UniversalClient) { r.ZUnionStore(ctx, "d", &redis.ZStore{Keys: []string{"a", "b"}}) }, "a=1 b=1", "d=1"},
		"PUBLISH":      {func(r redis.UniversalClient) { r.Publish(ctx, "a", "b") }, "", ""},
		"a miss":       {func(r redis.UniversalClient) { r.Get(ctx, "none") }, "none=1", ""},
		"a wrong type": {func(r redis.UniversalClient) { r.LPush(ctx, "n", 1); r.LPush(ctx, "n", 1) }, "", "n=2"},
	} {
		t.Run(name, func(t *testing.T) {
			tracker := newTracker(t, everything())
			one := redis.NewClient(&redis.Options{Addr: server.Addr})
			defer one.Close()
			attach(t, tracker, one)
			c.do(one)
			if got := counts(tracker.All(hotkey.Reads, 9)); got != c.reads {
				t.Errorf("reads %q, want %q", got, c.reads)
			}
			if got := counts(tracker.All(hotkey.Writes, 9)); got != c.writes {
				t.Errorf("writes %q, want %q", got, c.writes)
			}
		})
	}
}
