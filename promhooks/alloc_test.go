package promhooks_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/hooks"
	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/promhooks"
)

// Once its series exist an operation costs no allocation, whatever its end: beyond
// that of the hook, which has to look into errors.
func TestOperationsDoNotAllocate(t *testing.T) {
	if testkit.Race {
		t.Skip("the race detector allocates")
	}
	replyError := fmt.Errorf("wrapped: %w", redis.Nil)
	for name, opts := range map[string][]promhooks.Setting{
		"default":   nil,
		"exemplars": {promhooks.WithExemplars(true)}, // of spans that aren't sampled
		"baseplate": {promhooks.WithBaseplateNames()},
	} {
		for ending, err := range map[string]error{"ok": nil, "miss": redis.Nil, "error": context.Canceled, "wrapped": replyError} {
			t.Run(name+"/"+ending, func(t *testing.T) {
				m := must(promhooks.NewMetrics("test", opts...))(t)
				process := hooked(t, m, func(context.Context, redis.Cmder) error { return err })
				ctx, cmd := t.Context(), redis.NewStringCmd(t.Context(), "get", "k")
				bare := must(hooks.New(hooks.Func{}))(t).ProcessHook(func(context.Context, redis.Cmder) error { return err })
				base := testing.AllocsPerRun(100, func() { _ = bare(ctx, cmd) })
				if n := testing.AllocsPerRun(100, func() { _ = process(ctx, cmd) }); n != base {
					t.Errorf("%v allocations, %v without metrics", n, base)
				}
				if err == nil && base != 0 {
					t.Errorf("the hook allocates %v times", base)
				}
			})
		}
		t.Run(name+"/pipeline", func(t *testing.T) {
			m := must(promhooks.NewMetrics("test", opts...))(t)
			process := must(hooks.New(m))(t).ProcessPipelineHook(func(context.Context, []redis.Cmder) error { return nil })
			ctx, cmds := t.Context(), []redis.Cmder{redis.NewStringCmd(t.Context(), "get", "k"), redis.NewStringCmd(t.Context(), "set", "k")}
			if n := testing.AllocsPerRun(100, func() { _ = process(ctx, cmds) }); n != 0 {
				t.Errorf("%v allocations", n)
			}
		})
	}
}
