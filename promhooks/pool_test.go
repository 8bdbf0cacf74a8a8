package promhooks_test

import (
	"errors"
	"math"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/pooler"
	"github.com/everpool/everpool/promhooks"
)

// A scrape says what the pools' statistics say.
func TestAScrapeReadsTheStatistics(t *testing.T) {
	p := must(promhooks.NewPool("test"))(t)
	reg := registry(t, p)
	if got := gather(t, reg).starting("redis_client_pool"); len(got) != 0 {
		t.Errorf("before Watch there are %q", got)
	}
	stop := see(t, p, &nodes{{Network: "tcp", Addr: "a:6379", State: pooler.StateSuspect, Stats: pooler.Stats{
		MaxOpenConnections: 10, OpenConnections: 7, InUse: 5, Idle: 2, Lanes: 2,
		Pinned: 1, Draining: 1, Waiting: 14, OldestExchange: 750 * time.Millisecond, InFlight: 15, Answered: 16, Failed: 22, SentAway: 5, Abandoned: 18,
		WaitCount: 11, WaitDuration: 1500 * time.Millisecond, OldestWaiter: 250 * time.Millisecond, Awaiting: 8, WaitTimeouts: 12,
		Dials: 20, DialErrors: 3, Dialing: 1, Shared: 100, Leased: 30, Resent: 2, Moved: 4, Unknown: 5,
		Closes: map[pooler.CloseReason]int64{pooler.CloseIdle: 6, "new reason": 1}, Pins: map[string]int64{"watch": 9},
	}}})
	gather(t, reg).want(t, samples{
		`redis_client_pool_connections{node="a:6379",state="idle"}`:         2,
		`redis_client_pool_connections{node="a:6379",state="used"}`:         1,
		`redis_client_pool_connections{node="a:6379",state="pinned"}`:       1,
		`redis_client_pool_connections{node="a:6379",state="draining"}`:     1,
		`redis_client_pool_dialing{node="a:6379"}`:                          1,
		`redis_client_pool_waiting_requests{node="a:6379"}`:                 14,
		`redis_client_pool_oldest_exchange_seconds{node="a:6379"}`:          .75,
		`redis_client_pool_requests_in_flight{node="a:6379"}`:               15,
		`redis_client_pool_results_total{node="a:6379",result="answered"}`:  16,
		`redis_client_pool_results_total{node="a:6379",result="failed"}`:    17,
		`redis_client_pool_results_total{node="a:6379",result="sent_away"}`: 5,
		`redis_client_pool_results_total{node="a:6379",result="abandoned"}`: 18,
		`redis_client_pool_connections{node="a:6379",state="shared"}`:       2,
		`redis_client_pool_max_connections{node="a:6379"}`:                  10,
		`redis_client_pool_waits_total{node="a:6379"}`:                      11,
		`redis_client_pool_wait_seconds_total{node="a:6379"}`:               1.5,
		`redis_client_pool_oldest_waiter_seconds{node="a:6379"}`:            .25,
		`redis_client_pool_awaiting_node{node="a:6379"}`:                    8,
		`redis_client_pool_timeouts_total{node="a:6379"}`:                   12,
		`redis_client_pool_dials_total{node="a:6379",outcome="ok"}`:         16,
		`redis_client_pool_dials_total{node="a:6379",outcome="error"}`:      3,
		`redis_client_pool_closes_total{node="a:6379",reason="idle"}`:       6,
		`redis_client_pool_closes_total{node="a:6379",reason="new reason"}`: 1,
		`redis_client_pool_closes_total{node="a:6379",reason="lifetime"}`:   0,
		`redis_client_pool_pins_total{node="a:6379",reason="watch"}`:        9,
		`redis_client_pool_requests_total{node="a:6379",way="shared"}`:      100,
		`redis_client_pool_requests_total{node="a:6379",way="leased"}`:      30,
		`redis_client_pool_retries_total{kind="resent",node="a:6379"}`:      2,
		`redis_client_pool_retries_total{kind="moved",node="a:6379"}`:       4,
		`redis_client_pool_unknown_outcomes_total{node="a:6379"}`:           5,
		`redis_client_pool_node_up{node="a:6379"}`:                          1, // suspect isn't down
		`redis_client_pool_heal_seconds_count{node="a:6379"}`:               0,
	})
	stop()
	stop()
	stop = see(t, p, &nodes{{Addr: "b:6379", State: pooler.StateDown, Stats: pooler.Stats{MaxOpenConnections: -1}}})
	gather(t, reg).want(t, samples{
		`redis_client_pool_node_up{node="b:6379"}`:         0,
		`redis_client_pool_max_connections{node="b:6379"}`: math.Inf(1),
		`redis_client_pool_node_up{node="a:6379"}`:         math.NaN(),
	})
	stop()
	if got := gather(t, reg).starting("redis_client_pool"); len(got) != 0 {
		t.Errorf("after the end there are %q", got)
	}
}

