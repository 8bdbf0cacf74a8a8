package gather

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/pooler"
)

// triesAgain reports whether go-redis would try a single command again after the error.
func triesAgain(err error) bool {
	if err == nil {
		return false
	}
	if refusal, ok := errors.AsType[redis.Error](err); ok {
		return isPassing(refusal.Error())
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
		return true
	}
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return true
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return false
	case errors.Is(err, redis.ErrPoolTimeout):
		return true
	}
	_, network := errors.AsType[net.Error](err)
	return network
}

// ofOne is the error of a batch as one of its commands would have it alone. A pipeline that
// was never sent is told so in words after which go-redis doesn't try it again, since
// not all of its commands would be told what became of them then; a batch isn't tried again.
func ofOne(err error) error {
	e, ok := errors.AsType[*pooler.Error](err)
	if !ok || triesAgain(err) || !errors.Is(e, pooler.ErrWaitTimeout) && !errors.Is(e, pooler.ErrElsewhere) {
		return err
	}
	return &net.OpError{Op: "dial", Net: "everpool", Err: unsentError{e}}
}

// unsentError: there was no connection for a batch.
type unsentError struct{ err *pooler.Error }

func (e unsentError) Error() string { return e.err.Error() }
func (e unsentError) Unwrap() error { return e.err }

// Timeout reports whether it was waited for in vain.
func (e unsentError) Timeout() bool { return errors.Is(e.err, pooler.ErrWaitTimeout) }

// Is reports whether target is go-redis's name for the same thing.
func (e unsentError) Is(target error) bool { return target == redis.ErrPoolTimeout && e.Timeout() }

// isPassing reports whether the server, which has not run the command, may run it soon.
func isPassing(refusal string) bool {
	for _, begin := range []string{
		"LOADING ", "READONLY ", "MASTERDOWN ", "CLUSTERDOWN ", "TRYAGAIN ", "NOREPLICAS ", "ERR max number of clients reached",
	} {
		if strings.HasPrefix(refusal, begin) {
			return true
		}
	}
	return false
}

// isAnothers reports whether the error may be of another command's reply: this one's was
// not read then.
func isAnothers(err error) bool {
	if _, ok := errors.AsType[redis.Error](err); ok {
		return false
	}
	if _, ok := errors.AsType[net.Error](err); ok {
		return false
	}
	_, ok := errors.AsType[*pooler.Error](err)
	return !ok && !errors.Is(err, io.EOF) && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) &&
		!errors.Is(err, pooler.ErrUnknownOutcome) && !errors.Is(err, redis.ErrClosed)
}
