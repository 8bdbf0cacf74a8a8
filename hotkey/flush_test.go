package hotkey_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/hotkey"
	"github.com/everpool/everpool/internal/testkit"
)

func newClient(tb testing.TB, addr string) *redis.Client {
	tb.Helper()
	c := redis.NewClient(&redis.Options{Addr: addr})
	tb.Cleanup(func() { _ = c.Close() })
	return c
}

// flushed tracks what feed does, and closes the tracker, which flushes.
func flushed(t *testing.T, cfg hotkey.Config, feed func(*hotkey.Tracker)) hotkey.FlushStats {
	t.Helper()
	tracker := newTracker(t, cfg)
	feed(tracker)
	if err := tracker.Close(); err != nil {
		t.Fatal(err)
	}
	return tracker.Stats().Flush
}

// set is a sorted set as text, the highest first.
func set(t *testing.T, rdb redis.UniversalClient, key string) string {
	t.Helper()
	members, err := rdb.ZRevRangeWithScores(t.Context(), key, 0, -1).Result()
	if err != nil {
		t.Fatal(err)
	}
	var s []string
	for _, m := range members {
		s = append(s, fmt.Sprintf("%v=%v", m.Member, m.Score))
	}
	return strings.Join(s, " ")
}

func TestCountsAreAddedToTheSetsOfRealServers(t *testing.T) {
	for _, kind := range testkit.Kinds {
		t.Run(string(kind), func(t *testing.T) {
			rdb := newClient(t, testkit.Start(t, kind).Addr)
			cfg := everything()
			cfg.Sink = rdb
			for range 2 {
				s := flushed(t, cfg, func(tracker *hotkey.Tracker) {
					read(tracker, "a", 3)
					read(tracker, "b", 2)
					write(tracker, "a", 7)
				})
				if d := cmp.Diff(hotkey.FlushStats{Flushes: 1, Written: 12}, s); d != "" {
					t.Errorf("-want +got\n%s", d)
				}
			}
			if got := set(t, rdb, hotkey.DefaultReadsKey); got != "a=6 b=4" {
				t.Errorf("reads %s", got)
			}
			if got := set(t, rdb, hotkey.DefaultWritesKey); got != "a=14" {
				t.Errorf("writes %s", got)
			}
			tracker := newTracker(t, cfg)
			global, err := tracker.Global(t.Context(), hotkey.Reads, 1)
			if d := cmp.Diff([]hotkey.Count{{Key: "a", Count: 6}}, global); err != nil || d != "" {
				t.Errorf("Global: %v, -want +got\n%s", err, d)
			}
		})
	}
}

func TestTheTTLIsSetAndRenewed(t *testing.T) {
	rdb := newClient(t, testkit.Start(t, testkit.Redis).Addr)
	cfg := everything()
	cfg.Sink = rdb
	ttl := func(want time.Duration) {
		t.Helper()
		flushed(t, cfg, func(tracker *hotkey.Tracker) { read(tracker, "a", 3) })
		if got := rdb.PTTL(t.Context(), hotkey.DefaultReadsKey).Val(); got <= want-time.Minute || want < got {
			t.Errorf("the TTL is %v, want %v", got, want)
		}
		if n := rdb.Exists(t.Context(), hotkey.DefaultWritesKey).Val(); n != 0 {
			t.Error("a set without members was made")
		}
	}
	ttl(24 * time.Hour)
	rdb.Expire(t.Context(), hotkey.DefaultReadsKey, 10*time.Second)
	ttl(24 * time.Hour)
	cfg.TTL = time.Hour
	ttl(time.Hour)
}

func TestTheSetsAreBounded(t *testing.T) {
	rdb := newClient(t, testkit.Start(t, testkit.Redis).Addr)
	cfg := everything()
	cfg.Sink, cfg.TopN = rdb, 2
	for i := range 30 {
		flushed(t, cfg, func(tracker *hotkey.Tracker) {
			read(tracker, fmt.Sprint("key:", 2*i), 100+i)
			read(tracker, fmt.Sprint("key:", 2*i+1), 100+i)
			read(tracker, "not in the top", 50)
		})
	}
	members := strings.Fields(set(t, rdb, hotkey.DefaultReadsKey))
	if len(members) != 20 || members[0] != "key:59=129" || members[19] != "key:40=120" {
		t.Errorf("%d members: %v, want 20, the highest ones", len(members), members)
	}
}

