package promhooks

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/everpool/everpool/hooks"
	"github.com/everpool/everpool/internal/poolview"
	"github.com/everpool/everpool/pooler"
)

// nodeStats are the gauges of the pools of one label.
type nodeStats struct {
	node             string
	down             bool // one of them is
	max              float64
	states           poolview.States
	open, inUse      int
	oldest, exchange time.Duration
	waiting          int
	awaiting         int
	dialing          int
	inFlight         int64
}

// byNode adds up what has the same label, ordered by it.
func byNode(all []pooler.NodeStatus) []*nodeStats {
	nodes := make(map[string]*nodeStats)
	for i := range all {
		label := hooks.SafeAddr(all[i].Addr)
		n := nodes[label]
		if n == nil {
			n = &nodeStats{node: label}
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
	states := poolview.StatesOf(s)
	n.states.Idle += states.Idle
	n.states.Used += states.Used
	n.states.Pinned += states.Pinned
	n.states.Shared += states.Shared
	n.states.Draining += states.Draining
	n.open += s.OpenConnections
	n.inUse += s.InUse
	n.oldest = max(n.oldest, s.OldestWaiter)
	n.exchange = max(n.exchange, s.OldestExchange)
	n.waiting += s.Waiting
	n.awaiting += s.Awaiting
	n.dialing += s.Dialing
	n.inFlight += s.InFlight
}

// closeReasons are exported from the beginning, so that the first of each is an
// increase.
var closeReasons = []pooler.CloseReason{
	pooler.ClosePoolClosed, pooler.CloseIdle, pooler.CloseMaxIdle, pooler.CloseLifetime, pooler.CloseRoom,
	pooler.CloseDrained, pooler.ClosePeer, pooler.CloseRead, pooler.CloseWrite, pooler.CloseProtocol,
	pooler.CloseUnasked, pooler.CloseAbandoned, pooler.CloseState, pooler.CloseHealth, pooler.CloseSessionLost,
	pooler.CloseSilence, pooler.CloseRetired,
}

// count takes in the counters of one pool.
func count(s *scrape, d *poolDescs, n *pooler.NodeStatus) {
	node, t := hooks.SafeAddr(n.Addr), &n.Stats
	s.counter(d.waits, t.WaitCount, node)
	s.counter(d.waitSeconds, int64(t.WaitDuration), node)
	s.counter(d.timeouts, t.WaitTimeouts, node)
	s.counter(d.dials, poolview.Dialed(t), node, "ok")
	s.counter(d.dials, t.DialErrors, node, "error")
	for _, reason := range closeReasons {
		s.counter(d.closes, t.Closes[reason], node, string(reason))
	}
	for reason, n := range t.Closes {
		if !slices.Contains(closeReasons, reason) {
			s.counter(d.closes, n, node, string(reason))
		}
	}
	for reason, n := range t.Pins {
		s.counter(d.pins, n, node, reason)
	}
	s.counter(d.requests, t.Shared, node, "shared")
	s.counter(d.requests, t.Leased, node, "leased")
	s.counter(d.retries, t.Moved, node, "moved")
	s.counter(d.retries, t.Resent, node, "resent")
	s.counter(d.results, t.Answered, node, "answered")
	s.counter(d.results, t.Failed, node, "failed")
	s.counter(d.results, t.Abandoned, node, "abandoned")
	s.counter(d.unknown, t.Unknown, node)

	s.counter(d.created, poolview.Dialed(t), node)
	s.counter(d.failed, t.DialErrors, node)
	s.counter(d.idleCleanup, t.Closes[pooler.CloseIdle], node)
}

// collect sends the gauges of the node.
func (n *nodeStats) collect(s *scrape, d *poolDescs) {
	node := n.node
	n.states.Each(func(state string, count int) { s.gauge(d.connections, float64(count), node, state) })
	s.gauge(d.max, n.max, node)
	s.gauge(d.dialing, float64(n.dialing), node)
	s.gauge(d.waiting, float64(n.waiting), node)
	s.gauge(d.oldest, n.oldest.Seconds(), node)
	s.gauge(d.exchange, n.exchange.Seconds(), node)
	s.gauge(d.awaiting, float64(n.awaiting), node)
	s.gauge(d.inFlight, float64(n.inFlight), node)
	s.gauge(d.up, boolean(!n.down), node)

	s.gauge(d.size, float64(n.open), node)
	s.gauge(d.sizeActive, float64(n.inUse), node)
	s.gauge(d.sizeIdle, float64(n.states.Idle), node)
	s.gauge(d.healthy, boolean(!n.down), node)
	s.gauge(d.unhealthy, boolean(n.down), node)
}

func boolean(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
