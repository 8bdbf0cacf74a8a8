package main

// prometheusBoard is that of promhooks.
func prometheusBoard() board {
	const in = `job=~"$job",instance=~"$instance",client=~"$client"`
	client := func(name, more string) string { return "redis_client_" + name + "{" + in + more + "}" }
	pool := func(name, more string) string {
		return "redis_client_pool_" + name + "{" + in + `,node=~"$node"` + more + "}"
	}
	durations := func(name, more string) histogram {
		return histogram{"redis_client_" + name, "{" + in + more + "}"}
	}
	commands := func(more string) string { return rate(client("commands_total", more)) }
	attempts := func(more string) string { return rate(client("attempts_total", `,node=~"$node"`+more)) }
	command := durations("command_duration_seconds", "")
	blocking := durations("blocking_seconds", "")
	batches := durations("batch_duration_seconds", "")
	heals := histogram{"redis_client_pool_heal_seconds", "{" + in + `,node=~"$node"}`}
	// Of the instance that is closest to its bound: others' spare connections are of no use to it.
	inUse := "max by (client, node) (" + sumBy("job, instance, client, node", pool("connections", `,state!="idle"`)) + " / " +
		sumBy("job, instance, client, node", pool("max_connections", "")) + ")"
	both := func(h histogram, labels, legend string) []query {
		return []query{{h.quantile("0.5", labels), "p50 " + legend, true}, {h.quantile("0.99", labels), "p99 " + legend, true}}
	}
	const perNode, node = "client, node", "{{client}} {{node}}"
	choice := func(label string) string { return "label_values(redis_client_commands_in_flight, " + label + ")" }
	return board{
		uid: "everpool", title: "everpool: Redis clients",
		text: "Operations and connections of go-redis clients with the metrics of everpool's promhooks.",
		variables: []variable{
			{"job", "Job", choice("job")},
			{"instance", "Instance", `label_values(redis_client_commands_in_flight{job=~"$job"}, instance)`},
			{"client", "Client", `label_values(redis_client_commands_in_flight{job=~"$job",instance=~"$instance"}, client)`},
			{"node", "Node", `label_values(redis_client_pool_connections{` + in + `}, node)`},
		},
		rows: []row{
			{"Overview", []panel{
				{"Commands", "Per second, those of batches too.", "ops", stat, one("sum("+commands("")+")", "commands")},
				{"Error ratio", "Of the commands; what was cancelled or undone is no error.", "percentunit", stat, one("sum("+commands(`,outcome="error"`)+") / sum("+commands("")+")", "errors")},
				{"p99", "Of single commands that don't block.", "s", stat, one(command.quantile("0.99", ""), "p99")},
				{"Nodes down", "By all instances together.", "short", stat, one("sum(1 - "+pool("node_up", "")+")", "down")},
				{"Most of a bound in use", "Of the connections of a client of one instance to a node.", "percentunit", stat, one("max("+inUse+")", "in use")},
				{"Unknown outcomes", "Requests whose reply was lost.", "short", stat, one("sum("+increase(pool("unknown_outcomes_total", ""))+")", "unknown")},
			}},
			{"Operations", []panel{
				{"Commands by name", "Per second, alone or in a batch.", "ops", stacked, one(sumBy("command", commands("")), "{{command}}")},
				{"Commands by outcome", "miss: there was no such key. canceled: the caller's context was. tx_failed: a watched key has changed.", "ops", stacked, one(sumBy("outcome", commands("")), "{{outcome}}")},
				{"In flight", "Commands and batches that have begun and not ended.", "short", lines, one(sumBy("client", client("commands_in_flight", "")), "{{client}}")},
				{"Hit ratio", "Of the commands that may miss, as GET.", "percentunit", lines, one(sumBy("command", commands(`,outcome="ok"`))+" / "+sumBy("command", commands(`,outcome=~"ok|miss"`)), "{{command}}")},
				{"Attempts by node", "What nodes of clusters and rings had of operations, retries and redirections included.", "ops", stacked, one(sumBy(perNode, attempts("")), node)},
				{"Redirections", "Attempts that a node of a cluster has sent elsewhere (MOVED, ASK) or put off (TRYAGAIN).", "ops", stacked, one(sumBy("result", attempts(`,result=~"MOVED|ASK|TRYAGAIN"`)), "{{result}}")},
			}},
			{"Errors", []panel{
				{"Errors by type", "A server's word, or what has happened to the client; canceled and tx_failed are among them.", "ops", stacked, one(sumBy("error_type", rate(client("command_errors_total", ""))), "{{error_type}}")},
				{"Errors by command", "Alone or in a batch.", "ops", stacked, one(sumBy("command", rate(client("command_errors_total", ""))), "{{command}}")},
				{"Error ratio", "Of the commands of a client, without canceled and tx_failed.", "percentunit", lines, one(sumBy("client", commands(`,outcome="error"`))+" / "+sumBy("client", commands("")), "{{client}}")},
			}},
			{"Latency", []panel{
				{"p50 and p99", "Of single commands that don't block, retries included. Points are exemplars.", "s", lines, both(command, "client", "{{client}}")},
				{"p99 by command", "Of single commands that don't block.", "s", lines, []query{{command.quantile("0.99", "command"), "{{command}}", true}}},
				{"Mean by command", "Of single commands that don't block.", "s", lines, one(command.mean("command"), "{{command}}")},
			}},
			{"Blocking commands", []panel{
				{"Blocking commands", "Per second: BLPOP, WAIT, XREAD with BLOCK and the like.", "ops", stacked, one(blocking.count("command, outcome"), "{{command}} {{outcome}}")},
				{"p50 and p99 of blocking commands", "They take as long as their arguments say.", "s", lines, both(blocking, "command", "{{command}}")},
			}},
			{"Batches", []panel{
				{"Batches", "Pipelines and transactions per second. One has failed if a command of it has.", "ops", stacked, one(batches.count("kind, outcome"), "{{kind}} {{outcome}}")},
				{"p50 and p99 of batches", "blocking_pipeline: with a command in it that blocks.", "s", lines, both(batches, "kind", "{{kind}}")},
				{"Mean size", "Commands in a batch, without MULTI and EXEC.", "short", lines, one(durations("batch_size", "").mean("kind"), "{{kind}}")},
			}},
			{"Connections", []panel{
				{"Connections", "Open ones, each in one state.", "short", stacked, one(sumBy("state", pool("connections", "")), "{{state}}")},
				{"Share of the bound in use", "Of the instance that is closest to it. 0 without a bound.", "percentunit", lines, one(inUse, node)},
				{"Requests by way", "For a shared connection or for one of their own.", "ops", stacked, one(sumBy("way", rate(pool("requests_total", ""))), "{{way}}")},
				{"Requests by result", "abandoned: the caller left first.", "ops", stacked, one(sumBy("result", rate(pool("results_total", ""))), "{{result}}")},
				{"Sent once more", "By the pool: moved, since the first connection ran none of it; resent: reads.", "ops", stacked, one(sumBy("kind", rate(pool("retries_total", ""))), "{{kind}}")},
				{"Requests in flight", "They wait for a connection or for their replies.", "short", lines, one(sumBy(perNode, pool("requests_in_flight", "")), node)},
				{"Oldest exchange", "How long the oldest request has been on a connection.", "s", lines, one("max by (client, node) ("+pool("oldest_exchange_seconds", "")+")", node)},
			}},
			{"Waiting for connections", []panel{
				{"Waits", "Requests per second that had to wait, and that waited in vain.", "ops", lines, []query{
					{sumBy(perNode, rate(pool("waits_total", ""))), "waits " + node, false},
					{sumBy(perNode, rate(pool("timeouts_total", ""))), "timeouts " + node, false},
				}},
				{"Requests that wait, callers that await the node", "On average, now, and before they make a request.", "short", lines, []query{
					{sumBy(perNode, rate(pool("wait_seconds_total", ""))), "on average " + node, false},
					{sumBy(perNode, pool("waiting_requests", "")), "now " + node, false},
					{sumBy(perNode, pool("awaiting_node", "")), "await the node " + node, false},
				}},
				{"Oldest waiter", "For how long the request that waits longest has been waiting.", "s", lines, one("max by (client, node) ("+pool("oldest_waiter_seconds", "")+")", node)},
			}},
			{"Opening and closing", []panel{
				{"Dials", "Per second, and those under way.", "short", lines, []query{
					{sumBy("outcome", rate(pool("dials_total", ""))), "{{outcome}}", false},
					{"sum(" + pool("dialing", "") + ")", "under way", false},
				}},
				{"p99 of dials", "Of go-redis's own and of everpool's.", "s", lines, one(durations("dial_duration_seconds", "").quantile("0.99", "outcome"), "{{outcome}}")},
				{"Failed handshake commands", "Some servers don't know all of them.", "ops", stacked, one(sumBy("command", rate(client("handshake_errors_total", ""))), "{{command}}")},
				{"Closes by reason", "docs/operations.md says what the reasons mean.", "ops", stacked, one(sumBy("reason", rate(pool("closes_total", "")))+" > 0", "{{reason}}")},
				{"Pins by reason", "Connections that a caller has kept beyond a request.", "ops", stacked, one(sumBy("reason", rate(pool("pins_total", ""))), "{{reason}}")},
				{"Unknown outcomes", "Requests that were sent and whose reply was lost.", "short", bars, one(sumBy(perNode, increase(pool("unknown_outcomes_total", ""))), node)},
			}},
			{"Nodes", []panel{
				{"Node up", "The worst of all instances.", "short", upDown, one("min by (client, node) ("+pool("node_up", "")+")", node)},
				{"Heals", "How often a node came back.", "short", bars, one(heals.counted(perNode), node)},
				{"Mean outage", "From when a node couldn't be reached until it could again, of the outages that have ended.", "s", lines, one(heals.mean(perNode), node)},
			}},
			{"Hot keys", []panel{
				{"Hot keys", "Uses per second of the most used keys, with hotkey.Tracker.Collector: by name where that is allowed, else by a hash.", "ops", lines, one("topk by (class) (10, "+sumBy("class, key", client("hot_key_rate", ""))+")", "{{class}} {{key}}")},
			}},
		},
	}
}
