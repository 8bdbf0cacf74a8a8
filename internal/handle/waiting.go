package handle

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/everpool/everpool/internal/callers"
	"github.com/everpool/everpool/pooler"
)

// triedOnce are functions of go-redis whose commands it doesn't try again, since their
// replies go straight to memory of the caller's or to an io.Writer. One that was made by
// hand, and given to Process, isn't known.
var triedOnce = []string{
	"go-redis/v9.cmdable.GetToBuffer", "go-redis/v9.cmdable.DoRawWriteTo", "go-redis/v9.(*AutoPipeliner).DoRawWriteTo",
}

// inDial are the places of requests whose client waits for its node in the dial: once
// the node doesn't serve none waits in the pool, where only deadlines are seen. Of a ring's
// client a request may be served at other nodes, too.
type inDial Client

// Here is true while the node may serve.
func (d *inDial) Here(addr string, slot int, ill pooler.Illness) bool {
	return (ill.Silent || ill.Serves) && d.stays(addr, slot, ill)
}

// stays reports whether the request is for the node still.
func (d *inDial) stays(addr string, slot int, ill pooler.Illness) bool {
	return d.Places == nil || d.Places.Here(addr, slot, ill)
}

// obtain asks the pool for something on the handle's behalf. If the node goes away
// meanwhile it is awaited, unless go-redis had better bring the request again.
func obtain[T any](h *handle, req pooler.Request, get func(context.Context, pooler.Request) (T, error)) (T, error) {
	if h.held.holding == toAwait {
		defer h.waitedLocked(time.Now())
	}
	if a, ok := h.client.Places.(Alternatives); ok {
		return obtainFromOneOf(h, a, req, get)
	}
	for {
		got, err := obtainOnce(h, req, get)
		if err == nil || h.err != nil {
			return got, err
		}
		if req.Deadline, err = h.afterRefusal(&req, err); err != nil {
			return got, err
		}
	}
}

// unserved is why the planned commands, for which the handle has no connection, fail without
// a wait, as they would in the dial; nil: they may be served.
func (h *handle) unserved() error {
	told := h.down
	h.down = nil
	if !h.client.outlastsOutages() || h.lease != nil || h.ride.under || h.node.Pool.Serves() {
		return nil
	}
	var err error
	limit := h.leftLocked(probeTime)
	h.outside(func() {
		switch e, ok := errors.AsType[*pooler.Error](told); {
		case ok && e.Since.Equal(h.node.Pool.Illness().Since): // of this outage
			err = told
		case h.node.failsFast():
			err = h.node.Await(&h.caller, nil, limit)
		}
	})
	switch {
	case h.err != nil:
		return h.err
	case err == nil:
		return nil
	// A session that didn't come about isn't kept, nor is what is at its end after QUIT;
	// nor is a handle whose writer may have written more for the same reader, who takes
	// all of that for lost.
	case h.b.shaking, h.b.quits, !errors.Is(err, pooler.ErrNodeDown), callers.Include(callers.FullDuplex):
		return err
	}
	return &unservedError{err}
}

// probeTime is how long a request waits for the next probe of a node that has been down
// for long, if that is about to begin.
const probeTime = 400 * time.Millisecond

// leftLocked is that time, or what is left until the write deadline.
func (h *handle) leftLocked(most time.Duration) time.Duration {
	return max(time.Until(earlier(h.writeByLocked(), time.Now().Add(most))), 1)
}

// afterRefusal returns the deadline of another try, at once or after the node was
// awaited, or why there is none.
func (h *handle) afterRefusal(req *pooler.Request, err error) (time.Time, error) {
	e, ok := errors.AsType[*pooler.Error](err)
	places, dials := req.Place.Places.(*inDial)
	switch {
	case ok && errors.Is(e, pooler.ErrWaitTimeout) && h.waitsAgain():
		return h.waitAgain(req, e)
	case ok && errors.Is(e, pooler.ErrElsewhere) && h.hasNoOther(req.Place.Slot):
		return h.awaitMember(req, err)
	case ok && errors.Is(e, pooler.ErrElsewhere) && (h.isForThisSilentOne(req.Place.Slot) || h.subscribesAtASilentOne()):
		req.Place = pooler.Place{}
		return req.Deadline, nil
	case !ok || !dials || !errors.Is(e, pooler.ErrElsewhere) || !places.stays(h.node.Addr, req.Place.Slot, pooler.Illness{}):
		return req.Deadline, err
	case h.b.any(subscribes): // go-redis dials for it, where it waits, whatever it is told
		e.Err = pooler.ErrNodeDown
		return req.Deadline, e
	case h.goesToDial():
		by, still := h.awaitNode(req.Deadline, nil, dialGrace)
		if errors.Is(still, pooler.ErrNodeDown) && h.err == nil {
			return req.Deadline, err
		}
		return by, still
	case places.Places != nil:
		req.Place.Places = places.Places // waits in the pool, while the shard is in
		return req.Deadline, nil
	case req.NoWait:
		return req.Deadline, pooler.ErrWouldWait
	}
	return h.awaitNode(req.Deadline, nil, h.client.Limit)
}

