package hotkey_test

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/hotkey"
)

func TestNewNamesAllThatIsWrong(t *testing.T) {
	var none *redis.Client
	cfg := hotkey.Config{
		ReadSampleRate: -0.5, WriteSampleRate: math.NaN(), MaxSamplesPerSecond: -2, TopN: 1001,
		Window: time.Millisecond, MaxKeyLen: 15, HotRate: 3, Sink: none, ReadsKey: "same", WritesKey: "same",
		TTL: time.Millisecond, FlushInterval: -time.Second, FlushTimeout: -1, MaxMembers: -2, HalfLife: time.Millisecond,
		Client: "redis://:hunter2@h",
	}
	tracker, err := hotkey.New(cfg)
	if err == nil {
		_ = tracker.Close()
		t.Fatal("no error")
	}
	if !errors.Is(err, hotkey.ErrConfig) {
		t.Errorf("%v is no ErrConfig", err)
	}
	for _, want := range []string{
		"ReadSampleRate is -0.5; allowed are 0, and 1e-9 to 1", "WriteSampleRate is NaN", "MaxSamplesPerSecond is -2", "TopN is 1001; allowed is 1 to 1000",
		"Window is 1ms; allowed is 100ms to 1h", "MaxKeyLen is 15", "HotRate is 3; allowed without OnHot is 0",
		"Sink is a nil *redis.Client", "WritesKey is same", "TTL is 1ms", "FlushInterval is -1s", "FlushTimeout is -1ns",
		"MaxMembers is -2; allowed are 1 to 100000", "HalfLife is 1ms; allowed are 1s to 87600h", "Client is like a URL",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error\n%v\ndoesn't say %q", err, want)
		}
	}
	if strings.Contains(err.Error(), "hunter2") {
		t.Errorf("%v shows what it must not", err)
	}
	if n := strings.Count(err.Error(), "\n") + 1; n != 15 {
		t.Errorf("%d errors, want 15:\n%v", n, err)
	}
}

func TestOnHotWantsARate(t *testing.T) {
	for _, rate := range []float64{0, -1, math.Inf(1), math.NaN()} {
		err := hotkey.Config{OnHot: func(hotkey.Hot) {}, HotRate: rate}.Validate()
		if err == nil || !strings.Contains(err.Error(), "HotRate is") {
			t.Errorf("HotRate %v: %v", rate, err)
		}
	}
}

func TestTheZeroConfigIsValidAndTracksNothing(t *testing.T) {
	tracker := newTracker(t, hotkey.Config{})
	read(tracker, "key", 100)
	write(tracker, "key", 100)
	for _, class := range []hotkey.Class{hotkey.Reads, hotkey.Writes, 2, 255} {
		if top := tracker.Top(class, 10); len(top) != 0 {
			t.Errorf("%v: %v", class, top)
		}
	}
	if s := tracker.Stats(); s != (hotkey.Stats{}) {
		t.Errorf("stats %+v", s)
	}
	for range 2 {
		if err := tracker.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
}

func TestWithBaseplateNames(t *testing.T) {
	cfg := hotkey.Config{TopN: 7}.WithBaseplateNames()
	if cfg.ReadsKey != "baseplate-hot-key-tracker-reads" || cfg.WritesKey != "baseplate-hot-key-tracker-writes" || !cfg.FlushSamples || cfg.TopN != 7 || cfg.MaxMembers != -1 || cfg.HalfLife != -1 {
		t.Errorf("%+v", cfg)
	}
}

// What is far beyond use would overflow where times are added or counts scaled.
func TestBoundsOfTimesAndRates(t *testing.T) {
	const forever = time.Duration(math.MaxInt64)
	for want, cfg := range map[string]hotkey.Config{
		"FlushTimeout is 24h0m0.000000001s; allowed is 1ms to 24h": {FlushTimeout: 24*time.Hour + 1},
		"FlushTimeout is 2562047h":                                 {FlushTimeout: forever},
		"FlushInterval is 24h0m0.000000001s; allowed is 100ms to":  {FlushInterval: 24*time.Hour + 1},
		"Window is 1h0m0.000000001s; allowed is 100ms to 1h":       {Window: time.Hour + 1},
		"TTL is 2562047h47m16.854775807s; allowed is 1s to 87600h": {TTL: forever},
		"ReadSampleRate is 9e-10; allowed are 0, and 1e-9 to 1":    {ReadSampleRate: 9e-10},
		"WriteSampleRate is 5e-324; allowed are 0, and 1e-9 to 1":  {WriteSampleRate: math.SmallestNonzeroFloat64},
	} {
		if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	most := hotkey.Config{
		ReadSampleRate: 1e-9, WriteSampleRate: 1e-9,
		FlushTimeout: 24 * time.Hour, FlushInterval: 24 * time.Hour, Window: time.Hour, TTL: 87_600 * time.Hour,
	}
	if err := most.Validate(); err != nil {
		t.Errorf("at the bounds: %v", err)
	}
}
