package otelhooks_test

import (
	"errors"
	"maps"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
	"weak"

	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/semconv/v1.43.0/dbconv"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/otelhooks"
	"github.com/everpool/everpool/pooler"
)

// nodes is a driver whose nodes are what the test says.
type nodes struct{ all []pooler.NodeStatus }

func (n *nodes) Nodes() []pooler.NodeStatus { return n.all }

// full is a node of which every number is another.
func full() pooler.NodeStatus {
	return pooler.NodeStatus{
		Network: "tcp", Addr: "h:1", Handles: 1, State: pooler.StateSuspect,
		Stats: pooler.Stats{
			MaxOpenConnections: 20, InUse: 30, Idle: 3, WaitCount: 4, Dialing: 5, Draining: 6, Waiting: 7, Pinned: 8,
			OldestWaiter: 9 * time.Millisecond, Awaiting: 13, OldestExchange: 10 * time.Millisecond, Sessions: 11, Lanes: 12,
			InFlight: 14, Answered: 15, Failed: 20, SentAway: 4, Abandoned: 17, Shared: 18, Leased: 19, Moved: 21, Resent: 22,
			Unknown: 23, WaitTimeouts: 24, Dials: 40, DialErrors: 25, LastDialError: "secret", Heals: 26, PushesDropped: 27,
			Closes: map[pooler.CloseReason]int64{pooler.CloseIdle: 28},
			Pins:   map[string]int64{"watch": 29},
		},
	}
}

// wantFull is what is said of it: points by pool and attribute.
func wantFull() map[string]map[string]int64 {
	return map[string]map[string]int64{
		"db.client.connection.count":            {"h:1 idle": 3, "h:1 used": 30},
		"db.client.connection.max":              {"h:1": 20},
		"db.client.connection.pending_requests": {"h:1": 7},
		"db.client.connection.timeouts":         {"h:1": 24},
		"everpool.node.state":                   {"h:1 up": 0, "h:1 suspect": 1, "h:1 down": 0},
		"everpool.handles":                      {"h:1": 1},
		"everpool.sessions":                     {"h:1": 11},
		"everpool.connections":                  {"h:1 idle": 3, "h:1 used": 4, "h:1 shared": 12, "h:1 pinned": 8, "h:1 draining": 6},
		"everpool.dialing":                      {"h:1": 5},
		"everpool.retries":                      {"h:1 moved": 21, "h:1 resent": 22},
		"everpool.active_requests":              {"h:1": 14},
		"everpool.awaiting_callers":             {"h:1": 13},
		"everpool.oldest_waiter":                {"h:1": 9},
		"everpool.oldest_exchange":              {"h:1": 10},
		"everpool.requests":                     {"h:1 shared": 18, "h:1 leased": 19},
		"everpool.results":                      {"h:1 answered": 15, "h:1 failed": 16, "h:1 sent_away": 4, "h:1 abandoned": 17},
		"everpool.unknown_outcomes":             {"h:1": 23},
		"everpool.waits":                        {"h:1": 4},
		"everpool.dials":                        {"h:1 ok": 10, "h:1 error": 25},
		"everpool.closes":                       closes(map[string]int64{"h:1 idle": 28}),
		"everpool.pins":                         {"h:1 watch": 29},
		"everpool.heals":                        {"h:1": 26},
		"everpool.dropped_pushes":               {"h:1": 27},
	}
}

// closes adds the reasons for which nothing was closed: they are there from the beginning.
func closes(some map[string]int64) map[string]int64 {
	for reason := range strings.FieldsSeq(`pool_closed idle max_idle lifetime room drained peer_closed read_error write_error
		protocol unasked abandoned state health_check session_lost silence retired`) {
		some["h:1 "+reason] += 0
	}
	return some
}

func (t *tester) collectPoints() map[string]map[string]int64 {
	t.Helper()
	all := make(map[string]map[string]int64)
	for name, m := range t.collect() {
		if p := points(m); len(p) > 0 {
			all[name] = p
		}
	}
	return all
}

func TestANodeIsReportedInFull(tt *testing.T) {
	t := newTester(tt)
	p := t.pools()
	t.want("before", len(t.collectPoints()), 0)
	t.watch(p, &nodes{[]pooler.NodeStatus{full()}})
	t.want("metrics", t.collectPoints(), wantFull())
	t.must(p.Close())
	t.must(p.Close())
	t.want("after", len(t.collectPoints()), 0)
}

// watched has a pointer: what has none is allocated together with other things,
// and so may be kept by chance.
type watched struct {
	leaving
	_ *int
}

// What is closed is kept by nobody, the SDK included.
func TestCloseLeavesNothing(tt *testing.T) {
	t := newTester(tt)
	closed := func() (weak.Pointer[otelhooks.Pool], weak.Pointer[watched]) {
		p, err := otelhooks.NewPool(otelhooks.WithMeterProvider(t.meters))
		t.must(err)
		t.watch(p, &nodes{[]pooler.NodeStatus{full()}})
		c := &watched{}
		r, err := otelhooks.NewStockPool("stock", c, otelhooks.WithMeterProvider(t.meters))
		t.must(err)
		t.collect()
		t.must(p.Close())
		t.must(r.Close())
		return weak.Make(p), weak.Make(c)
	}
	pools, stock := closed()
	runtime.GC()
	if pools.Value() != nil {
		t.Error("the provider keeps the metrics of pools")
	}
	if stock.Value() != nil {
		t.Error("the provider keeps the stock pool")
	}
	runtime.KeepAlive(t.meters)
}

