package hooks_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/everpool/everpool/hooks"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// seen is an operation as it was when it ended.
type seen struct {
	Kind      hooks.Kind
	Name      string
	Command   *hooks.Command
	Cmds      []string
	Target    hooks.Target
	Peer      string
	Start     time.Time
	Duration  time.Duration
	Outcome   hooks.Outcome
	Err       error
	ErrorType string
}

type tried struct {
	Peer      string
	Cmds      []string
	Start     time.Time
	Outcome   hooks.Outcome
	ErrorType string
}

type shook struct{ Name, ErrorType string }

type dialed struct{ Network, Addr, ErrorType string }

// recorder is an observer of everything.
type recorder struct {
	mu         sync.Mutex
	begun      int
	ended      []seen
	attempts   []tried
	handshakes []shook
	dials      []dialed
}

func (r *recorder) Begin(ctx context.Context, op *hooks.Operation) context.Context {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.begun++
	return ctx
}

func (r *recorder) End(_ context.Context, op *hooks.Operation) {
	s := seen{
		Kind: op.Kind, Name: op.Name, Command: op.Command, Cmds: namesOf(op.Cmds), Target: *op.Target,
		Start: op.Start, Duration: op.Duration, Outcome: op.Outcome, Err: op.Err, ErrorType: op.ErrorType,
	}
	if p := op.Peer(); p != nil {
		s.Peer = p.Addr
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended = append(r.ended, s)
}

func (r *recorder) Attempt(_ context.Context, a *hooks.Attempt) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.attempts = append(r.attempts, tried{a.Peer.Addr, namesOf(a.Cmds), a.Start, a.Outcome, a.ErrorType})
}

func (r *recorder) Handshake(_ context.Context, c *hooks.Command, errorType string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.handshakes = append(r.handshakes, shook{c.Name, errorType})
}

func (r *recorder) Dial(_ context.Context, network, addr string, _ time.Duration, errorType string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.dials = append(r.dials, dialed{network, addr, errorType})
}

// take returns what has been recorded, and forgets it.
func (r *recorder) take() (ops []seen, attempts []tried) {
	r.mu.Lock()
	defer r.mu.Unlock()
	ops, attempts = r.ended, r.attempts
	r.ended, r.attempts, r.begun = nil, nil, 0
	return ops, attempts
}

func (r *recorder) shook() []shook {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.handshakes)
}

func (r *recorder) dialed() []dialed {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.dials)
}

// one returns the only operation since the last call.
func (r *recorder) one(t *testing.T) seen {
	t.Helper()
	ops, _ := r.take()
	if len(ops) != 1 {
		t.Fatalf("%d operations %v, want one", len(ops), opNames(ops))
	}
	return ops[0]
}

func opNames(ops []seen) (names []string) {
	for _, op := range ops {
		names = append(names, op.Name)
	}
	return names
}

func namesOf(cmds []redis.Cmder) (names []string) {
	for _, cmd := range cmds {
		names = append(names, hooks.CommandOf(cmd).Name)
	}
	return names
}

func newHook(tb testing.TB, observers ...hooks.Observer) *hooks.Hook {
	tb.Helper()
	h, err := hooks.New(observers...)
	if err != nil {
		tb.Fatal(err)
	}
	return h
}

// attach makes a hook of the observers and attaches it.
func attach(tb testing.TB, c redis.UniversalClient, observers ...hooks.Observer) (detach func()) {
	tb.Helper()
	detach, err := newHook(tb, observers...).Attach(c)
	if err != nil {
		tb.Fatal(err)
	}
	return detach
}

// client makes a client that is closed when the test ends.
func client(tb testing.TB, o *redis.Options) *redis.Client {
	c := redis.NewClient(o)
	tb.Cleanup(func() { _ = c.Close() })
	return c
}

// answering is the process of a client that has no server: it answers everything
// with err.
func answering(err error) redis.ProcessHook {
	return func(_ context.Context, cmd redis.Cmder) error {
		cmd.SetErr(err)
		return err
	}
}

// answers is answering for batches: one error for each command, nil beyond.
func answers(errs ...error) redis.ProcessPipelineHook {
	return func(_ context.Context, cmds []redis.Cmder) (first error) {
		for i, cmd := range cmds {
			if i < len(errs) && errs[i] != nil {
				cmd.SetErr(errs[i])
				if first == nil {
					first = errs[i]
				}
			}
		}
		return first
	}
}

func cmd(args ...any) redis.Cmder { return redis.NewCmd(context.Background(), args...) }

func batch(names ...string) (cmds []redis.Cmder) {
	for _, n := range names {
		cmds = append(cmds, cmd(words(n)...))
	}
	return cmds
}