// Nodes of one address are one node: their statistics are added up, and when one
// leaves no counter falls.
func TestNodesOfOneAddressAreAddedUp(t *testing.T) {
	status := func(tls bool, state pooler.State, n int64) pooler.NodeStatus {
		return pooler.NodeStatus{Network: "tcp", Addr: "a:6379", TLS: tls, State: state, Stats: pooler.Stats{
			MaxOpenConnections: 10, OpenConnections: 2, Idle: 1, InUse: 1,
			OldestWaiter: time.Duration(n) * time.Second, WaitCount: n, Shared: n,
			Closes: map[pooler.CloseReason]int64{pooler.CloseIdle: n}, Pins: map[string]int64{"watch": n},
		}}
	}
	all := nodes{status(true, pooler.StateDown, 7), status(false, pooler.StateUp, 100)}
	p := must(promhooks.NewPool("test"))(t)
	see(t, p, &all)
	reg := registry(t, p)
	counters := func(n float64) samples {
		return samples{
			`redis_client_pool_waits_total{node="a:6379"}`:                 n,
			`redis_client_pool_requests_total{node="a:6379",way="shared"}`: n,
			`redis_client_pool_closes_total{node="a:6379",reason="idle"}`:  n,
			`redis_client_pool_pins_total{node="a:6379",reason="watch"}`:   n,
		}
	}
	got := gather(t, reg)
	got.want(t, counters(107))
	got.want(t, samples{
		`redis_client_pool_connections{node="a:6379",state="idle"}`: 2,
		`redis_client_pool_max_connections{node="a:6379"}`:          20,
		`redis_client_pool_oldest_waiter_seconds{node="a:6379"}`:    100,
		`redis_client_pool_node_up{node="a:6379"}`:                  0, // one of them is down
	})
	all = nodes{status(false, pooler.StateUp, 102)}
	gather(t, reg).want(t, counters(109)) // the other one goes on
	all = nodes{status(true, pooler.StateUp, 7), status(false, pooler.StateUp, 112)}
	gather(t, reg).want(t, counters(119)) // it is back, with what it had: nothing is counted twice
	all = nodes{status(false, pooler.StateUp, 111)}
	gather(t, reg).want(t, counters(119))
	// It is gone for a scrape and comes back: all of a new pool is added.
	all = nil
	if left := gather(t, reg).starting("redis_client_pool"); len(left) != 0 {
		t.Errorf("of a node that is gone there are %q", left)
	}
	all = nodes{status(false, pooler.StateUp, 3)}
	gather(t, reg).want(t, counters(122))
}

