package hotkey_test

import (
	"context"
	"fmt"
	"strings"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/hooks"
	"github.com/everpool/everpool/hotkey"
)

// A tracker watches a client, and flushes to it.
func Example() {
	server, err := miniredis.Run() // or a real one
	if err != nil {
		fmt.Println(err)
		return
	}
	defer server.Close()
	rdb := redis.NewClient(&redis.Options{Addr: server.Addr()})
	defer rdb.Close()

	tracker, err := hotkey.New(hotkey.Config{
		ReadSampleRate:  1, // of a busy program, 0.01 is plenty
		WriteSampleRate: 1,
		Sink:            rdb,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	hook, err := hooks.New(tracker)
	if err != nil {
		fmt.Println(err)
		return
	}
	if _, err := hook.Attach(rdb); err != nil {
		fmt.Println(err)
		return
	}

	ctx := context.Background()
	rdb.Set(ctx, "greeting", "hello", 0)
	for range 20 {
		rdb.Get(ctx, "greeting")
	}
	for range 10 {
		rdb.MGet(ctx, "greeting", "other")
	}
	rdb.Get(ctx, "used once")

	for _, c := range tracker.Top(hotkey.Reads, 10) {
		fmt.Println("read:", c.Key, c.Count)
	}
	if err := tracker.Close(); err != nil { // flushes what there is
		fmt.Println(err)
		return
	}
	for _, z := range rdb.ZRevRangeWithScores(ctx, hotkey.DefaultWritesKey, 0, 9).Val() {
		fmt.Println("written:", z.Member, z.Score)
	}
	// Output:
	// read: greeting 30
	// read: other 10
	// written: greeting 1
}

// Keys that differ by a number only are counted as one.
func ExampleConfig_normalize() {
	cfg := hotkey.Config{
		ReadSampleRate: 1,
		Normalize: func(key string) string {
			kind, _, _ := strings.Cut(key, ":")
			return kind + ":*"
		},
	}
	tracker, err := hotkey.New(cfg)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer tracker.Close()
	for _, key := range []string{"user:1", "user:2", "item:1"} {
		read(tracker, key, 10) // as the hook does
	}
	for _, c := range tracker.Top(hotkey.Reads, 10) {
		fmt.Println(c.Key, c.Count)
	}
	// Output:
	// user:* 20
	// item:* 10
}

func ExampleConfigFromURL() {
	cfg, rest, err := hotkey.ConfigFromURL("redis://localhost:6379/1?track_key_reads_sample_rate=0.01&track_key_ttl=12h&read_timeout=1s", hotkey.Config{})
	fmt.Println(cfg.ReadSampleRate, cfg.WriteSampleRate, cfg.TTL)
	fmt.Println(rest, err)
	// Output:
	// 0.01 0 12h0m0s
	// redis://localhost:6379/1?read_timeout=1s <nil>
}
