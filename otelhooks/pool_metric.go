package otelhooks

import (
	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/semconv/v1.43.0/dbconv"

	"github.com/everpool/everpool/internal/poolview"
	"github.com/everpool/everpool/pooler"
)

// metricKind says how values of a metric are collected.
type metricKind uint8

const (
	counter metricKind = iota // only grows
	upDown                    // a number of things that there are now
	seconds                   // a gauge of a time, read in nanoseconds
)

// poolMetric is an asynchronous metric of pools.
type poolMetric struct {
	name      string
	unit      string
	text      string
	kind      metricKind
	attribute attribute.Key // besides the pool's name; "": none
}

// described is an instrument of the semantic conventions.
type described interface {
	Name() string
	Unit() string
	Description() string
}

// convention is a metric of the semantic conventions.
func convention(of described, kind metricKind, attribute attribute.Key) *poolMetric {
	return &poolMetric{name: of.Name(), unit: of.Unit(), text: of.Description(), kind: kind, attribute: attribute}
}

// Those of the semantic conventions.
var (
	connectionCount    = convention(dbconv.ClientConnectionCount{}, upDown, semconv.DBClientConnectionStateKey)
	connectionMax      = convention(dbconv.ClientConnectionMax{}, upDown, "")
	connectionIdleMax  = convention(dbconv.ClientConnectionIdleMax{}, upDown, "")
	connectionIdleMin  = convention(dbconv.ClientConnectionIdleMin{}, upDown, "")
	pendingRequests    = convention(dbconv.ClientConnectionPendingRequests{}, upDown, "")
	connectionTimeouts = convention(dbconv.ClientConnectionTimeouts{}, counter, "")
)

// Those of everpool.
var (
	nodeState = &poolMetric{
		name: "everpool.node.state", unit: "{node}", kind: upDown, attribute: "everpool.node.state",
		text: "1 for the state that the node is in, 0 for the others.",
	}
	handles = &poolMetric{
		name: "everpool.handles", unit: "{handle}", kind: upDown,
		text: "The number of handles that clients hold, each of which they take for a connection.",
	}
	sessions = &poolMetric{
		name: "everpool.sessions", unit: "{session}", kind: upDown,
		text: "The number of sessions (user, database, ...) with a connection or a request that waits.",
	}
	connections = &poolMetric{
		name: "everpool.connections", unit: "{connection}", kind: upDown, attribute: "everpool.connection.state",
		text: "The number of open connections by what they are doing; together they are all of them.",
	}
	dialing = &poolMetric{
		name: "everpool.dialing", unit: "{dial}", kind: upDown,
		text: "The number of dials that are under way.",
	}
	activeRequests = &poolMetric{
		name: "everpool.active_requests", unit: "{request}", kind: upDown,
		text: "The number of requests in progress.",
	}
	awaitingCallers = &poolMetric{
		name: "everpool.awaiting_callers", unit: "{caller}", kind: upDown,
		text: "The number of callers that wait until the node serves, before they make a request.",
	}
	oldestWaiter = &poolMetric{
		name: "everpool.oldest_waiter", unit: "s", kind: seconds,
		text: "How long the oldest request that waits for a connection has been waiting.",
	}
	oldestExchange = &poolMetric{
		name: "everpool.oldest_exchange", unit: "s", kind: seconds,
		text: "How long ago the oldest request that is on a connection began.",
	}
	requests = &poolMetric{
		name: "everpool.requests", unit: "{request}", kind: counter, attribute: "everpool.request.way",
		text: "The number of requests, by the connection that they were for.",
	}
	retries = &poolMetric{
		name: "everpool.retries", unit: "{request}", kind: counter, attribute: "everpool.retry.kind",
		text: "The number of times that the pool has sent a request once more.",
	}
	results = &poolMetric{
		name: "everpool.results", unit: "{request}", kind: counter, attribute: "everpool.request.result",
		text: "The number of requests that have ended.",
	}
	unknownOutcomes = &poolMetric{
		name: "everpool.unknown_outcomes", unit: "{request}", kind: counter,
		text: "The number of requests that were sent and whose replies are lost.",
	}
	waits = &poolMetric{
		name: "everpool.waits", unit: "{request}", kind: counter,
		text: "The number of requests that had to wait for a connection.",
	}
	dials = &poolMetric{
		name: "everpool.dials", unit: "{dial}", kind: counter, attribute: "everpool.dial.outcome",
		text: "The number of dials that have ended.",
	}
	closes = &poolMetric{
		name: "everpool.closes", unit: "{connection}", kind: counter, attribute: "everpool.close.reason",
		text: "The number of connections that were closed.",
	}
	pins = &poolMetric{
		name: "everpool.pins", unit: "{lease}", kind: counter, attribute: "everpool.pin.reason",
		text: "The number of leases that lasted beyond their request.",
	}
	heals = &poolMetric{
		name: "everpool.heals", unit: "{heal}", kind: counter,
		text: "The number of times that the node came back.",
	}
	droppedPushes = &poolMetric{
		name: "everpool.dropped_pushes", unit: "{push}", kind: counter,
		text: "The number of RESP3 pushes that had no taker.",
	}
)

// nodeMetrics are what readNode reads.
var nodeMetrics = []*poolMetric{
	connectionCount, connectionMax, pendingRequests, connectionTimeouts,
	nodeState, handles, sessions, connections, dialing, activeRequests, awaitingCallers, oldestWaiter, oldestExchange,
	requests, retries, results, unknownOutcomes, waits, dials, closes, pins, heals, droppedPushes,
}

// readNode reads what there is to say of a node.
func readNode(n *pooler.NodeStatus, add func(m *poolMetric, value string, v int64)) {
	s := &n.Stats
	add(connectionCount, "idle", int64(s.Idle))
	add(connectionCount, "used", int64(s.InUse))
	if s.MaxOpenConnections >= 0 {
		add(connectionMax, "", int64(s.MaxOpenConnections))
	}
	add(pendingRequests, "", int64(s.Waiting))
	add(connectionTimeouts, "", s.WaitTimeouts)

	for _, state := range []pooler.State{pooler.StateUp, pooler.StateSuspect, pooler.StateDown} {
		is := int64(0)
		if n.State == state {
			is = 1
		}
		add(nodeState, state.String(), is)
	}
	add(handles, "", int64(n.Handles))
	add(sessions, "", int64(s.Sessions))
	poolview.StatesOf(s).Each(func(state string, n int) { add(connections, state, int64(n)) })
	add(dialing, "", int64(s.Dialing))
	add(activeRequests, "", s.InFlight)
	add(awaitingCallers, "", int64(s.Awaiting))
	add(oldestWaiter, "", int64(s.OldestWaiter))
	add(oldestExchange, "", int64(s.OldestExchange))

	add(requests, "shared", s.Shared)
	add(requests, "leased", s.Leased)
	add(retries, "moved", s.Moved)
	add(retries, "resent", s.Resent)
	add(results, "answered", s.Answered)
	add(results, "failed", s.Failed)
	add(results, "abandoned", s.Abandoned)
	add(unknownOutcomes, "", s.Unknown)
	add(waits, "", s.WaitCount)
	add(dials, "ok", poolview.Dialed(s))
	add(dials, "error", s.DialErrors)
	for reason, v := range s.Closes {
		add(closes, string(reason), v)
	}
	for reason, v := range s.Pins {
		add(pins, reason, v)
	}
	add(heals, "", s.Heals)
	add(droppedPushes, "", s.PushesDropped)
}
