package hooks

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"syscall"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/pooler"
)

// Outcome is how an operation has ended.
type Outcome uint8

// The outcomes.
const (
	OK    Outcome = iota
	Miss          // redis.Nil: there was no such key, or nothing to pop
	Error         // anything else that isn't nil
)

// String returns "ok", "miss" or "error".
func (o Outcome) String() string {
	return word(o, "ok", "miss", "error")
}

// The types of errors that aren't a server's reply, as [ErrorType] returns them.
const (
	ErrorTimeout        = "timeout"         // a deadline, or go-redis's wait for a connection
	ErrorCanceled       = "canceled"        // the caller's context was cancelled
	ErrorUnknownOutcome = "unknown_outcome" // sent, and the reply is lost: pooler.ErrUnknownOutcome
	ErrorNodeDown       = "node_down"       // pooler.ErrNodeDown
	ErrorWaitTimeout    = "wait_timeout"    // no connection came free: pooler.ErrWaitTimeout, redis.ErrPoolTimeout, MaxWaiters
	ErrorConnection     = "connection"      // dialing, reading or writing failed, or the client is closed
	ErrorTxFailed       = "tx_failed"       // redis.TxFailedErr: a watched key has changed
	ErrorOther          = "_OTHER"
)

// Classify says how an operation has ended, and for an error of what type it is:
// see [ErrorType].
func Classify(err error) (Outcome, string) {
	switch {
	case err == nil:
		return OK, ""
	case errors.Is(err, redis.Nil):
		return Miss, ""
	}
	return Error, ErrorType(err)
}

// ErrorType is the class of an error, one of a bounded list: the prefix of a
// server's error reply (WRONGTYPE, MOVED, ...) if it is one that servers are
// known to send, or one of the constants of this package. It is "" for nil and
// for redis.Nil. No part of an error's text that could come from an argument is
// ever in it: a script, say, may choose its errors' prefixes itself.
func ErrorType(err error) string {
	var reply redis.Error
	switch {
	case err == nil, errors.Is(err, redis.Nil):
		return ""
	case errors.Is(err, pooler.ErrUnknownOutcome):
		return ErrorUnknownOutcome // first, since it may be a timeout too
	case errors.Is(err, pooler.ErrNodeDown):
		return ErrorNodeDown
	case errors.Is(err, pooler.ErrWaitTimeout), errors.Is(err, pooler.ErrPoolExhausted),
		errors.Is(err, redis.ErrPoolTimeout), errors.Is(err, redis.ErrPoolExhausted):
		return ErrorWaitTimeout
	case errors.Is(err, redis.TxFailedErr):
		return ErrorTxFailed
	case errors.As(err, &reply) && !errors.Is(err, redis.ErrClosed):
		return replyType(reply.Error())
	case errors.Is(err, context.Canceled):
		return ErrorCanceled
	case isTimeout(err):
		return ErrorTimeout
	case isConnection(err):
		return ErrorConnection
	}
	return ErrorOther
}

func isConnection(err error) bool {
	for _, is := range [...]error{
		redis.ErrClosed, net.ErrClosed, io.EOF, io.ErrUnexpectedEOF, io.ErrClosedPipe, io.ErrNoProgress,
		pooler.ErrClosed, pooler.ErrConnGone, pooler.ErrSessionLost, pooler.ErrCredentials, pooler.ErrNotReady, pooler.ErrProtocol, pooler.ErrLost,
	} {
		if errors.Is(err, is) {
			return true
		}
	}
	var op *net.OpError
	var dns *net.DNSError
	var number syscall.Errno
	var cert *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	var alert tls.AlertError
	switch {
	case errors.As(err, &op), errors.As(err, &dns), errors.As(err, &number),
		errors.As(err, &cert), errors.As(err, &record), errors.As(err, &alert):
		return true
	}
	// go-redis doesn't export these.
	switch err.Error() {
	case "redis: all ring shards are down", "redis: cluster has no nodes":
		return true
	}
	return false
}

func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) ||
		errors.As(err, &t) && t.Timeout()
}

// replyType is the prefix of an error reply, if it is on the list.
func replyType(reply string) string {
	prefix, _, _ := strings.Cut(reply, " ")
	if name, ok := replyTypes[prefix]; ok {
		return name
	}
	return ErrorOther
}

// replyTypes are the prefixes that Redis, Valkey, Sentinel and their modules send.
var replyTypes = func() map[string]string {
	m := make(map[string]string)
	for prefix := range strings.FieldsSeq(`ERR ASK BUSY BUSYGROUP BUSYKEY CLUSTERDOWN CROSSSLOT DENIED EXECABORT INPROG
		IOERR INVALIDOBJ LOADING MASTERDOWN MISCONF MOVED NOADDR NOAUTH NOGOODSLAVE NOGROUP NOMASTERLINK NOPERM
		NOPROTO NOQUORUM NOREPLICAS NOSCRIPT NOSUB NOTBUSY NOTREADY OOM READONLY REDIRECT SYNTAX TRYAGAIN UNBLOCKED
		UNKILLABLE VALUE WRONGPASS WRONGTYPE`) {
		m[prefix] = prefix
	}
	return m
}()
