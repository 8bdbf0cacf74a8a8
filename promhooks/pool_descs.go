package promhooks

import (
	"github.com/prometheus/client_golang/prometheus"
)

// poolDescs describe what [Pool] and [StockPool] say of a node. Both use the same
// ones: two clients in one registry may have pools of different kinds.
type poolDescs struct {
	connections, max             *prometheus.Desc
	waits, waitSeconds, oldest   *prometheus.Desc
	awaiting, dialing, waiting   *prometheus.Desc
	exchange, inFlight           *prometheus.Desc
	retries, results             *prometheus.Desc
	timeouts, dials, closes      *prometheus.Desc
	pins, requests, unknown, up  *prometheus.Desc
	maxSize, idle, active        *prometheus.Desc // Baseplate's; nil without the option
	size, sizeActive, sizeIdle   *prometheus.Desc // redis-manager's; nil without the option
	healthy, unhealthy           *prometheus.Desc
	created, failed, idleCleanup *prometheus.Desc
}

func newPoolDescs(client string, cfg *config) *poolDescs {
	constant := prometheus.Labels{"client": client}
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("redis_client_pool_"+name, help, append([]string{"node"}, labels...), constant)
	}
	d := &poolDescs{
		connections: desc("connections", "Open connections by what they are doing; together they are all of them.", "state"),
		max:         desc("max_connections", "The most connections that the pool opens; +Inf without a bound."),
		waits:       desc("waits_total", "Requests that had to wait for a connection."),
		waitSeconds: desc("wait_seconds_total", "Time that requests have waited for a connection, together."),
		oldest:      desc("oldest_waiter_seconds", "For how long the request that waits longest has been waiting for a connection."),
		exchange:    desc("oldest_exchange_seconds", "How long ago the oldest request began that is on a connection, or how long a shared connection that owes replies has been silent."),
		dialing:     desc("dialing", "Dials that are under way."),
		waiting:     desc("waiting_requests", "Requests that wait for a connection."),
		inFlight:    desc("requests_in_flight", "Requests that wait for a connection or for their replies."),
		awaiting:    desc("awaiting_node", "Callers that wait until the node serves, before they make a request."),
		timeouts:    desc("timeouts_total", "Requests that got no connection in time."),
		dials:       desc("dials_total", "Connections that were opened, or couldn't be.", "outcome"),
		closes:      desc("closes_total", "Connections that were closed, by the reason.", "reason"),
		pins:        desc("pins_total", "Connections that a caller has kept beyond a request, by the reason.", "reason"),
		requests:    desc("requests_total", "Requests, by the connection that they were for: shared, or leased.", "way"),
		retries:     desc("retries_total", "Times that the pool has sent a request once more: moved, since the first connection ran none of it, or resent, which is done to reads.", "kind"),
		results:     desc("results_total", "Requests that have ended, by how; abandoned: the caller left first.", "result"),
		unknown:     desc("unknown_outcomes_total", "Requests that were sent and whose reply was lost, so that they may have run or not."),
		up:          desc("node_up", "Whether the node can be reached: 0 if it is down, else 1."),
	}
	if cfg.baseplate {
		d.describeBaseplate(client)
	}
	if cfg.redisManager {
		d.describeRedisManager(client)
	}
	return d
}

func (d *poolDescs) describeBaseplate(client string) {
	desc := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("redis_client_pool_"+name, help, nil, prometheus.Labels{"redis_pool": client})
	}
	d.maxSize = desc("max_size", "The most connections that the pool opens; +Inf without a bound (Baseplate's name).")
	d.idle = desc("idle_connections", "Connections that nobody uses (Baseplate's name).")
	d.active = desc("active_connections", "Connections in use (Baseplate's name).")
}

func (d *poolDescs) describeRedisManager(client string) {
	desc := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("redis_"+name, help+" (redis-manager's name).", []string{nodeURL}, prometheus.Labels{"client": client})
	}
	d.size = desc("pool_size", "Open connections")
	d.sizeActive = desc("pool_active", "Connections in use")
	d.sizeIdle = desc("pool_idle", "Connections that nobody uses")
	d.healthy = desc("pool_healthy", "1 unless the node is down")
	d.unhealthy = desc("pool_unhealthy", "1 if the node is down")
	d.created = desc("connections_created_total", "Connections that were opened")
	d.failed = desc("failed_connections_total", "Connections that couldn't be opened")
	d.idleCleanup = desc("idle_cleanup_events_total", "Connections that were closed for being idle")
}

// nodeURL is redis-manager's label. Its value here is never a URL.
const nodeURL = "node_redis_url"

// describe sends those that aren't nil.
func describe(ch chan<- *prometheus.Desc, descs ...*prometheus.Desc) {
	for _, d := range descs {
		if d != nil {
			ch <- d
		}
	}
}

func (d *poolDescs) describePool(ch chan<- *prometheus.Desc) {
	describe(ch, d.connections, d.max, d.waits, d.waitSeconds, d.waiting, d.oldest, d.exchange, d.awaiting, d.timeouts, d.dialing, d.dials,
		d.closes, d.pins, d.requests, d.retries, d.results, d.inFlight, d.unknown, d.up, d.maxSize, d.idle, d.active,
		d.size, d.sizeActive, d.sizeIdle, d.healthy, d.unhealthy, d.created, d.failed, d.idleCleanup)
}

// describeStock sends those that go-redis's own pool knows.
func (d *poolDescs) describeStock(ch chan<- *prometheus.Desc) {
	describe(ch, d.connections, d.max, d.waits, d.waitSeconds, d.waiting, d.timeouts, d.closes, d.requests,
		d.maxSize, d.idle, d.active, d.size, d.sizeActive, d.sizeIdle)
}
