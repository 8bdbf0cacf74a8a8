package driver

import (
	"cmp"
	"context"
	"errors"
	"net"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/everpool/everpool/internal/safeaddr"
	"github.com/everpool/everpool/pooler"
)

// pubSubWait is how long a subscription waits for a node that doesn't serve, in the dial
// and for a connection. go-redis holds the lock of its PubSub meanwhile, and comes again.
const pubSubWait = time.Second

// connect is what go-redis dials: it makes a handle. While the node isn't known to
// serve it waits: here go-redis lets its callers go when their contexts end, and
// nothing counts as sent. It doesn't fail, since go-redis answers that with dials
// of its own; what is wrong is told by the handle's handshake. Only the dial of a
// subscription fails, since it is go-redis's way to come again.
func (b *binding) connect(ctx context.Context, network, addr string) (net.Conn, error) {
	if q, ok := ctx.(*question); ok {
		q.answer = b
		return nil, errQuestion
	}
	if b.group != nil {
		b = b.group.bindingOf(addr)
	}
	n, err := b.nodeFor(network, addr)
	if err != nil {
		return broken(err, network, addr), nil
	}
	if b.waits && ctx.Err() != nil && calledBy(pubSubConn) {
		b.detach(n)
		return nil, &net.OpError{Op: "dial", Net: network, Addr: address{network, addr}, Err: context.Cause(ctx)}
	}
	if !b.waits || n.pool.Serves() {
		return b.handleOn(n, addr), nil
	}
	// What the client gives to PoolTimeout is about a full pool: go-redis waits for a
	// server that is away beyond it.
	limit := b.driver.cfg.Pool.Limits().WaitTimeout
	subscribes := calledBy(pubSubConn)
	if subscribes {
		limit = min(cmp.Or(limit, pubSubWait), pubSubWait)
	} else {
		// go-redis's context for it ends with DialTimeout, not with the callers'.
		ctx = context.WithoutCancel(ctx)
	}
	for err = n.await(ctx, b.places, limit); errors.Is(err, pooler.ErrElsewhere); err = n.await(ctx, b.places, limit) {
		b.detach(n)
		was := n
		if n, err = b.nodeFor(network, addr); err != nil {
			return broken(err, network, addr), nil
		}
		if n == was { // it is nobody's any more
			err = &pooler.Error{Err: pooler.ErrElsewhere, Node: addr}
			break
		}
	}
	switch {
	case err == nil:
		return b.handleOn(n, addr), nil
	case subscribes:
		b.detach(n)
		return nil, &dialError{net.OpError{Op: "dial", Net: network, Addr: address{network, addr}, Err: adapt(err)}}
	}
	h := newHandle(n, b, addr)
	h.err = inHandshake(adapt(err))
	return b.show(h), nil
}

// dialError is the error of a dial that had no network in it.
type dialError struct{ net.OpError }

// Unwrap makes it known as what go-redis looks for.
func (e *dialError) Unwrap() error { return &e.OpError }

// handleOn makes a handle.
func (b *binding) handleOn(n *node, dialed string) net.Conn { return b.show(newHandle(n, b, dialed)) }

// show is what go-redis sees of a handle. With client-side caching it takes what a
// connection's SyscallConn shows for its socket, so there is none then.
func (b *binding) show(h *handle) net.Conn {
	if b.tracks {
		return opaqueHandle{h, h}
	}
	return h
}

// opaqueHandle is a handle without SyscallConn, but for what go-redis finds underneath, as
// under TLS.
type opaqueHandle struct {
	virtualConn
	handle *handle
}

// NetConn is the socket on which go-redis looks for invalidations, nil if there is none
// that tells of all: then go-redis reads now and then.
func (o opaqueHandle) NetConn() net.Conn {
	h := o.handle
	h.mu.Lock()
	defer h.mu.Unlock()
	switch c := h.lease; {
	case h.err != nil:
		return seenSocket{h, nil, h.err}
	case c != nil && !h.receiving:
		if raw, err := c.Socket(); raw != nil || err != nil {
			return seenSocket{h, raw, err}
		}
	}
	return nil
}

// seenSocket is a handle that shows the socket of its lease.
type seenSocket struct {
	net.Conn
	raw syscall.RawConn
	err error
}

// SyscallConn is the socket.
func (s seenSocket) SyscallConn() (syscall.RawConn, error) { return s.raw, s.err }

// virtualConn is all that an opaqueHandle shows.
type virtualConn interface {
	net.Conn
	IsVirtual()
}

// Functions of go-redis by which a handle tells what it is used for, where nothing
// that it is passed says so: the contexts of a subscription's dial have the same forms
// as others', and a command of OnConnect is like any. Should go-redis change the names,
// subscriptions wait as other dials do, and PubSub.Close with them; and a handle whose
// OnConnect has asked for its CLIENT ID keeps its connection.
const (
	pubSubConn = "go-redis/v9.(*PubSub).conn"
	initConn   = "go-redis/v9.(*baseClient).initConn"

	clientProcess = "go-redis/v9.(*Client).Process"
	connProcess   = "go-redis/v9.(*Conn).Process"
	txProcess     = "go-redis/v9.(*Tx).Process"
)

// triedOnce are functions of go-redis whose commands it doesn't try again, since their
// replies go straight to memory of the caller's or to an io.Writer. One that was made by
// hand, and given to Process, isn't known.
var triedOnce = []string{
	"go-redis/v9.cmdable.GetToBuffer", "go-redis/v9.cmdable.DoRawWriteTo", "go-redis/v9.(*AutoPipeliner).DoRawWriteTo",
}

