package handle

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/internal/command"
	"github.com/everpool/everpool/pooler"
)

// everyLoss calls f with all that can be known of a batch that can't go on.
func everyLoss(f func(l loss, r Retry)) {
	flags := []bool{false, true}
	for why := died; why <= away; why++ {
		for effect := command.Read; effect <= command.Unsafe; effect++ {
			for r := RetrySafe; r <= RetryNone; r++ {
				for bits := range 1 << 10 {
					bit := func(i int) bool { return flags[bits>>i&1] }
					f(loss{
						cause: why, effect: effect, ran: bit(0), got: bit(1), free: bit(2), resent: bit(3), write: bit(4), tx: bit(5), sticks: bit(5) || bit(6), moves: bit(7) && why == away, redials: bit(8) && (why == away || why == left || why == died), asks: bit(9),
					}, r)
				}
			}
		}
	}
}

func TestWhatMayNotRunTwiceNeverDoes(t *testing.T) {
	everyLoss(func(l loss, r Retry) {
		f := l.decide(r)
		again := f == resend || f == tellCause // by us, or by go-redis
		if l.ran && again && !r.MayRepeat(l.effect) {
			t.Errorf("%+v under %v: %v", l, r, f)
		}
		if f == resend && (l.effect != command.Read || l.got || l.resent || !l.free) {
			t.Errorf("%+v under %v is sent again", l, r)
		}
		if f == move && (l.ran || !l.free) {
			t.Errorf("%+v under %v moves", l, r)
		}
	})
}

func TestWhatCanGoWhereItBelongsDoesAndNothingElse(t *testing.T) {
	everyLoss(func(l loss, r Retry) {
		if f := l.decide(r); (f == redirect) != (l.cause == away && l.moves) {
			t.Errorf("%+v under %v: %v", l, r, f)
		}
	})
}

func TestNothingRunsAgainBecauseItsReplyWasNoRESP(t *testing.T) {
	everyLoss(func(l loss, r Retry) {
		if f := l.decide(r); l.cause == garbled && l.ran && f != tellProtocol {
			t.Errorf("%+v under %v: %v", l, r, f)
		}
	})
}

func TestWhatHasRunIsNeverCalledUnsentAndTheReverse(t *testing.T) {
	everyLoss(func(l loss, r Retry) {
		f := l.decide(r)
		if l.ran && (f == tellUnsent || f == tellPerhaps || f == holdBack || f == move) {
			t.Errorf("%+v under %v, which may have run: %v", l, r, f)
		}
		if !l.ran && (f == tellUnknown || f == tellProtocol || f == resend) {
			t.Errorf("%+v under %v, which has not run: %v", l, r, f)
		}
	})
}

// pooler.ErrConnGone says that nothing was sent.
func TestWhatHasWrittenIsNotCalledUnsentForItsWAIT(t *testing.T) {
	h := &handle{seat: seat{node: &Node{Network: "tcp", Addr: "n"}, client: &Client{Retries: 3}}}
	everyLoss(func(l loss, r Retry) {
		f := l.decide(r)
		if f != tellCause || l.cause != died {
			return
		}
		if _, err := h.verdictLocked(f, l, io.EOF); errors.Is(err, pooler.ErrConnGone) != l.asks || l.asks && l.ran && l.effect != command.Read {
			t.Errorf("%+v under %v: %v", l, r, err)
		}
	})
}

// go-redis would stamp it on all commands, and keep it on some of them when the next
// try has run.
func TestABatchIsToldNothingThatIsTriedAgainUnlessItMayHaveRun(t *testing.T) {
	everyLoss(func(l loss, r Retry) {
		f := l.decide(r)
		if f == tellCause && (l.sticks && !l.ran || l.write && l.tx) || f == tellPerhaps && l.tx {
			t.Errorf("%+v under %v: %v", l, r, f)
		}
	})
}

// triedAgain reports whether go-redis sends a request again after the error, where
// it does so after timeouts (error.go, shouldRetry), which it doesn't for commands that
// block.
func triedAgain(err error, blocks bool) bool {
	var op *net.OpError
	var timeout interface{ Timeout() bool }
	switch {
	case errors.Is(err, io.EOF), errors.As(err, &op) && op.Op == "dial":
		return true
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return false
	case errors.Is(err, redis.ErrPoolTimeout):
		return true
	}
	return !blocks && errors.As(err, &timeout)
}