// The tracker watches the client that it flushes to.
func TestTheTrackersOwnCommandsAreNotCounted(t *testing.T) {
	rdb := newClient(t, testkit.Start(t, testkit.Redis).Addr)
	cfg := everything()
	cfg.Sink, cfg.Window, cfg.FlushInterval = rdb, 100*time.Millisecond, 100*time.Millisecond
	cfg.MaxSamplesPerSecond = 1_000_000
	tracker := newTracker(t, cfg)
	attach(t, tracker, rdb)
	for range 5 {
		rdb.Set(t.Context(), "mine", 1, 0)
	}
	testkit.Await(t, "a count is written", func() bool { return tracker.Stats().Flush.Written > 0 })
	if _, err := tracker.Global(t.Context(), hotkey.Writes, 10); err != nil {
		t.Fatal(err)
	}
	if err := tracker.Close(); err != nil {
		t.Fatal(err)
	}
	if s := tracker.Stats(); s.Reads.Samples != 0 || s.Writes.Samples != 5 {
		t.Errorf("%+v, want five writes and nothing else", s)
	}
	if got := set(t, rdb, hotkey.DefaultWritesKey); got != "mine=5" {
		t.Errorf("writes %s", got)
	}
}

func TestValuesNeverGetAnywhere(t *testing.T) {
	rdb := newClient(t, testkit.Start(t, testkit.Redis).Addr)
	cfg := everything()
	cfg.Sink = rdb
	tracker := newTracker(t, cfg)
	watched := newClient(t, rdb.Options().Addr)
	attach(t, tracker, watched)
	ctx := t.Context()
	const value = "hunter2"
	watched.Set(ctx, "k1", value, 0)
	watched.MSet(ctx, "k2", value, "k3", []byte(value))
	watched.HSet(ctx, "k4", value, value)
	watched.ZAdd(ctx, "k5", redis.Z{Score: 1, Member: value})
	watched.Eval(ctx, "return '"+value+"'", []string{"k6"}, value)
	watched.Do(ctx, "UNHEARD-OF", value, value)
	watched.XAdd(ctx, &redis.XAddArgs{Stream: "k7", Values: []any{value, value}})
	watched.Do(ctx, "CONFIG", "SET", "requirepass", "")
	shown := fmt.Sprint(tracker.Top(hotkey.Reads, 99), tracker.Top(hotkey.Writes, 99), get(t, tracker, "/?format=json").Body, get(t, tracker, "/").Body)
	if err := tracker.Close(); err != nil {
		t.Fatal(err)
	}
	shown += set(t, rdb, hotkey.DefaultReadsKey) + set(t, rdb, hotkey.DefaultWritesKey)
	if strings.Contains(shown, value) || !strings.Contains(shown, "k7") {
		t.Errorf("a value is shown, or no key:\n%s", shown)
	}
}

func TestFlushSamplesAddsSamples(t *testing.T) {
	rdb := newClient(t, miniredis.RunT(t).Addr())
	cfg := hotkey.Config{ReadSampleRate: 0.1, MaxSamplesPerSecond: -1, Sink: rdb}
	use := func(tracker *hotkey.Tracker) { read(tracker, "a", 10_000) }
	flushed(t, cfg, use)
	flushed(t, cfg.WithBaseplateNames(), use)
	for key, want := range map[string]float64{hotkey.DefaultReadsKey: 10_000, hotkey.BaseplateReadsKey: 1000} {
		if got := rdb.ZScore(t.Context(), key, "a").Val(); got < want*0.7 || want*1.3 < got {
			t.Errorf("%s: %v, want about %v", key, got, want)
		}
	}
}

