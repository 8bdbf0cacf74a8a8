package handle

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/internal/callers"
	"github.com/everpool/everpool/pooler"
)

// The error that a handle returns is a decision: go-redis sends a request again
// after io.EOF, after an error of a dial, after any net.Error that is no timeout
// and, mostly, after a timeout. Such errors are returned only where the server
// can't have run the request, or where running it twice does no harm.

// poolError is a pooler.Error as go-redis's users know it: it also is
// redis.ErrClosed, redis.ErrPoolTimeout or redis.ErrPoolExhausted where that
// means the same.
type poolError struct {
	err  *pooler.Error
	text string // go-redis asks for it about ten times
}

func newPoolError(e *pooler.Error) poolError { return poolError{e, e.Error()} }

func (e poolError) Error() string { return e.text }
func (e poolError) Unwrap() error { return e.err }

// Is reports whether target is go-redis's name for the same thing.
func (e poolError) Is(target error) bool {
	switch target {
	case redis.ErrClosed:
		// With the stock client one that is closed tells so to whoever was waiting.
		return errors.Is(e.err, pooler.ErrClosed) || errors.Is(e.err.Cause, errLeft)
	case redis.ErrPoolTimeout:
		return errors.Is(e.err, pooler.ErrWaitTimeout)
	case redis.ErrPoolExhausted:
		return errors.Is(e.err, pooler.ErrPoolExhausted)
	}
	return isSystems(e.err.Cause, target)
}

// As finds what was wrong with a certificate or a name.
func (e poolError) As(target any) bool { return asMistake(e.err.Cause, target) }

// isSystems reports whether target is the operating system's word for what has happened
// underneath, as ECONNREFUSED, by which programs know it with the stock client. go-redis
// asks for none of them.
func isSystems(cause, target error) bool {
	_, ok := target.(syscall.Errno) //nolint:errorlint // what is looked for, as it is
	return ok && errors.Is(cause, target)
}

// asMistake finds in the cause what isn't mended by trying again, for programs that tell
// such errors apart. What go-redis looks for, a net.Error above all, isn't found.
func asMistake(cause error, target any) bool {
	switch target.(type) {
	case **tls.CertificateVerificationError, *x509.UnknownAuthorityError, *x509.HostnameError, *x509.CertificateInvalidError, **net.DNSError:
		return cause != nil && errors.As(cause, target)
	}
	return false
}

// waitError is a poolError that is a timeout.
type waitError struct{ poolError }

// Timeout is true.
func (waitError) Timeout() bool { return true }

// credentialsError is a poolError that also is the error of the client's provider, as
// go-redis's users know it.
type credentialsError struct{ poolError }

// Is reports whether target is an error of the provider's.
func (e credentialsError) Is(target error) bool {
	return e.poolError.Is(target) || errors.Is(e.err.Cause, target)
}

// As finds errors of the provider's.
func (e credentialsError) As(target any) bool { return errors.As(e.err.Cause, target) }

// serverError is a poolError of what the server has said, by which go-redis knows it.
type serverError struct{ poolError }

// Error is what the server has said, as it is told to who shares a connection.
func (e serverError) Error() string { return e.err.Cause.Error() }

// RedisError marks it as a [redis.Error].
func (serverError) RedisError() {}

// loginError is a poolError of a server that refuses a new connection. It is no
// [redis.Error], after which go-redis would keep the handle.
type loginError struct{ poolError }

// Error begins with the server's own word, as "WRONGPASS", by which [redis.IsAuthError]
// knows it.
func (e loginError) Error() string { return e.err.Cause.Error() + " " + e.text }

// Adapt makes of a pool's error what go-redis should see: where trying again
// makes sense, the error of a dial; otherwise the bare error.
func Adapt(err error) error {
	var e *pooler.Error
	if !errors.As(err, &e) {
		return err
	}
	switch {
	case errors.Is(e, pooler.ErrWaitTimeout):
		return &net.OpError{Op: "dial", Net: "everpool", Err: waitError{newPoolError(e)}}
	case errors.Is(e, pooler.ErrSessionLost), errors.Is(e, pooler.ErrElsewhere):
		return &net.OpError{Op: "dial", Net: "everpool", Err: newPoolError(e)}
	case errors.Is(e, pooler.ErrCredentials):
		return credentialsError{newPoolError(e)}
	case errors.Is(e, pooler.ErrNotReady):
		return serverError{newPoolError(e)}
	case errors.Is(e, pooler.ErrRefused):
		return loginError{newPoolError(e)}
	}
	return bare(e, err)
}

// bare is the error without anything by which go-redis tries again.
func bare(e *pooler.Error, err error) error {
	if _, ok := errors.AsType[*unservedError](err); ok {
		return downError{newPoolError(e)}
	}
	return newPoolError(e)
}

// unservedError: the request is for a node that doesn't serve, and wasn't to wait for it.
type unservedError struct{ error }

func (e *unservedError) Unwrap() error { return e.error }

