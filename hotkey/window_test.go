package hotkey_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/everpool/everpool/hotkey"
)

func TestTopIsOfTheLastCompleteWindowAndBeforeThatOfTheFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tracker := newTracker(t, everything())
		want := func(when, top string, rate float64) {
			t.Helper()
			got := tracker.Top(hotkey.Reads, 9)
			if counts(got) != top || len(got) > 0 && got[0].Rate != rate {
				t.Errorf("%s: %v, want %s, the first at %v/s", when, got, top, rate)
			}
		}
		read(tracker, "a", 30)
		want("at once", "a=30", 0)
		time.Sleep(5 * time.Second)
		read(tracker, "b", 10)
		want("in the first window", "a=30 b=10", 6)
		time.Sleep(5*time.Second + time.Millisecond)
		synctest.Wait()
		want("after the first window", "a=30 b=10", 3)
		read(tracker, "c", 100)
		want("in the second window", "a=30 b=10", 3)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		want("after the second window", "c=100", 10)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		want("after a window without reads", "", 0)
		if s := tracker.Stats(); s.Reads.Samples != 140 {
			t.Errorf("stats %+v, want 140 samples", s)
		}
	})
}

func TestTopGivesAsManyAsAskedForAndTopNAtMost(t *testing.T) {
	cfg := everything()
	cfg.TopN = 5
	tracker := newTracker(t, cfg)
	for i := range 10 {
		read(tracker, fmt.Sprint("key:", i), 10+i)
	}
	for n, want := range map[int]string{
		-1: "", 0: "", 2: "key:9=19 key:8=18", 100: "key:9=19 key:8=18 key:7=17 key:6=16 key:5=15",
	} {
		if got := counts(tracker.Top(hotkey.Reads, n)); got != want {
			t.Errorf("Top(%d): %s, want %s", n, got, want)
		}
	}
}

func TestAKeyWithAFewPercentOfTheTrafficIsNamedWithinAWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tracker := newTracker(t, hotkey.Config{ReadSampleRate: 0.1})
		f := feed(tracker, "get", "")
		for i := range 200_000 { // 20,000/s
			key := fmt.Sprint("cold:", i)
			if i%20 == 0 {
				key = "hot"
			}
			f.key(key, 1)
			if i%2000 == 0 {
				time.Sleep(100 * time.Millisecond)
			}
		}
		time.Sleep(time.Second)
		synctest.Wait()
		top := tracker.Top(hotkey.Reads, 1)
		if len(top) != 1 || top[0].Key != "hot" || top[0].Rate < 800 || 1200 < top[0].Rate {
			t.Errorf("top %v, want hot with about 1000/s", top)
		}
	})
}

func TestCloseKeepsTheLastCompleteWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tracker := newTracker(t, everything())
		read(tracker, "a", 30)
		time.Sleep(11 * time.Second)
		read(tracker, "b", 30)
		if err := tracker.Close(); err != nil {
			t.Fatal(err)
		}
		read(tracker, "c", 100)
		if got := counts(tracker.Top(hotkey.Reads, 9)); got != "a=30" {
			t.Errorf("after Close: %s", got)
		}
		short := newTracker(t, everything())
		write(short, "d", 5)
		if err := short.Close(); err != nil {
			t.Fatal(err)
		}
		write(short, "d", 5)
		if got := counts(short.Top(hotkey.Writes, 9)); got != "d=5" {
			t.Errorf("closed in its first window: %s", got)
		}
		if s := short.Stats(); s.Writes.Samples != 5 {
			t.Errorf("stats %+v", s)
		}
	})
}

// hotLog notes what OnHot is told.
func hotLog(cfg *hotkey.Config, rate float64) *[]string {
	var log []string
	cfg.HotRate = rate
	cfg.OnHot = func(h hotkey.Hot) { log = append(log, fmt.Sprintf("%v %s %g/s", h.Class, h.Key, h.Rate)) }
	return &log
}

