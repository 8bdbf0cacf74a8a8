package pooler

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// The reasons for which the pool refuses or fails a request. They come wrapped
// in an [*Error] that carries the numbers; compare with errors.Is.
var (
	// ErrConfig marks each complaint of [Config.Validate].
	ErrConfig = errors.New("everpool: bad configuration")

	// ErrClosed: the pool, or the driver that it belongs to, was closed.
	ErrClosed = errors.New("everpool: closed")

	// ErrNodeDown: the node could not be reached for longer than
	// FailFastAfter. The request was never sent.
	ErrNodeDown = errors.New("everpool: node is down")

	// ErrWaitTimeout: no connection came free before the request's deadline or
	// WaitTimeout. The request was never sent.
	ErrWaitTimeout = errors.New("everpool: timed out waiting for a connection")

	// ErrPoolExhausted: MaxWaiters requests were waiting already. The request
	// was never sent.
	ErrPoolExhausted = errors.New("everpool: too many requests are waiting for a connection")

	// ErrUnknownOutcome: the request was sent, its reply never came, and
	// running it again could run it twice. It may or may not have run.
	ErrUnknownOutcome = errors.New("everpool: unknown outcome: the request was sent and its reply was lost")

	// ErrSessionLost: the server no longer accepts the commands that this
	// session was made with (a rotated password, say). A new handshake is
	// needed. The request was never sent.
	ErrSessionLost = errors.New("everpool: the server refused to take up the session again")

	// ErrNotReady: the server says on a new connection that it can't serve just now
	// (LOADING, MASTERDOWN and the like), and no other was lost: it hasn't restarted,
	// which would be waited for. The request was never sent.
	ErrNotReady = errors.New("everpool: the server is not ready")

	// ErrConnGone: the one connection that could serve the request (it asks
	// about an earlier one, as WAIT does) is closed. The request was never
	// sent.
	ErrConnGone = errors.New("everpool: the connection of the earlier request is gone")

	// ErrNotShared: there is no shared connection that takes the request just
	// now. The request was never sent; [Pool.Share] finds or opens one.
	ErrNotShared = errors.New("everpool: no shared connection")

	// ErrProtocol: the peer sent what is not RESP, or a reply that nobody
	// asked for.
	ErrProtocol = errors.New("everpool: protocol violation by the peer")
)

// Error is a failure of the pool with its circumstances. errors.Is finds the
// sentinel in Err. Cause is deliberately not unwrapped, and Error is no
// [net.Error]: go-redis tries again what has a dial error, or any net.Error, in
// its chain, where the sentinel says not to.
type Error struct {
	Err  error  // one of the sentinels above
	Node string // the node's address

	// Cause is what happened underneath: the last dial error of a node that is
	// down, the read error of a lost connection. It may be nil.
	Cause error

	// Since is when the node was last reachable, Attempts how many dials have
	// failed since. For ErrNodeDown and ErrWaitTimeout; zero when the node is
	// up.
	Since    time.Time
	Attempts int64

	// Waited is how long the request waited; Open, Max, Leased and Waiting are
	// the pool's numbers at that moment, Holders says what the leased
	// connections were doing. For ErrWaitTimeout and ErrPoolExhausted.
	Waited                     time.Duration
	Open, Max, Leased, Waiting int
	Holders                    string
}

// Error says everything that the fields say, in one line, without credentials.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Err.Error())
	if e.Node != "" {
		fmt.Fprintf(&b, ": %s", e.Node)
	}
	if e.Waited > 0 {
		fmt.Fprintf(&b, ": waited %s", e.Waited.Round(time.Millisecond))
	}
	if e.Max > 0 {
		limit := fmt.Sprint(e.Max)
		if e.Max == unlimited {
			limit = "unlimited"
		}
		fmt.Fprintf(&b, ": %d of %s connections open, %d leased, %d waiting", e.Open, limit, e.Leased, e.Waiting)
	}
	if e.Holders != "" {
		fmt.Fprintf(&b, ": held by %s", e.Holders)
	}
	if !e.Since.IsZero() {
		fmt.Fprintf(&b, ": unreachable since %s, %d failed dials", e.Since.Format(time.RFC3339Nano), e.Attempts)
	}
	if e.Cause != nil {
		fmt.Fprintf(&b, ": %s", e.Cause)
	}
	return b.String()
}

// Unwrap returns the sentinel.
func (e *Error) Unwrap() error { return e.Err }
