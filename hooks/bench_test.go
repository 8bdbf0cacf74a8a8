package hooks_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/hooks"
)

// BenchmarkHook is what the hook itself costs a command, with so many observers
// that do nothing.
func BenchmarkHook(b *testing.B) {
	for _, observers := range []int{0, 1, 4} {
		all := make([]hooks.Observer, observers)
		for i := range all {
			all[i] = hooks.Func{}
		}
		h, err := hooks.New(all...)
		if err != nil {
			b.Fatal(err)
		}
		ctx := context.Background()
		b.Run(fmt.Sprintf("observers=%d/command", observers), func(b *testing.B) {
			process := h.ProcessHook(func(context.Context, redis.Cmder) error { return nil })
			cmd := redis.NewStringCmd(ctx, "get", "key")
			b.ReportAllocs()
			for b.Loop() {
				_ = process(ctx, cmd)
			}
		})
		b.Run(fmt.Sprintf("observers=%d/pipeline=100", observers), func(b *testing.B) {
			process := h.ProcessPipelineHook(func(context.Context, []redis.Cmder) error { return nil })
			cmds := make([]redis.Cmder, 100)
			for i := range cmds {
				cmds[i] = redis.NewStringCmd(ctx, "get", "key")
			}
			b.ReportAllocs()
			for b.Loop() {
				_ = process(ctx, cmds)
			}
		})
	}
}
