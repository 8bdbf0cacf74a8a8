package poolview

import "github.com/everpool/everpool/pooler"

// table is everything that is exported of pools, for both exporters and for
// docs/metrics.md, which TestTheDocsHaveTheTable writes with -update.
var table = []Metric{
	// Connections.
	{
		OTel: "db.client.connection.count", Kind: Gauge, Unit: "{connection}",
		Attribute: "db.client.connection.state", Values: "idle, used", Stock: []string{"idle", "used"},
		Help: "Open connections by whether they are in use.",
		read: func(p *Pool, add func(string, int64)) {
			add("idle", int64(p.Stats.Idle))
			add("used", int64(p.Stats.InUse))
		},
	},
	{
		OTel: "everpool.connections", Prometheus: "redis_client_pool_connections", Kind: Gauge, Unit: "{connection}",
		Attribute: "everpool.connection.state", Label: "state", Values: "idle, used, pinned, shared, draining", Stock: []string{"idle", "used"},
		Help: "Open connections by what they are doing; together they are all of them.",
		read: func(p *Pool, add func(string, int64)) {
			StatesOf(&p.Stats).Each(func(state string, n int) { add(state, int64(n)) })
		},
	},
	{
		OTel: "db.client.connection.max", Prometheus: "redis_client_pool_max_connections", Kind: Gauge, Unit: "{connection}",
		Stock: only, Single: true,
		Help: "The most connections that the pool opens; without a bound +Inf in Prometheus, and not there in OpenTelemetry.",
		read: one((*Pool).bound),
	},
	{
		OTel: "db.client.connection.idle.max", Kind: Gauge, Unit: "{connection}", Stock: only, Single: true,
		Help: "The most connections that go-redis's own pool keeps idle; not there without a bound.",
		read: func(p *Pool, add func(string, int64)) {
			if p.Stock != nil && p.Stock.MaxIdle > 0 {
				add("", int64(p.Stock.MaxIdle))
			}
		},
	},
	{
		OTel: "db.client.connection.idle.min", Kind: Gauge, Unit: "{connection}", Stock: only, Single: true,
		Help: "The fewest connections that go-redis's own pool keeps idle.",
		read: func(p *Pool, add func(string, int64)) {
			if p.Stock != nil && !p.Stock.Pipelines {
				add("", int64(p.Stock.MinIdle))
			}
		},
	},
	{
		OTel: "everpool.dialing", Prometheus: "redis_client_pool_dialing", Kind: Gauge, Unit: "{dial}",
		Help: "Dials that are under way.",
		read: one(func(p *Pool) int64 { return int64(p.Stats.Dialing) }),
	},
	{
		OTel: "everpool.dials", Prometheus: "redis_client_pool_dials_total", Kind: Counter, Unit: "{dial}",
		Attribute: "everpool.dial.outcome", Label: "outcome", Values: "ok, error",
		Help: "Connections that were opened, or couldn't be.",
		read: func(p *Pool, add func(string, int64)) {
			add("ok", Dialed(&p.Stats))
			add("error", p.Stats.DialErrors)
		},
	},
	{
		OTel: "db.client.connection.create_time", Kind: Histogram, Unit: "s",
		Help: "Time that it took to open a connection.",
	},
	{
		Prometheus: "redis_client_dial_duration_seconds", Kind: Histogram, Unit: "s",
		Label: "outcome", Values: "ok, error; with `pool`: go-redis, everpool, and no node",
		Help: "Time that it took to open a connection, or to fail to.",
	},
	{
		OTel: "everpool.closes", Prometheus: "redis_client_pool_closes_total", Kind: Counter, Unit: "{connection}",
		Attribute: "everpool.close.reason", Label: "reason", Values: "see [operations.md](operations.md)", Stock: []string{"stale"},
		Help: "Connections that were closed, by the reason.",
		read: readCloses,
	},
	{
		OTel: "everpool.pins", Prometheus: "redis_client_pool_pins_total", Kind: Counter, Unit: "{lease}",
		Attribute: "everpool.pin.reason", Label: "reason", Values: "subscribe, watch, ...",
		Help: "Connections that a caller has kept beyond a request, by the reason.",
		read: func(p *Pool, add func(string, int64)) {
			for reason, n := range p.Stats.Pins {
				add(reason, n)
			}
		},
	},
	{
		OTel: "everpool.handles", Kind: Gauge, Unit: "{handle}",
		Help: "Handles that clients hold, each of which they take for a connection.",
		read: one(func(p *Pool) int64 { return int64(p.Handles) }),
	},
	{
		OTel: "everpool.sessions", Kind: Gauge, Unit: "{session}",
		Help: "Sessions (user, database, ...) with a connection or a request that waits.",
		read: one(func(p *Pool) int64 { return int64(p.Stats.Sessions) }),
	},

	// Waiting.
	{
		OTel: "db.client.connection.pending_requests", Prometheus: "redis_client_pool_waiting_requests", Kind: Gauge, Unit: "{request}",
		Stock: only, Single: true,
		Help: "Requests that wait for a connection.",
		read: one(func(p *Pool) int64 { return int64(p.Stats.Waiting) }),
	},
	{
		OTel: "everpool.waits", Prometheus: "redis_client_pool_waits_total", Kind: Counter, Unit: "{request}", Stock: only,
		Help: "Requests that had to wait for a connection.",
		read: one(func(p *Pool) int64 { return p.Stats.WaitCount }),
	},
	{
		Prometheus: "redis_client_pool_wait_seconds_total", Kind: Counter, Unit: "s", Stock: only,
		Help: "Time that requests have waited for a connection, together.",
		read: one(func(p *Pool) int64 { return int64(p.Stats.WaitDuration) }),
	},
	{
		OTel: "db.client.connection.wait_time", Kind: Histogram, Unit: "s", Attribute: "error.type", Values: "of those that waited in vain",
		Help: "Time that a request has waited for a connection.",
	},
	{
		OTel: "db.client.connection.timeouts", Prometheus: "redis_client_pool_timeouts_total", Kind: Counter, Unit: "{timeout}", Stock: only,
		Help: "Requests that got no connection in time.",
		read: one(func(p *Pool) int64 { return p.Stats.WaitTimeouts }),
	},
	{
		OTel: "everpool.oldest_waiter", Prometheus: "redis_client_pool_oldest_waiter_seconds", Kind: Gauge, Unit: "s", merge: largest,
		Help: "For how long the request that waits longest has been waiting for a connection.",
		read: one(func(p *Pool) int64 { return int64(p.Stats.OldestWaiter) }),
	},
	{
		OTel: "everpool.awaiting_callers", Prometheus: "redis_client_pool_awaiting_node", Kind: Gauge, Unit: "{caller}",
		Help: "Callers that wait until the node serves, before they make a request.",
		read: one(func(p *Pool) int64 { return int64(p.Stats.Awaiting) }),
	},

	// Requests.
	{
		OTel: "everpool.requests", Prometheus: "redis_client_pool_requests_total", Kind: Counter, Unit: "{request}",
		Attribute: "everpool.request.way", Label: "way", Values: "shared, leased", Stock: []string{"leased"},
		Help: "Requests, by the connection that they were for: shared, or leased.",
		read: func(p *Pool, add func(string, int64)) {
			add("shared", p.Stats.Shared)
			add("leased", p.Stats.Leased)
		},
	},
	{
		OTel: "everpool.active_requests", Prometheus: "redis_client_pool_requests_in_flight", Kind: Gauge, Unit: "{request}",
		Help: "Requests that wait for a connection or for their replies.",
		read: one(func(p *Pool) int64 { return p.Stats.InFlight }),
	},
	{
		OTel: "everpool.oldest_exchange", Prometheus: "redis_client_pool_oldest_exchange_seconds", Kind: Gauge, Unit: "s", merge: largest,
		Help: "How long ago the oldest request began that is on a connection, or how long a shared connection that owes replies has been silent.",
		read: one(func(p *Pool) int64 { return int64(p.Stats.OldestExchange) }),
	},
	{
		OTel: "everpool.results", Prometheus: "redis_client_pool_results_total", Kind: Counter, Unit: "{request}",
		Attribute: "everpool.request.result", Label: "result", Values: "answered, failed, sent_away, abandoned",
		Help: "Requests that have ended, by how; sent_away: got no connection since the node was ill, and was brought again or taken to another node; abandoned: the caller left first.",
		read: func(p *Pool, add func(string, int64)) {
			add("answered", p.Stats.Answered)
			add("failed", p.Stats.Failed-p.Stats.SentAway)
			add("sent_away", p.Stats.SentAway)
			add("abandoned", p.Stats.Abandoned)
		},
	},
	{
		OTel: "everpool.retries", Prometheus: "redis_client_pool_retries_total", Kind: Counter, Unit: "{request}",
		Attribute: "everpool.retry.kind", Label: "kind", Values: "moved, resent",
		Help: "Times that the pool has sent a request once more: moved, since the first connection ran none of it, or resent, which is done to reads.",
		read: func(p *Pool, add func(string, int64)) {
			add("moved", p.Stats.Moved)
			add("resent", p.Stats.Resent)
		},
	},
	{
		OTel: "everpool.unknown_outcomes", Prometheus: "redis_client_pool_unknown_outcomes_total", Kind: Counter, Unit: "{request}",
		Help: "Requests that were sent and whose reply was lost, so that they may have run or not.",
		read: one(func(p *Pool) int64 { return p.Stats.Unknown }),
	},
	{
		OTel: "everpool.dropped_pushes", Kind: Counter, Unit: "{push}",
		Help: "RESP3 pushes that had no taker.",
		read: one(func(p *Pool) int64 { return p.Stats.PushesDropped }),
	},

	// The node.
	{
		OTel: "everpool.node.state", Kind: Gauge, Unit: "{node}", Attribute: "everpool.node.state", Values: "up, suspect, down",
		Help: "1 for the state that the node is in, 0 for the others.",
		read: func(p *Pool, add func(string, int64)) {
			for _, state := range []pooler.State{pooler.StateUp, pooler.StateSuspect, pooler.StateDown} {
				add(state.String(), oneIf(p.State == state))
			}
		},
	},
	{
		Prometheus: "redis_client_pool_node_up", Kind: Gauge, merge: least,
		Help: "Whether the node can be reached: 0 if it is down, else 1.",
		read: one(func(p *Pool) int64 { return oneIf(p.State != pooler.StateDown) }),
	},
	{
		OTel: "everpool.heals", Kind: Counter, Unit: "{heal}",
		Help: "Times that the node came back.",
		read: one(func(p *Pool) int64 { return p.Stats.Heals }),
	},
	{
		OTel: "everpool.outage.duration", Prometheus: "redis_client_pool_heal_seconds", Kind: Histogram, Unit: "s",
		Help: "Time from when a node couldn't be reached until it could again.",
	},

	// Baseplate's: those of its Go package for Prometheus, and those that its Python
	// package reports of a process.
	{
		Prometheus: "redis_client_pool_max_size", Preset: Baseplate, Kind: Gauge, Stock: only, Single: true, Whole: true,
		Help: "The most connections that the pool opens; +Inf without a bound.",
		read: one((*Pool).bound),
	},
	{
		Prometheus: "redis_client_pool_idle_connections", Preset: Baseplate, Kind: Gauge, Stock: only, Whole: true,
		Help: "Connections that nobody uses.",
		read: one((*Pool).idle),
	},
	{
		Prometheus: "redis_client_pool_active_connections", Preset: Baseplate, Kind: Gauge, Stock: only, Whole: true,
		Help: "Connections in use.",
		read: one((*Pool).inUse),
	},
	{
		OTel: "runtime.pool.size", Preset: Baseplate, Kind: Gauge, Unit: "{connection}", Stock: only, Single: true,
		Help: "The most connections that the pool opens; not there without a bound.",
		read: one((*Pool).bound),
	},
	{
		OTel: "runtime.pool.in_use", Preset: Baseplate, Kind: Gauge, Unit: "{connection}", Stock: only,
		Help: "Connections in use.",
		read: one((*Pool).inUse),
	},
	{
		OTel: "runtime.pool.open_and_available", Preset: Baseplate, Kind: Gauge, Unit: "{connection}", Stock: only,
		Help: "Connections that nobody uses.",
		read: one((*Pool).idle),
	},

	// redis-manager's.
	{
		Prometheus: "redis_pool_size", Preset: RedisManager, Kind: Gauge, Stock: only,
		Help: "Open connections.",
		read: one(func(p *Pool) int64 { return int64(p.Stats.OpenConnections) }),
	},
	{
		Prometheus: "redis_pool_active", Preset: RedisManager, Kind: Gauge, Stock: only,
		Help: "Connections in use.",
		read: one((*Pool).inUse),
	},
	{
		Prometheus: "redis_pool_idle", Preset: RedisManager, Kind: Gauge, Stock: only,
		Help: "Connections that nobody uses.",
		read: one((*Pool).idle),
	},
	{
		Prometheus: "redis_pool_healthy", Preset: RedisManager, Kind: Gauge, merge: least,
		Help: "1 unless the node is down.",
		read: one(func(p *Pool) int64 { return oneIf(p.State != pooler.StateDown) }),
	},
	{
		Prometheus: "redis_pool_unhealthy", Preset: RedisManager, Kind: Gauge, merge: largest,
		Help: "1 if the node is down.",
		read: one(func(p *Pool) int64 { return oneIf(p.State == pooler.StateDown) }),
	},
	{
		Prometheus: "redis_connections_created_total", Preset: RedisManager, Kind: Counter,
		Help: "Connections that were opened.",
		read: one(func(p *Pool) int64 { return Dialed(&p.Stats) }),
	},
	{
		Prometheus: "redis_failed_connections_total", Preset: RedisManager, Kind: Counter,
		Help: "Connections that couldn't be opened.",
		read: one(func(p *Pool) int64 { return p.Stats.DialErrors }),
	},
	{
		Prometheus: "redis_idle_cleanup_events_total", Preset: RedisManager, Kind: Counter,
		Help: "Connections that were closed for being idle.",
		read: one(func(p *Pool) int64 { return p.Stats.Closes[pooler.CloseIdle] }),
	},
	{
		Prometheus: "redis_connection_latency_seconds", Preset: RedisManager, Kind: Histogram, Unit: "s",
		Help: "Time that it took to open a connection.",
	},
}

