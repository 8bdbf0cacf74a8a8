package driver_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
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