// Two scrapes at a time never see a counter fall.
func TestConcurrentScrapesSeeRisingCounters(t *testing.T) {
	n := &growing{}
	p := must(promhooks.NewPool("test"))(t)
	see(t, p, n)
	reg := registry(t, p)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			last := 0.0
			for range 100 {
				v := gather(t, reg)[`redis_client_pool_waits_total{node="a:1"}`]
				if v <= last {
					t.Errorf("%v after %v", v, last)
				}
				last = v
			}
		})
	}
	wg.Wait()
	// 400 scrapes have read 1 to 400: nothing was taken for a restart.
	gather(t, reg).want(t, samples{`redis_client_pool_waits_total{node="a:1"}`: 401})
}

// growing are statistics that are one more each time that they are read.
type growing struct {
	mu sync.Mutex
	n  int64
}

func (g *growing) Nodes() []pooler.NodeStatus {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.n++
	return []pooler.NodeStatus{{Addr: "a:1", Stats: pooler.Stats{WaitCount: g.n}}}
}

// Events fill what statistics don't have.
func TestEventsAreCounted(t *testing.T) {
	p := must(promhooks.NewPool("test", promhooks.WithRedisManagerNames()))(t)
	reg := registry(t, p)
	p.OnEvent(pooler.Event{Kind: pooler.EventDial, Node: "a:1", Duration: 2 * time.Millisecond})
	p.OnEvent(pooler.Event{Kind: pooler.EventDial, Node: "a:1", Duration: time.Second, Err: errors.New("no")})
	p.OnEvent(pooler.Event{Kind: pooler.EventState, Node: "a:1", State: pooler.StateDown, Previous: pooler.StateSuspect})
	p.OnEvent(pooler.Event{Kind: pooler.EventState, Node: "a:1", State: pooler.StateUp, Previous: pooler.StateDown, Duration: 4 * time.Second})
	p.OnEvent(pooler.Event{Kind: pooler.EventClose, Node: "a:1", Reason: pooler.CloseIdle})
	gather(t, reg).want(t, samples{
		`redis_client_dial_duration_seconds_count{outcome="ok",pool="everpool"}`:    1,
		`redis_client_dial_duration_seconds_sum{outcome="ok",pool="everpool"}`:      .002,
		`redis_client_dial_duration_seconds_count{outcome="error",pool="everpool"}`: 1,
		`redis_client_pool_heal_seconds_count{node="a:1"}`:                          1,
		`redis_client_pool_heal_seconds_sum{node="a:1"}`:                            4,
	})
	// When the node is gone, so is its histogram.
	all := nodes{{Addr: "a:1"}, {Addr: "b:1"}}
	see(t, p, &all)
	gather(t, reg)
	all = nodes{{Addr: "b:1"}}
	gather(t, reg).want(t, samples{
		`redis_client_pool_heal_seconds_count{node="a:1"}`:             math.NaN(),
		`redis_client_pool_heal_seconds_count{node="b:1"}`:             0,
		`redis_connection_latency_seconds_count{node_redis_url="a:1"}`: math.NaN(),
		`redis_connection_latency_seconds_count{node_redis_url="b:1"}`: 0,
	})
}

// Whoever listened to events before still does.
func TestInstrumentKeepsTheListenerBefore(t *testing.T) {
	p := must(promhooks.NewPool("test"))(t)
	heard := 0
	for _, before := range []func(pooler.Event){nil, func(pooler.Event) { heard++ }} {
		cfg := p.Instrument(pooler.Config{MaxOpenConns: 7, OnEvent: before})
		cfg.OnEvent(pooler.Event{Kind: pooler.EventDial, Node: "a:1", Duration: 1})
		if cfg.MaxOpenConns != 7 {
			t.Errorf("the rest of the configuration: %+v", cfg)
		}
	}
	if heard != 1 {
		t.Errorf("heard %d events", heard)
	}
	gather(t, registry(t, p)).want(t, samples{`redis_client_dial_duration_seconds_count{outcome="ok",pool="everpool"}`: 2})
}

