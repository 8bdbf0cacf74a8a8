package driver_test

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
)

// A machine on which all is slow must not lose its ring: keys would be looked for, and
// written, elsewhere. A shard that stays silent is out sooner than the stock client's.
func TestAShardIsNotTakenOutForBeingSilentForAMoment(t *testing.T) {
	inLab(t, driver.Config{}, func(t *lab) {
		o := t.d.RingOptions(&redis.RingOptions{Addrs: map[string]string{"one": labAddr}})
		rdb := t.client()
		beats := func() bool { return o.HeartbeatFn(t.Context(), rdb) }
		if !beats() {
			t.Fatal("the shard isn't well")
		}
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
