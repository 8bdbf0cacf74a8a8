// Package promhooks makes Prometheus metrics of a go-redis client: of its
// operations, by an observer of package hooks, and of its connection pool.
//
//	db, err := driver.Open("redis://localhost:6379", promhooks.Option(prometheus.DefaultRegisterer, "orders"))
//
// [Option] does it all, and Driver.Watch takes it for a client that was made in another
// way. By hand, for more than one registry, say, or for a client on go-redis's own pool:
//
//	m, err := promhooks.NewMetrics("orders") // operations: an observer for hooks.New
//	p, err := promhooks.NewPool("orders")    // connections; or NewStockPool("orders", client)
//	reg.MustRegister(m, p)
//	d, err := driver.New(driver.Config{Pool: p.Instrument(pooler.Config{})}) // events
//	stop, err := p.Watch(d)                                                 // statistics
//
// # Metrics
//
// Every metric has the label client, the name that was given to its constructor.
// So two clients with different names fit in one registry, and the second
// registration of a name fails.
//
// Of [Metrics]:
//
//	redis_client_commands_total{command,outcome}            counter
//	redis_client_command_duration_seconds{command,outcome}  histogram
//	redis_client_blocking_seconds{command,outcome}          histogram
//	redis_client_command_errors_total{command,error_type}   counter
//	redis_client_commands_in_flight                         gauge
//	redis_client_batch_duration_seconds{kind,outcome}       histogram
//	redis_client_batch_size{kind}                           histogram
//	redis_client_dial_duration_seconds{pool,outcome}        histogram
//	redis_client_handshake_errors_total{command}            counter
//	redis_client_attempts_total{node,result}                counter    of clusters and rings
//
// command is a command's name in upper case ("GET", "CLIENT LIST"), or "other" for
// one that the command table doesn't have, so it is bounded. outcome is ok, miss
// (redis.Nil), error, canceled (the caller's context was) or tx_failed (a watched key
// has changed); the last two are no fault of a server, and no error there. error_type
// is what hooks.ErrorType says of all that aren't ok or a miss, bounded as well.
//
// commands_total and command_errors_total count every command, those in batches too. The
// duration is that of single commands. Those that may wait for as long as their arguments
// say (BLPOP, WAIT, XREAD with BLOCK) are in blocking_seconds instead. kind is pipeline,
// transaction, or blocking_pipeline for one with a command that blocks; a pipeline of one
// command is that command, and no batch. A batch has failed if one of its commands has.
// pool is what has dialed: go-redis, or everpool.
//
// attempts_total is what nodes of a cluster or a ring had of operations: one or more of each,
// since an operation is redirected or tried again, and a batch goes to several nodes. result
// is ok, for a miss too, or the error_type; of a node's part of a batch that of its first
// error. So it has redirections (MOVED, ASK, TRYAGAIN) by the node that has sent them. node
// is the node's address; after the first 128 of a client it is "other". A client of one
// server has no series of it.
//
// Of [Pool], with the label node, and as far as go-redis knows them of [StockPool]:
//
//	redis_client_pool_connections{state}       gauge      idle, used, pinned, shared or draining: all that are open
//	redis_client_pool_max_connections          gauge      +Inf: no bound
//	redis_client_pool_dialing                  gauge
//	redis_client_pool_waiting_requests         gauge
//	redis_client_pool_waits_total              counter
//	redis_client_pool_wait_seconds_total       counter
//	redis_client_pool_oldest_waiter_seconds    gauge
//	redis_client_pool_oldest_exchange_seconds  gauge
//	redis_client_pool_awaiting_node            gauge
//	redis_client_pool_timeouts_total           counter
//	redis_client_pool_dials_total{outcome}     counter    ok or error
//	redis_client_pool_closes_total{reason}     counter    a pooler.CloseReason
//	redis_client_pool_pins_total{reason}       counter
//	redis_client_pool_requests_total{way}      counter    shared or leased: all
//	redis_client_pool_requests_in_flight       gauge
//	redis_client_pool_results_total{result}    counter    answered, failed, sent_away or abandoned: all that have ended
//	redis_client_pool_retries_total{kind}      counter    moved or resent
//	redis_client_pool_unknown_outcomes_total   counter
//	redis_client_pool_node_up                  gauge      0: down; 1: up or suspect
//	redis_client_pool_heal_seconds             histogram
//	redis_client_dial_duration_seconds         histogram  see above; without node
//
// node is host:port, or the path of a unix socket; nodes of the same address (that
// differ in TLS, say) are added up. A counter of a node doesn't go backwards, and never
// grows by what it had counted before, when a node, or one of several, leaves and comes
// back. When the driver forgets a node its series end; if it comes back they go on.
//
// Histograms of seconds have classic and native buckets, in one metric. A
// Prometheus server takes the native ones if it is told to scrape native
// histograms, and then leaves the classic ones, unless always_scrape_classic_histograms
// is set. The dashboards and alerts in docs/dashboards ask for either.
//
// # Concurrency
//
// Everything is safe for concurrent use. A scrape reads the pool's statistics, so
// it takes each pool's lock for a moment; one scrape of a Pool waits for another.
//
// # Failure
//
// Wrong names and settings are errors of the constructors, all in one. Nothing
// panics later; what can't be exported is an error of the scrape.
//
// # Cost
//
// A command costs three atomic additions and one observation of a histogram, about
// 0.1 µs, without an allocation, once its series exists: the series of each command
// are found by its number. Each command of a batch is counted, without a time of its own.
// An attempt of a cluster or a ring is an addition more, and an allocation of the hook's.
// With [WithExemplars] a command in a sampled span costs 2 µs and 14 allocations more. A
// series is made when it is needed first; a histogram's has about 20 lines in a scrape.
//
// # Limits
//
// No argument of a command is in a metric: no key, no value, no password, no URL.
// Calls of one command within a batch have no duration of their own.
package promhooks
