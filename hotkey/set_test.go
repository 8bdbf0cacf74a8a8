package hotkey_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/hotkey"
	"github.com/everpool/everpool/internal/testkit"
)

// full is a configuration with a server whose set of reads is full: of old keys, ten
// of which are in it and ten of which wait, none with less than 1,000.
func full(t *testing.T, kind testkit.Kind) hotkey.Config {
	t.Helper()
	cfg := everything()
	cfg.Sink, cfg.TopN, cfg.MaxMembers = newClient(t, testkit.Start(t, kind).Addr), 20, 10
	flushed(t, cfg, func(tracker *hotkey.Tracker) {
		for i := range 20 {
			read(tracker, fmt.Sprint("old:", i), 1000+i)
		}
	})
	return cfg
}

func TestAKeyThatBecomesHotLaterGetsIntoAFullSet(t *testing.T) {
	for _, kind := range testkit.Kinds {
		t.Run(string(kind), func(t *testing.T) {
			cfg := full(t, kind)
			for i := range 4 { // as many programs, none of which reads it more often than any old key
				s := flushed(t, cfg, func(tracker *hotkey.Tracker) {
					read(tracker, "new", 600)
					read(tracker, "old:19", 1)
				})
				if s.Written+s.Outranked != 601 {
					t.Errorf("flush %d: %+v", i, s)
				}
			}
			members := strings.Fields(set(t, newClient(t, addrOf(cfg)), hotkey.DefaultReadsKey))
			if len(members) != 10 || members[0] != "old:19=1023" {
				t.Errorf("%d members: %v", len(members), members)
			}
			if strings.Contains(strings.Join(members, " "), "new") {
				t.Error("those that wait are full of higher counts than that of any of the programs")
			}
			// What those have not been able to add has gone with them. One that goes on
			// keeps it.
			cfg.Window, cfg.FlushInterval = 100*time.Millisecond, 100*time.Millisecond
			tracker := newTracker(t, cfg)
			total := 0
			for scoreOf(t, tracker, "new") == 0 && total < 10_000 { // far less at a time than the least of those that wait
				read(tracker, "new", 100)
				total += 100
				flushes := tracker.Stats().Flush.Flushes
				testkit.Await(t, "a flush", func() bool { return tracker.Stats().Flush.Flushes > flushes })
			}
			if err := tracker.Close(); err != nil {
				t.Fatal(err)
			}
			if got := scoreOf(t, tracker, "new"); got != uint64(total) || got < 1010 {
				t.Errorf("its score is %d of %d", got, total)
			}
		})
	}
}

// addrOf is the address of a configuration's server.
func addrOf(cfg hotkey.Config) string { return cfg.Sink.(*redis.Client).Options().Addr }

// scoreOf is that of a key in the set of reads.
func scoreOf(t *testing.T, tracker *hotkey.Tracker, key string) uint64 {
	t.Helper()
	global, err := tracker.Global(t.Context(), hotkey.Reads, 1000)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range global {
		if c.Key == key {
			return c.Count
		}
	}
	return 0
}

// None of the programs counts as much as the least that is in the set, all together
// do. What they have counted adds up in Redis.
func TestWhatSeveralProgramsCountOfANewKeyAddsUp(t *testing.T) {
	for _, kind := range testkit.Kinds {
		t.Run(string(kind), func(t *testing.T) {
			cfg := everything()
			cfg.Sink, cfg.TopN, cfg.MaxMembers = newClient(t, testkit.Start(t, kind).Addr), 20, 10
			flushed(t, cfg, func(tracker *hotkey.Tracker) {
				for i := range 10 {
					read(tracker, fmt.Sprint("old:", i), 1000+i)
				}
			})
			for range 20 {
				if s := flushed(t, cfg, func(tracker *hotkey.Tracker) { read(tracker, "new", 60) }); s.Written != 60 {
					t.Errorf("%+v", s)
				}
			}
			tracker := newTracker(t, cfg)
			if got := scoreOf(t, tracker, "new"); got != 1200 {
				t.Errorf("its score is %d, want 1200", got)
			}
			if got := scoreOf(t, tracker, "old:0"); got != 0 {
				t.Errorf("the least is still there with %d", got)
			}
			// And that one comes back with what it had.
			flushed(t, cfg, func(tracker *hotkey.Tracker) { read(tracker, "old:0", 2) })
			if got := scoreOf(t, tracker, "old:0"); got != 1002 {
				t.Errorf("the score of the one that came back is %d, want 1002", got)
			}
		})
	}
}

