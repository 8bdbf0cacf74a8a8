package hooks_test

import (
	"context"
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/hooks"
)

// What is kept is the client's and the owner's, whoever asks for it first.
func TestWhatIsKeptIsTheClients(t *testing.T) {
	type owner struct{ _ int }
	one, two := new(owner), new(owner)
	seen := make(map[any]int)
	h := newHook(t, hooks.Func{OnEnd: func(_ context.Context, op *hooks.Operation) {
		if op.Kept(one) == nil {
			if got := op.Keep(one, func() any { return op.Target.Addr }); got != op.Target.Addr {
				t.Errorf("kept %v", got)
			}
		}
		if op.Kept(two) != nil {
			t.Errorf("another's is found: %v", op.Kept(two))
		}
		if got := op.Keep(one, func() any { return "late" }); got != op.Kept(one) {
			t.Errorf("a second value takes the place of the first: %v", got)
		}
		seen[op.Kept(one)]++
	}})
	for _, addr := range []string{"a:1", "b:1"} {
		c := client(t, &redis.Options{Addr: addr})
		if _, err := h.Attach(c); err != nil {
			t.Fatal(err)
		}
		c.AddHook(answered)
		c.Get(t.Context(), "k")
		c.Get(t.Context(), "k")
	}
	if len(seen) != 2 || seen["a:1"] != 2 || seen["b:1"] != 2 {
		t.Errorf("kept: %v", seen)
	}
	by := new(hooks.Operation) // made by hand: nothing is kept, and nothing breaks
	if by.Keep(one, func() any { return 1 }) != nil || by.Kept(one) != nil {
		t.Error("an operation made by hand keeps something")
	}
}

// Of values that are kept at the same time all see one.
func TestOneValueIsKeptOfMany(t *testing.T) {
	owner := new(int)
	var mu sync.Mutex
	values := make(map[any]bool)
	h := newHook(t, hooks.Func{OnEnd: func(_ context.Context, op *hooks.Operation) {
		v := op.Keep(owner, func() any { return new(int) })
		mu.Lock()
		defer mu.Unlock()
		values[v] = true
	}})
	process := h.ProcessHook(func(context.Context, redis.Cmder) error { return nil })
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() { _ = process(t.Context(), redis.NewCmd(t.Context(), "get", "k")) })
	}
	wg.Wait()
	if len(values) != 1 {
		t.Errorf("%d values", len(values))
	}
}

var answered = hooks.Adapter{Process: func(redis.ProcessHook) redis.ProcessHook {
	return func(context.Context, redis.Cmder) error { return nil }
}}

// A server is known to have been reached if it has answered, or may have run what was
// sent.
func TestReached(t *testing.T) {
	for errorType, want := range map[string]bool{
		"": true, "WRONGTYPE": true, "tx_failed": true, "unknown_outcome": true,
		"node_down": false, "wait_timeout": false, "connection": false, "timeout": false, "canceled": false, "_OTHER": false,
	} {
		op := hooks.Operation{ErrorType: errorType}
		if errorType != "" {
			op.Outcome = hooks.Error
		}
		if op.Reached() != want {
			t.Errorf("%q: reached is %t", errorType, op.Reached())
		}
	}
}

func TestAnAddressIsNoName(t *testing.T) {
	for target, want := range map[hooks.Target]bool{
		{Network: "tcp", Host: "127.0.0.1"}: true, {Network: "tcp", Host: "::1"}: true, {Network: "tcp", Host: "fe80::1%eth0"}: true,
		{Network: "tcp", Host: "localhost"}: false, {Network: "tcp", Host: "redis-0.redis"}: false, {Network: "tcp"}: false, {}: false,
		{Network: "unix", Host: "/run/redis.sock"}: true, {Network: "unix"}: false,
	} {
		if target.IsAddress() != want {
			t.Errorf("%+v: %t", target, !want)
		}
	}
}
