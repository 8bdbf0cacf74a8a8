package driver

import (
	"cmp"
	"context"
	"errors"
	"net"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/internal/callers"
	"github.com/everpool/everpool/internal/handle"
	"github.com/everpool/everpool/pooler"
)

// connect is what go-redis dials: it makes a handle. While the node isn't known to
// serve it waits: here go-redis lets its callers go when their contexts end, and
// nothing counts as sent. It doesn't fail, since go-redis answers that with dials
// of its own; what is wrong is told by the handle's handshake. Only two dials fail, since it is
// go-redis's way to come again: that of a subscription, and that of an address that sentinels
// had named before they knew better, for which go-redis asks them again.
func (b *binding) connect(ctx context.Context, network, addr string) (net.Conn, error) {
	if q, ok := ctx.(*question); ok {
		q.answer = b
		return nil, errQuestion
	}
	ended := b.ended
	if b.group != nil {
		b = b.group.bindingOf(addr)
	}
	n, err := b.nodeFor(network, addr)
	switch {
	case errors.Is(err, pooler.ErrClosed) && callers.Include(callers.PubSubConn):
		return nil, redis.ErrClosed // by this very error a subscription ends that nobody closes
	case err != nil:
		return handle.NewBroken(err, network, addr), nil
	}
	if ctx.Err() != nil && callers.Include(callers.PubSubConn) {
		n.drop(&b.Client)
		return nil, &net.OpError{Op: "dial", Net: network, Addr: handle.Address{Net: network, Addr: addr}, Err: context.Cause(ctx)}
	}
	if n.Serves(&b.Client, nil, nil) {
		return b.handleOn(n, addr), nil
	}
	subscribes := callers.Include(callers.PubSubConn)
	places, limit, waits := b.waitInDial(subscribes)
	if !waits {
		return b.handleOn(n, addr), nil
	}
	if !subscribes {
		ctx = ended // go-redis's context for it ends with DialTimeout, not with the callers'
	}
	for err = n.Await(ctx, places, limit); errors.Is(err, pooler.ErrElsewhere); err = n.Await(ctx, places, limit) {
		n.drop(&b.Client)
		was := n
		if n, err = b.nodeFor(network, addr); err != nil {
			return handle.NewBroken(err, network, addr), nil
		}
		if n == was && b.isElsewhere(n) { // go-redis asks for the address again after an error of a dial
			n.drop(&b.Client)
			return nil, newDialError(network, addr, &pooler.Error{Err: pooler.ErrElsewhere, Node: addr})
		}
	}
	switch {
	case err == nil:
		return b.handleOn(n, addr), nil
	case subscribes:
		n.drop(&b.Client)
		return nil, newDialError(network, addr, err)
	case ended.Err() != nil:
		n.drop(&b.Client)
		return handle.NewBroken(&pooler.Error{Err: pooler.ErrClosed, Node: addr}, network, addr), nil
	}
	return handle.NewFailed(&n.Node, &b.Client, addr, err), nil
}

// isElsewhere reports whether what was sent away from a node, and found no other, is to be told so.
// A node on a busy machine may be well again by then, or ill anew and its heir not be asked for
// yet: its subscription is sent away again, or waits.
func (b *binding) isElsewhere(n *node) bool {
	if b.WaitsInDial {
		return n.Pool.Illness().Ill()
	}
	return b.staysAt()
}

// waitInDial says what a dial of a node that doesn't serve waits for, and how long, if it does.
// What the client gives to PoolTimeout is about a full pool: go-redis waits for a server that is
// away beyond it. A member of a cluster is awaited for a subscription alone: of others their
// requests decide.
func (b *binding) waitInDial(subscribes bool) (places pooler.Places, limit time.Duration, waits bool) {
	places, limit, waits = b.Places, b.driver.cfg.Pool.Limits().WaitTimeout, b.WaitsInDial
	if subscribes {
		most := handle.PubSubWait()
		limit = min(cmp.Or(limit, most), most)
	}
	if t := b.topology(); subscribes && !b.WaitsInDial && t != nil {
		places, waits = t.UntilHeir(), true
	}
	return places, limit, waits
}

// handleOn makes a handle.
func (b *binding) handleOn(n *node, dialed string) net.Conn {
	return handle.New(&n.Node, &b.Client, dialed)
}

// dialError is the error of a dial that had no network in it.
type dialError struct{ net.OpError }

func newDialError(network, addr string, err error) error {
	return &dialError{net.OpError{Op: "dial", Net: network, Addr: handle.Address{Net: network, Addr: addr}, Err: handle.Adapt(err)}}
}

// Unwrap makes it known as what go-redis looks for.
func (e *dialError) Unwrap() error { return &e.OpError }

// IsVirtual marks the failure of a dial without a socket.
func (*dialError) IsVirtual() {}

// staysAt reports whether a dial is for the very node that it names, whoever its heir is: what
// follows MOVED needs no other, and what asks this one, as the client of a node does, is answered
// by no other.
func (b *binding) staysAt() bool {
	return b.topology().Moves() && !callers.Include(callers.ClusterPubSub)
}

// nodeFor returns the node of the address, on which a handle counts then; or, while
// that is ill, the node that has taken over all that it had. The subscription of a cluster's
// client, which follows no MOVED, gets there by that.
func (b *binding) nodeFor(network, addr string) (*node, error) {
	n, err := b.driver.node(b, network, addr)
	t := b.topology()
	if err != nil || t == nil {
		return n, err
	}
	heir := t.Heir(n)
	if heir == "" || b.staysAt() {
		return n, nil
	}
	nudge(n) // it is asked for, and to be known as well when it is
	t.Review()
	n.drop(&b.Client)
	return b.driver.node(b, network, heir)
}
