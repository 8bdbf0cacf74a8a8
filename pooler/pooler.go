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
}

// Request says what a lease is for.
type Request struct {
	// Session is the state that the connection must have. Required.
	Session *Session
	// Deadline ends the waiting, besides WaitTimeout; zero: it doesn't. It is
	// not part of the context since a context for each request would cost more
	// than the request.
	Deadline time.Time
	// Name is the command, for errors that say who holds the connections.
	Name string
	// Blocking says that the reply may be held back for long on purpose, so
	// that waiting for it after its caller has left makes no sense.
	Blocking bool
	// Want is the one connection that can serve the request, or nil.
	Want *Conn
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

// Pooler hands out the connections of one node. [Pool] is the implementation;
// another one can be brought with the driver's NewPooler. All methods are safe
// for concurrent use.
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
	// Drain closes the connections that are idle. The driver calls it when the
	// last handle is closed.
	Drain()
	// Stats returns a snapshot.
	Stats() Stats
	// Close refuses new requests, waits a little for those in progress, closes
	// everything and returns when all goroutines have ended. It may be called
	// again.
	Close() error
}

var _ Pooler = (*Pool)(nil)
