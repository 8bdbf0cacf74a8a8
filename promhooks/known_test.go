package promhooks_test

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/everpool/everpool/pooler"
	"github.com/everpool/everpool/promhooks"
)

// comeAndGo has so many nodes tell of a dial and of an outage.
func comeAndGo(p *promhooks.Pool, prefix string, n int) {
	for i := range n {
		tellOf(p, fmt.Sprintf("%s%d:1", prefix, i))
	}
}

func tellOf(p *promhooks.Pool, node string) {
	p.OnEvent(pooler.Event{Kind: pooler.EventDial, Node: node, Duration: time.Millisecond})
	p.OnEvent(pooler.Event{Kind: pooler.EventState, Node: node, State: pooler.StateUp, Duration: time.Millisecond})
}

// kept is how many nodes a scrape has a histogram of.
func kept(tb testing.TB, s samples, metric string) int {
	tb.Helper()
	return len(s.starting(metric + "_count"))
}

const (
	heal    = "redis_client_pool_heal_seconds"
	latency = "redis_connection_latency_seconds"
)

// Nodes that come and go between two scrapes leave nothing.
func TestShortLivedNodesLeaveNothing(t *testing.T) {
	p := must(promhooks.NewPool("test", promhooks.WithRedisManagerNames()))(t)
	see(t, p, &nodes{{Addr: "stays:1"}})
	reg := registry(t, p)
	for round := range 3 {
		comeAndGo(p, fmt.Sprint("round", round, "-"), 5000)
		tellOf(p, "stays:1")
		got := gather(t, reg)
		for _, metric := range []string{heal, latency} {
			if n := kept(t, got, metric); n != 1 {
				t.Errorf("%s of %d nodes", metric, n)
			}
		}
	}
	// Its first event came when there were too many already.
	gather(t, reg).want(t, samples{
		heal + `_count{node="stays:1"}`:                                          2,
		latency + `_count{node_redis_url="stays:1"}`:                             2,
		`redis_client_dial_duration_seconds_count{outcome="ok",pool="everpool"}`: 15003,
	})
}

// Without Watch nobody says which nodes are gone: then their number is bounded.
func TestNodesThatNobodyHasSeenAreBounded(t *testing.T) {
	p := must(promhooks.NewPool("test", promhooks.WithRedisManagerNames()))(t)
	reg := registry(t, p)
	for range 2 {
		comeAndGo(p, "h", 5000)
		got := gather(t, reg)
		for _, metric := range []string{heal, latency} {
			if n := kept(t, got, metric); n != 1024 {
				t.Errorf("%s of %d nodes, want 1024", metric, n)
			}
		}
	}
	gather(t, reg).want(t, samples{heal + `_count{node="h7:1"}`: 2})
	see(t, p, &nodes{{Addr: "h7:1"}})
	got := gather(t, reg)
	got.want(t, samples{heal + `_count{node="h7:1"}`: 2}) // what it told before isn't lost
	if n := kept(t, got, heal); n != 1 {
		t.Errorf("%d nodes are left", n)
	}
}

// What a node tells after it is gone doesn't bring it back for good.
func TestALateEventIsForgotten(t *testing.T) {
	p := must(promhooks.NewPool("test"))(t)
	all := nodes{{Addr: "a:1"}, {Addr: "b:1"}}
	see(t, p, &all)
	reg := registry(t, p)
	gather(t, reg)
	all = nodes{{Addr: "b:1"}}
	for range 2 {
		gather(t, reg).want(t, samples{heal + `_count{node="a:1"}`: math.NaN(), heal + `_count{node="b:1"}`: 0})
		tellOf(p, "a:1")
	}
}

// A node that comes while the nodes are read isn't lost.
func TestANodeThatComesDuringAScrapeIsKept(t *testing.T) {
	p := must(promhooks.NewPool("test"))(t)
	c := &coming{pool: p}
	stop := see(t, p, c)
	reg := registry(t, p)
	gather(t, reg)
	gather(t, reg).want(t, samples{heal + `_count{node="new:1"}`: 1})
	stop()
	see(t, p, &nodes{})
	gather(t, reg).want(t, samples{heal + `_count{node="new:1"}`: math.NaN()})
}

// coming has a node that comes just after it was asked for its nodes first.
type coming struct {
	pool  *promhooks.Pool
	asked bool
}

func (c *coming) Nodes() []pooler.NodeStatus {
	if c.asked {
		return []pooler.NodeStatus{{Addr: "new:1"}}
	}
	c.asked = true
	tellOf(c.pool, "new:1")
	return nil
}
