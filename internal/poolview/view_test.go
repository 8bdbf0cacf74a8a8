package poolview_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/internal/poolview"
	"github.com/everpool/everpool/pooler"
)

// nodes are what a test says.
type nodes []pooler.NodeStatus

func (n *nodes) Nodes() []pooler.NodeStatus { return *n }

// collect is what a view of some metrics says.
func collect(t *testing.T, v *poolview.View, read func() []poolview.Pool) map[string]float64 {
	t.Helper()
	got := make(map[string]float64)
	err := v.Collect(read, func(p *poolview.Pool) string { return p.Addr }, func(s poolview.Series, n int64) {
		name := s.Prometheus + "{" + s.Pool + " " + s.Value + "}"
		if _, there := got[name]; there {
			t.Errorf("%s is told twice", name)
		}
		got[name] = s.Float(n)
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func view(names ...string) *poolview.View {
	return &poolview.View{Metrics: poolview.Metrics(func(m *poolview.Metric) bool {
		return strings.Contains(" "+strings.Join(names, " ")+" ", " "+m.Prometheus+" ")
	})}
}

// What has the same name is put together: numbers and counters add up, of times the
// longest counts, and a node is up if all of it is. Whatever has no bound, has none
// together with others either.
func TestPoolsOfOneNameAreOne(t *testing.T) {
	node := func(addr string, state pooler.State, n int) pooler.NodeStatus {
		return pooler.NodeStatus{Addr: addr, State: state, Stats: pooler.Stats{
			MaxOpenConnections: n, Waiting: n, OldestWaiter: time.Duration(n) * time.Second, WaitCount: int64(n),
		}}
	}
	all := &nodes{node("a", pooler.StateUp, 1), node("a", pooler.StateDown, 2), node("b", pooler.StateSuspect, 4), node("b", pooler.StateUp, -1)}
	var w poolview.Watched
	if _, err := w.Add(all); err != nil {
		t.Fatal(err)
	}
	v := view("redis_client_pool_waiting_requests", "redis_client_pool_max_connections", "redis_client_pool_oldest_waiter_seconds",
		"redis_client_pool_waits_total", "redis_client_pool_node_up", "redis_client_pool_max_size")
	got := collect(t, v, w.Pools)
	for name, want := range map[string]string{
		"redis_client_pool_waiting_requests{a }":      "3",
		"redis_client_pool_max_connections{a }":       "3",
		"redis_client_pool_max_connections{b }":       "+Inf",
		"redis_client_pool_max_size{ }":               "+Inf",
		"redis_client_pool_oldest_waiter_seconds{a }": "2",
		"redis_client_pool_waits_total{a }":           "3",
		"redis_client_pool_node_up{a }":               "0",
		"redis_client_pool_node_up{b }":               "1",
	} {
		if fmt.Sprint(got[name]) != want {
			t.Errorf("%s is %v, want %s", name, got[name], want)
		}
	}
}

// Drivers are told apart also if their nodes aren't, and one that is watched no more
// leaves what it has counted.
func TestDriversComeAndGo(t *testing.T) {
	one, two := &nodes{{Addr: "a", Stats: pooler.Stats{WaitCount: 5}}}, &nodes{{Addr: "a", Stats: pooler.Stats{WaitCount: 7}}}
	var w poolview.Watched
	stop, err := w.Add(one)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Add(one); err == nil {
		t.Error("the same twice")
	}
	if _, err := w.Add(two); err != nil {
		t.Fatal(err)
	}
	v := view("redis_client_pool_waits_total")
	const waits = "redis_client_pool_waits_total{a }"
	if got := collect(t, v, w.Pools); got[waits] != 12 {
		t.Errorf("both: %v", got)
	}
	stop()
	stop()
	(*two)[0].Stats.WaitCount = 8
	if got := collect(t, v, w.Pools); got[waits] != 13 {
		t.Errorf("one: %v", got)
	}
	w.Clear()
	if got := collect(t, v, w.Pools); w.Any() || len(got) != 0 {
		t.Errorf("none: %v", got)
	}
}

// Of go-redis's own pool there is what the table says, and nothing else.
func TestAStockPoolTellsWhatItKnows(t *testing.T) {
	rdb := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1", PoolSize: 4, PipelinePoolSize: -1})
	defer rdb.Close()
	got := collect(t, &poolview.View{Metrics: poolview.Metrics(func(m *poolview.Metric) bool { return m.Prometheus != "" && m.Preset == "" })},
		func() []poolview.Pool { return poolview.StockPools(rdb) })
	want := map[string]float64{
		"redis_client_pool_connections{127.0.0.1:1 idle}":      0,
		"redis_client_pool_connections{127.0.0.1:1 used}":      0,
		"redis_client_pool_max_connections{127.0.0.1:1 }":      4,
		"redis_client_pool_closes_total{127.0.0.1:1 stale}":    0,
		"redis_client_pool_waiting_requests{127.0.0.1:1 }":     0,
		"redis_client_pool_waits_total{127.0.0.1:1 }":          0,
		"redis_client_pool_wait_seconds_total{127.0.0.1:1 }":   0,
		"redis_client_pool_timeouts_total{127.0.0.1:1 }":       0,
		"redis_client_pool_requests_total{127.0.0.1:1 leased}": 0,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