// only is Stock of a metric without a label of its own.
var only = []string{""}

// one reads a metric without a label of its own.
func one(n func(*Pool) int64) func(*Pool, func(string, int64)) {
	return func(p *Pool, add func(string, int64)) { add("", n(p)) }
}

func oneIf(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

func (p *Pool) idle() int64  { return int64(p.Stats.Idle) }
func (p *Pool) inUse() int64 { return int64(p.Stats.InUse) }

func (p *Pool) bound() int64 {
	if p.Stats.MaxOpenConnections < 0 {
		return NoBound
	}
	return int64(p.Stats.MaxOpenConnections)
}

// closeReasons are exported from the beginning, so that the first of each is an
// increase.
var closeReasons = []pooler.CloseReason{
	pooler.ClosePoolClosed, pooler.CloseIdle, pooler.CloseMaxIdle, pooler.CloseLifetime, pooler.CloseRoom,
	pooler.CloseDrained, pooler.ClosePeer, pooler.CloseRead, pooler.CloseWrite, pooler.CloseProtocol,
	pooler.CloseUnasked, pooler.CloseAbandoned, pooler.CloseState, pooler.CloseHealth, pooler.CloseSessionLost,
	pooler.CloseSilence, pooler.CloseRetired,
}

func readCloses(p *Pool, add func(string, int64)) {
	for reason, n := range p.Stats.Closes {
		add(string(reason), n)
	}
	for _, reason := range closeReasons {
		if _, ok := p.Stats.Closes[reason]; !ok {
			add(string(reason), 0)
		}
	}
}
