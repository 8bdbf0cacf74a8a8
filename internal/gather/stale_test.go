package gather

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"testing/synctest"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/internal/testkit"
)

// A command that is processed again isn't told the error that it had before.
func TestAnOldErrorIsForgotten(t *testing.T) {
	for _, leaves := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			ctx := background
			if leaves {
				ctx = t.Context()
			}
			var s server
			_, c := newTestChain(&s)
			c.retries.most = 0
			s.hold()
			c.pipeline = func(_ context.Context, cmds []redis.Cmder) error { // as go-redis does
				for _, cmd := range cmds {
					if cmd.Err() == nil {
						cmd.SetErr(io.EOF)
					}
				}
				return io.EOF
			}
			go func() { _ = c.do(background, newCmd(background, "get", "a")) }()
			synctest.Wait()
			go func() { _ = c.do(background, newCmd(background, "get", "before")) }()
			synctest.Wait()
			cmd := newCmd(background, "get", "b")
			cmd.SetErr(redis.Nil)
			done := make(chan error, 1)
			go func() { done <- c.do(ctx, cmd) }()
			synctest.Wait()
			s.release()
			if err := <-done; !errors.Is(err, io.EOF) {
				t.Errorf("told %v", err)
			}
		})
	}
}

// A command of an AutoPipeline whose result is still to come doesn't hold a batch up.
func TestACommandOfAnAutoPipeline(t *testing.T) {
	var s server
	_, c := newTestChain(&s)
	c.retries.most = 0
	s.answer = func(cmd redis.Cmder) error { return unless(line1(cmd) != "get c", redis.Nil) }
	rdb := redis.NewClient(&redis.Options{Addr: "127.0.0.1:0"})
	defer func() { _ = rdb.Close() }()
	rdb.AddHook(into{c: c})
	ap, err := rdb.AsyncAutoPipeline()
	if err != nil {
		t.Fatal(err)
	}
	c.lines[0].armed = true // no flight for having waited long
	s.hold()
	first := make(chan error, 1)
	go func() { first <- c.do(background, newCmd(background, "get", "a")) }()
	awaitWaiting(t, &c.lines[0], 0)
	second := make(chan error, 1)
	go func() { second <- c.do(background, newCmd(background, "get", "b")) }() // it leads
	awaitWaiting(t, &c.lines[0], 1)
	cmd := ap.Get(background, "c")
	awaitWaiting(t, &c.lines[0], 2)
	s.release()
	if err := errors.Join(<-first, <-second); err != nil {
		t.Errorf("the others were told %v", err)
	}
	if err := cmd.Err(); !errors.Is(err, redis.Nil) {
		t.Errorf("told %v", err)
	}
}

// awaitWaiting waits until a flight is under way and so many wait for the next one.
func awaitWaiting(t *testing.T, l *line, n int) {
	t.Helper()
	testkit.Await(t, fmt.Sprintf("%d that wait", n), func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.flying == 1 && (n == 0 || l.open != nil && len(l.open.cmds) == n)
	})
}

// into has all commands of a client run by another chain.
type into struct {
	redis.Hook
	c *chain
}

func (h into) DialHook(next redis.DialHook) redis.DialHook     { return next }
func (h into) ProcessHook(redis.ProcessHook) redis.ProcessHook { return h.c.do }
func (h into) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}
