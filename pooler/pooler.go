package pooler

import (
	"context"
	"net"
	"time"
)

// Node is what a pool needs to know of the server that it connects to.
type Node struct {
	Network string // "tcp" or "unix"
	Addr    string

	// Dial opens a connection, TLS included. It must respect ctx; one that
	// doesn't is left behind when its time is over, and what it returns then is
	// closed. The connection may refuse deadlines, as those through ssh do; its
	// Close has to end a Read and a Write that are under way.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)

	// Explain is asked what it means that a connection was lost before a byte has
	// ever come from the node. It returns the error that is told, err or a
	// [SetupError]. It may ask the node, and must respect ctx. nil: err is told.
	Explain func(ctx context.Context, err error) error

	// Confirm is called when a node that was ill has taken a connection up, before anybody is
	// served there: it may have become another's replica meanwhile, and who waits may be told
	// to go to that one (see [Pooler].Release). It blocks the dial, and must respect ctx. nil:
	// nobody is asked.
	Confirm func(ctx context.Context)

	// Budget bounds the node's connections together with others'. nil: nothing does.
	Budget *Budget
}

// Request says what a lease is for.
type Request struct {
	// Session is the state that the connection must have. Required.
	Session *Session
	// Deadline ends the waiting, besides WaitTimeout; zero: it doesn't. It is not part
	// of the context since a context for each request would cost more than the request.
	Deadline time.Time
	// Final says that the deadline is that of the whole request, so that a reply that comes
	// later is of no use: where others wait who have more time, one that couldn't be answered
	// by then, as far as the last exchanges tell, is passed over, and told ErrWaitTimeout at
	// its deadline. It has no effect with Blocking or Stream.
	Final bool
	// WaitTimeout bounds the waiting in the place of Config.WaitTimeout, which
	// many clients may share, but only where the pool is full: while the node is
	// away, or a connection may be opened for the request, it waits on, until
	// Config.WaitTimeout if that is longer. 0: that one. -1: only the deadline.
	WaitTimeout time.Duration
	// Name is the command, for errors that say who holds the connections.
	Name string
	// Blocking says that the reply may be held back for long on purpose, so
	// that waiting for it after its caller has left makes no sense.
	Blocking bool
	// Stream says that the connection will carry a stream, see [Stream]. It comes on top
	// of MaxOpenConns, so the request waits for no room.
	Stream bool
	// Want is the one connection that can serve the request, or nil.
	Want *Conn
	// Place is what the request is for among several nodes.
	Place Place
	// Rider is what the request will be submitted with, for Share: while it waits
	// there it is counted as under way. nil: it begins when it is submitted. For Get: a
	// request that has begun with the rider, as one may that was refused with
	// [ErrLarge], goes on with the lease, and is counted once.
	Rider *Rider
	// NoWait has Get and Share fail with [ErrWouldWait] where the request would have to wait,
	// with nothing dialed and nothing counted, unless all that was idle turned out to be dead
	// (Stats.SentAway): it is to come again. It has no effect with Want, nor for Replace.
	NoWait bool
	// Waited has added to it how long the request has waited for a connection that it
	// got: what [Config.OnWait] is told, of this one. nil: nothing is.
	Waited *time.Duration

	account account // where its end is counted, nil: among the leases
}

// waitLimit is how long the request may wait where the pool has byDefault, 0: as
// long as it likes.
func (r *Request) waitLimit(byDefault time.Duration) time.Duration {
	return min(orDefault(r.WaitTimeout, byDefault, 0), century)
}

// Outcome says how the request of a lease ended.
type Outcome uint8

// The outcomes of a lease.
const (
	Answered  Outcome = iota // all replies were received
	Failed                   // it was lost, and the caller was told so
	Unknown                  // it was lost or late, with ErrUnknownOutcome
	Abandoned                // the caller left first
)

// Again says why a request gets another connection.
type Again uint8

// The reasons for another connection.
const (
	Move   Again = iota // the first provably ran none of it
	Resend              // it was sent, changes nothing, and may run twice
)