// obtainFromOneOf asks the pool of a node that is one of several: anew whenever a while is
// over, until the request has a connection, its time is over, or another node may do.
func obtainFromOneOf[T any](h *handle, a Alternatives, req pooler.Request, get func(context.Context, pooler.Request) (T, error)) (got T, err error) {
	addr, deadline, final := h.node.Addr, req.Deadline, req.Final
	a.Await(addr)
	defer a.Awaited(addr)
	for {
		began := time.Now()
		req.Deadline = earlier(deadline, a.By(addr))
		req.Final = final && req.Deadline.Equal(deadline)
		got, err = obtainOnce(h, req, get)
		if !errors.Is(err, pooler.ErrWaitTimeout) || a.GivesUp(addr, time.Since(began), req.Deadline.Equal(deadline)) {
			return got, mistaken(err)
		}
	}
}

// mistaken is the error of a request that belongs elsewhere, and that go-redis would bring
// again: not to a node that has never answered, and that can't until a mistake is mended.
func mistaken(err error) error {
	e, ok := errors.AsType[*pooler.Error](err)
	if !ok || !errors.Is(e, pooler.ErrElsewhere) || !e.NeverAnswered {
		return err
	}
	if _, ok := errors.AsType[*pooler.SetupError](e.Cause); !ok {
		return err
	}
	down := *e
	down.Err = pooler.ErrNodeDown
	return &down
}

// obtainOnce asks the pool once.
func obtainOnce[T any](h *handle, req pooler.Request, get func(context.Context, pooler.Request) (T, error)) (got T, err error) {
	if len(h.client.Courses.list()) > 0 {
		h.waited = 0
		req.Waited = &h.waited
	}
	h.outside(func() { got, err = get(&h.caller, req) })
	if req.Waited != nil {
		h.b.waited += h.waited
	}
	if h.err != nil {
		err = h.err
	}
	return got, err
}

// goesToDial reports whether go-redis had better bring the batch again, which was never
// sent, or may run again: it finds that the handle is of no use, and waits in the dial,
// where it sees contexts. It does so for a single command of a client, unless that is tried
// once; a Conn or a Tx would be of no use any more.
func (h *handle) goesToDial() bool {
	return Vetoes && !h.client.Tracks && h.client.Retries > 0 && !h.b.shaking && !h.b.sticks() &&
		callers.Include(callers.ClientProcess) && !slices.ContainsFunc(triedOnce, callers.Include) &&
		(!h.client.Ring || callers.Include(callers.RingProcess))
}

// dialGrace is how long a node that is away is awaited before go-redis is to bring the
// request to the dial. That takes one of the tries that it has; what is over by then, a
// connection that was reset or a quick restart, is to cost none.
const dialGrace = 100 * time.Millisecond

// awaitNode awaits the node, which is away, until the limit at most, 0: as long as the node
// is awaited by anybody; and for as long as the request may wait here by the places, nil: it
// may. The client's own timeout is about a socket: what is left of it begins when the node is
// back. It returns the deadline from then on.
func (h *handle) awaitNode(by time.Time, places pooler.Places, limit time.Duration) (time.Time, error) {
	left := max(time.Until(by), 1)
	d := h.sendByLocked()
	ends := d.ofContext && !by.IsZero()
	if ends {
		limit = min(cmp.Or(limit, left), left)
	}
	var err error
	h.outside(func() { err = h.node.Await(&h.caller, places, limit) })
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
	d.Time = time.Now().Add(left)
	return d.Time, nil
}

// waitsAgain reports whether a request that has found no connection in time waits once
// more. A single command of a client is tried again by go-redis, on another handle, as
// often as MaxRetries says. One of a Conn or a Tx can't be: go-redis refuses a handle
// that has failed, and that is the only one that they ever have. So it waits as often
// here. The handshake is go-redis's to try again, with all that OnConnect does.
func (h *handle) waitsAgain() bool {
	switch h.client.Places.(type) {
	case nil, Alternatives:
	default:
		if t := h.client.Topology; t == nil || t.Moves() {
			return false // clusters try Watch again by themselves, and rings never do
		}
	}
	return h.b.waits < h.client.Retries && (callers.Include(callers.TxProcess) || callers.Include(callers.ConnProcess)) && !callers.Include(callers.InitConn)
}

// waitAgain returns the deadline of the next wait after one that was in vain. What was
// waited isn't counted as time of the socket's; a context's deadline stays.
func (h *handle) waitAgain(req *pooler.Request, e *pooler.Error) (time.Time, error) {
	by := req.Deadline
	switch {
	case !req.Final && !by.IsZero():
		by = by.Add(e.Waited)
		h.sendByLocked().Time = by
	case !by.IsZero() && !time.Now().Before(by):
		return by, e
	}
	h.b.waits++
	return by, nil
}
