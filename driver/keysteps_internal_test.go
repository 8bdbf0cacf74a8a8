package driver

import (
	"context"
	"testing"

	"github.com/redis/go-redis/v9"
)

// tableOf is what go-redis does with a command: it notes the distance of its keys, if that
// hasn't been noted and it has the server's table. It counts its looks into the table.
type tableOf struct {
	steps map[string]int8 // nil: COMMAND fails
	looks int
}

func (s *tableOf) run(_ context.Context, cmd redis.Cmder) error {
	if stepCount(cmd) != 0 {
		return nil
	}
	s.looks++
	if n := s.steps[cmd.Name()]; n > 0 {
		cmd.SetStepCount(n)
	}
	return nil
}

func TestTheTableOfCommandsIsLookedIntoUntilItIsLoaded(t *testing.T) {
	ctx := context.Background()
	server := new(tableOf)
	h := new(keySteps)
	process := h.ProcessHook(server.run)
	ask := func(looks int, step int64, args ...any) {
		t.Helper()
		before := server.looks
		cmd := redis.NewCmd(ctx, args...)
		if err := process(ctx, cmd); err != nil {
			t.Error(err)
		}
		if got := server.looks - before; got != looks || stepCount(cmd) != step {
			t.Errorf("%v: %d looks, the step is %d; want %d and %d", args, got, stepCount(cmd), looks, step)
		}
	}
	for range 3 {
		ask(1, 0, "get", "k") // what else the table is for goes without it otherwise
	}
	again := redis.NewCmd(ctx, "get", "k")
	again.SetStepCount(1) // by another client, which tells nothing of this one's table
	if err := process(ctx, again); err != nil {
		t.Error(err)
	}
	ask(1, 0, "get", "k")
	server.steps = map[string]int8{"get": 1, "del": 1, "mset": 2, "ft.search": 1}
	ask(1, 2, "mset", "k", 1) // tells nothing: it is never spared
	ask(1, 1, "get", "k")
	for range 2 {
		ask(0, 1, "GET", "k")
		ask(0, 1, "del", "k", "l")
		ask(1, 2, "mset", "k", 1)
		ask(1, 1, "ft.search", "k", "l")
		ask(1, 0, "ping")
		ask(1, 0, "no.such")
	}
}

// A command of another kind than go-redis's own tells nothing of the table, nor does a
// go-redis that keeps its steps otherwise.
func TestAStepIsReadWhereThereIsOne(t *testing.T) {
	ctx := context.Background()
	with := redis.NewStringCmd(ctx, "get", "k")
	with.SetStepCount(1)
	for name, c := range map[string]struct {
		cmd  redis.Cmder
		want int64
	}{
		"go-redis's own":      {with, 1},
		"without":             {redis.NewStringCmd(ctx, "get", "k"), 0},
		"one that wraps":      {struct{ *redis.StringCmd }{with}, 1},
		"one that wraps none": {struct{ *redis.StringCmd }{}, 0},
		"by an interface":     {struct{ redis.Cmder }{with}, 0},
		"a pointer to that":   {&struct{ redis.Cmder }{with}, 0},
		"none":                {(*redis.StringCmd)(nil), 0},
		"an interface's none": {nil, 0},
	} {
		if got := stepCount(c.cmd); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}