// Pooler hands out the connections of one node. [New] makes one; the driver's
// NewPooler may wrap it, to watch or to change what goes through it: embed the Pooler
// and override some of its methods. It is not meant to be implemented from nothing,
// since a driver relies on more than the types say: on whose connections [Conn] and
// [Lanes] are, on the order of waiting, on what is counted. All methods are safe for
// concurrent use.
type Pooler interface {
	// Get leases a connection in the request's session to the caller, who must
	// give it back with Put or Replace. It blocks until there is one, ctx is
	// done, or the deadline has passed. A failure wraps one of the package's
	// errors, or is the cause of ctx; it means that nothing was sent. With a
	// [*Caller] as ctx waiting costs less than with other contexts.
	Get(ctx context.Context, r Request) (*Conn, error)
	// Replace gives back a connection that has failed and leases another one
	// for the same request. It blocks and fails as Get does; when it fails the
	// request has ended.
	Replace(ctx context.Context, c *Conn, r Request, why Again) (*Conn, error)
	// Put gives a connection back and says how its request ended. The pool
	// judges the connection for itself. Put doesn't block.
	Put(c *Conn, o Outcome)
	// Pin notes that the lease outlasts its request, and why; the connection
	// carries state and is closed when it comes back. One in [Stream] mode
	// doesn't count for the bound on connections from here on. An empty reason
	// takes the note back.
	Pin(c *Conn, reason string)
	// Share returns the shared connections of the request's session, of which
	// one at least is open. It blocks and fails as Get does. nil, without an
	// error, means that this pool doesn't share.
	Share(ctx context.Context, r Request) (*Lanes, error)
	// Serves reports whether requests may expect to be served: the node is up and
	// hasn't closed all connections since a dial was last answered, or a connection
	// is left that still works, as far as the pool has been told. The driver has
	// callers wait for a node that doesn't where go-redis honours their contexts:
	// in the dial of a handle. Serves takes no lock.
	Serves() bool
	// Look looks at the socket of a connection that nobody uses, and if the peer has closed
	// it at those of all others, so that Serves says whether one is left. It does nothing
	// while a request is under way, which would be told. Of lanes (nil for none) it is the one
	// that the rider's next request goes to, which isn't looked at again then. It blocks only
	// once one is found closed, while the others are looked at: for HealthCheckTimeout each at
	// most, where a socket can't be looked at and a PING is sent. The driver calls it where go-redis
	// is about to use a handle again whose request couldn't be moved to another node once it
	// waits.
	Look(lanes *Lanes, r *Rider)
	// Answers reports whether the node has been heard of and isn't silent (see Illness), and,
	// if it isn't up, has connections that nobody holds. It takes no lock.
	Answers() bool
	// Well reports whether the node isn't ill (see Illness). It takes no lock.
	Well() bool
	// Await blocks until the node serves, first come, first served. It leases
	// nothing and is no request. It fails with ErrNodeDown when the node has not
	// served for FailFastAfter, or the wait has taken limit (0: no limit of its
	// own), with ErrClosed, or with the cause of ctx; of one that had ended before, with
	// ErrNodeDown while calls fail fast. A node that has never answered, or has closed all
	// connections, is dialed first: in the session of r, or in one that is in use.
	Await(ctx context.Context, r Request, limit time.Duration) error
	// Illness says whether the node is ill, and since when: it is not up, or it is
	// silent and hasn't answered a connection yet that was opened to ask.
	Illness() Illness
	// Release asks the places of all requests that wait for an ill node whether they
	// still may, and fails the others with ErrElsewhere. Where places says of a silent
	// node that nothing is to be had there any more, requests on its shared
	// connections that may be sent again leave those.
	Release(places Places)
	// SetMaxOpenConns, SetMaxIdleConns, SetConnMaxIdleTime and SetConnMaxLifetime
	// change the pool's bounds while it works; see [Pool].
	SetMaxOpenConns(n int)
	SetMaxIdleConns(n int)
	SetConnMaxIdleTime(d time.Duration)
	SetConnMaxLifetime(d time.Duration)
	// Drain closes the connections that are idle. The driver calls it when the
	// last handle is closed.
	Drain()
	// Config returns the configuration in force: each field with its value, or -1 for
	// what is off, and with what was changed while the pool works. Its functions are nil.
	Config() Config
	// Stats returns a snapshot.
	Stats() Stats
	// Close refuses new requests, waits a little for those in progress, closes
	// everything and returns when all goroutines have ended. It may be called
	// again.
	Close() error
}

var _ Pooler = (*Pool)(nil)
