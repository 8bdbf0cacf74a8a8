// Package pooler pools the physical connections of one Redis node, and heals
// them when the node or the network fails.
//
//	pool, err := pooler.New(pooler.Node{
//		Network: "tcp", Addr: "localhost:6379",
//		Dial: (&net.Dialer{}).DialContext,
//	}, pooler.Config{})
//	if err != nil {
//		return err
//	}
//	defer pool.Close()
//
//	session := pooler.NewSession() // the state of a fresh connection
//	by := time.Now().Add(time.Second)
//	c, err := pool.Get(ctx, pooler.Request{Session: session, Deadline: by, Name: "ping"})
//	if err != nil {
//		return err // nothing was sent
//	}
//	c.Owe(1) // one reply will come
//	if _, err = c.Send([]byte("*1\r\n$4\r\nPING\r\n"), by); err == nil {
//		_, _, err = c.Receive(buf, by)
//	}
//	outcome := pooler.Answered
//	if err != nil {
//		outcome = pooler.Failed
//	}
//	pool.Put(c, outcome)
//
// Requests of many callers can share a connection ([Pool.Share]):
//
//	shared, err := pool.Share(ctx, pooler.Request{Session: session, Deadline: by})
//	rider := pooler.NewRider()
//	err = shared.Submit(rider, pooler.Exchange{Request: get, Replies: 1, First: len(get), Deadline: by})
//	n, done, err := rider.Receive(buf, by)
//
// Users of go-redis don't call it: they configure it through the package driver
// ([Config]), watch it ([Stats], [Event]) and meet its errors ([ErrNodeDown],
// [ErrUnknownOutcome] and so on). The package knows RESP framing and net.Conn,
// and nothing of go-redis.
//
// # Guarantees
//
//   - A leased connection is held by one caller at a time. A connection, leased
//     or shared, is used only by callers of its own [Session]: database, user and
//     protocol never mix.
//   - When [Pool.Get] or [Lanes.Submit] fails, nothing was sent.
//   - A caller gets the replies to what it sent, and no others. A leased
//     connection that owes a reply is not handed on before the reply was read and
//     dropped; on a shared one the reply to a caller that has left keeps its place
//     and is dropped; one that received what nobody asked for is closed.
//   - At most MaxOpenConns connections are open or being dialed, those apart
//     that carry a subscription, MONITOR or the like.
//   - Callers of one session are served in the order in which they came, but that
//     those who share go before a command that blocks. One that gives up removes
//     only itself.
//   - While the node can't be reached, one goroutine dials for everybody, one
//     dial at a time.
//   - A dial belongs to the pool. That its caller left doesn't abort it.
//   - Each request that was admitted ends exactly once: answered, failed or
//     abandoned. Stats counts all four.
//   - Credentials are sent to the server and nowhere else: not to logs, errors,
//     events or statistics.
//
// # Less formally
//
// A pool starts empty. It dials when somebody waits: one dial at first, then two
// at a time, then four, as long as they succeed. What is idle for ConnMaxIdleTime
// is closed in the background; what is older than ConnMaxLifetime is closed when
// it comes back, never in the middle of a request.
//
// The first failed dial makes the node suspect, and the prober starts; if its
// dial fails too and no connection has answered meanwhile, the node is down.
// Probes follow each other after BackoffMin at first, then after about a
// twentieth of the time that the outage has lasted, at most BackoffMax. Callers
// wait for FailFastAfter, so that a restart costs them time and no error; after
// that they fail with [ErrNodeDown] as soon as a dial that began after them is refused,
// or at once where dials aren't answered. A probe succeeds when the server has taken up
// the session and answered PING; one that is loading its data after a restart counts as
// down. A node that has never answered isn't waited for while its
// dials fail with a [SetupError].
//
// # Concurrency
//
// All methods of [Pool] are safe for concurrent use. A [Conn] belongs to the
// holder of its lease, who may send from one goroutine and receive from another.
// Config.OnEvent is called under no lock, on the goroutine that caused the event;
// calls may overlap.
//
// # Failure
//
// Every refusal is an [*Error] around one of the sentinels; compare with
// errors.Is. Where it applies, it carries the address, the time waited, the
// pool's numbers, what held the connections, since when the node has been
// unreachable, and the last dial error. A Get that ends because its context is
// done returns the context's cause.
//
// A connection that fails in the middle of a frame, in either direction, is
// closed. So is one whose peer sends what is not RESP; Stats.Closes says how
// many of which. What a peer announces (lengths, nesting) is never trusted for
// an allocation.
//
// # Cost
//
// Shared connections need no goroutine of their own: callers write and read for
// each other. A warm Submit and Receive allocate nothing, and take locks of the
// connection, not of the pool.
//
// A Get that finds an idle connection, and its Put, take one mutex each and
// allocate nothing. Before an idle connection is handed out, one system call
// looks whether its peer has closed it, or said something. A connection has a read
// buffer of 32 KiB, a shared one 32 KiB more for its slots. There is a goroutine for
// each dial under way and each abandoned request whose replies are awaited, one for the
// prober while the node isn't up, and none for an idle connection; but one, and 32 KiB,
// for a connection that refuses deadlines.
//
// # Limits
//
// A leased connection that goes silent is noticed by its request's deadline, an
// idle one by the PING; only shared ones are probed for silence. A full pool
// closes an idle connection of one session to make room for another; many
// sessions on few connections therefore dial often. Late replies to an abandoned
// request are read for HealthCheckTimeout and up to 1 MiB; beyond that the
// connection is closed.
package pooler
