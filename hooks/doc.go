// Package hooks watches go-redis clients through one hook: it looks at every
// operation once, takes its time once, and tells any number of observers, such as
// tracing, metrics, hot keys, or a few lines of one's own.
//
//	h, err := hooks.New(tracing, metrics, mine)
//	...
//	detach, err := h.Attach(client)
//
// [Hook.Attach] takes a client of any kind, of go-redis or of the driver package.
// A [Hook] is a redis.Hook too, for AddHook, if the server's address and the nodes
// of clusters and rings don't matter.
//
// # Operations
//
// An [Operation] is one call of a client as its user has made it: a command, or a
// batch in a pipeline or a transaction. Retries and redirections are part of it.
// Its name is bounded by the command table ("GET", "CLIENT LIST", "PIPELINE GET",
// "MULTI", "other"), so are the types of its errors ([ErrorType]); neither ever has
// a part of an argument in it. That a key is missing (redis.Nil) is a [Miss], no
// error. What was asked for is in Operation.Cmds, and [AppendKeys] finds the keys
// in it; it is up to the observer not to give them away.
//
// The calls of a cluster client and of a ring are operations, and what each node
// has of them are attempts ([AttemptObserver]). Calls on a node's own client, and
// those in a Watch, which go-redis makes there, are operations of that node. With
// several hooks on one such client, and when a shard was down while a hook was
// attached, what a node serves may be without attempts and without a peer until the
// hook looks for it, which it does after such an operation, once a second at most.
//
// # Handshakes
//
// go-redis sends the commands that open a connection (HELLO, AUTH, SELECT, READONLY,
// CLIENT SETNAME, SETINFO, NO-EVICT, NO-TOUCH, TRACKING and MAINT_NOTIFICATIONS)
// through the same hook, in the middle of a user's operation. They are no
// operations; a [HandshakeObserver] is told of them. The limit of this rule is that
// a user's own SELECT isn't one either, alone or in a batch of nothing else. In a
// batch with other commands, or in a transaction, it is.
//
// # Order
//
// Observers begin in the order in which [New] has them and end in the opposite
// order. The context that one returns from Begin goes to those after it, so tracing
// comes before metrics: their exemplars want the span. With hooks of another make,
// the one added to the client first is the outermost; [Chain] makes one of several.
// A hook further inside that answers a command without go-redis, or changes its
// error, is part of what is observed; one further outside isn't.
//
// # Concurrency
//
// Everything may be used by several goroutines at once. Observers are called on the
// goroutine of the operation, an AttemptObserver also on those that go-redis starts
// for the nodes of a batch. An operation belongs to the hook: it is used again for
// another one when it has ended.
//
// # Failure
//
// The hook never changes a result. A panic of an observer is caught, and logged
// once for each observer, without its value. Where it has panicked in Begin, its End
// isn't called for that operation; all others are told as ever. A panic of go-redis,
// or of a hook further inside, goes on to the caller after the operation has ended
// with an error.
//
// # Cost
//
// A hook with four observers that do nothing adds about a quarter of a microsecond
// to a command and about 15 ns to each command of a batch, and no allocation
// (BenchmarkHook on two cores of an EPYC). Operations of clusters and rings allocate
// one frame and one context each. An observer that isn't an AttemptObserver, a
// HandshakeObserver or a DialObserver costs nothing there.
//
// # Limits
//
// go-redis gives the clones of Client.WithTimeout no hooks: attach to each. A Conn
// has the hooks that its client had when it was made. Subscriptions don't pass
// hooks at all. A client that follows a sentinel doesn't tell which node it found:
// its operations have no peer.
package hooks
