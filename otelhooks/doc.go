// Package otelhooks reports what go-redis clients do to OpenTelemetry: a span and
// a duration for every operation, and the state of the pools. It follows the
// semantic conventions for databases, version 1.43.0.
//
//	db, err := driver.Open("redis://localhost:6379", otelhooks.Option())
//
// [Option] does it all, and Driver.Watch takes it for a client that was made in another
// way. By hand, for spans alone, say, or for a client on go-redis's own pool:
//
//	tracing, err := otelhooks.NewTracing()
//	metrics, err := otelhooks.NewMetrics()
//	hook, err := hooks.New(tracing, metrics) // tracing first, for exemplars
//	detach, err := hook.Attach(client)
//	pool, err := otelhooks.NewPool() // or NewStockPool("", client)
//	d, err := driver.New(driver.Config{Pool: pool.Instrument(pooler.Config{})}) // events
//	stop, err := pool.Watch(d)                                                  // statistics
//
// # Spans
//
// An operation, a command or a batch, is one span of kind CLIENT, go-redis's
// retries and redirections included. Its name is the command's, "GET"; for a
// batch "PIPELINE GET" or "MULTI GET" if its commands are all the same, "PIPELINE"
// or "MULTI" if they aren't. What go-redis sends to open a connection is part of
// no operation and makes no span. redis.Nil is no error.
//
//	attribute                 set    value
//	db.system.name            start  "redis"
//	db.operation.name         start  the span's name, by default; "other" for a command that isn't in the table
//	db.namespace              start  the number of the database that the client was made for
//	server.address            start  host or socket that the client was made for; of clusters and rings, at the end, the
//	                                 node that answered last, if it is known by a name
//	server.port               start  unless it is 6379
//	db.query.text             start  only with WithQueryText
//	network.peer.address      end    of a server that is known to have been reached: its IP address, or its socket's path
//	network.peer.port         end
//	db.operation.batch.size   end    of a batch of two or more, without MULTI and EXEC
//	db.stored_procedure.name  end    the digest of EVALSHA, the function of FCALL
//	everpool.outcome          end    "miss" for redis.Nil
//	error.type                end    a reply's prefix (WRONGTYPE) or a constant of hooks (timeout, unknown_outcome, ...)
//	db.response.status_code   end    the same, if it is a reply's prefix
//
// A pipeline of one command is that command. The peer is left out where it isn't known
// that there was one: of a name that was looked up, which go-redis doesn't tell the
// address of, and after a timeout, a cancelled context or a lost connection. A SELECT
// that a user sends on a connection of his own, or in a script, doesn't change
// db.namespace: hooks see a client's options, not a connection's state.
//
// What a request has gone through unnoticed by its caller are events, with [Option] and a
// client of the driver's that speaks RESP3, as go-redis's clients do by default:
//
//	event             attribute                when
//	everpool.waited   everpool.wait.duration   it has waited for a connection, in seconds; with error.type,
//	                                           which is there without Option too: in vain
//	everpool.moved    everpool.retry.count     it went on another connection, the first having run none of it
//	everpool.resent   everpool.retry.count     it was sent again, its reply having been lost
//
// Each try of go-redis's has its own. Not told are waits for a node that doesn't serve, which
// are in the dial, and what happens to gathered commands and to an AutoPipeline: those have
// no context. The metrics have all of it.
//
// A span that ended in an error has the status Error with the error's type for a
// description, never with its text. db.namespace, server.address and server.port
// are missing if the hook was added with AddHook, and not attached: it can't know
// them then.
//
// What an operation of a cluster or a ring has sent to a node is an event
// "everpool.attempt" with network.peer.address, network.peer.port,
// everpool.attempt.duration (seconds), db.operation.batch.size and error.type. A node that
// isn't known to have been reached, or has a name, has server.address and server.port
// there instead.
//
// # Metrics
//
// Of every operation, a batch being one, recorded when it ends:
//
//	metric                        kind       unit  attributes
//	db.client.operation.duration  histogram  s     db.system.name, db.operation.name, db.namespace, server.address,
//	                                               server.port, error.type, db.response.status_code, everpool.blocking
//	everpool.commands             counter    {command}  db.system.name, db.operation.name, everpool.outcome
//	everpool.attempts             counter    {attempt}  db.system.name, server.address, server.port, error.type
//
// everpool.blocking is true for what takes as long as its arguments say (BLPOP, WAIT,
// XREAD with BLOCK, a pipeline with one of these), and isn't there otherwise: leave it
// out of what is to say how fast a server is. everpool.commands counts every command,
// those in batches too, by how it has ended, everpool.outcome: ok, miss, error, canceled
// (by the caller) or tx_failed (a watched key has changed). The last two are no fault of
// a server.
//
// everpool.attempts is what nodes of a cluster or a ring had of operations: one or more of
// each, since an operation is redirected or tried again, and a batch goes to several nodes.
// error.type isn't there for what has succeeded; of a node's part of a batch it is that of
// its first error. So it has redirections (MOVED, ASK, TRYAGAIN) by the node that has sent
// them. server.address and server.port are the node's; after the first 128 nodes it is
// "other", without a port. A client of one server has none.
//
// Of pools, all of them with db.client.connection.pool.name, which is a node's
// address for everpool's, since clients of all its databases share it. Those read
// at collection are marked with an r, others are recorded as it happens; those
// that a stock pool has too with an s.
//
//	metric                                    kind           unit          attribute: values
//	db.client.connection.count            rs  updowncounter  {connection}  db.client.connection.state: idle, used
//	db.client.connection.max              rs  updowncounter  {connection}  (none without a bound)
//	db.client.connection.idle.max          s  updowncounter  {connection}  (none without a bound)
//	db.client.connection.idle.min          s  updowncounter  {connection}
//	db.client.connection.pending_requests rs  updowncounter  {request}
//	db.client.connection.timeouts         rs  counter        {timeout}
//	db.client.connection.create_time          histogram      s             (dials that succeeded)
//	db.client.connection.wait_time            histogram      s             error.type: of those that waited in vain
//	everpool.node.state                   r   updowncounter  {node}        everpool.node.state: up, suspect, down; 1 for the one it is in
//	everpool.handles                      r   updowncounter  {handle}
//	everpool.sessions                     r   updowncounter  {session}
//	everpool.connections                  r   updowncounter  {connection}  everpool.connection.state: idle, used, pinned, shared, draining: all
//	everpool.dialing                      r   updowncounter  {dial}
//	everpool.active_requests              r   updowncounter  {request}
//	everpool.awaiting_callers             r   updowncounter  {caller}
//	everpool.oldest_waiter                r   gauge          s
//	everpool.oldest_exchange              r   gauge          s
//	everpool.requests                     r   counter        {request}     everpool.request.way: shared, leased: all
//	everpool.retries                      r   counter        {request}     everpool.retry.kind: moved, resent
//	everpool.results                      r   counter        {request}     everpool.request.result: answered, failed, sent_away, abandoned
//	everpool.unknown_outcomes             r   counter        {request}
//	everpool.waits                        r   counter        {request}
//	everpool.dials                        r   counter        {dial}        everpool.dial.outcome: ok, error
//	everpool.closes                       r   counter        {connection}  everpool.close.reason: see pooler.CloseReason
//	everpool.pins                         r   counter        {lease}       everpool.pin.reason: subscribe, watch, ...
//	everpool.heals                        r   counter        {heal}
//	everpool.dropped_pushes               r   counter        {push}
//	everpool.outage.duration                  histogram      s             (of nodes that came back)
//
// Everpool's pools don't tell the bounds of idle connections, so there is no
// idle.max and idle.min of them. A stock pool tells no single times, so there is
// no create_time and wait_time of it.
//
// # Privacy
//
// Arguments, keys, replies, passwords and the texts of errors are in no span and
// in no metric. Exceptions are what is asked for: keys with [WithQueryKeys], what
// a user's own functions return, and the digest or name of a script. Names of
// commands are those of the command table, all others are "other".
//
// # Concurrency, failure, cost
//
// Everything is safe for concurrent use. Nothing here starts a goroutine or
// blocks; whether exporting does is the SDK's affair: use its batch processor. A
// panic in a function of the user costs the operation its span and nothing else. One
// while pools are read, in Nodes, PoolStats or [WithPoolName], is an error of the
// collection, and these pools are missing in it. A periodic reader of the SDK
// exports nothing of a collection that has an error, and tells the error handler.
//
// With the SDK a command costs 3 allocations for a span that isn't sampled, 6 for
// one that is, none for metrics; a client of several nodes costs one more for its
// span. So does an operation that is left without a span by [WithRootSpans]. An attempt
// of a cluster or a ring costs one in the hook. That holds for any number of servers: what
// is made once for each is kept with its client.
package otelhooks
