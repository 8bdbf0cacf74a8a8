package handle

import (
	"context"
	"errors"
	"io"
	"net"
	"os"

	"github.com/everpool/everpool/internal/command"
	"github.com/everpool/everpool/pooler"
)

// cause is why a batch can't go on as it was.
type cause uint8

const (
	died    cause = iota // its connection was lost
	late                 // its caller's time is over
	refused              // there is no connection for it, or for the rest of it
	garbled              // the peer has answered it with what is no RESP
	left                 // go-redis has closed the handle
	away                 // its node is ill, and it belongs to another one
)

// loss is what the decision about a batch depends on.
type loss struct {
	cause   cause
	ran     bool           // the server may have run some of it
	got     bool           // its caller has seen something of the replies
	free    bool           // all of it is here, and nothing binds it to its connection
	resent  bool           // it was sent a second time already
	write   bool           // Write tells
	tx      bool           // it has a transaction
	asks    bool           // it asks about an earlier batch's writes, of which another connection knows nothing
	sticks  bool           // go-redis would keep an error that it tries again, on some of its commands
	moves   bool           // it can be sent where it belongs
	redials bool           // away or left, and go-redis dials who serves it by then when it tries again; or lost in the middle of a large command
	effect  command.Effect // of what was sent
}

// fate is what becomes of a batch.
type fate uint8

const (
	move         fate = iota // it goes on another connection, unnoticed
	resend                   // the same, for the second time
	redirect                 // its caller is told the node that it belongs to; go-redis asks there at once
	holdBack                 // Write accepts it; Read gets over it, or tells
	tellCause                // its caller is told the cause; go-redis tries again, where that may help
	tellUnsent               // its caller is told that it was never sent; go-redis must not try again
	tellPerhaps              // the same, or that nobody knows, as both may be kept; go-redis tries again
	tellUnknown              // its caller is told that nobody knows; go-redis doesn't try again
	tellProtocol             // its caller is told what was wrong; go-redis doesn't try again
)

// decide is the one place that says whether a batch may run twice, and what its
// caller is told. The first row that matches decides. docs/design.md, section 7,
// has the same in words.
func (l loss) decide(r Retry) fate {
	switch {
	// Nothing is run again because its reply was no RESP, whatever it was.
	case l.cause == garbled && l.ran:
		return tellProtocol

	// Not run: another connection serves as well.
	case !l.ran && l.free && (l.cause == died || l.cause == garbled):
		return move

	// Run, and it changes nothing: once more.
	case l.ran && l.free && l.cause == died && l.effect == command.Read && !l.got && !l.resent:
		return resend

	// What is left of it was not run, or only reads, and another node serves it.
	case l.cause == away && l.moves:
		return redirect

	// go-redis stamps an error on all commands of a batch, and takes it back only
	// from those whose replies come in a later try: not from MULTI, nor from those
	// behind one whose reply is lost. They would be called never sent, having run.
	case l.write && l.tx && l.ran:
		return tellUnknown
	case l.sticks && !l.ran && l.write && (l.cause == late || l.cause == refused):
		return holdBack
	case l.sticks && !l.tx && !l.ran && l.redials:
		return tellPerhaps
	case l.sticks && !l.ran:
		return tellUnsent

	// On another connection it would ask about that one's writes.
	case l.asks && l.ran && l.cause == died && l.effect != command.Read:
		return tellUnknown

	// Told the cause, by which go-redis tries again what was never sent, and what
	// may run twice.
	case !l.ran, r.MayRepeat(l.effect):
		return tellCause
	}
	return tellUnknown
}

// Retry says which requests may be sent again after their connection was lost before the
// reply came.
type Retry uint8

// What may be sent again: whatever leaves the same data, everything, or only reads.
const (
	RetrySafe Retry = iota
	RetryAll
	RetryNone
)

