package promhooks_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/hooks"
	"github.com/everpool/everpool/pooler"
	"github.com/everpool/everpool/promhooks"
)

// Everything that is promised: name, type, labels, help. A change here is a change
// of the API.
const spec = `
redis_client_active_requests gauge {redis_client_name,redis_command,redis_database,redis_type} Commands and batches that are under way (Baseplate's name).
redis_client_attempts_total counter {client,node,result} What nodes of a cluster or a ring had of operations, by how it has ended.
redis_client_batch_duration_seconds histogram {client,kind,outcome} Time that a pipeline or a transaction took, retries included.
redis_client_batch_size histogram {client,kind} Commands in a pipeline or a transaction.
redis_client_blocking_seconds histogram {client,command,outcome} Time that a command took that may wait for as long as its arguments say.
redis_client_command_duration_seconds histogram {client,command,outcome} Time that a command took that doesn't block, retries included.
redis_client_command_errors_total counter {client,command,error_type} Commands that have ended with an error, alone or in a batch, by its type.
redis_client_commands_in_flight gauge {client} Commands, pipelines and transactions that are under way.
redis_client_commands_total counter {client,command,outcome} Commands, alone or in a batch, by how they have ended.
redis_client_dial_duration_seconds histogram {client,outcome,pool} Time that it took to open a connection, or to fail to.
redis_client_handshake_errors_total counter {client,command} Commands of connections' handshakes that the server has refused.
redis_client_latency_seconds histogram {redis_client_name,redis_command,redis_database,redis_success,redis_type} Time that a command or a batch took (Baseplate's name).
redis_client_pool_active_connections gauge {redis_pool} Connections in use (Baseplate's name).
redis_client_pool_awaiting_node gauge {client,node} Callers that wait until the node serves, before they make a request.
redis_client_pool_closes_total counter {client,node,reason} Connections that were closed, by the reason.
redis_client_pool_connections gauge {client,node,state} Open connections by what they are doing; together they are all of them.
redis_client_pool_dialing gauge {client,node} Dials that are under way.
redis_client_pool_dials_total counter {client,node,outcome} Connections that were opened, or couldn't be.
redis_client_pool_heal_seconds histogram {client,node} Time from when a node couldn't be reached until it could again.
redis_client_pool_idle_connections gauge {redis_pool} Connections that nobody uses (Baseplate's name).
redis_client_pool_max_connections gauge {client,node} The most connections that the pool opens; without a bound +Inf in Prometheus, and not there in OpenTelemetry.
redis_client_pool_max_size gauge {redis_pool} The most connections that the pool opens; +Inf without a bound (Baseplate's name).
redis_client_pool_node_up gauge {client,node} Whether the node can be reached: 0 if it is down, else 1.
redis_client_pool_oldest_exchange_seconds gauge {client,node} How long ago the oldest request began that is on a connection, or how long a shared connection that owes replies has been silent.
redis_client_pool_oldest_waiter_seconds gauge {client,node} For how long the request that waits longest has been waiting for a connection.
redis_client_pool_pins_total counter {client,node,reason} Connections that a caller has kept beyond a request, by the reason.
redis_client_pool_requests_in_flight gauge {client,node} Requests that wait for a connection or for their replies.
redis_client_pool_requests_total counter {client,node,way} Requests, by the connection that they were for: shared, or leased.
redis_client_pool_results_total counter {client,node,result} Requests that have ended, by how; sent_away: got no connection since the node was ill, and was brought again or taken to another node; abandoned: the caller left first.
redis_client_pool_retries_total counter {client,kind,node} Times that the pool has sent a request once more: moved, since the first connection ran none of it, or resent, which is done to reads.
redis_client_pool_timeouts_total counter {client,node} Requests that got no connection in time.
redis_client_pool_unknown_outcomes_total counter {client,node} Requests that were sent and whose reply was lost, so that they may have run or not.
redis_client_pool_wait_seconds_total counter {client,node} Time that requests have waited for a connection, together.
redis_client_pool_waiting_requests gauge {client,node} Requests that wait for a connection.
redis_client_pool_waits_total counter {client,node} Requests that had to wait for a connection.
redis_client_requests_total counter {redis_client_name,redis_command,redis_database,redis_success,redis_type} Commands and batches (Baseplate's name).
redis_connection_latency_seconds histogram {client,node_redis_url} Time that it took to open a connection (redis-manager's name).
redis_connections_created_total counter {client,node_redis_url} Connections that were opened (redis-manager's name).
redis_failed_connections_total counter {client,node_redis_url} Connections that couldn't be opened (redis-manager's name).
redis_idle_cleanup_events_total counter {client,node_redis_url} Connections that were closed for being idle (redis-manager's name).
redis_pool_active gauge {client,node_redis_url} Connections in use (redis-manager's name).
redis_pool_healthy gauge {client,node_redis_url} 1 unless the node is down (redis-manager's name).
redis_pool_idle gauge {client,node_redis_url} Connections that nobody uses (redis-manager's name).
redis_pool_size gauge {client,node_redis_url} Open connections (redis-manager's name).
redis_pool_unhealthy gauge {client,node_redis_url} 1 if the node is down (redis-manager's name).
`

