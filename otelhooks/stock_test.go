package otelhooks_test

import (
	"strings"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/otelhooks"
)

func (t *tester) stock(c otelhooks.PoolStatser, name string) *otelhooks.StockPool {
	t.Helper()
	r, err := otelhooks.NewStockPool(name, c, otelhooks.WithMeterProvider(t.meters))
	t.must(err)
	t.Cleanup(func() { r.Close() })
	return r
}

func TestAStockClientHasTwoPools(tt *testing.T) {
	t := newTester(tt)
	server := miniredis.RunT(t)
	c := redis.NewClient(&redis.Options{Addr: server.Addr(), DB: 2, PoolSize: 7, MinIdleConns: 0, MaxIdleConns: 5, PipelinePoolSize: 3})
	defer c.Close()
	r := t.stock(c, "")
	t.must(c.Ping(t.ctx).Err())
	held := c.Conn()
	t.must(held.Ping(t.ctx).Err())
	pipe := c.Pipeline()
	pipe.Ping(t.ctx)
	_, err := pipe.Exec(t.ctx)
	t.must(err)
	name := server.Addr() + "/2"
	t.want("metrics", t.collectPoints(), map[string]map[string]int64{
		"db.client.connection.count": {
			name + " idle": 0, name + " used": 1, name + "/pipeline idle": 1, name + "/pipeline used": 0,
		},
		"db.client.connection.max":              {name: 7, name + "/pipeline": 3},
		"db.client.connection.idle.max":         {name: 5},
		"db.client.connection.idle.min":         {name: 0},
		"db.client.connection.pending_requests": {name: 0, name + "/pipeline": 0},
		"db.client.connection.timeouts":         {name: 0, name + "/pipeline": 0},
	})
	t.must(held.Close())
	t.must(r.Close())
	t.must(r.Close())
	t.want("after Close", len(t.collectPoints()), 0)
}

func TestAPoolOfSeveralNodesHasNoBounds(tt *testing.T) {
	t := newTester(tt)
	ring, _ := t.ring()
	t.stock(ring, "ring")
	t.must(ring.Ping(t.ctx).Err())
	got := t.collectPoints()
	for _, name := range []string{"max", "idle.max", "idle.min", "pending_requests"} {
		t.want(name, len(got["db.client.connection."+name]), 0)
	}
	t.want("idle", got["db.client.connection.count"]["ring idle"], int64(1))
}

// leaving is a cluster client whose nodes come and go.
type leaving struct{ timeouts uint32 }

func (l *leaving) PoolStats() *redis.PoolStats {
	return &redis.PoolStats{Timeouts: l.timeouts, TotalConns: 1, IdleConns: 2}
}

func TestAStockCounterNeverDecreases(tt *testing.T) {
	t := newTester(tt)
	c := &leaving{}
	t.stock(c, "cluster")
	for _, step := range []struct{ raw, want int64 }{{10, 10}, {4, 10}, {10, 10}, {0, 10}, {11, 11}} {
		c.timeouts = uint32(step.raw)
		got := t.collectPoints()
		t.want("timeouts", got["db.client.connection.timeouts"]["cluster"], step.want)
		t.want("used", got["db.client.connection.count"]["cluster used"], int64(0))
	}
}

func TestTwoStockPoolsAreToldApart(tt *testing.T) {
	t := newTester(tt)
	t.stock(&leaving{timeouts: 1}, "a")
	r := t.stock(&leaving{timeouts: 2}, "b")
	t.want("both", t.collectPoints()["db.client.connection.timeouts"], map[string]int64{"a": 1, "b": 2})
	t.must(r.Close())
	t.want("one", t.collectPoints()["db.client.connection.timeouts"], map[string]int64{"a": 1})
}

func TestNewStockPoolRefuses(tt *testing.T) {
	if _, err := otelhooks.NewStockPool("name", nil); err == nil {
		tt.Error("nil")
	}
	for _, name := range []string{"redis://:hunter2@h:1", "u:hunter2@h:1"} {
		if _, err := otelhooks.NewStockPool(name, &leaving{}); err == nil || strings.Contains(err.Error(), "hunter2") {
			tt.Errorf("%q: %v", name, err)
		}
	}
	_, err := otelhooks.NewStockPool("", &leaving{}, otelhooks.WithMeterProvider(nil))
	for _, want := range []string{"name is", "WithMeterProvider"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			tt.Errorf("%v: want it to have %q", err, want)
		}
	}
}