// Each set has a slot of its own, and the pipeline goes to both.
func TestFlushingToClustersAndRings(t *testing.T) {
	server := testkit.Start(t, testkit.Redis, testkit.WithCluster())
	server.Do(t, "CLUSTER", "ADDSLOTSRANGE", "0", "16383")
	testkit.Await(t, "the cluster is up", func() bool { return strings.Contains(server.Do(t, "CLUSTER", "INFO"), "cluster_state:ok") })
	a, b := miniredis.RunT(t), miniredis.RunT(t)
	for name, rdb := range map[string]redis.UniversalClient{
		"cluster": redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{server.Addr}}),
		"ring":    redis.NewRing(&redis.RingOptions{Addrs: map[string]string{"a": a.Addr(), "b": b.Addr()}}),
	} {
		t.Run(name, func(t *testing.T) {
			defer rdb.Close()
			cfg := everything()
			cfg.Sink = rdb
			tracker := newTracker(t, cfg)
			attach(t, tracker, rdb)
			for i := range 20 {
				if err := rdb.Set(t.Context(), fmt.Sprint("key:", i), 1, 0).Err(); err != nil {
					t.Fatal(err)
				}
				rdb.Get(t.Context(), fmt.Sprint("key:", i))
			}
			if err := tracker.Close(); err != nil {
				t.Fatal(err)
			}
			if s := tracker.Stats(); s.Reads.Samples != 20 || s.Writes.Samples != 20 || s.Flush.Written != 40 {
				t.Errorf("%+v", s)
			}
			for _, class := range []hotkey.Class{hotkey.Reads, hotkey.Writes} {
				if global, err := tracker.Global(t.Context(), class, 100); len(global) != 20 || err != nil {
					t.Errorf("%v: %d keys, %v", class, len(global), err)
				}
			}
		})
	}
}

func TestFlushesAreJitteredAndOnlyOfWhatIsNew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScript(t)
		cfg := everything()
		cfg.Sink, cfg.Window, cfg.FlushInterval = s, time.Second, 10*time.Second
		tracker := newTracker(t, cfg)
		f := feed(tracker, "get", "")
		begun := time.Now()
		for time.Since(begun) < 1000*time.Second {
			f.key("key", 5)
			time.Sleep(time.Second)
		}
		at, lines := s.pipelines()
		shortest, longest := time.Hour, time.Duration(0)
		for i := 1; i < len(at); i++ {
			shortest, longest = min(shortest, at[i].Sub(at[i-1])), max(longest, at[i].Sub(at[i-1]))
		}
		if shortest < 8*time.Second || 12*time.Second < longest || longest-shortest < time.Second {
			t.Errorf("pauses from %v to %v, want 8 s to 12 s", shortest, longest)
		}
		if len(lines) != len(at) {
			t.Errorf("%d increments in %d flushes, want one each", len(lines), len(at))
		}
		time.Sleep(20 * time.Second)
		synctest.Wait()
		before, _ := s.pipelines()
		time.Sleep(100 * time.Second)
		if after, _ := s.pipelines(); len(after) != len(before) {
			t.Errorf("%d flushes without anything new", len(after)-len(before))
		}
	})
}

func TestGlobalNeedsASinkAndSaysWhatFailed(t *testing.T) {
	tracker := newTracker(t, everything())
	if _, err := tracker.Global(t.Context(), hotkey.Reads, 10); !errors.Is(err, hotkey.ErrNoSink) {
		t.Errorf("without a sink: %v", err)
	}
	server := miniredis.RunT(t)
	cfg := everything()
	cfg.Sink = newClient(t, server.Addr())
	tracker = newTracker(t, cfg)
	if top, err := tracker.Global(t.Context(), hotkey.Reads, 0); top != nil || err != nil {
		t.Errorf("none: %v, %v", top, err)
	}
	if _, err := server.Push(hotkey.DefaultReadsKey, "no set"); err != nil {
		t.Fatal(err)
	}
	var reply redis.Error
	if _, err := tracker.Global(t.Context(), hotkey.Reads, 10); !errors.As(err, &reply) {
		t.Errorf("a wrong type: %v", err)
	}
}

// A client with everpool's pool underneath, opened from one URL.
func TestADriversClientIsASink(t *testing.T) {
	server := testkit.Start(t, testkit.Redis)
	cfg, rest, err := hotkey.ConfigFromURL("redis://"+server.Addr+"?track_key_reads_sample_rate=1", hotkey.Config{})
	if err != nil {
		t.Fatal(err)
	}
	db, err := driver.Open(rest)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	cfg.Sink = db
	tracker := newTracker(t, cfg)
	attach(t, tracker, db)
	db.Get(context.Background(), "a")
	if err := tracker.Close(); err != nil {
		t.Fatal(err)
	}
	if got := set(t, db, hotkey.DefaultReadsKey); got != "a=1" {
		t.Errorf("reads %s", got)
	}
	if len(tracker.Top(hotkey.Writes, 1)) != 0 {
		t.Error("writes are tracked")
	}
}