// calledBy reports whether a function of that name, or one inside it, is among the
// callers.
func calledBy(name string) bool {
	var pcs [32]uintptr
	for skip := 2; ; skip += len(pcs) {
		n := runtime.Callers(skip, pcs[:])
		for _, pc := range pcs[:n] {
			f := runtime.FuncForPC(pc - 1)
			if f != nil && (strings.HasSuffix(f.Name(), name) || strings.Contains(f.Name(), name+".func")) {
				return true
			}
		}
		if n < len(pcs) {
			return false
		}
	}
}

// brokenHandle is what go-redis gets when there is no node for a handle. Each request
// says why.
type brokenHandle struct {
	err  error
	addr address
}

func broken(err error, network, addr string) *brokenHandle {
	return &brokenHandle{err: adapt(err), addr: address{network, safeaddr.Of(addr)}}
}

func (b *brokenHandle) Read([]byte) (int, error)         { return 0, inHandshake(b.err) }
func (b *brokenHandle) Write([]byte) (int, error)        { return 0, inHandshake(b.err) }
func (b *brokenHandle) Close() error                     { return nil }
func (b *brokenHandle) LocalAddr() net.Addr              { return b.addr }
func (b *brokenHandle) RemoteAddr() net.Addr             { return b.addr }
func (b *brokenHandle) SetDeadline(time.Time) error      { return nil }
func (b *brokenHandle) SetReadDeadline(time.Time) error  { return nil }
func (b *brokenHandle) SetWriteDeadline(time.Time) error { return nil }

// nodeFor returns the node of the address, on which a handle counts then; or, while
// that is ill, the node that has taken over all that it had. What follows no MOVED, as
// subscriptions, gets there by that.
func (b *binding) nodeFor(network, addr string) (*node, error) {
	n, err := b.driver.node(b, network, addr)
	if err != nil || b.topology == nil {
		return n, err
	}
	heir := b.topology.heir(n)
	if heir == "" {
		return n, nil
	}
	nudge(n) // it is asked for, and to be known as well when it is
	b.topology.review()
	b.detach(n)
	return b.driver.node(b, network, heir)
}

// inDial are the places of requests whose client waits for its node in the dial: once
// the node doesn't serve none waits in the pool, where only deadlines are seen.
type inDial struct{}

// Here is true while the node may serve.
func (inDial) Here(_ string, _ int, ill pooler.Illness) bool { return ill.Silent || ill.Serves }

// goesToDial reports whether go-redis had better bring the batch again, which was never
// sent, or may run again: it finds that the handle is of no use, and waits in the dial,
// where it sees contexts. It does so for a single command of a client, unless that is tried
// once; a Conn or a Tx would be of no use any more.
func (h *handle) goesToDial() bool {
	return vetoes && !h.bound.tracks && h.bound.retries > 0 && !h.b.shaking && !h.b.sticks() && calledBy(clientProcess) && !slices.ContainsFunc(triedOnce, calledBy)
}

// dialGrace is how long a node that is away is awaited before go-redis is to bring the
// request to the dial. That takes one of the tries that it has; what is over by then, a
// connection that was reset or a quick restart, is to cost none.
const dialGrace = 100 * time.Millisecond

// awaitNode awaits the node, which is away, until the limit at most, 0: as long as the node
// is awaited by anybody. The client's own timeout is about a socket: what is left of it
// begins when the node is back. It returns the deadline from then on.
func (h *handle) awaitNode(by time.Time, limit time.Duration) (time.Time, error) {
	left := max(time.Until(by), 1)
	ends := h.writeBy.ofContext && !by.IsZero()
	if ends {
		limit = min(cmp.Or(limit, left), left)
	}
	var err error
	h.outside(func() { err = h.node.await(&h.caller, nil, limit) })
	var e *pooler.Error
	switch {
	case h.err != nil:
		return by, h.err
	case ends && !time.Now().Before(by) && errors.As(err, &e):
		late := *e
		late.Err = pooler.ErrWaitTimeout
		return by, &late
	case err != nil || ends || by.IsZero():
		return by, err
	}
	h.writeBy.Time = time.Now().Add(left)
	if h.writeBy.ofRead {
		h.readBy = h.writeBy
	}
	return h.writeBy.Time, nil
}

// waitsAgain reports whether a request that has found no connection in time waits once
// more. A single command of a client is tried again by go-redis, on another handle, as
// often as MaxRetries says. One of a Conn or a Tx can't be: go-redis refuses a handle
// that has failed, and that is the only one that they ever have. So it waits as often
// here. The handshake is go-redis's to try again, with all that OnConnect does.
func (h *handle) waitsAgain() bool {
	switch h.bound.places.(type) {
	case nil, sentinels:
	default:
		return false // clusters try Watch again by themselves, and rings never do
	}
	return h.b.waits < h.bound.retries && (calledBy(txProcess) || calledBy(connProcess)) && !calledBy(initConn)
}

// waitAgain returns the deadline of the next wait after one that was in vain. What was
// waited isn't counted as time of the socket's; a context's deadline stays.
func (h *handle) waitAgain(by time.Time, e *pooler.Error) (time.Time, error) {
	switch {
	case !h.writeBy.ofContext && !by.IsZero():
		by = by.Add(e.Waited)
		h.writeBy.Time = by
		if h.writeBy.ofRead {
			h.readBy = h.writeBy
		}
	case !by.IsZero() && !time.Now().Before(by):
		return by, e
	}
	h.b.waits++
	return by, nil
}

// detach takes back what driver.attach has counted.
func (b *binding) detach(n *node) {
	n.detach(b)
	b.driver.resize(n)
	if b.topology != nil {
		b.topology.detach()
	}
}

// await waits until the node serves.
func (n *node) await(ctx context.Context, places pooler.Places, limit time.Duration) error {
	return n.pool.Await(ctx, pooler.Request{Session: n.memory.root.pool, Place: pooler.Place{Places: places, Slot: -1}}, limit)
}