func TestOnHotIsToldOnceUntilTheKeyHasCooled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := everything()
		log := hotLog(&cfg, 10)
		tracker := newTracker(t, cfg)
		for i, step := range []struct {
			reads, writes int // in a window of 10 s
			windows       int
			want          string
		}{
			{99, 50, 1, ""},
			{100, 50, 1, "reads key 10/s"},
			{150, 100, 1, "writes key 10/s"},
			{99, 49, 5, ""}, // reads between half and all: still hot; writes: cooling
			{150, 100, 1, ""},
			{50, 49, 6, ""},
			{150, 100, 1, "writes key 10/s"},
			{0, 0, 5, ""},
			{120, 0, 1, ""},
			{0, 0, 6, ""},
			{120, 0, 1, "reads key 12/s"},
		} {
			*log = nil
			for range step.windows {
				read(tracker, "key", step.reads)
				read(tracker, "cold", 3)
				write(tracker, "key", step.writes)
				time.Sleep(10*time.Second + time.Millisecond/100)
				synctest.Wait()
			}
			if got := strings.Join(*log, ", "); got != step.want {
				t.Errorf("step %d: told %q, want %q", i, got, step.want)
			}
		}
	})
}

func TestOnHotIsToldOnceOfKeysThatTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := everything()
		log := hotLog(&cfg, 10)
		tracker := newTracker(t, cfg)
		for i := range 20 {
			read(tracker, fmt.Sprint("key:", i%2), 200)
			time.Sleep(10*time.Second + time.Millisecond/100)
			synctest.Wait()
		}
		if d := cmp.Diff([]string{"reads key:0 20/s", "reads key:1 20/s"}, *log); d != "" {
			t.Errorf("-want +got\n%s", d)
		}
	})
}

// Keys beyond the top N are watched too, while the sketches have them.
func TestOnHotIsToldOfMoreKeysThanTopN(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := everything()
		cfg.TopN = 2
		log := hotLog(&cfg, 10)
		tracker := newTracker(t, cfg)
		for range 2 {
			for i := range 5 {
				read(tracker, fmt.Sprint("key:", i), 100+10*i)
			}
			time.Sleep(10*time.Second + time.Millisecond/100)
			synctest.Wait()
		}
		want := []string{"reads key:4 14/s", "reads key:3 13/s", "reads key:2 12/s", "reads key:1 11/s", "reads key:0 10/s"}
		if d := cmp.Diff(want, *log); d != "" {
			t.Errorf("-want +got\n%s", d)
		}
	})
}

func TestAPanicInOnHotEndsNothing(t *testing.T) {
	muteLog(t)
	synctest.Test(t, func(t *testing.T) {
		cfg := everything()
		cfg.HotRate = 1
		cfg.OnHot = func(hotkey.Hot) { panic("no") }
		tracker := newTracker(t, cfg)
		for range 2 {
			read(tracker, "key", 20)
			time.Sleep(10*time.Second + time.Millisecond/100)
			synctest.Wait()
		}
		if got := counts(tracker.Top(hotkey.Reads, 9)); got != "key=20" {
			t.Errorf("after the panic: %s", got)
		}
	})
}

// While OnHot blocks, so does the end of windows, but neither Top nor the user.
func TestCloseDoesNotWaitForeverForOnHot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := everything()
		release := make(chan struct{})
		cfg.HotRate = 1
		cfg.OnHot = func(hotkey.Hot) { <-release }
		tracker := newTracker(t, cfg)
		read(tracker, "key", 20)
		time.Sleep(11 * time.Second)
		read(tracker, "key", 20)
		if got := counts(tracker.Top(hotkey.Reads, 9)); got != "key=20" {
			t.Errorf("Top: %s", got)
		}
		begun := time.Now()
		if err := tracker.Close(); err == nil || time.Since(begun) != 2500*time.Millisecond {
			t.Errorf("Close: %v after %v, want an error after 2.5s", err, time.Since(begun))
		}
		close(release)
		synctest.Wait()
	})
}