// downError is the poolError of an unservedError. go-redis makes a connection, buffers and
// all, of every handle, and would make one for each call of an outage: so it is to keep the
// handle, as after the word of a server.
type downError struct{ poolError }

// As has go-redis keep the handle. To everybody else the error is no server's.
func (e downError) As(target any) bool {
	if r, ok := target.(*redis.Error); ok && callers.Include(callers.ReleaseConn) {
		*r = keptError{e}
		return true
	}
	return e.poolError.As(target)
}

type keptError struct{ downError }

// RedisError marks it as a [redis.Error].
func (keptError) RedisError() {}

// perhapsError: a pipeline was never sent, and go-redis tries it again. Commands that run
// then, and whose replies are lost behind another's, keep it: so it says that they may
// have run.
type perhapsError struct{ error }

func (e perhapsError) Unwrap() error { return e.error }

// Is reports whether target is what is true of those commands.
func (perhapsError) Is(target error) bool { return target == pooler.ErrUnknownOutcome }

// handshakeError is an error of go-redis's handshake, from which go-redis takes
// off one layer before the caller sees it.
type handshakeError struct{ err error }

func (e handshakeError) Error() string { return e.err.Error() }
func (e handshakeError) Unwrap() error { return e.err }

// timedHandshakeError is a handshakeError that a subscription shows as it is: there
// go-redis takes no layer off, and programs ask for a net.Error.
type timedHandshakeError struct {
	handshakeError
	as net.Error
}

func (e timedHandshakeError) Timeout() bool   { return e.as.Timeout() }
func (e timedHandshakeError) Temporary() bool { return e.as.Temporary() } //nolint:staticcheck // a net.Error has it

// inHandshake wraps an error of go-redis's handshake.
func inHandshake(err error) error {
	if timed, ok := errors.AsType[net.Error](err); ok {
		return timedHandshakeError{handshakeError{err}, timed}
	}
	return handshakeError{err}
}

// isInHandshake reports whether the error is one of inHandshake's.
func isInHandshake(err error) bool {
	switch err.(type) { //nolint:errorlint // nothing is around it
	case handshakeError, timedHandshakeError:
		return true
	}
	return false
}

// lostError: the connection was lost, and trying again does no harm.
type lostError struct {
	node  string
	cause error
}

func (e *lostError) Error() string {
	return (&pooler.Error{Err: errLost, Node: e.node, Cause: e.cause}).Error()
}

var errLost = errors.New("everpool: connection lost")

// Unwrap returns io.EOF, by which go-redis knows that it may try again.
func (e *lostError) Unwrap() error { return io.EOF }

// Is knows the operating system's word for it.
func (e *lostError) Is(target error) bool { return isSystems(e.cause, target) }

// lateError: the deadline passed while the reply to a request was awaited that
// must not run twice. It is a timeout to everybody who asks, but go-redis, which
// would try again, sees a context's deadline, after which it doesn't.
type lateError struct{ node string }

func (e *lateError) Error() string {
	return fmt.Sprintf("everpool: %s: i/o timeout: the request was sent, its outcome is unknown", e.node)
}

// Timeout is true.
func (e *lateError) Timeout() bool { return true }

// Temporary is false.
func (e *lateError) Temporary() bool { return false }

// Is knows all the names of what has happened.
func (e *lateError) Is(target error) bool {
	return target == pooler.ErrUnknownOutcome || target == os.ErrDeadlineExceeded || target == context.DeadlineExceeded
}

// endedError: the caller's context has ended, and what it was to end was never sent.
type endedError struct{ error }

// Timeout is true.
func (*endedError) Timeout() bool { return true }

// Temporary is false.
func (*endedError) Temporary() bool { return false }

// Unwrap returns what was waited for.
func (e *endedError) Unwrap() error { return e.error }

// Is knows the context's names of what has happened.
func (*endedError) Is(target error) bool {
	return target == context.DeadlineExceeded || target == os.ErrDeadlineExceeded
}

// protocolError: the peer has answered a request with what is no RESP. Running it
// again would be answered no better.
type protocolError struct {
	node    string
	cause   error
	unknown bool // it isn't only a read
}

func (e *protocolError) Error() string {
	what := strings.TrimPrefix(e.cause.Error(), pooler.ErrProtocol.Error()+": ")
	return fmt.Sprintf("%v: %s: %s", pooler.ErrProtocol, e.node, what)
}

// Is knows what was wrong, and what that means for a request that may have run.
func (e *protocolError) Is(target error) bool {
	return target == pooler.ErrProtocol || e.unknown && target == pooler.ErrUnknownOutcome
}

// unknownOutcome is the error of a request that was sent, whose reply is lost,
// and that must not run twice.
func unknownOutcome(node string, cause error) error {
	return newPoolError(&pooler.Error{Err: pooler.ErrUnknownOutcome, Node: node, Cause: cause})
}

// closedError is the error of a handle that go-redis has closed.
func closedError(network string) error {
	return &net.OpError{Op: "use", Net: network, Err: net.ErrClosed}
}
