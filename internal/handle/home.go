// Package handle is what go-redis holds in the place of a socket: virtual connections of a
// node, whose requests ride shared connections or lease one of the node's pool. It decides
// what of a request may run twice and what its caller is told (decide.go).
//
// A driver says which node a handle is on, what its client is like, and what the client's
// nodes are to each other: [Node], [Client] and [Topology]. Sentinels, of which one is
// enough, are [Alternatives].
package handle

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"time"

	"github.com/everpool/everpool/internal/callers"
	"github.com/everpool/everpool/internal/session"
	"github.com/everpool/everpool/pooler"
)

// PubSubWait is how long a subscription waits for a node that doesn't serve, in the dial
// and for a connection. go-redis holds the lock of its PubSub meanwhile, for which Close and
// the contexts of others wait, and comes again: a channel that was asked for just now may take
// a second; one that is to be had again, as long as go-redis's own pause between two tries.
func PubSubWait() time.Duration {
	if callers.Include(callers.Subscribe) {
		return time.Second
	}
	return 100 * time.Millisecond
}

// Node is what the handles of one node have in common.
type Node struct {
	Network, Addr string
	Pool          pooler.Pooler
	Shares        bool // the pool has shared connections
	Memory        *session.Memory
	Unknown       func(string)  // is called when a caller is told that an outcome is unknown, with the first command whose outcome it is
	Left          func(*Client) // is called when go-redis closes a handle of the client

	finishing    atomic.Bool  // a handle takes in the replies to its handshake, whose caller has left
	refusedReads atomic.Int64 // when it last did, as a stale replica, in Unix nanoseconds; 0: never
}

// staleFor is for how long a replica that has refused to read is left alone: as long as a read
// waits at the primary by default, which would only be sent back.
const staleFor = 5 * time.Second

// IsStale reports whether the node is a replica that has refused to read lately, since it has
// lost its primary.
func (n *Node) IsStale() bool {
	at := n.refusedReads.Load()
	return at != 0 && time.Since(time.Unix(0, at)) < staleFor
}

// Await waits until the node serves.
func (n *Node) Await(ctx context.Context, places pooler.Places, limit time.Duration) error {
	return n.Pool.Await(ctx, pooler.Request{Session: n.Memory.Root().Pool, Place: pooler.Place{Places: places, Slot: -1}}, limit)
}

// Serves reports whether a client's request, which a rider would submit to the lanes (nil: not
// known yet), may expect to be served. Where another node may take the place of this one, that
// has to be known before the request is written, since it may be one that waits for no other.
func (n *Node) Serves(c *Client, lanes *pooler.Lanes, r *pooler.Rider) bool {
	if c.WaitsInDial && !c.outlastsOutages() {
		n.Pool.Look(lanes, r)
	}
	return n.Pool.Serves()
}

// failsFast reports whether the node has been down for so long that calls fail without
// waiting for it to serve.
func (n *Node) failsFast() bool {
	return !n.Pool.Serves() && errors.Is(n.Await(noTime, nil, 0), pooler.ErrNodeDown)
}

// noTime is the context of a caller that doesn't wait.
var noTime = func() context.Context {
	ctx, end := context.WithCancel(context.Background())
	end()
	return ctx
}()

// Client is what the handles of one client have in common.
type Client struct {
	*session.Identity
	Retry   Retry
	Retries int // how often go-redis tries single commands again that were never sent

	Wait   time.Duration // how long a request may wait, as pooler.Request.WaitTimeout
	Limit  time.Duration // how long one may by the driver's configuration; 0: as long as others
	Places pooler.Places // asked of requests for an ill node; nil: they wait

	// WaitsInDial says that callers wait for a node in the dial, and that handles are
	// dropped while it doesn't serve. Otherwise requests meet an outage when they are
	// written.
	WaitsInDial bool

	Ring     bool     // it is a ring, which tries again; the clients of its shards don't
	Topology Topology // of the client's nodes; nil: each is on its own
	Courses  *Courses // nil: the client reads no pushes

	asked int32 // so many of its next writes go on connections of their own, see mayAsk; atomic

	Tracks         bool // client-side caching looks at connections through SyscallConn
	ContextTimeout bool // contexts' deadlines bound replies, too
}

// outlastsOutages reports whether the client's handles outlast an outage of their node: there is
// no other that they might be for.
func (c *Client) outlastsOutages() bool { return c.WaitsInDial && c.Places == nil }

// Topology is what the client's nodes are to each other, as far as handles ask.
type Topology interface {
	// Moves reports whether the client follows MOVED.
	Moves() bool
	// Viewed reports whether it is known who serves which slot.
	Viewed() bool
	// Forlorn reports whether no member that could be asked is well.
	Forlorn() bool
	// Spread is over how many primaries requests are spread, 1 at least.
	Spread() int
	// Owner returns the address of the slot's primary, "" if none is known.
	Owner(slot int) string
	// IsReplica reports whether the address is known to be a replica's.
	IsReplica(addr string) bool
	// StandIn returns a replica that answers for the slot of that primary, or "". It
	// doesn't block.
	StandIn(addr string, slot int) string
	// PrimaryOf returns the address of the replica's primary, "" if none is known.
	PrimaryOf(addr string) string
	// HeirOf returns who has taken over all that the ill node of the address had, or "".
	HeirOf(addr string) string
	// Reading are the places of requests that only read, of a client that reads from
	// replicas; nil: it doesn't.
	Reading() pooler.Places
	// TurnsAway reports whether a pipeline that asks for the address, which is away or
	// stale, shall be told so, as that of a replica. TurnedAway takes note that one was.
	TurnsAway(addr string) bool
	TurnedAway(addr string)
	// Borrow returns what another node has answered to the command in the state of that
	// key, and whether it doesn't know it; nil: none has.
	Borrow(to *session.Memory, key string, frame []byte, who *session.Identity) (reply []byte, refused bool)
}

// Alternatives are places of which one is enough: a request for a connection to one of
// them gives up where another may answer.
type Alternatives interface {
	pooler.Places
	// Await takes note that a request waits at the address, until Awaited.
	Await(addr string)
	Awaited(addr string)
	// By is when the wait of a request is to end at first, or zero.
	By(addr string) time.Time
	// GivesUp reports whether a request that has waited that long, as By had it or until
	// its own deadline, is to go elsewhere.
	GivesUp(addr string, waited time.Duration, late bool) bool
}

const (
	// AnyMember is the slot of requests that any member of a topology answers.
	AnyMember = -2
	// Unawaited is the slot of requests for which no ill member is awaited: the question for
	// the table of commands, which go-redis asks with a time of its own while a caller waits,
	// and without whose answer it goes on; and what a subscription begins with, for which it
	// dials again, where it sees contexts.
	Unawaited = -3
)

// New returns a handle on the node, which was dialed as dialed, for the client.
func New(n *Node, c *Client, dialed string) net.Conn { return newHandle(n, c, dialed).show() }

// NewFailed returns a handle for a caller that is to be told err, after a wait in vain: by
// its handshake. If the server has let the client in before, and the node is down, it is
// the first request that needs the node that is told, and the handle goes on. Otherwise the
// handshakes of many would wait for each other, to fail one by one.
func NewFailed(n *Node, c *Client, dialed string, err error) net.Conn {
	h := newHandle(n, c, dialed)
	if c.outlastsOutages() && c.IsLetIn() && errors.Is(err, pooler.ErrNodeDown) {
		h.down = err
	} else {
		h.err = inHandshake(Adapt(err))
	}
	return h.show()
}
