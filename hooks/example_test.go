package hooks_test

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/hooks"
)

// misses is an observer that counts what wasn't there.
type misses struct{ n atomic.Int64 }

func (m *misses) Begin(ctx context.Context, _ *hooks.Operation) context.Context { return ctx }

func (m *misses) End(_ context.Context, op *hooks.Operation) {
	if op.Outcome == hooks.Miss {
		m.n.Add(1)
	}
}

// An observer of one's own: a type with two methods, or two functions.
func ExampleNew() {
	server, err := miniredis.Run()
	if err != nil {
		panic(err)
	}
	defer server.Close()
	client := redis.NewClient(&redis.Options{Addr: server.Addr()})
	defer client.Close()

	missed := new(misses)
	h, err := hooks.New(missed, hooks.Func{OnEnd: func(_ context.Context, op *hooks.Operation) {
		fmt.Printf("%s: %s %q\n", op.Name, op.Outcome, op.ErrorType)
	}})
	if err != nil {
		panic(err)
	}
	detach, err := h.Attach(client)
	if err != nil {
		panic(err)
	}
	defer detach()

	ctx := context.Background()
	client.Get(ctx, "key")
	client.Set(ctx, "key", "value", 0)
	client.LPush(ctx, "key", "element")
	fmt.Println(missed.n.Load(), "missed")
	// Output:
	// GET: miss ""
	// SET: ok ""
	// LPUSH: error "WRONGTYPE"
	// 1 missed
}

// Hooks of any make, in an order that can be read.
func ExampleChain() {
	named := func(name string) redis.Hook {
		return hooks.Adapter{Process: func(next redis.ProcessHook) redis.ProcessHook {
			return func(ctx context.Context, cmd redis.Cmder) error {
				fmt.Println(name, "before", cmd.Name())
				return next(ctx, cmd)
			}
		}}
	}
	client := redis.NewClient(&redis.Options{Addr: "localhost:6379"})
	defer client.Close()
	answer := hooks.Adapter{Process: func(redis.ProcessHook) redis.ProcessHook {
		return func(context.Context, redis.Cmder) error { return nil } // no server in this example
	}}

	client.AddHook(hooks.Chain(named("outer"), named("inner"), answer))
	client.Get(context.Background(), "key")
	// Output:
	// outer before get
	// inner before get
}