func TestSeveralTrackersAddExactlyWhatTheyHaveCounted(t *testing.T) {
	for _, kind := range testkit.Kinds {
		t.Run(string(kind), func(t *testing.T) {
			const trackers, rounds, keys = 4, 10, 12
			cfg := everything()
			cfg.MaxMembers = 8 // fewer than there are keys: they make room for one another
			cfg.Window, cfg.FlushInterval = 100*time.Millisecond, 100*time.Millisecond
			addr := testkit.Start(t, kind).Addr
			var wg sync.WaitGroup
			for range trackers {
				cfg := cfg
				cfg.Sink = newClient(t, addr)
				wg.Go(func() {
					tracker, err := hotkey.New(cfg)
					if err != nil {
						t.Error(err)
						return
					}
					for range rounds {
						for i := range keys {
							read(tracker, fmt.Sprint("key:", i), 10+i)
						}
						flushes := tracker.Stats().Flush.Flushes
						testkit.Await(t, "a flush", func() bool { return tracker.Stats().Flush.Flushes > flushes })
					}
					if err := tracker.Close(); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			cfg.Sink = newClient(t, addr)
			tracker := newTracker(t, cfg)
			for i := range keys {
				want := uint64(trackers * rounds * (10 + i))
				if i < keys-8 {
					want = 0
				}
				if got := scoreOf(t, tracker, fmt.Sprint("key:", i)); got != want {
					t.Errorf("key:%d has %d, want %d", i, got, want)
				}
			}
		})
	}
}

// Scores are halved by whichever program comes first, once.
func TestScoresAreHalvedSoThatTodaysKeysPassThoseOfLastWeek(t *testing.T) {
	for _, kind := range testkit.Kinds {
		t.Run(string(kind), func(t *testing.T) {
			cfg := full(t, kind)
			rdb := newClient(t, addrOf(cfg))
			halved := func() {
				if n := rdb.Del(t.Context(), "{"+hotkey.DefaultReadsKey+"}:halved").Val(); n != 1 { // as if it had expired
					t.Fatal("there is no mark of the last halving")
				}
			}
			if ttl := rdb.PTTL(t.Context(), "{"+hotkey.DefaultReadsKey+"}:halved").Val(); ttl <= 59*time.Minute || time.Hour < ttl {
				t.Errorf("the mark lives for %v, want the half-life", ttl)
			}
			use := func(n int) { flushed(t, cfg, func(tracker *hotkey.Tracker) { read(tracker, "new", n) }) }
			tracker := newTracker(t, cfg)
			use(300)
			if got := scoreOf(t, tracker, "old:19"); got != 1019 {
				t.Errorf("before the half-life: %d", got)
			}
			for range 2 {
				halved()
				use(300)
			}
			if got := scoreOf(t, tracker, "old:19"); got != 255 {
				t.Errorf("after two half-lives: %d, want 255 of 1019", got)
			}
			if got := scoreOf(t, tracker, "new"); got != 300 {
				t.Errorf("the new one has %d, want the 300 since the last halving", got)
			}
			for range 10 {
				halved()
				use(1)
			}
			if got := rdb.ZCard(t.Context(), hotkey.DefaultReadsKey).Val(); got != 1 {
				t.Errorf("%d members, want the one that is used", got)
			}
			if ttl := rdb.PTTL(t.Context(), hotkey.DefaultReadsKey).Val(); ttl <= 0 {
				t.Errorf("the set's TTL is %v", ttl)
			}
		})
	}
}

// What is shared with Baseplate's clients isn't ours to remove.
func TestSetsThatAreSharedWithBaseplateKeepTheirMembersAndScores(t *testing.T) {
	rdb := newClient(t, testkit.Start(t, testkit.Redis).Addr)
	for i := range 1000 {
		rdb.ZIncrBy(t.Context(), hotkey.BaseplateReadsKey, float64(1+i), fmt.Sprint("theirs:", i))
	}
	cfg := everything().WithBaseplateNames()
	cfg.Sink = rdb
	for range 2 {
		flushed(t, cfg, func(tracker *hotkey.Tracker) { read(tracker, "theirs:9", 5); read(tracker, "ours", 7) })
		rdb.Del(t.Context(), "{"+hotkey.BaseplateReadsKey+"}:halved")
	}
	for member, want := range map[string]float64{"theirs:0": 1, "theirs:9": 20, "theirs:999": 1000, "ours": 14} {
		if got := rdb.ZScore(t.Context(), hotkey.BaseplateReadsKey, member).Val(); got != want {
			t.Errorf("%s has %v, want %v", member, got, want)
		}
	}
	if keys := rdb.Keys(t.Context(), "*").Val(); len(keys) != 1 {
		t.Errorf("there are %q", keys)
	}
}

// In a cluster all keys of a script are in one slot.
func TestTheKeysBesideASetAreInItsSlot(t *testing.T) {
	for _, name := range []string{"a}b", "{}a}", "}"} {
		cfg := everything()
		cfg.ReadsKey = name
		if _, err := hotkey.New(cfg); err == nil || !strings.Contains(err.Error(), "ReadsKey is "+name+"; allowed is a name with a hash tag") {
			t.Errorf("%s: %v", name, err)
		}
	}
	cfg := everything()
	cfg.WritesKey = "{" + hotkey.DefaultReadsKey + "}:waiting"
	if _, err := hotkey.New(cfg); err == nil {
		t.Error("one set is beside the other")
	}
	rdb := newClient(t, testkit.Start(t, testkit.Redis).Addr)
	cfg.Sink, cfg.ReadsKey, cfg.WritesKey = rdb, "{shop}reads", "shop writes"
	flushed(t, cfg, func(tracker *hotkey.Tracker) { read(tracker, "a", 1); write(tracker, "a", 1) })
	if n := rdb.Exists(t.Context(), "{shop}reads", "{shop}reads:halved", "shop writes", "{shop writes}:halved").Val(); n != 4 {
		t.Errorf("there are %q", rdb.Keys(t.Context(), "*").Val())
	}
}
