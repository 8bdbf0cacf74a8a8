package hooks_test

import (
	"context"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/hooks"
)

// What may take as long as its arguments say is told apart: by the arguments where
// they decide, and never within a transaction.
func TestBlockingOperationsAreToldApart(t *testing.T) {
	var got bool
	h := newHook(t, hooks.Func{OnEnd: func(_ context.Context, op *hooks.Operation) {
		if got = op.Blocking(); got != op.Blocking() {
			t.Error("asked again the answer is another")
		}
	}})
	for _, c := range []struct {
		lines []string
		want  bool
	}{
		{[]string{"get k"}, false},
		{[]string{"blpop k 0"}, true},
		{[]string{"BLPop k 0"}, true},
		{[]string{"wait 1 100"}, true},
		{[]string{"lpop k"}, false},
		{[]string{"xread streams s 0"}, false},
		{[]string{"xread count 5 streams s 0"}, false},
		{[]string{"xread block 100 streams s $"}, true},
		{[]string{"xread count 5 BLOCK 100 streams s $"}, true},
		{[]string{"xreadgroup group g block streams s >"}, false}, // a consumer of that name
		{[]string{"xreadgroup group g c block 0 streams s >"}, true},
		{[]string{"nonsense 0"}, false},
		{[]string{"get a", "set b v"}, false},
		{[]string{"get a", "blpop k 0"}, true},
		{[]string{"blpop k 0", "blpop k 0"}, true},
		{[]string{"xread streams s 0", "xread streams s 0"}, false},
		{[]string{"xread streams s 0", "xread block 0 streams s 0"}, true},
		{[]string{"multi", "blpop k 0", "exec"}, false},
	} {
		cmds := batch(c.lines...)
		if len(cmds) == 1 {
			_ = h.ProcessHook(func(context.Context, redis.Cmder) error { return nil })(t.Context(), cmds[0])
			if got != c.want {
				t.Errorf("%q: blocking is %t", c.lines, got)
			}
		}
		_ = h.ProcessPipelineHook(func(context.Context, []redis.Cmder) error { return nil })(t.Context(), cmds)
		if got != c.want {
			t.Errorf("%q in a pipeline: blocking is %t", c.lines, got)
		}
	}
	// An argument as long as can be is no option, and isn't copied.
	long := redis.NewCmd(t.Context(), "xread", "streams", string(make([]byte, 1<<20)), "0")
	if hooks.CommandOf(long).Blocks(long) {
		t.Error("a long name blocks")
	}
}
