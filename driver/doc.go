// Package driver puts a pool that heals itself under an unmodified go-redis
// client.
//
//	d, err := driver.New(driver.Config{})
//	if err != nil {
//		return err
//	}
//	defer d.Close()
//	rdb := redis.NewClient(d.Options(&redis.Options{Addr: "localhost:6379"}))
//	defer rdb.Close()
//
// Everything else is go-redis. What go-redis takes for its connections are
// handles: cheap, without a socket, never stale. Behind them a [pooler.Pool] for
// each node holds the sockets. A request leases one for as long as its reply
// takes, and longer only if it leaves state there.
//
// # Guarantees
//
//   - A request that was never sent is sent on another connection, or fails with
//     an error that says that it wasn't sent.
//   - A request that was sent and whose connection was lost is sent again by
//     itself only if it reads, and once at most.
//   - Under [RetrySafe] nothing that would do harm twice is run twice because of
//     a lost connection or a late reply. Its caller gets
//     [pooler.ErrUnknownOutcome], or an error that errors.Is takes for it, and
//     go-redis doesn't try again.
//   - A reply goes to the request that asked for it, or nowhere.
//   - Clients with different credentials, databases, protocols or TLS
//     configurations never share a connection.
//   - The options that a caller passes are never changed.
//
// # What shares a connection, and when
//
// Commands of up to 16 KiB, pipelines of up to 1,000 of them and 64 KiB, and whole
// transactions (TxPipelined) ride shared connections together with everybody else's of the
// same session, unless Config.Pool.SharedConns is -1. Blocking commands, larger
// requests and administration lease a connection until their replies are in.
// WATCH and an unfinished MULTI keep it until EXEC, DISCARD or UNWATCH. These keep it for the handle's life:
// subscriptions, MONITOR, client-side caching, streaming credentials,
// maintenance notifications that were switched on, and commands that neither the
// command table nor the server's COMMAND INFO knows, or that by the latter block,
// subscribe, may not run in scripts, or are of the category @connection. CLIENT ID keeps the
// connection that it was asked on. WAIT runs on the connection of its handle's
// last write.
//
// The handshake (HELLO, AUTH, SELECT, CLIENT SETNAME and so on) is made once for
// each set of options. Handles that come later are answered from memory, and
// every new connection repeats it in one round trip. If the server then refuses
// it, because the password was changed, say, the credentials are asked for again.
//
// # Concurrency
//
// A [Driver] may be used by many goroutines and many clients. Clients whose
// network, address and TLS configuration are the same share a pool; the first of
// them decides about its size, and what a later one asks for in vain is logged.
// TLS configurations are the same if they are one *tls.Config, or equal and without
// functions, caches and writers, which can't be compared. A client with a Dialer
// of its own shares with nobody.
//
// # Failure
//
// What a request meets decides what its caller gets, and go-redis does:
//
//   - The node is down: it waits for FailFastAfter, as long as its context lasts,
//     then [pooler.ErrNodeDown] at once; no retry. At a node that has never
//     answered, and whose dials fail with a [pooler.SetupError] (no such host, a
//     refused certificate, TLS to a port without or the reverse), at once from the
//     first call.
//   - No connection came free in time: [pooler.ErrWaitTimeout], which is
//     [redis.ErrPoolTimeout] too; go-redis tries again. For several commands that
//     don't only read it isn't, and go-redis doesn't.
//   - MaxWaiters were waiting already: [pooler.ErrPoolExhausted], which is
//     redis.ErrPoolExhausted too; no retry.
//   - The connection was lost before the request was sent: another one, unnoticed.
//   - It was lost after a read was sent: another one, unnoticed; the second time
//     an io.EOF, and go-redis tries again.
//   - It was lost after another request was sent that may run twice (SET, DEL,
//     HSET): an io.EOF, and go-redis tries again.
//   - It was lost after anything else was sent (INCR, LPUSH, EXEC, scripts):
//     [pooler.ErrUnknownOutcome]; no retry.
//   - The deadline passed while the reply was awaited: a timeout, as on a socket.
//     If the request must not run twice, the error is ErrUnknownOutcome too, and
//     go-redis doesn't try again. The connection stays if its reply comes within
//     HealthCheckTimeout.
//   - The server has answered with what is no RESP: [pooler.ErrProtocol], which is
//     ErrUnknownOutcome too unless the request only reads; no retry.
//   - The context's deadline has ended any of these waits, but for an unknown
//     outcome: [context.DeadlineExceeded], at once; no retry. Several commands that
//     don't only read and were never sent are told ErrWaitTimeout with it.
//   - The driver is closed: [pooler.ErrClosed], which is [redis.ErrClosed] too.
//
// A transaction, or a pipeline that doesn't only read, that was never sent is told
// nothing that go-redis would try again: go-redis would keep that error on some of
// its commands when the next try has run them. What can't be sent in time by its
// Write is sent by its Read, or told. Subscriptions come again by themselves.
//
// Config.Retry changes what "may run twice" means: [RetryAll] says it of every
// request, [RetryNone] of reads alone.
//
// Values in [Config] are checked by [New]. Options that can't work don't fail in
// [Driver.Options], which has no error to return: every command of that client
// fails with an error that wraps [pooler.ErrConfig]. So do options that were changed
// where go-redis ignores it; [Driver.Owns] tells whether a client stands on a driver
// at all.
//
// The texts of errors have no times and numbers in them, so that they can be grouped;
// those are in the fields of [pooler.Error].
//
// # Several clients
//
// A [Manager] keeps the clients of many nodes, clusters and sentinel groups on one driver,
// each under a name. [Manager.With] fails at once with [ErrNoHealthyNode] where a call on
// the client would wait; [Manager.Handler] tells readiness probes. [Driver.Health] and
// [Driver.Handler] are for a driver alone.
//
// # Cost
//
// A request costs a scan of its bytes for the ends of commands, a few short
// critical sections, and a wake-up when another caller reads its reply; once its
// handle is warm, nothing is allocated for it here. A request of up to 64 KiB is
// gathered before it is sent; what is larger streams through. A handle has
// go-redis's two buffers, 1 KiB each by default (64 and 32 those that go-redis keeps
// for pipelines), and no goroutine. Each dial that waits for its node
// is a goroutine of go-redis's.
//
// # Limits
//
// A large reply on a shared connection delays what is behind it; a request that
// comes later avoids it. The package
// adds no hooks; those of go-redis work as they do there. redis.Client.PoolStats
// counts handles; [Driver.Nodes] counts sockets.
package driver
