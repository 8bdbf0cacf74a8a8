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