// What the semantic conventions name is as they say.
func TestTheConventionsNamesAreTheirs(tt *testing.T) {
	t := newTester(tt)
	all := t.everything()
	for _, c := range []interface {
		Name() string
		Unit() string
	}{
		dbconv.ClientConnectionCount{},
		dbconv.ClientConnectionMax{},
		dbconv.ClientConnectionIdleMax{},
		dbconv.ClientConnectionIdleMin{},
		dbconv.ClientConnectionPendingRequests{},
		dbconv.ClientConnectionTimeouts{},
		dbconv.ClientConnectionCreateTime{},
		dbconv.ClientConnectionWaitTime{},
	} {
		t.want(c.Name(), all[c.Name()].Unit, c.Unit())
	}
}

// Baseplate's names are there when they are asked for, with the client's name.
func TestBaseplatesNamesAreThereWhenAskedFor(tt *testing.T) {
	t := newTester(tt)
	p := t.pools(otelhooks.WithBaseplateNames("orders"))
	t.watch(p, &nodes{[]pooler.NodeStatus{full()}})
	got := t.collectPoints()
	t.want("size", got["runtime.pool.size"], map[string]int64{"orders h:1": 20})
	t.want("in_use", got["runtime.pool.in_use"], map[string]int64{"orders h:1": 30})
	t.want("open_and_available", got["runtime.pool.open_and_available"], map[string]int64{"orders h:1": 3})
	for _, name := range []string{"", "redis://:hunter2@h:1", "u:hunter2@h"} {
		if _, err := otelhooks.NewPool(otelhooks.WithBaseplateNames(name)); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestADialAWaitAndAnOutageAreRecorded(tt *testing.T) {
	t := newTester(tt)
	p := t.pools(otelhooks.WithMetricAttributes(attribute.String("a", "app")), otelhooks.WithPoolName(func(addr string) string { return "pool " + addr }))
	events, waited := 0, 0
	cfg := p.Instrument(pooler.Config{
		MaxOpenConns: 3,
		OnEvent:      func(pooler.Event) { events++ },
		OnWait:       func(string, time.Duration, error) { waited++ },
	})
	t.want("the rest of the configuration", cfg.MaxOpenConns, 3)
	for _, ev := range []pooler.Event{
		{Kind: pooler.EventDial, Node: "h:1", Duration: 20 * time.Millisecond},
		{Kind: pooler.EventDial, Node: "h:1", Duration: time.Second, Err: errors.New("secret")},
		{Kind: pooler.EventState, Node: "h:1", State: pooler.StateDown, Previous: pooler.StateSuspect},
		{Kind: pooler.EventState, Node: "h:1", State: pooler.StateUp, Previous: pooler.StateDown, Duration: 3 * time.Second},
		{Kind: pooler.EventPin, Node: "h:1", Pin: "watch"},
	} {
		cfg.OnEvent(ev)
	}
	cfg.OnWait("h:1", time.Millisecond, nil)
	cfg.OnWait("h:1", time.Millisecond, nil)
	cfg.OnWait("h:1", time.Second, pooler.ErrWaitTimeout)
	t.want("metrics", t.collectPoints(), map[string]map[string]int64{
		"db.client.connection.create_time": {"app pool h:1": 1},
		"db.client.connection.wait_time":   {"app pool h:1": 2, "app pool h:1 wait_timeout": 1},
		"everpool.outage.duration":         {"app pool h:1": 1},
	})
	create := t.collect()["db.client.connection.create_time"].Data.(metricdata.Histogram[float64]).DataPoints[0]
	t.want("seconds", create.Sum, .02)
	t.want("the user's own events", events, 5)
	t.want("the user's own waits", waited, 3)

	t.must(p.Close())
	cfg.OnWait("h:1", time.Millisecond, nil)
	cfg.OnEvent(pooler.Event{Kind: pooler.EventDial, Node: "h:1"})
	t.want("after Close", t.collectPoints()["db.client.connection.wait_time"], map[string]int64{"app pool h:1": 2, "app pool h:1 wait_timeout": 1})
}

// A node that is made anew counts from 0, and one of several that are added up may
// go: what is reported never decreases.
func TestCountersNeverDecrease(tt *testing.T) {
	t := newTester(tt)
	p := t.pools(otelhooks.WithPoolName(func(string) string { return "all" }))
	n := &nodes{}
	t.watch(p, n)
	node := func(addr string, heals int64) pooler.NodeStatus {
		return pooler.NodeStatus{Addr: addr, Handles: 1, Stats: pooler.Stats{Heals: heals, MaxOpenConnections: -1}}
	}
	for i, step := range []struct {
		nodes []pooler.NodeStatus
		heals int64
	}{
		{[]pooler.NodeStatus{node("a", 10), node("b", 5)}, 15},
		{[]pooler.NodeStatus{node("a", 11)}, 16},               // b has gone, and a goes on
		{[]pooler.NodeStatus{node("a", 11), node("b", 5)}, 16}, // b is back with what it had
		{[]pooler.NodeStatus{node("a", 13)}, 18},
		{nil, 0},                                              // nothing is reported
		{[]pooler.NodeStatus{node("a", 2)}, 20},               // made anew
		{[]pooler.NodeStatus{node("a", 2), node("b", 1)}, 21}, // b too
		{[]pooler.NodeStatus{node("a", 2), node("b", 1)}, 21},
	} {
		n.all = step.nodes
		got := t.collectPoints()
		t.want("heals", got["everpool.heals"]["all"], step.heals)
		t.want("handles", got["everpool.handles"]["all"], int64(len(step.nodes)))
		if len(got["db.client.connection.max"]) > 0 {
			t.Errorf("step %d: there is a bound: %v", i, got["db.client.connection.max"])
		}
	}
}

func TestWatchRefuses(tt *testing.T) {
	t := newTester(tt)
	p := t.pools()
	n := &nodes{}
	t.watch(p, n)
	if _, err := p.Watch(n); err == nil {
		t.Error("the same nodes twice")
	}
	if _, err := p.Watch(nil); err == nil {
		t.Error("nil")
	}
	t.watch(p, &nodes{})
	t.must(p.Close())
	if _, err := p.Watch(&nodes{}); err == nil {
		t.Error("after Close")
	}
}

func TestARealDriverIsReported(tt *testing.T) {
	t := newTester(tt)
	p := t.pools()
	fake := testkit.NewFake()
	t.Cleanup(fake.Close)
	d, dialed := t.driver(p, driver.Config{Dial: fake.Dial, Pool: pooler.Config{SharedConns: -1}})
	c := redis.NewClient(d.Options(&redis.Options{Addr: "fake:6379"}))
	defer c.Close()
	t.must(c.Set(t.ctx, "k", "v", 0).Err())
	before := t.collectPoints()["everpool.requests"]["fake:6379 leased"]
	t.must(c.Set(t.ctx, "k", "v", 0).Err())
	dialed()
	got := t.collectPoints()
	t.want("leased", got["everpool.requests"]["fake:6379 leased"], before+1)
	t.want("state", got["everpool.node.state"]["fake:6379 up"], int64(1))
	t.want("dials", got["everpool.dials"]["fake:6379 ok"], int64(1))
	t.want("create_time", got["db.client.connection.create_time"]["fake:6379"], int64(1))
	t.want("idle", got["db.client.connection.count"]["fake:6379 idle"], int64(1))
}

// The table in the package's comment has every metric, with its unit, and no
// other.
func TestTheTableOfMetricsIsTrue(tt *testing.T) {
	t := newTester(tt)
	p := t.pools()
	t.watch(p, &nodes{[]pooler.NodeStatus{full()}})
	p.OnWait("h:1", 1, nil)
	p.OnEvent(pooler.Event{Kind: pooler.EventDial})
	p.OnEvent(pooler.Event{Kind: pooler.EventState, State: pooler.StateUp})
	c, _ := t.client(t.metrics())
	c.Ping(t.ctx)
	t.misled("MOVED", t.metrics()).Get(t.ctx, "k")
	stock := redis.NewClient(&redis.Options{MaxIdleConns: 1})
	defer stock.Close()
	t.stock(stock, "stock")

	doc, err := os.ReadFile("doc.go")
	t.must(err)
	var written, exported []string
	row := regexp.MustCompile(`(?m)^//\t((?:db\.client|everpool)\.\S+) +r?s? +(counter|updowncounter|gauge|histogram) +(\S+)`)
	for _, m := range row.FindAllStringSubmatch(string(doc), -1) {
		written = append(written, strings.Join(m[1:], " "))
	}
	for name, m := range t.collect() {
		kind := "histogram"
		switch d := m.Data.(type) {
		case metricdata.Gauge[float64]:
			kind = "gauge"
		case metricdata.Sum[int64]:
			if kind = "updowncounter"; d.IsMonotonic {
				kind = "counter"
			}
		}
		if m.Description == "" {
			t.Errorf("%s has no description", name)
		}
		exported = append(exported, name+" "+kind+" "+m.Unit)
	}
	list, err := os.ReadFile("../docs/metrics.md")
	t.must(err)
	for name, m := range t.collect() {
		_, short, _ := strings.Cut(name, "db.client.connection") // in a row with another
		if !strings.Contains(string(list), "`"+name+"`") && (short == "" || !strings.Contains(string(list), "`"+short+"`")) {
			t.Errorf("%s (%s) isn't in docs/metrics.md", name, m.Unit)
		}
	}
	slices.Sort(written)
	slices.Sort(exported)
	t.want("table", written, exported)
	for name := range maps.Keys(wantFull()) {
		if !strings.Contains(string(doc), name) {
			t.Errorf("%s isn't documented", name)
		}
	}
}
