package hooks_test

import (
	"context"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/hooks"
)

func TestSafeAddrLeavesNoPasswordIn(t *testing.T) {
	for addr, want := range map[string]string{
		"":                                     "",
		"localhost:6379":                       "localhost:6379",
		"[::1]:6379":                           "[::1]:6379",
		"/var/run/redis.sock":                  "/var/run/redis.sock",
		"./redis.sock":                         "./redis.sock",
		"/tmp/a@b:c.sock":                      "/tmp/a@b:c.sock",
		"@abstract":                            "@abstract",
		"redis://:hunter2@127.0.0.1:1/0":       "127.0.0.1:1",
		"rediss://u:hunter2@h:1?x=hunter2":     "h:1",
		"unix://u:hunter2@/run/r.sock?db=1":    "",
		"u:hunter2@h:1":                        "h:1",
		"u:hunter2@x@h:1":                      "h:1",
		".hunter2@h:1":                         "h:1",
		"@hunter2@h:1":                         "h:1",
		"@hunter2:1":                           "hunter2:1", // no @ that could end a password
		"h:1?password=hunter2":                 "h:1",
		"h:1/hunter2":                          "h:1",
		"h\xff:1":                              "h\uFFFD:1",
		"redis://h:1#hunter2":                  "h:1",
		"redis://:hunter2@h:1,redis://:p@h2:1": "", // no address
		"redis://h:1/0?password=hunter2@x":     "h:1",
	} {
		if got := hooks.SafeAddr(addr); got != want {
			t.Errorf("SafeAddr(%q) = %q; want %q", addr, got, want)
		}
	}
}

// A URL in the place of an address can't be dialed; its password mustn't show.
func TestATargetShowsNoPasswordOfAURL(t *testing.T) {
	var seen []hooks.Target
	h, err := hooks.New(hooks.Func{OnEnd: func(_ context.Context, op *hooks.Operation) { seen = append(seen, *op.Target) }})
	if err != nil {
		t.Fatal(err)
	}
	c := redis.NewClient(&redis.Options{Addr: "redis://:hunter2@127.0.0.1:1/0", MaxRetries: -1, DialerRetries: 1})
	defer c.Close()
	if _, err := h.Attach(c); err != nil {
		t.Fatal(err)
	}
	c.Get(t.Context(), "key")
	if len(seen) != 1 || seen[0].Addr != "127.0.0.1:1" || seen[0].Host != "127.0.0.1" || strings.Contains(seen[0].Host, "hunter2") {
		t.Errorf("the targets of the operations are %+v", seen)
	}
}

func TestATargetOfAUnixSocketKeepsItsPath(t *testing.T) {
	for addr, want := range map[string]string{"run/redis.sock": "run/redis.sock", "unix://:hunter2@/run/r.sock": ""} {
		var seen string
		h, err := hooks.New(hooks.Func{OnEnd: func(_ context.Context, op *hooks.Operation) { seen = op.Target.Host }})
		if err != nil {
			t.Fatal(err)
		}
		c := redis.NewClient(&redis.Options{Network: "unix", Addr: addr, MaxRetries: -1, DialerRetries: 1})
		defer c.Close()
		if _, err := h.Attach(c); err != nil {
			t.Fatal(err)
		}
		c.Get(t.Context(), "key")
		if seen != want {
			t.Errorf("the host of %q is %q; want %q", addr, seen, want)
		}
	}
}