// The table of docs/design.md, section 7, row by row.
func TestWhatACallerIsTold(t *testing.T) {
	reset := errors.New("connection reset")
	waited := &pooler.Error{Err: pooler.ErrWaitTimeout, Node: "n"}
	elsewhere := &pooler.Error{Err: pooler.ErrElsewhere, Node: "n"}
	down := &pooler.Error{Err: pooler.ErrNodeDown, Node: "n"}
	lost := &pooler.Error{Err: pooler.ErrSessionLost, Node: "n"}
	keptOut := &pooler.Error{Err: pooler.ErrRefused, Node: "n", Cause: errors.New("WRONGPASS")}
	garbage := fmt.Errorf("%w: not RESP", pooler.ErrProtocol)
	for _, row := range []struct {
		what  string
		l     loss
		retry Retry
		err   error
		want  []error // the error is all of these
		again bool    // go-redis tries again
	}{
		{"never sent, waited too long", loss{cause: refused}, RetrySafe, waited, []error{pooler.ErrWaitTimeout, redis.ErrPoolTimeout}, true},
		{"never sent, the session was lost", loss{cause: refused}, RetrySafe, lost, []error{pooler.ErrSessionLost}, true},
		{"never sent, the server refuses a new connection", loss{cause: refused}, RetrySafe, keptOut, []error{pooler.ErrRefused}, false},
		{"the same, of a pipeline", loss{cause: refused, sticks: true}, RetrySafe, keptOut, []error{pooler.ErrRefused}, false},
		{"never sent, and it belongs elsewhere", loss{cause: away}, RetrySafe, &pooler.Error{Err: pooler.ErrElsewhere, Node: "n"}, []error{pooler.ErrElsewhere}, true},
		{"never sent, the node is down", loss{cause: refused}, RetrySafe, down, []error{pooler.ErrNodeDown}, false},
		{"never sent in time", loss{cause: late, write: true}, RetrySafe, os.ErrDeadlineExceeded, []error{os.ErrDeadlineExceeded}, true},
		{"never sent, the connection that was kept is gone", loss{cause: died}, RetrySafe, errKeptGone, []error{io.EOF}, true},
		{"never sent in time, of a pipeline", loss{cause: late, sticks: true}, RetrySafe, os.ErrDeadlineExceeded, []error{pooler.ErrWaitTimeout}, false},
		{"never sent, a pipeline that waited too long", loss{cause: refused, sticks: true}, RetrySafe, waited, []error{pooler.ErrWaitTimeout}, false},
		{"never sent, a pipeline whose node is down", loss{cause: refused, sticks: true}, RetrySafe, down, []error{pooler.ErrNodeDown}, false},
		{"never sent, a pipeline that belongs elsewhere", loss{cause: away, sticks: true}, RetrySafe, elsewhere, []error{pooler.ErrElsewhere}, false},
		{"the same, where go-redis dials the new primary", loss{cause: away, sticks: true, redials: true}, RetrySafe, elsewhere, []error{pooler.ErrElsewhere, pooler.ErrUnknownOutcome}, true},
		{"the same, a transaction", loss{cause: away, sticks: true, redials: true, tx: true}, RetrySafe, elsewhere, []error{pooler.ErrElsewhere}, false},
		{"a pipeline that go-redis has closed the handle of, for the new primary", loss{cause: left, sticks: true, redials: true}, RetrySafe, errLeft, []error{pooler.ErrConnGone, pooler.ErrUnknownOutcome}, true},
		{"never sent, a pipeline whose connection was lost in the middle of a large command", loss{cause: died, sticks: true, write: true, redials: true, effect: command.Idempotent}, RetrySafe, reset, []error{io.EOF, pooler.ErrUnknownOutcome}, true},
		{"the same, a transaction", loss{cause: died, sticks: true, write: true, redials: true, tx: true}, RetrySafe, reset, []error{pooler.ErrConnGone}, false},
		{"never sent, of a transaction that watches", loss{cause: died, write: true, tx: true, sticks: true, effect: command.Unsafe}, RetrySafe, errKeptGone, []error{pooler.ErrConnGone}, false},
		{"a read, lost twice", loss{cause: died, ran: true, resent: true}, RetryNone, reset, []error{io.EOF}, true},
		{"a SET, lost", loss{cause: died, ran: true, effect: command.Idempotent}, RetrySafe, reset, []error{io.EOF}, true},
		{"a SET, lost, where only reads are tried again", loss{cause: died, ran: true, effect: command.Idempotent}, RetryNone, reset, []error{pooler.ErrUnknownOutcome}, false},
		{"a WAIT, lost", loss{cause: died, ran: true, asks: true}, RetryAll, reset, []error{pooler.ErrConnGone}, false},
		{"a WAIT and then a SET, lost", loss{cause: died, ran: true, asks: true, effect: command.Idempotent}, RetryAll, reset, []error{pooler.ErrUnknownOutcome}, false},
		{"an INCR, lost", loss{cause: died, ran: true, effect: command.Unsafe}, RetrySafe, reset, []error{pooler.ErrUnknownOutcome}, false},
		{"an INCR, lost, where all is tried again", loss{cause: died, ran: true, effect: command.Unsafe}, RetryAll, reset, []error{io.EOF}, true},
		{"an INCR of a pipeline whose rest got no connection", loss{cause: refused, ran: true, effect: command.Unsafe, write: true}, RetrySafe, waited, []error{pooler.ErrUnknownOutcome}, false},
		{"a late SET", loss{cause: late, ran: true, effect: command.Idempotent}, RetrySafe, os.ErrDeadlineExceeded, []error{os.ErrDeadlineExceeded}, true},
		{"a late INCR", loss{cause: late, ran: true, effect: command.Unsafe}, RetrySafe, os.ErrDeadlineExceeded, []error{os.ErrDeadlineExceeded, pooler.ErrUnknownOutcome}, false},
		{"an INCR whose handle is closed", loss{cause: left, ran: true, effect: command.Unsafe}, RetrySafe, errLeft, []error{pooler.ErrUnknownOutcome}, false},
		{"a GET whose handle is closed", loss{cause: left, ran: true}, RetrySafe, errLeft, []error{net.ErrClosed}, true},
		{"a GET, answered with no RESP", loss{cause: garbled, ran: true}, RetryAll, garbage, []error{pooler.ErrProtocol}, false},
		{"an INCR, answered with no RESP", loss{cause: garbled, ran: true, effect: command.Unsafe}, RetryAll, garbage, []error{pooler.ErrProtocol, pooler.ErrUnknownOutcome}, false},
		{"a transaction that was cut in Write", loss{cause: died, ran: true, write: true, tx: true, effect: command.Unsafe}, RetryAll, reset, []error{pooler.ErrUnknownOutcome}, false},
	} {
		h := &handle{seat: seat{node: &Node{Network: "tcp", Addr: "n"}, client: &Client{Retries: 3}}}
		_, err := h.verdictLocked(row.l.decide(row.retry), row.l, row.err)
		for _, want := range row.want {
			if !errors.Is(err, want) {
				t.Errorf("%s: %v, want %v", row.what, err, want)
			}
		}
		if got := triedAgain(err, false); got != row.again {
			t.Errorf("%s: go-redis tries %v again: %t", row.what, err, got)
		}
		if !row.l.ran && triedAgain(err, true) != row.again {
			t.Errorf("%s, of a command that blocks: go-redis tries %v again: %t", row.what, err, !row.again)
		}
		perhaps := row.l.decide(row.retry) == tellPerhaps // it may be kept by what runs in the next try
		if unknown := errors.Is(err, pooler.ErrUnknownOutcome); unknown && !perhaps && (!row.l.ran || row.l.effect == command.Read) {
			t.Errorf("%s: its outcome is known, told %v", row.what, err)
		}
	}
}

