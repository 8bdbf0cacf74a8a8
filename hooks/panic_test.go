package hooks_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/hooks"
)

// logged has what is logged in the meantime.
func logged(t *testing.T) *bytes.Buffer {
	var b bytes.Buffer
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(&b, nil)))
	t.Cleanup(func() { slog.SetDefault(before) })
	return &b
}

// faulty panics where it is told to.
type faulty struct {
	recorder
	in   string
	with any
}

func (f *faulty) maybe(where string) {
	if where == f.in {
		panic(f.with)
	}
}

func (f *faulty) Begin(ctx context.Context, op *hooks.Operation) context.Context {
	f.maybe("Begin")
	return f.recorder.Begin(ctx, op)
}

func (f *faulty) End(ctx context.Context, op *hooks.Operation) {
	f.maybe("End")
	f.recorder.End(ctx, op)
}

func (f *faulty) Handshake(ctx context.Context, c *hooks.Command, errorType string) {
	f.maybe("Handshake")
	f.recorder.Handshake(ctx, c, errorType)
}

func (f *faulty) Attempt(ctx context.Context, a *hooks.Attempt) {
	f.maybe("Attempt")
	f.recorder.Attempt(ctx, a)
}

func (f *faulty) Dial(ctx context.Context, network, addr string, d time.Duration, errorType string) {
	f.maybe("Dial")
	f.recorder.Dial(ctx, network, addr, d, errorType)
}

func TestAPanicOfAnObserverHurtsNobody(t *testing.T) {
	for _, in := range []string{"Begin", "End", "keep", "Handshake", "Attempt", "Dial"} {
		t.Run(in, func(t *testing.T) {
			log := logged(t)
			bad, first, last := &faulty{in: in, with: "SECRET"}, new(recorder), new(recorder)
			rdb, keys := ring(t, &redis.RingOptions{})
			attach(t, rdb, first, hooks.Filter(bad, func(*hooks.Operation) bool { bad.maybe("keep"); return true }), last)
			n := 0
			for _, key := range keys {
				for range 3 {
					if err := rdb.Set(t.Context(), key, "v", 0).Err(); err != nil {
						t.Error(err)
					}
					n++
				}
			}
			for _, r := range []*recorder{first, last} {
				dials, shakes := len(r.dialed()), len(r.shook())
				if ops, attempts := r.take(); len(ops) != n || len(attempts) != n || dials != 2 || shakes < 2 {
					t.Errorf("told of %d operations, %d attempts, %d dials, %d commands of handshakes", len(ops), len(attempts), dials, shakes)
				}
			}
			if ops, _ := bad.take(); (in == "Begin" || in == "keep" || in == "End") != (len(ops) == 0) {
				t.Errorf("the one that panics ended %d operations", len(ops))
			}
			text := log.String()
			if strings.Count(text, "observer has panicked") != 1 || strings.Contains(text, "SECRET") || !strings.Contains(text, "*hooks_test.faulty") || !strings.Contains(text, "panic=string") {
				t.Errorf("logged: %s", text)
			}
		})
	}
}

func TestTheLogOfAPanicTellsItsKindButNoValueThatMayBeSecret(t *testing.T) {
	var nobody map[string]int
	for name, c := range map[string]struct {
		with any
		want string
	}{
		"an error":      {errors.New("SECRET"), "panic=*errors.errorString"},
		"a wrapped one": {fmt.Errorf("SECRET: %w", errors.New("SECRET")), "panic=*fmt.wrapError"},
		"nil":           {nil, "panic called with nil"},
		"the runtime's": {func() (v any) {
			defer func() { v = recover() }()
			nobody["SECRET"]++
			return nil
		}(), "assignment to entry in nil map"},
	} {
		log := logged(t)
		h := newHook(t, &faulty{in: "End", with: c.with})
		_ = h.ProcessHook(answering(nil))(t.Context(), cmd("get", "SECRET"))
		if text := log.String(); !strings.Contains(text, c.want) || strings.Contains(text, "SECRET") {
			t.Errorf("%s: %s", name, text)
		}
	}
}

// ends runs f on a goroutine of its own, and returns the panic that ended it.
func ends(f func()) (v any, returned bool) {
	var wg sync.WaitGroup
	wg.Go(func() {
		defer func() { v = recover() }()
		f()
		returned = true
	})
	wg.Wait()
	return v, returned
}

func TestAPanicOfTheClientPropagatesAndTheOperationHasFailed(t *testing.T) {
	for name, c := range map[string]struct {
		do   func()
		want any
	}{
		"panic":  {func() { panic("inner") }, "inner"},
		"Goexit": {runtime.Goexit, nil},
	} {
		r, s := new(recorder), new(recorder)
		h := newHook(t, r, s)
		for what, run := range map[string]func(){
			"command": func() {
				_ = h.ProcessHook(func(context.Context, redis.Cmder) error { c.do(); return nil })(t.Context(), cmd("get", "k"))
			},
			"batch": func() {
				_ = h.ProcessPipelineHook(func(context.Context, []redis.Cmder) error { c.do(); return nil })(t.Context(), batch("get a", "get b"))
			},
		} {
			if v, returned := ends(run); v != c.want || returned {
				t.Errorf("%s in a %s: ended with %v, returned %v", name, what, v, returned)
			}
			for _, r := range []*recorder{r, s} {
				if op := r.one(t); op.Outcome != hooks.Error || op.Err == nil || op.ErrorType != hooks.ErrorOther || len(op.Cmds) == 0 {
					t.Errorf("%s in a %s: %+v", name, what, op)
				}
			}
		}
		// Frames are in order.
		_ = h.ProcessHook(answering(nil))(t.Context(), cmd("set", "k"))
		if op := r.one(t); op.Name != "SET" || op.Outcome != hooks.OK || op.Err != nil {
			t.Errorf("afterwards: %+v", op)
		}
	}
}

func TestAnObserverThatEndsTheGoroutineLeavesNoOperationOpen(t *testing.T) {
	r := new(recorder)
	h := newHook(t, r, hooks.Func{OnBegin: func(context.Context, *hooks.Operation) context.Context { runtime.Goexit(); return nil }})
	_, returned := ends(func() { _ = h.ProcessHook(answering(nil))(t.Context(), cmd("get", "k")) })
	if op := r.one(t); returned || op.Outcome != hooks.Error {
		t.Errorf("%v %+v", returned, op)
	}
}

func TestDialsAreToldOfButHandlesAreNot(t *testing.T) {
	r := new(recorder)
	h := newHook(t, r, hooks.Func{})
	client, server := net.Pipe()
	defer server.Close()
	defer client.Close()
	for _, c := range []struct {
		conn net.Conn
		err  error
	}{{client, nil}, {virtual{client}, nil}, {nil, context.DeadlineExceeded}} {
		conn, err := h.DialHook(func(context.Context, string, string) (net.Conn, error) { return c.conn, c.err })(t.Context(), "tcp", "h:1")
		if conn != c.conn || !errors.Is(err, c.err) {
			t.Errorf("%v %v", conn, err)
		}
	}
	if got := r.dialed(); !slices.Equal(got, []dialed{{"tcp", "h:1", ""}, {"tcp", "h:1", "timeout"}}) {
		t.Errorf("told of %v", got)
	}
}

type virtual struct{ net.Conn }

func (virtual) IsVirtual() {}
