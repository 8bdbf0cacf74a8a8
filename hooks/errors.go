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
	ErrorTimeout        = "timeout"         // a deadline has passed, or a time limit of go-redis's for a reply
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
	if err == nil {
		return OK, ""
	}
	if errorType := ErrorType(err); errorType != "" {
		return Error, errorType
	}
	return Miss, ""
}

// ErrorType is the class of an error, one of a bounded list: the prefix of a
// server's error reply (WRONGTYPE, MOVED, ...) if it is one that servers are
// known to send, or one of the constants of this package. It is "" for nil and
// for redis.Nil, by itself or wrapped: where it is one of several errors that were
// joined, as of sentinels that don't know their master, the operation has failed.
// No part of an error's text that could come from an argument is
// ever in it: a script, say, may choose its errors' prefixes itself. It doesn't
// allocate, but for errors that have an As of their own.
func ErrorType(err error) string {
	if err == nil {
		return ""
	}
	if known := poolType(err); known != "" {
		return known
	}
	if isMiss(err) {
		return ""
	}
	var f findings
	f.search(err)
	switch {
	case f.has(isUnknownOutcome):
		return ErrorUnknownOutcome // first, since it may be a timeout too
	case f.has(isNodeDown):
		return ErrorNodeDown
	case f.has(isWait):
		return ErrorWaitTimeout
	case f.has(isTxFailed):
		return ErrorTxFailed
	}
	if f.askAs { // not before: it allocates, and a node that is down has an As
		f.searchAs(err)
	}
	switch {
	case f.reply != nil && !f.has(isRedisClosed):
		return replyType(f.reply.Error())
	case f.has(isCanceled):
		return ErrorCanceled
	case f.has(isDeadline), f.timeout != nil && f.timeout.Timeout():
		return ErrorTimeout
	case f.has(isConnection | isRedisClosed):
		return ErrorConnection
	}
	switch text := err.Error(); { // go-redis doesn't export these
	case text == "redis: all ring shards are down", text == "redis: cluster has no nodes",
		strings.Contains(text, "redis: all sentinels specified in configuration are unreachable"):
		return ErrorConnection
	}
	return ErrorOther
}

// poolType is the class of an error of the pool's, as everpool's clients return it, or "".
// In an outage these are the errors of all operations, and the search would take a
// hundred times as long.
func poolType(err error) string {
	e, ok := err.(*pooler.Error) //nolint:errorlint // one that is wrapped by others is searched
	if !ok {
		one, wraps := err.(interface{ Unwrap() error })
		if !wraps {
			return ""
		}
		if e, ok = one.Unwrap().(*pooler.Error); !ok { //nolint:errorlint // as above
			return ""
		}
	}
	switch e.Err {
	case pooler.ErrUnknownOutcome: //nolint:errorlint // it is the sentinel itself
		return ErrorUnknownOutcome
	case pooler.ErrNodeDown:
		return ErrorNodeDown
	case pooler.ErrWaitTimeout, pooler.ErrPoolExhausted:
		return ErrorWaitTimeout
	}
	return ""
}

// isMiss reports whether the error is redis.Nil, or wraps it and nothing else. What
// go-redis says of sentinels that don't know the master is redis.Nil by errors.Is, too.
func isMiss(err error) bool {
	for err != nil {
		if err == redis.Nil { //nolint:errorlint // this is what goes over the wrapped ones
			return true
		}
		if own, ok := err.(interface{ Is(error) bool }); ok && own.Is(redis.Nil) {
			return true
		}
		one, ok := err.(interface{ Unwrap() error })
		if !ok {
			return false
		}
		err = one.Unwrap()
	}
	return false
}

// IsReply reports whether a type that [ErrorType] has returned is the prefix of a
// server's reply: those are in upper case, and no constant of this package begins
// with a capital.
func IsReply(errorType string) bool {
	return errorType != "" && 'A' <= errorType[0] && errorType[0] <= 'Z'
}

// trait is something that an error is.
type trait uint16

