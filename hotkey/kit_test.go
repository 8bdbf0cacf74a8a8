package hotkey_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/hooks"
	"github.com/everpool/everpool/hotkey"
)

// everything samples all and has no budget.
func everything() hotkey.Config {
	return hotkey.Config{ReadSampleRate: 1, WriteSampleRate: 1, MaxSamplesPerSecond: -1}
}

// newTracker makes a tracker that the test closes.
func newTracker(tb testing.TB, cfg hotkey.Config) *hotkey.Tracker {
	tb.Helper()
	tracker, err := hotkey.New(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = tracker.Close() })
	return tracker
}

// attach has a tracker watch a client.
func attach(tb testing.TB, tracker *hotkey.Tracker, client redis.UniversalClient) {
	tb.Helper()
	hook, err := hooks.New(tracker)
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := hook.Attach(client); err != nil {
		tb.Fatal(err)
	}
}

// feeder ends operations of one command, one after the other, as a hook does.
type feeder struct {
	tracker *hotkey.Tracker
	cmd     *redis.Cmd
	op      hooks.Operation
}

func feed(tracker *hotkey.Tracker, args ...any) *feeder {
	f := &feeder{tracker: tracker, cmd: redis.NewCmd(context.Background(), args...)}
	f.op.Cmds = []redis.Cmder{f.cmd}
	return f
}

// key ends n operations with this key.
func (f *feeder) key(key string, n int) {
	f.cmd.Args()[1] = key
	for range n {
		f.tracker.End(context.Background(), &f.op)
	}
}

// read counts n reads of a key.
func read(tracker *hotkey.Tracker, key string, n int) { feed(tracker, "get", key).key(key, n) }

// write counts n writes of a key.
func write(tracker *hotkey.Tracker, key string, n int) { feed(tracker, "set", key, "v").key(key, n) }

// countOf is what a tracker has of a key.
func countOf(tracker *hotkey.Tracker, class hotkey.Class, key string) (c hotkey.Count, ok bool) {
	for _, c := range tracker.Top(class, 1000) {
		if c.Key == key {
			return c, true
		}
	}
	return c, false
}

// counts is a tracker's top as text: "a=2 b=1".
func counts(top []hotkey.Count) (s string) {
	for i, c := range top {
		if i > 0 {
			s += " "
		}
		s += fmt.Sprintf("%s=%d", c.Key, c.Count)
	}
	return s
}

// script is a client without a server: what its pipelines come to is what answer
// says. It never dials.
type script struct {
	*redis.Client

	mu     sync.Mutex
	answer answer
	at     []time.Time
	lines  []string // the increments
}

type answer = func(ctx context.Context, cmds []redis.Cmder) error

// answers sets what pipelines come to from here on, nil: success, and forgets
// those that were before.
func (s *script) answers(a answer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer, s.at, s.lines = a, nil, nil
}

var errDialed = errors.New("the script has no server")

func newScript(tb testing.TB) *script {
	s := &script{Client: redis.NewClient(&redis.Options{Addr: "192.0.2.1:6379"})}
	tb.Cleanup(func() { _ = s.Close() })
	s.AddHook(hooks.Adapter{
		Process: func(redis.ProcessHook) redis.ProcessHook {
			return func(_ context.Context, cmd redis.Cmder) error { cmd.SetErr(errDialed); return errDialed }
		},
		Pipeline: func(redis.ProcessPipelineHook) redis.ProcessPipelineHook { return s.pipeline },
	})
	return s
}

func (s *script) pipeline(ctx context.Context, cmds []redis.Cmder) error {
	s.mu.Lock()
	s.at = append(s.at, time.Now())
	for _, cmd := range cmds {
		s.lines = append(s.lines, increments(cmd)...)
		if reply, ok := cmd.(interface{ SetVal(any) }); ok {
			reply.SetVal([]any{})
		}
	}
	answer := s.answer
	s.mu.Unlock()
	if answer == nil {
		return nil
	}
	return answer(ctx, cmds)
}

// pipelines returns when there were pipelines, and the increments in them.
func (s *script) pipelines() ([]time.Time, []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.at, s.lines
}

// failWith has all commands of a pipeline fail.
func failWith(err error) answer {
	return func(_ context.Context, cmds []redis.Cmder) error {
		for _, cmd := range cmds {
			cmd.SetErr(err)
		}
		return err
	}
}

// muteLog keeps a panic that a test wants out of its output.
func muteLog(tb testing.TB) {
	before := slog.Default()
	slog.SetDefault(slog.New(slog.DiscardHandler))
	tb.Cleanup(func() { slog.SetDefault(before) })
}

// increments are what a flush's command adds: "set count key".
func increments(cmd redis.Cmder) (lines []string) {
	args := cmd.Args()
	for i := 9; i < len(args); i += 2 {
		lines = append(lines, fmt.Sprintf("%v %v %v", args[3], args[i+1], args[i]))
	}
	return lines
}
