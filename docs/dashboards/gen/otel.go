package main

// otelBoard is that of otelhooks, by the names and labels that Prometheus gives what it
// gets in OpenTelemetry's protocol.
func otelBoard() board {
	const in = `job=~"$job",instance=~"$instance"`
	client := func(name, more string) string { return name + "{" + in + more + "}" }
	pool := func(name, more string) string {
		return name + "{" + in + `,db_client_connection_pool_name=~"$pool"` + more + "}"
	}
	poolHistogram := func(name string) histogram { return histogram{name, pool("", "")} }
	durations := func(more string) histogram {
		return histogram{"db_client_operation_duration_seconds", client("", more)}
	}
	quick, blocking := durations(`,everpool_blocking=""`), durations(`,everpool_blocking="true"`)
	commands := func(more string) string { return rate(client("everpool_commands_total", more)) }
	attempts := func(more string) string { return rate(client("everpool_attempts_total", more)) }
	const perPool, name = "db_client_connection_pool_name", "{{db_client_connection_pool_name}}"
	const operation, operations = "db_operation_name", "{{db_operation_name}}"
	// Of the instance that is closest to its bound: others' spare connections are of no use to it.
	inUse := "max by (" + perPool + ") (" + sumBy("job, instance, "+perPool, pool("db_client_connection_count", `,db_client_connection_state="used"`)) + " / " +
		sumBy("job, instance, "+perPool, pool("db_client_connection_max", "")) + ")"
	return board{
		uid: "everpool-otel", title: "everpool: Redis clients (OpenTelemetry)",
		text: "Operations and connections of go-redis clients with the metrics of everpool's otelhooks, as Prometheus names them.",
		variables: []variable{
			{"job", "Job", "label_values(everpool_commands_total, job)"},
			{"instance", "Instance", `label_values(everpool_commands_total{job=~"$job"}, instance)`},
			{"pool", "Pool", `label_values(db_client_connection_count{` + in + `}, db_client_connection_pool_name)`},
		},
		rows: []row{
			{"Overview", []panel{
				{"Commands", "Per second, those of batches too.", "ops", stat, one("sum("+commands("")+")", "commands")},
				{"Error ratio", "Of the commands; what was cancelled or undone is no error.", "percentunit", stat, one("sum("+commands(`,everpool_outcome="error"`)+") / sum("+commands("")+")", "errors")},
				{"p99", "Of operations that don't block, batches among them.", "s", stat, one(quick.quantile("0.99", ""), "p99")},
				{"Nodes down", "By all instances together.", "short", stat, one("sum("+pool("everpool_node_state", `,everpool_node_state="down"`)+")", "down")},
				{"Most of a bound in use", "Of the connections of a pool of one instance.", "percentunit", stat, one("max("+inUse+")", "in use")},
				{"Unknown outcomes", "Requests whose reply was lost.", "short", stat, one("sum("+increase(pool("everpool_unknown_outcomes_total", ""))+")", "unknown")},
			}},
			{"Operations", []panel{
				{"Commands by name", "Per second, alone or in a batch.", "ops", stacked, one(sumBy(operation, commands("")), operations)},
				{"Commands by outcome", "miss: there was no such key. canceled: the caller's context was. tx_failed: a watched key has changed.", "ops", stacked, one(sumBy("everpool_outcome", commands("")), "{{everpool_outcome}}")},
				{"Hit ratio", "Of the commands that may miss, as GET.", "percentunit", lines, one(sumBy(operation, commands(`,everpool_outcome="ok"`))+" / "+sumBy(operation, commands(`,everpool_outcome=~"ok|miss"`)), operations)},
				{"Operations by server", "A batch is one. The server is empty for clusters and rings.", "ops", stacked, one(durations("").count("server_address, server_port, db_namespace"), "{{server_address}}:{{server_port}} {{db_namespace}}")},
				{"Errors by type", "Of operations. A server's word, or what has happened to the client.", "ops", stacked, one(durations(`,error_type!=""`).count("error_type"), "{{error_type}}")},
				{"Errors by operation", "A batch is one.", "ops", stacked, one(durations(`,error_type!=""`).count(operation), operations)},
				{"Attempts by node", "What nodes of clusters and rings had of operations, retries and redirections included.", "ops", stacked, one(sumBy("server_address, server_port", attempts("")), "{{server_address}}:{{server_port}}")},
				{"Redirections", "Attempts that a node of a cluster has sent elsewhere (MOVED, ASK) or put off (TRYAGAIN).", "ops", stacked, one(sumBy("error_type", attempts(`,error_type=~"MOVED|ASK|TRYAGAIN"`)), "{{error_type}}")},
			}},
			{"Latency", []panel{
				{"p50 and p99", "Of operations that don't block. Points are exemplars.", "s", lines, []query{{quick.quantile("0.5", "job"), "p50 {{job}}", true}, {quick.quantile("0.99", "job"), "p99 {{job}}", true}}},
				{"p99 by operation", "PIPELINE and MULTI are batches.", "s", lines, []query{{quick.quantile("0.99", operation), operations, true}}},
				{"Mean by operation", "Of operations that don't block.", "s", lines, one(quick.mean(operation), operations)},
				{"p99 of blocking operations", "They take as long as their arguments say.", "s", lines, one(blocking.quantile("0.99", operation), operations)},
			}},
			{"Connections", []panel{
				{"Connections", "Open ones, each in one state.", "short", stacked, one(sumBy("everpool_connection_state", pool("everpool_connections", "")), "{{everpool_connection_state}}")},
				{"Used and idle", "By the conventions, of stock pools too.", "short", lines, one(sumBy(perPool+", db_client_connection_state", pool("db_client_connection_count", "")), name+" {{db_client_connection_state}}")},
				{"Share of the bound in use", "Of the instance that is closest to it. There is none without a bound.", "percentunit", lines, one(inUse, name)},
				{"Bounds of idle connections", "Of stock pools.", "short", lines, []query{
					{sumBy(perPool, pool("db_client_connection_idle_max", "")), "most " + name, false},
					{sumBy(perPool, pool("db_client_connection_idle_min", "")), "least " + name, false},
				}},
				{"Handles and sessions", "What go-redis takes for connections, and whom they are logged in as.", "short", lines, []query{
					{sumBy(perPool, pool("everpool_handles", "")), "handles " + name, false},
					{sumBy(perPool, pool("everpool_sessions", "")), "sessions " + name, false},
				}},
				{"Requests by way", "For a shared connection or for one of their own.", "ops", stacked, one(sumBy("everpool_request_way", rate(pool("everpool_requests_total", ""))), "{{everpool_request_way}}")},
				{"Requests by result", "abandoned: the caller left first.", "ops", stacked, one(sumBy("everpool_request_result", rate(pool("everpool_results_total", ""))), "{{everpool_request_result}}")},
				{"Sent once more", "By the pool: moved, since the first connection ran none of it; resent: reads.", "ops", stacked, one(sumBy("everpool_retry_kind", rate(pool("everpool_retries_total", ""))), "{{everpool_retry_kind}}")},
				{"Requests in flight", "They wait for a connection or for their replies.", "short", lines, one(sumBy(perPool, pool("everpool_active_requests", "")), name)},
				{"Oldest exchange", "How long the oldest request has been on a connection.", "s", lines, one("max by ("+perPool+") ("+pool("everpool_oldest_exchange_seconds", "")+")", name)},
			}},
			{"Waiting for connections", []panel{
				{"Waits", "Requests per second that had to wait, and that waited in vain.", "ops", lines, []query{
					{sumBy(perPool, rate(pool("everpool_waits_total", ""))), "waits " + name, false},
					{sumBy(perPool, rate(pool("db_client_connection_timeouts_total", ""))), "timeouts " + name, false},
				}},
				{"Requests that wait, callers that await the node", "Now, and before they make a request.", "short", lines, []query{
					{sumBy(perPool, pool("db_client_connection_pending_requests", "")), "wait " + name, false},
					{sumBy(perPool, pool("everpool_awaiting_callers", "")), "await the node " + name, false},
				}},
				{"Oldest waiter", "For how long the request that waits longest has been waiting.", "s", lines, one("max by ("+perPool+") ("+pool("everpool_oldest_waiter_seconds", "")+")", name)},
				{"p99 of waits", "error.type: of those in vain.", "s", lines, one(poolHistogram("db_client_connection_wait_time_seconds").quantile("0.99", perPool+", error_type"), name+" {{error_type}}")},
			}},
			{"Opening and closing", []panel{
				{"Dials", "Per second, and those under way.", "short", lines, []query{
					{sumBy("everpool_dial_outcome", rate(pool("everpool_dials_total", ""))), "{{everpool_dial_outcome}}", false},
					{"sum(" + pool("everpool_dialing", "") + ")", "under way", false},
				}},
				{"p99 of dials", "Of those that succeeded.", "s", lines, one(poolHistogram("db_client_connection_create_time_seconds").quantile("0.99", perPool), name)},
				{"Closes by reason", "docs/operations.md says what the reasons mean.", "ops", stacked, one(sumBy("everpool_close_reason", rate(pool("everpool_closes_total", "")))+" > 0", "{{everpool_close_reason}}")},
				{"Pins by reason", "Connections that a caller has kept beyond a request.", "ops", stacked, one(sumBy("everpool_pin_reason", rate(pool("everpool_pins_total", ""))), "{{everpool_pin_reason}}")},
				{"Unknown outcomes", "Requests that were sent and whose reply was lost.", "short", bars, one(sumBy(perPool, increase(pool("everpool_unknown_outcomes_total", ""))), name)},
				{"Pushes without a taker", "RESP3 messages that nobody wanted.", "ops", lines, one(sumBy(perPool, rate(pool("everpool_dropped_pushes_total", ""))), name)},
			}},
			{"Nodes", []panel{
				{"Node up", "The worst of all instances; suspect is up.", "short", upDown, one("1 - max by ("+perPool+") ("+pool("everpool_node_state", `,everpool_node_state="down"`)+")", name)},
				{"Heals", "How often a node came back.", "short", bars, one(sumBy(perPool, increase(pool("everpool_heals_total", ""))), name)},
				{"Mean outage", "Of the nodes that came back.", "s", lines, one(poolHistogram("everpool_outage_duration_seconds").mean(perPool), name)},
			}},
		},
	}
}