const (
	isUnknownOutcome trait = 1 << iota
	isNodeDown
	isWait
	isTxFailed
	isRedisClosed // which is a redis.Error, and no server's
	isCanceled
	isDeadline
	isConnection
)

// sentinels are the errors that are looked for by errors.Is.
var sentinels = [...]struct {
	error
	is trait
}{
	{pooler.ErrUnknownOutcome, isUnknownOutcome},
	{pooler.ErrNodeDown, isNodeDown},
	{pooler.ErrWaitTimeout, isWait},
	{pooler.ErrPoolExhausted, isWait},
	{redis.ErrPoolTimeout, isWait},
	{redis.ErrPoolExhausted, isWait},
	{redis.TxFailedErr, isTxFailed},
	{redis.ErrClosed, isRedisClosed},
	{context.Canceled, isCanceled},
	{context.DeadlineExceeded, isDeadline},
	{os.ErrDeadlineExceeded, isDeadline},
	{net.ErrClosed, isConnection},
	{io.EOF, isConnection},
	{io.ErrUnexpectedEOF, isConnection},
	{io.ErrClosedPipe, isConnection},
	{io.ErrNoProgress, isConnection},
	{pooler.ErrClosed, isConnection},
	{pooler.ErrConnGone, isConnection},
	{pooler.ErrSessionLost, isConnection},
	{pooler.ErrCredentials, isConnection},
	{pooler.ErrNotReady, isConnection},
	{pooler.ErrRefused, isConnection},
	{pooler.ErrProtocol, isConnection},
	{pooler.ErrLost, isConnection},
}

// findings are what one walk over an error and all that it wraps has found. It
// answers what some thirty calls of errors.Is and errors.As would, in an outage for
// every operation, and as many allocations.
type findings struct {
	traits  trait
	reply   redis.Error                 // the first
	timeout interface{ Timeout() bool } // the first
	askAs   bool                        // an error has an As of its own
}

func (f *findings) has(t trait) bool { return f.traits&t != 0 }

// search goes in the order of errors.Is.
func (f *findings) search(err error) {
	for err != nil {
		f.note(err)
		switch e := err.(type) { //nolint:errorlint // this is what goes over the wrapped ones
		case interface{ Unwrap() error }:
			err = e.Unwrap()
		case interface{ Unwrap() []error }:
			for _, one := range e.Unwrap() {
				f.search(one)
			}
			return
		default:
			return
		}
	}
}

// note takes in one error, without what it wraps.
func (f *findings) note(err error) {
	own, _ := err.(interface{ Is(error) bool })
	if _, number := err.(syscall.Errno); number { //nolint:errorlint // as errors.As does
		own = nil // it knows the errors of package os, and none of these
	}
	for i := range sentinels {
		s := &sentinels[i]
		if err == s.error || own != nil && own.Is(s.error) { //nolint:errorlint // as errors.Is does
			f.traits |= s.is
		}
	}
	switch err.(type) { //nolint:errorlint // as errors.As does
	case *net.OpError, *net.DNSError, syscall.Errno, *tls.CertificateVerificationError, tls.RecordHeaderError, tls.AlertError:
		f.traits |= isConnection
	}
	if reply, ok := err.(redis.Error); ok && f.reply == nil && err != redis.Nil { //nolint:errorlint // as errors.As does
		f.reply = reply
	}
	if timeout, ok := err.(interface{ Timeout() bool }); ok && f.timeout == nil {
		f.timeout = timeout
	}
	if _, ok := err.(interface{ As(any) bool }); ok {
		f.askAs = true
	}
}

// searchAs asks errors.As, since an error has its own answer to that.
func (f *findings) searchAs(err error) {
	if reply, ok := errors.AsType[redis.Error](err); ok {
		f.reply = reply
	}
	var timeout interface{ Timeout() bool }
	if errors.As(err, &timeout) {
		f.timeout = timeout
	}
	var op *net.OpError
	var dns *net.DNSError
	var number syscall.Errno
	var cert *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	var alert tls.AlertError
	for _, target := range [...]any{&op, &dns, &number, &cert, &record, &alert} {
		if errors.As(err, target) {
			f.traits |= isConnection
		}
	}
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
