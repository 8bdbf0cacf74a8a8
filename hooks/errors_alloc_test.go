package hooks_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/hooks"
	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/pooler"
)

// In an outage the class of an error costs what that of a success does: nothing that
// the collector has to clean up.
func TestErrorTypeDoesNotAllocate(t *testing.T) {
	if testkit.Race {
		t.Skip("the race detector allocates")
	}
	d, err := driver.New(driver.Config{Pool: pooler.Config{FailFastAfter: 1e6}})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	away := client(t, d.Options(&redis.Options{Addr: closedAddr(t)}))
	down := error(nil)
	testkit.Await(t, "the node is down", func() bool {
		down = away.Get(t.Context(), "k").Err()
		return errors.Is(down, pooler.ErrNodeDown)
	})
	for name, err := range map[string]error{
		"nil":             nil,
		"miss":            redis.Nil,
		"down":            down,
		"refused":         &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)},
		"no such host":    &net.OpError{Op: "dial", Err: &net.DNSError{Err: "no such host"}},
		"reset":           &net.OpError{Op: "read", Err: os.NewSyscallError("read", syscall.ECONNRESET)},
		"timeout":         &net.OpError{Op: "read", Err: os.ErrDeadlineExceeded},
		"deadline":        context.DeadlineExceeded,
		"canceled":        context.Canceled,
		"pool timeout":    redis.ErrPoolTimeout,
		"end":             io.EOF,
		"wrapped":         fmt.Errorf("a hook says: %w", down),
		"joined":          errors.Join(errors.New("one"), context.Canceled),
		"unknown":         errors.New("something"),
		"unknown outcome": &pooler.Error{Err: pooler.ErrUnknownOutcome, Cause: context.DeadlineExceeded},
		"reply":           replied("LOADING Redis is loading the dataset in memory"),
	} {
		if n := testing.AllocsPerRun(100, func() { hooks.ErrorType(err) }); n != 0 {
			t.Errorf("%s (%T): %v allocations", name, err, n)
		}
	}
}

// asking answers errors.As itself, as a client's credentials provider's errors are.
type asking struct{ cause error }

func (asking) Error() string          { return "asking" }
func (a asking) As(target any) bool   { return errors.As(a.cause, target) }
func (a asking) Is(target error) bool { return errors.Is(a.cause, target) }

// An error's own As is asked.
func TestErrorTypesOfErrorsThatAnswerThemselves(t *testing.T) {
	for want, cause := range map[string]error{
		"connection": &net.DNSError{Err: "no such host"}, "timeout": slow{true}, "WRONGTYPE": replied("WRONGTYPE x"),
		"canceled": context.Canceled, "node_down": pooler.ErrNodeDown, "_OTHER": errors.New("else"),
	} {
		wantType(t, want, asking{cause}, want)
		wantType(t, want+", wrapped", fmt.Errorf("x: %w", asking{cause}), want)
	}
}

// closedAddr is an address at which nobody listens.
func closedAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
