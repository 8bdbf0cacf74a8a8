package promhooks

import (
	"cmp"
	"maps"
	"math"
	"slices"

	"github.com/everpool/everpool/hooks"
	"github.com/everpool/everpool/pooler"
)

// nodeStats are the statistics of the pools of one label.
type nodeStats struct {
	node  string
	down  bool // one of them is
	max   float64
	stats pooler.Stats // of which only what is exported is added up
}

// byNode adds up what has the same label, ordered by it.
func byNode(all []pooler.NodeStatus) []*nodeStats {
	nodes := make(map[string]*nodeStats)
	for i := range all {
		label := hooks.SafeAddr(all[i].Addr)
		n := nodes[label]
		if n == nil {
			n = &nodeStats{node: label}
			n.stats.Closes, n.stats.Pins = make(map[pooler.CloseReason]int64), make(map[string]int64)
			nodes[label] = n
		}
		n.add(&all[i].Stats)
		n.down = n.down || all[i].State == pooler.StateDown
	}
	return slices.SortedFunc(maps.Values(nodes), func(a, b *nodeStats) int { return cmp.Compare(a.node, b.node) })
}

func (n *nodeStats) add(s *pooler.Stats) {
	if s.MaxOpenConnections < 0 {
		n.max = math.Inf(1)
	}
	n.max += float64(s.MaxOpenConnections)
	t := &n.stats
	t.OpenConnections += s.OpenConnections
	t.InUse += s.InUse
	t.Idle += s.Idle
	t.Lanes += s.Lanes
	t.Dialing += s.Dialing
	t.WaitCount += s.WaitCount
	t.WaitDuration += s.WaitDuration
	t.OldestWaiter = max(t.OldestWaiter, s.OldestWaiter)
	t.Awaiting += s.Awaiting
	t.WaitTimeouts += s.WaitTimeouts
	t.Dials += s.Dials
	t.DialErrors += s.DialErrors
	t.Shared += s.Shared
	t.Leased += s.Leased
	t.Resent += s.Resent
	t.Moved += s.Moved
	t.Unknown += s.Unknown
	for reason, count := range s.Closes {
		t.Closes[reason] += count
	}
	for reason, count := range s.Pins {
		t.Pins[reason] += count
	}
}

// dialed is how many dials have succeeded.
func (n *nodeStats) dialed() float64 {
	return float64(max(0, n.stats.Dials-n.stats.DialErrors-int64(n.stats.Dialing)))
}

// closeReasons are exported from the beginning, so that the first of each is an
// increase.
var closeReasons = []pooler.CloseReason{
	pooler.ClosePoolClosed, pooler.CloseIdle, pooler.CloseMaxIdle, pooler.CloseLifetime, pooler.CloseRoom,
	pooler.CloseDrained, pooler.ClosePeer, pooler.CloseRead, pooler.CloseWrite, pooler.CloseProtocol,
	pooler.CloseUnasked, pooler.CloseAbandoned, pooler.CloseState, pooler.CloseHealth, pooler.CloseSessionLost,
	pooler.CloseSilence, pooler.CloseRetired,
}

// collect sends the metrics of the node.
func (n *nodeStats) collect(s *scrape, d *poolDescs) {
	node, t := n.node, &n.stats
	s.gauge(d.connections, float64(t.Idle), node, "idle")
	s.gauge(d.connections, float64(t.InUse-t.Lanes), node, "used")
	s.gauge(d.connections, float64(t.Lanes), node, "shared")
	s.gauge(d.max, n.max, node)
	s.counter(d.waits, float64(t.WaitCount), node)
	s.counter(d.waitSeconds, t.WaitDuration.Seconds(), node)
	s.gauge(d.oldest, t.OldestWaiter.Seconds(), node)
	s.gauge(d.awaiting, float64(t.Awaiting), node)
	s.counter(d.timeouts, float64(t.WaitTimeouts), node)
	s.counter(d.dials, n.dialed(), node, "ok")
	s.counter(d.dials, float64(t.DialErrors), node, "error")
	for _, reason := range closeReasons {
		t.Closes[reason] += 0 // an entry for each
	}
	for reason, count := range t.Closes {
		s.counter(d.closes, float64(count), node, string(reason))
	}
	for reason, count := range t.Pins {
		s.counter(d.pins, float64(count), node, reason)
	}
	s.counter(d.requests, float64(t.Shared), node, "shared")
	s.counter(d.requests, float64(t.Leased), node, "leased")
	s.counter(d.requests, float64(t.Resent), node, "resent")
	s.counter(d.requests, float64(t.Moved), node, "moved")
	s.counter(d.unknown, float64(t.Unknown), node)
	s.gauge(d.up, boolean(!n.down), node)

	s.gauge(d.size, float64(t.OpenConnections), node)
	s.gauge(d.sizeActive, float64(t.InUse), node)
	s.gauge(d.sizeIdle, float64(t.Idle), node)
	s.gauge(d.healthy, boolean(!n.down), node)
	s.gauge(d.unhealthy, boolean(n.down), node)
	s.counter(d.created, n.dialed(), node)
	s.counter(d.failed, float64(t.DialErrors), node)
	s.counter(d.idleCleanup, float64(t.Closes[pooler.CloseIdle]), node)
}

func boolean(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
