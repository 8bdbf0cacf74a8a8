package driver_test

import (
	"context"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
)

func TestTheDriversKnobsTurnAllNodesAndThoseToCome(t *testing.T) {
	d := newDriver(t, driver.Config{})
	ctx := context.Background()
	use := func() {
		rdb := redis.NewClient(d.Options(&redis.Options{Addr: miniredis.RunT(t).Addr()}))
		t.Cleanup(func() { _ = rdb.Close() })
		if err := rdb.Ping(ctx).Err(); err != nil {
			t.Fatal(err)
		}
	}
	use()
	d.SetMaxOpenConns(3)
	d.SetMaxIdleConns(-1)
	use()
	for _, n := range d.Nodes() {
		if n.Stats.MaxOpenConnections != 3 || n.Stats.Idle != 0 {
			t.Errorf("%s: %d connections allowed, %d idle, want 3 and none", n.Addr, n.Stats.MaxOpenConnections, n.Stats.Idle)
		}
	}
}
