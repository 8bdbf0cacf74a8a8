package pooler

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
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

	// ErrRefused: the server lets no new connection into the session (a rotated
	// password, say); Cause is its word. Those that are open serve on. The request was
	// never sent.
	ErrRefused = errors.New("everpool: the server refuses a new connection")

	// ErrCredentials: no connection could be opened since the client's credentials
	// provider failed; Cause is its error. The request was never sent.
	ErrCredentials = errors.New("everpool: no credentials for a new connection")

	// ErrNotReady: the server says on a new connection that it can't serve just now
	// (LOADING, MASTERDOWN and the like), and no other was lost: it hasn't restarted,
	// which would be waited for. The request was never sent.
	ErrNotReady = errors.New("everpool: the server is not ready")

	// ErrConnGone: the one connection that could serve the request (it asks
	// about an earlier one, as WAIT does) is closed. The request was never
	// sent.
	ErrConnGone = errors.New("everpool: the connection of the earlier request is gone")

	// ErrElsewhere: the node is ill, and another one serves the request by now, or
	// may. The request was never sent.
	ErrElsewhere = errors.New("everpool: the node is away, and the request belongs elsewhere")

	// ErrNotShared: there is no shared connection that takes the request just
	// now. The request was never sent; [Pool.Share] finds or opens one.
	ErrNotShared = errors.New("everpool: no shared connection")

	// ErrWouldWait: the request, which was not to wait ([Request.NoWait]), would have had to.
	// It was never sent, and is to come again.
	ErrWouldWait = errors.New("everpool: the request would have to wait")

	// ErrLarge: the request had a large reply when it was last answered, which others
	// on a shared connection would have to wait for. It was not sent; it had better
	// lease a connection.
	ErrLarge = errors.New("everpool: too large a reply for a shared connection")

	// ErrProtocol: the peer sent what is not RESP, or a reply that nobody
	// asked for.
	ErrProtocol = errors.New("everpool: protocol violation by the peer")
)

// SetupError is an error of Node.Dial, or of Node.Explain, that says that dialing
// again is in vain until somebody mends something: the name of a host that there
// isn't, a certificate that isn't trusted, a port that speaks something else. While
// a node has never answered and its last dial failed with a SetupError requests fail
// at once, unless FailFastAfter is -1. It is dialed on for them, and so heals.
type SetupError struct {
	Err  error  // what happened
	Hint string // what may be wrong
}

// Error says what happened, and the hint in parentheses.
func (e *SetupError) Error() string { return fmt.Sprintf("%v (%s)", e.Err, e.Hint) }

// Unwrap returns what happened.
func (e *SetupError) Unwrap() error { return e.Err }

func isMistake(err error) bool {
	var m *SetupError
	return errors.As(err, &m)
}

// isWordless reports whether the connection was lost without a word on why. A server
// that refuses a client's certificate resets the connection if something was written on
// it meanwhile, and what it has said of that is lost then. Systems number a reset each
// in their way, so it is known by what it isn't: a timeout, or this side's own close.
func isWordless(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	lost := ok && (op.Op == "read" || op.Op == "write") && !op.Timeout() && !errors.Is(err, net.ErrClosed)
	return lost || errors.Is(err, io.EOF)
}

// another says of a reply that is no RESP what other kind of server may have sent
// it, by its first bytes.
func another(reply []byte, err error) error {
	for _, k := range []struct{ begins, hint string }{
		{"HTTP/", "is this an HTTP server?"},
		{"SSH-", "is this an SSH server?"},
		{"\x15\x03", "is this a TLS port?"}, // an alert
	} {
		if bytes.HasPrefix(reply, []byte(k.begins)) {
			return &SetupError{Err: err, Hint: k.hint}
		}
	}
	return err
}

// Error is a failure of the pool with its circumstances. errors.Is finds the
// sentinel in Err. Cause is deliberately not unwrapped, and Error is no
// [net.Error]: go-redis tries again what has a dial error, or any net.Error, in
// its chain, where the sentinel says not to.
//
// Times and numbers are in the fields and not in the text, so that errors can be
// grouped by their texts.
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

	// NeverAnswered is true if the node has not answered since its pool was made: its
	// address may be wrong, or its server not started yet. With Since only.
	NeverAnswered bool

	// Waited is how long the request waited; Open, Max, Leased and Waiting are
	// the pool's numbers at that moment, Holders says what the leased
	// connections were doing. For ErrWaitTimeout and ErrPoolExhausted.
	Waited                     time.Duration
	Open, Max, Leased, Waiting int
	Holders                    string

	mostly  string // what most of them were doing, "": that isn't the reason
	opening bool   // there was room for more connections, and none was ready
}

// Error says in one line, without credentials, what went wrong, at which node, what
// holds most of the connections of a full pool, and the cause.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Err.Error())
	if e.Node != "" {
		b.WriteString(": " + e.Node)
	}
	if e.mostly != "" {
		b.WriteString(": most connections are held by " + e.mostly)
	}
	if e.opening {
		b.WriteString(": no new one is ready")
	}
	if e.NeverAnswered {
		b.WriteString(": never answered")
	}
	if e.Cause != nil {
		b.WriteString(": " + steady(e.Cause.Error()))
	}
	return b.String()
}

// steady is the text without what differs in others of the same error.
func steady(text string) string {
	if strings.Contains(text, "->") || strings.Contains(text, "current time") { // most have neither
		return fleeting.ReplaceAllString(text, "")
	}
	return text
}

// fleeting are the port from which a connection was made, and the time at which a
// certificate was looked at.
var fleeting = regexp.MustCompile(`\S+:\d+->|: current time \S+ is (?:before|after) \S+`)

// Unwrap returns the sentinel.
func (e *Error) Unwrap() error { return e.Err }
