package driver_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/internal/testkit"
)

// withShard runs the test with the client of a ring's only shard, which is well, and its
// heartbeat.
func withShard(t *testing.T, run func(t *lab, rdb *redis.Client, beats func() bool)) {
	t.Helper()
	inLab(t, driver.Config{}, func(t *lab) {
		o := t.d.RingOptions(&redis.RingOptions{Addrs: map[string]string{"one": labAddr}})
		rdb := t.client()
		beats := func() bool { return o.HeartbeatFn(t.Context(), rdb) }
		if !beats() {
			t.Fatal("the shard isn't well")
		}
		run(t, rdb, beats)
	})
}

// A machine on which all is slow must not lose its ring: keys would be looked for, and
// written, elsewhere. A shard that stays silent is out sooner than the stock client's.
func TestAShardIsNotTakenOutForBeingSilentForAMoment(t *testing.T) {
	withShard(t, func(t *lab, rdb *redis.Client, beats func() bool) {
		t.f.Freeze(true)
		go rdb.Get(t.Context(), "k")
		silent := false
		for range 10 { // a second
			time.Sleep(100 * time.Millisecond)
			silent = silent || t.d.Nodes()[0].Silent
			if !beats() {
				t.Fatalf("out while it is silent: %v", t.d.Nodes()[0].State)
			}
		}
		if !silent {
			t.Error("nothing has noticed the silence")
		}
		time.Sleep(10 * time.Second)
		if beats() {
			t.Errorf("well after 11 s of silence: %v", t.d.Nodes()[0].State)
		}
		t.f.Freeze(false)
	})
}

// The stock client's heartbeat dials, so that the first one finds a shard that is back.
func TestTheFirstHeartbeatFindsAShardThatIsBack(t *testing.T) {
	withShard(t, func(t *lab, rdb *redis.Client, beats func() bool) {
		t.f.DownRefused()
		go rdb.Get(t.Context(), "k") // notices it
		for range 60 {               // half a minute
			time.Sleep(500 * time.Millisecond)
			if beats() {
				t.Fatal("well while the shard is away")
			}
		}
		t.f.Up()
		if !beats() {
			t.Errorf("not well though it is back: %v", t.d.Nodes()[0].State)
		}
	})
}

// A shard that swallows dials holds up the heartbeats of others for a moment only.
func TestAHeartbeatWaitsForNoDialThatHangs(t *testing.T) {
	withShard(t, func(t *lab, rdb *redis.Client, beats func() bool) {
		t.f.DownRefused()
		go rdb.Get(t.Context(), "k") // notices it
		time.Sleep(500 * time.Millisecond)
		t.f.HangDials(true)
		for range 60 {
			time.Sleep(500 * time.Millisecond)
			began := time.Now()
			if beats() {
				t.Fatal("well while the shard is away")
			}
			if took := time.Since(began); took > 50*time.Millisecond {
				t.Fatalf("a heartbeat took %v", took)
			}
		}
		t.f.HangDials(false)
	})
}

// shardsAt names so many shards, from that number on.
func shardsAt(from, n int) map[string]string {
	addrs := make(map[string]string)
	for i := from; i < from+n; i++ {
		addrs[fmt.Sprint(i)] = fmt.Sprintf("10.0.0.%d:6379", i+1)
	}
	return addrs
}

func (l *lab) ring(o *redis.RingOptions) *redis.Ring {
	rdb := redis.NewRing(l.d.RingOptions(o))
	l.Cleanup(func() { _ = rdb.Close() })
	return rdb
}