// A node that goes and comes back: what a real pool tells arrives.
func TestAnOutageIsSeen(t *testing.T) {
	s := testkit.Start(t, testkit.Redis)
	w := watchWith(t, "test", "redis://"+s.Addr+"?max_retries=-1", prometheus.NewRegistry(),
		driver.Config{Pool: pooler.Config{FailFastAfter: time.Millisecond, BackoffMax: 20 * time.Millisecond}}, nil)
	ctx := t.Context()
	node := `{node="` + s.Addr + `"}`
	if err := w.Set(ctx, "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	gather(t, w.reg).want(t, samples{
		`redis_client_pool_node_up` + node:                                       1,
		`redis_client_pool_dials_total{node="` + s.Addr + `",outcome="ok"}`:      1,
		`redis_client_dial_duration_seconds_count{outcome="ok",pool="everpool"}`: 1,
	})
	s.Kill()
	failed := 0
	testkit.Await(t, "the node is down", func() bool { failed++; return errors.Is(w.Ping(ctx).Err(), pooler.ErrNodeDown) })
	down := gather(t, w.reg)
	down.want(t, samples{`redis_client_pool_node_up` + node: 0, `redis_client_pool_heal_seconds_count` + node: 0})
	down.want(t, samples{
		`redis_client_command_errors_total{command="PING",error_type="node_down"}`:    1,
		`redis_client_command_duration_seconds_count{command="PING",outcome="error"}`: float64(failed),
	})
	if n := down[`redis_client_pool_dials_total{node="`+s.Addr+`",outcome="error"}`]; n < 1 {
		t.Errorf("%v failed dials", n)
	}
	s.StartAgain(t)
	testkit.Await(t, "the node answers again", func() bool { return w.Ping(ctx).Err() == nil })
	// Events are told after the pool has gone on.
	testkit.Await(t, "the outage is told to be over", func() bool { return gather(t, w.reg)[`redis_client_pool_heal_seconds_count`+node] == 1 })
	up := gather(t, w.reg)
	up.want(t, samples{`redis_client_pool_node_up` + node: 1})
	if up[`redis_client_pool_heal_seconds_sum`+node] <= 0 {
		t.Error("the outage took no time")
	}
}

// No part of a URL that somebody uses for an address is shown but host and port.
func TestAURLNeverBecomesALabel(t *testing.T) {
	for addr, want := range map[string]string{
		"host:6379":                               "host:6379",
		"[::1]:6379":                              "[::1]:6379",
		"/run/redis@1/redis.sock":                 "/run/redis@1/redis.sock",
		"redis.sock":                              "redis.sock",
		"@abstract":                               "@abstract",
		"redis://user:secret@host:6379/0":         "host:6379",
		"redis://:sec/secret@host:6379?db=1":      "host:6379",
		"redis://host:6379?password=secret":       "host:6379",
		"redis://host:6379/0?password=secret@x":   "host:6379",
		"redis://host:6379#secret@secret":         "host:6379",
		"user:secret@host:6379":                   "host:6379",
		"user:sec@secret@host:6379":               "host:6379",
		"host:6379?password=secret":               "host:6379",
		".secret@host:6379":                       "host:6379",
		"@user:secret@host:6379":                  "host:6379",
		"unix://user:secret@/run/redis.sock?db=1": "",
		"\xffhost:1":                              "\uFFFDhost:1",
	} {
		p := must(promhooks.NewPool("test", promhooks.WithRedisManagerNames()))(t)
		p.OnEvent(pooler.Event{Kind: pooler.EventState, Node: addr, State: pooler.StateUp, Duration: 1})
		p.OnEvent(pooler.Event{Kind: pooler.EventDial, Node: addr, Duration: 1})
		see(t, p, &nodes{{Addr: addr}})
		shown := "{node=" + quoted(want) + "}"
		if want == "" {
			shown = `{node=""}`
		}
		gather(t, registry(t, p)).want(t, samples{
			"redis_client_pool_node_up" + shown:                                           1,
			"redis_client_pool_heal_seconds_count" + shown:                                1,
			"redis_connection_latency_seconds_count{node_redis_url=" + quoted(want) + "}": 1,
		})
	}
}
