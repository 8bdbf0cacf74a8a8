package driver_test

import (
	"context"
	"errors"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/hooks"
	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/pooler"
)

func TestOpenAddsHooksInOrder(t *testing.T) {
	server := testkit.NewFake()
	defer server.Close()
	var seen []string
	watch, err := hooks.New(hooks.Func{OnEnd: func(_ context.Context, op *hooks.Operation) {
		seen = append(seen, op.Name+" at "+op.Target.Addr)
	}})
	if err != nil {
		t.Fatal(err)
	}
	inner := hooks.Adapter{Process: func(next redis.ProcessHook) redis.ProcessHook {
		return func(ctx context.Context, cmd redis.Cmder) error {
			if cmd.Name() == "ping" {
				seen = append(seen, "inner")
			}
			return next(ctx, cmd)
		}
	}}
	db, err := driver.Open("redis://"+labAddr, driver.WithConfig(driver.Config{Dial: server.Dial}), driver.WithHooks(watch, inner))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.Ping(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	want := []string{"inner", "PING at " + labAddr}
	if len(seen) != 2 || seen[0] != want[0] || seen[1] != want[1] {
		t.Errorf("told %q; want %q", seen, want)
	}
	if _, err := watch.Attach(db); err == nil {
		t.Error("attached to the same client again, through the DB")
	}
}

func TestOpenRefusesAHookThatIsNil(t *testing.T) {
	if _, err := driver.Open("redis://127.0.0.1:1", driver.WithHooks(nil)); !errors.Is(err, pooler.ErrConfig) {
		t.Errorf("got %v; want ErrConfig", err)
	}
}