// everything is a gather in which every metric has a series.
func everything(tb testing.TB, opts ...promhooks.Setting) *prometheus.Registry {
	tb.Helper()
	m := must(promhooks.NewMetrics("test", opts...))(tb)
	p := must(promhooks.NewPool("test", opts...))(tb)
	stock := must(promhooks.NewStockPool("stock", &stockStats{}, opts...))(tb)
	hook := must(hooks.New(m))(tb)
	process := hook.ProcessHook(failing)
	_ = process(tb.Context(), redis.NewStringCmd(tb.Context(), "get", "k"))
	_ = process(tb.Context(), redis.NewStringCmd(tb.Context(), "blpop", "k", 0))
	m.Handshake(tb.Context(), hooks.Commands()[0], "ERR")
	m.Attempt(tb.Context(), &hooks.Attempt{Peer: &hooks.Target{Network: "tcp", Addr: "one:6379"}})
	see(tb, p, &nodes{{Network: "tcp", Addr: "one:6379", Stats: pooler.Stats{Pins: map[string]int64{"watch": 1}}}})
	p.OnEvent(pooler.Event{Kind: pooler.EventDial, Node: "one:6379", Duration: 1})
	return registry(tb, m, p, stock)
}

func TestEveryMetricIsAsPromised(t *testing.T) {
	reg := everything(t, promhooks.WithBaseplateNames(), promhooks.WithRedisManagerNames())
	var got strings.Builder
	got.WriteString("\n")
	for _, f := range families(t, reg) {
		var labels []string
		for _, m := range f.GetMetric() {
			labels = nil
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetName())
			}
			slices.Sort(labels)
		}
		fmt.Fprintf(&got, "%s %s {%s} %s\n", f.GetName(), strings.ToLower(f.GetType().String()), strings.Join(labels, ","), f.GetHelp())
	}
	if diff := cmp.Diff(spec, got.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Without the presets none of their names is there.
func TestPresetsAreAddedOnlyWhenAskedFor(t *testing.T) {
	for _, f := range families(t, everything(t)) {
		if strings.Contains(f.GetHelp(), "'s name)") {
			t.Errorf("%s is there", f.GetName())
		}
		if !strings.Contains(spec, "\n"+f.GetName()+" ") {
			t.Errorf("%s isn't promised", f.GetName())
		}
	}
}

// Whatever is chosen, names and units are as Prometheus recommends them.
func TestPromlintHasNothingToSay(t *testing.T) {
	choices := [][]promhooks.Setting{
		{promhooks.WithBuckets(nil)},
		{promhooks.WithNativeHistograms(-1)},
		{promhooks.WithExemplars(true)},
		{promhooks.WithBaseplateNames()},
		{promhooks.WithRedisManagerNames()},
	}
	for set := range 1 << len(choices) {
		var opts []promhooks.Setting
		if set&3 == 3 {
			continue // no buckets at all: an error
		}
		for i, o := range choices {
			if set&(1<<i) != 0 {
				opts = append(opts, o...)
			}
		}
		problems, err := testutil.GatherAndLint(everything(t, opts...))
		if err != nil || len(problems) > 0 {
			t.Errorf("options %05b: %v, %v", set, problems, err)
		}
	}
}

// Every reason for a close is there from the beginning.
func TestEveryCloseReasonIsThere(t *testing.T) {
	got := gather(t, everything(t))
	for _, reason := range declaredReasons(t) {
		got.want(t, samples{`redis_client_pool_closes_total{node="one:6379",reason="` + reason + `"}`: 0})
	}
}

// docs/metrics.md and the package's documentation have every metric and label.
func TestEveryMetricIsDocumented(t *testing.T) {
	doc := string(must(os.ReadFile("doc.go"))(t))
	table := string(must(os.ReadFile("../docs/metrics.md"))(t))
	for _, f := range families(t, everything(t)) {
		name := f.GetName()
		if !strings.Contains(doc, "//\t"+name+" ") && !strings.Contains(doc, "//\t"+name+"{") {
			t.Errorf("%s isn't in doc.go", name)
		}
		row := ""
		for line := range strings.Lines(table) {
			if strings.HasPrefix(line, "| ") && strings.Contains(line, "`"+name+"`") {
				row = line
			}
		}
		for _, l := range f.GetMetric()[0].GetLabel() {
			if l := l.GetName(); l != "client" && l != "node" && !strings.Contains(row, "`"+l+"`") {
				t.Errorf("%s{%s} isn't in docs/metrics.md: %q", name, l, row)
			}
		}
		if row == "" {
			t.Errorf("%s isn't in docs/metrics.md", name)
		}
	}
}