// Whoever waits with a context is told when that has ended, and go-redis tries nothing
// again: it would stamp the end of the context on a whole pipeline, on what has run
// elsewhere, too. A client's own timeout is none. Not in a bubble: contexts there are
// not to be told from it.
func TestACallerIsToldThatItsContextHasEnded(t *testing.T) {
	waited := &pooler.Error{Err: pooler.ErrWaitTimeout, Node: "n"}
	ended := time.Now().Add(-time.Millisecond)
	for _, row := range []struct {
		what string
		l    loss
		err  error
		want []error
	}{
		{"never sent, waited too long", loss{cause: refused, write: true}, waited, nil},
		{"never sent in time", loss{cause: late, write: true}, os.ErrDeadlineExceeded, nil},
		{"lost, and no connection for it in time", loss{cause: refused}, waited, nil},
		{"a late SET", loss{cause: late, ran: true, effect: command.Idempotent}, os.ErrDeadlineExceeded, nil},
		{"a late INCR", loss{cause: late, ran: true, effect: command.Unsafe}, os.ErrDeadlineExceeded, []error{pooler.ErrUnknownOutcome}},
		{"never sent in time, of a pipeline", loss{cause: late, sticks: true}, os.ErrDeadlineExceeded, []error{pooler.ErrWaitTimeout}},
		{"never sent, a pipeline that waited too long", loss{cause: refused, sticks: true}, waited, []error{pooler.ErrWaitTimeout}},
	} {
		for _, by := range []struct {
			of   string
			at   time.Time
			told bool
		}{
			{"a context's deadline", ended, true},
			{"a context's deadline that is to come", ended.Add(time.Hour), false},
			{"a client's timeout", ended.Round(0), false},
		} {
			h := &handle{seat: seat{node: &Node{Network: "tcp", Addr: "n"}, client: &Client{Retries: 3}}, readBy: given(by.at)}
			h.writeBy = given(by.at)
			f := row.l.decide(RetrySafe)
			_, err := h.verdictLocked(f, row.l, row.err)
			var timeout net.Error
			if told := errors.Is(err, context.DeadlineExceeded); told != (by.told || f == tellUnknown) {
				t.Errorf("%s, %s: told so: %t, %v", row.what, by.of, told, err)
			} else if told && (triedAgain(err, false) || !errors.As(err, &timeout) || !timeout.Timeout()) {
				t.Errorf("%s, %s: go-redis tries again or takes for no timeout %v", row.what, by.of, err)
			}
			for _, want := range row.want {
				if !errors.Is(err, want) {
					t.Errorf("%s, %s: %v, want %v", row.what, by.of, err, want)
				}
			}
		}
	}
}