// A ring whose shards are replaced over and over leaves nothing of those that it has no
// more, well or ill; what another client has made stays.
func TestShardsThatARingHasNoMoreAreForgotten(t *testing.T) {
	inLab(t, driver.Config{}, func(t *lab) {
		other := t.client() // of a shard
		if err := errors.Join(other.Ping(t.Context()).Err(), other.Close()); err != nil {
			t.Fatal(err)
		}
		ring := t.ring(&redis.RingOptions{Addrs: shardsAt(0, 3)})
		for i := range 20 {
			ring.SetAddrs(shardsAt(3*i, 3))
			for key := range 20 {
				if err := ring.Set(t.Context(), fmt.Sprint(key), "x", 0).Err(); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(time.Second)
			if i%2 == 1 {
				t.f.DownRefused()
				time.Sleep(time.Second)
				ring.SetAddrs(shardsAt(3*i+1, 2))
				time.Sleep(10 * time.Second)
				if n := len(t.d.Nodes()); n != 3 {
					t.Errorf("%d nodes while all are away, want the two shards and the other client's", n)
				}
				t.f.Up()
				time.Sleep(5 * time.Second)
			}
		}
		time.Sleep(10 * time.Second)
		if n := len(t.d.Nodes()); n != 3 {
			t.Errorf("%d nodes, want the two shards and the other client's", n)
		}
	})
}

// Shards are asked for no maintenance notifications, as single nodes aren't, whoever makes
// their clients.
func TestARingAsksForNoMaintenanceNotifications(t *testing.T) {
	for name, newClient := range map[string]func(*redis.Options) *redis.Client{"": nil, "NewClient": redis.NewClient} {
		t.Run(name, func(t *testing.T) {
			inLab(t, driver.Config{}, func(t *lab) {
				ring := t.ring(&redis.RingOptions{Addrs: shardsAt(0, 2), NewClient: newClient})
				if err := ring.Set(t.Context(), "k", "x", 0).Err(); err != nil {
					t.Error(err)
				}
				for _, c := range t.f.Commands() {
					if strings.Contains(strings.ToUpper(c), "MAINT_NOTIFICATIONS") {
						t.Errorf("executed: %s", c)
					}
				}
			})
		})
	}
}

// heartbeatFns are what programs give to a ring.
var heartbeatFns = map[string]func(context.Context, *redis.Client) bool{
	"none": nil,
	"PING": func(ctx context.Context, c *redis.Client) bool { return c.Ping(ctx).Err() == nil },
	"PING with its time": func(ctx context.Context, c *redis.Client) bool {
		return c.WithTimeout(100*time.Millisecond).Ping(ctx).Err() == nil
	},
	"PING of its own ctx": func(_ context.Context, c *redis.Client) bool {
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		defer cancel()
		return c.Ping(ctx).Err() == nil
	},
}

// Whatever a program's heartbeat is, who waits for a shard that has died goes to another one
// when the ring has it no more, which is soon, and the ring is healthy.
func TestWhoWaitsForAShardGoesOnWhateverTheHeartbeatIs(t *testing.T) {
	for name, beat := range heartbeatFns {
		t.Run(name, func(t *testing.T) {
			inServers(t, 2, func(m *managed) {
				d := newDriver(m.T, driver.Config{Dial: m.dial, Logger: slog.New(slog.DiscardHandler)})
				addrs := map[string]string{"1": "10.0.0.1:6379", "2": "10.0.0.2:6379"}
				ring := redis.NewRing(d.RingOptions(&redis.RingOptions{Addrs: addrs, HeartbeatFn: beat}))
				const keys = 40
				for i := range keys { // on both
					if err := ring.Set(m.Context(), fmt.Sprint(i), "v", 0).Err(); err != nil {
						m.Fatal(err)
					}
				}
				m.server(2).DownRefused()
				began := time.Now()
				var wg sync.WaitGroup
				for i := range keys {
					wg.Go(func() {
						if err := ring.Set(m.Context(), fmt.Sprint(i), "v", 0).Err(); err != nil {
							m.Errorf("%v after %s", err, time.Since(began))
						}
					})
				}
				wg.Wait()
				if took := time.Since(began); took > 2*time.Second { // three heartbeats, and what they wait
					m.Errorf("calls took %s", took)
				}
				if err := d.Health(m.Context()); err != nil {
					m.Errorf("health with one of two shards: %v", err)
				}
				m.server(2).Up()
				time.Sleep(5 * time.Second)
				if n := ring.Len(); n != 2 {
					m.Errorf("%d shards when both are back", n)
				}
				_ = ring.Close()
			})
		})
	}
}

// A shard that dies while nobody calls is out before the next call.
func TestAnIdleShardThatDiesIsTakenOut(t *testing.T) {
	for fault, fell := range map[string]func(*testkit.Fake){
		"refuses": (*testkit.Fake).DownRefused, "is silent": func(f *testkit.Fake) { f.Freeze(true) },
	} {
		t.Run(fault, func(t *testing.T) {
			inServers(t, 2, func(m *managed) {
				d := newDriver(m.T, driver.Config{Dial: m.dial, Logger: slog.New(slog.DiscardHandler)})
				addrs := map[string]string{"1": "10.0.0.1:6379", "2": "10.0.0.2:6379"}
				ring := redis.NewRing(d.RingOptions(&redis.RingOptions{Addrs: addrs}))
				for i := range 40 {
					if err := ring.Set(m.Context(), fmt.Sprint(i), "v", 0).Err(); err != nil {
						m.Fatal(err)
					}
				}
				time.Sleep(time.Minute)
				if n := ring.Len(); n != 2 {
					m.Errorf("%d shards after a quiet minute, want 2", n)
				}
				fell(m.server(2))
				time.Sleep(20 * time.Second)
				if n := ring.Len(); n != 1 {
					m.Errorf("%d shards after 20 s, want 1", n)
				}
				began := time.Now()
				for i := range 40 {
					if err := ring.Set(m.Context(), fmt.Sprint(i), "v", 0).Err(); err != nil {
						m.Error(err)
					}
				}
				if took := time.Since(began); took != 0 {
					m.Errorf("calls took %s", took)
				}
				m.server(2).Freeze(false)
				m.server(2).Up()
				time.Sleep(10 * time.Second)
				if n := ring.Len(); n != 2 {
					m.Errorf("%d shards when both are back", n)
				}
				_ = ring.Close()
			})
		})
	}
}