// MayRepeat reports whether a request of the given effect may run a second time
// unasked.
func (r Retry) MayRepeat(e command.Effect) bool {
	switch r {
	case RetryAll:
		return true
	case RetryNone:
		return e == command.Read
	default:
		return e != command.Unsafe
	}
}

// causeOf tells from an error of a send, or of the wait for a connection, why the
// batch can't go on.
func causeOf(err error) cause {
	var e *pooler.Error
	switch {
	case errors.Is(err, pooler.ErrProtocol):
		return garbled
	case errors.Is(err, pooler.ErrElsewhere):
		return away
	case errors.As(err, &e):
		return refused
	case errors.Is(err, os.ErrDeadlineExceeded):
		return late
	}
	return died
}

// verdictLocked says how the batch's lease has ended, and what its caller is told. err
// is the cause in detail.
func (h *handle) verdictLocked(f fate, l loss, err error) (pooler.Outcome, error) {
	node := h.node.Addr
	told, outcome := error(&lostError{node, err}), pooler.Failed
	switch {
	case f == tellUnknown && l.cause == late:
		told, outcome = &lateError{node}, pooler.Unknown
	case f == tellUnknown:
		told, outcome = unknownOutcome(node, err), pooler.Unknown
	case f == tellProtocol:
		told = &protocolError{node, err, l.effect != command.Read}
		if l.effect != command.Read {
			outcome = pooler.Unknown
		}
	case (f == tellUnsent || f == tellPerhaps) && h.endedLocked(l):
		told = &endedError{unsent(node, l.cause, err)}
	case f == tellUnsent:
		told = unsent(node, l.cause, err)
	case f == tellPerhaps && l.cause == died:
		told = &net.OpError{Op: "dial", Net: "everpool", Err: perhapsError{told}}
	case f == tellPerhaps:
		told = &net.OpError{Op: "dial", Net: "everpool", Err: perhapsError{unsent(node, l.cause, err)}}
	case (l.cause == late || errors.Is(err, pooler.ErrWaitTimeout)) && h.endedLocked(l):
		// After an error of a dial, or a timeout, go-redis would try again, find that the
		// context has ended, and stamp that on the whole pipeline: on what other nodes of
		// a cluster have run and answered, too.
		told = context.DeadlineExceeded
	case l.cause == late && l.write && !l.ran:
		// As of a dial: go-redis tries commands that block again after no other timeout.
		told = &net.OpError{Op: "dial", Net: "everpool", Err: h.deadlineError("write")}
	case l.cause == late && l.write:
		told = h.deadlineError("write")
	case l.cause == late:
		told = h.deadlineError("read")
	case l.cause == left:
		told = closedError(h.node.Network)
	case (l.cause == refused || l.cause == away) && (!l.ran || l.effect == command.Read), errors.Is(err, pooler.ErrClosed):
		told = Adapt(err)
	case l.cause == died && l.asks:
		told = newPoolError(&pooler.Error{Err: pooler.ErrConnGone, Node: node, Cause: err})
	}
	return outcome, told
}

// unsent is the error of a batch that was never sent and that go-redis must not try
// again. So what is redis.ErrPoolTimeout otherwise isn't here.
func unsent(node string, why cause, err error) error {
	var e *pooler.Error
	switch {
	case why == late:
		return &pooler.Error{Err: pooler.ErrWaitTimeout, Node: node, Cause: err}
	case why != refused && why != away || !errors.As(err, &e):
		return newPoolError(&pooler.Error{Err: pooler.ErrConnGone, Node: node, Cause: err})
	case errors.Is(e, pooler.ErrWaitTimeout):
		return e
	case errors.Is(e, pooler.ErrRefused):
		return loginError{newPoolError(e)}
	case errors.Is(e, pooler.ErrCredentials) && !triesAgain(e.Cause):
		return credentialsError{newPoolError(e)}
	}
	return bare(e, err)
}

// triesAgain reports whether go-redis might try again what has failed with an error
// like this.
func triesAgain(err error) bool {
	_, network := errors.AsType[net.Error](err)
	return network || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}
