package hooks_test

import (
	"context"
	"net"
	"slices"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/hooks"
)

// logs is a hook that writes down when it is passed.
func logs(name string, log *[]string) hooks.Adapter {
	return hooks.Adapter{
		Dial: func(next redis.DialHook) redis.DialHook {
			return func(ctx context.Context, network, addr string) (net.Conn, error) {
				*log = append(*log, name+" dial")
				return next(ctx, network, addr)
			}
		},
		Process: func(next redis.ProcessHook) redis.ProcessHook {
			return func(ctx context.Context, c redis.Cmder) error {
				*log = append(*log, name+" in")
				defer func() { *log = append(*log, name+" out") }()
				return next(ctx, c)
			}
		},
		Pipeline: func(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
			return func(ctx context.Context, cmds []redis.Cmder) error {
				*log = append(*log, name+" batch")
				return next(ctx, cmds)
			}
		},
	}
}

func TestAChainsFirstHookIsTheOutermost(t *testing.T) {
	var log []string
	want := func(what string, want ...string) {
		t.Helper()
		if !slices.Equal(log, want) {
			t.Errorf("%s: %v, want %v", what, log, want)
		}
		log = nil
	}
	passing := hooks.Adapter{ // as go-redis allows it
		Dial:     func(redis.DialHook) redis.DialHook { return nil },
		Process:  func(redis.ProcessHook) redis.ProcessHook { return nil },
		Pipeline: func(redis.ProcessPipelineHook) redis.ProcessPipelineHook { return nil },
	}
	c := hooks.Chain(logs("a", &log), nil, passing, hooks.Adapter{}, logs("b", &log), hooks.Chain())
	ctx := t.Context()
	if err := c.ProcessHook(answering(redis.Nil))(ctx, cmd("get", "k")); err != redis.Nil { //nolint:errorlint // it must come back as it was
		t.Error(err)
	}
	want("command", "a in", "b in", "b out", "a out")
	if err := c.ProcessPipelineHook(answers(redis.Nil))(ctx, batch("get k")); err != redis.Nil { //nolint:errorlint // it must come back as it was
		t.Error(err)
	}
	want("batch", "a batch", "b batch")
	if _, err := c.DialHook(func(context.Context, string, string) (net.Conn, error) { return nil, net.ErrClosed })(ctx, "tcp", "h:1"); err != net.ErrClosed { //nolint:errorlint // it must come back as it was
		t.Error(err)
	}
	want("dial", "a dial", "b dial")
	rdb := client(t, &redis.Options{})
	rdb.AddHook(c)
	rdb.AddHook(hooks.Adapter{Process: func(redis.ProcessHook) redis.ProcessHook { return answering(nil) }})
	rdb.Get(ctx, "k")
	want("client", "a in", "b in", "b out", "a out")
}
