package acceptance_test

import (
	"bufio"
	"errors"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/internal/resp"
	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/internal/testkit/drivertest"
	"github.com/everpool/everpool/pooler"
)

// tracked runs the test over TCP and over TLS, with a client and one that writes beside it.
func tracked(t *testing.T, change func(o *redis.Options), run func(t *testing.T, s *testkit.Server, rdb, beside *redis.Client)) {
	t.Helper()
	for name, opts := range map[string][]testkit.ServerOption{"TCP": nil, "TLS": {testkit.WithTLS()}} {
		t.Run(name, func(t *testing.T) {
			s := testkit.Start(t, testkit.Redis, opts...)
			options := func() *redis.Options {
				return &redis.Options{Addr: s.Addr, TLSConfig: s.TLSConfig(), Protocol: 3}
			}
			o := options()
			change(o)
			rdb := redis.NewClient(drivertest.New(t, driver.Config{}).Options(o))
			t.Cleanup(func() { _ = rdb.Close() })
			beside := redis.NewClient(options())
			t.Cleanup(func() { _ = beside.Close() })
			run(t, s, rdb, beside)
		})
	}
}

// go-redis looks at the sockets of a client with a cache every 5 ms. What it can't look at
// it tries to read every 100 ms, for as long as it takes to say so.
func TestInvalidationsAreSeenWhenTheyCome(t *testing.T) {
	caches := func(o *redis.Options) { o.ClientSideCacheConfig = &redis.ClientSideCacheConfig{} }
	tracked(t, caches, func(t *testing.T, _ *testkit.Server, rdb, beside *redis.Client) {
		o := rdb.Options()
		c, err := o.Dialer(t.Context(), o.Network, o.Addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		r := bufio.NewReader(c)
		for _, request := range []string{"HELLO 3", "CLIENT TRACKING ON", "GET k"} {
			if _, err = c.Write(resp.AppendCommand(nil, strings.Fields(request)...)); err != nil {
				t.Fatal(err)
			}
			for more := true; more; more = r.Buffered() > 0 {
				if _, err = r.ReadString('\n'); err != nil {
					t.Fatalf("%s: %v", request, err)
				}
			}
		}
		under, ok := c.(interface{ NetConn() net.Conn }).NetConn().(syscall.Conn)
		if !ok {
			t.Fatal("no socket is shown")
		}
		raw, err := under.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		seen, looks := make(chan error, 1), 0
		go func() {
			// It returns when something has come: until f is content it waits for that.
			seen <- raw.Read(func(uintptr) bool { looks++; return looks == 2 })
		}()
		if err = beside.Set(t.Context(), "k", 1, 0).Err(); err != nil {
			t.Fatal(err)
		}
		select {
		case err = <-seen:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(time.Minute):
			t.Error("the invalidation isn't seen")
		}
	})
}

// Over TLS it can't be seen what has come: with tracking it is an invalidation.
func TestAConnOutlivesInvalidations(t *testing.T) {
	tracked(t, func(*redis.Options) {}, func(t *testing.T, s *testkit.Server, rdb, beside *redis.Client) {
		c := rdb.Conn()
		defer c.Close()
		if err := c.Do(t.Context(), "CLIENT", "TRACKING", "ON").Err(); err != nil {
			t.Fatal(err)
		}
		get := func() {
			if err := c.Get(t.Context(), "k").Err(); err != nil && !errors.Is(err, redis.Nil) {
				t.Fatalf("GET: %v", err)
			}
		}
		for i := range 3 {
			get()
			if err := beside.Set(t.Context(), "k", i, 0).Err(); err != nil {
				t.Fatal(err)
			}
			time.Sleep(20 * time.Millisecond)
		}
		get()
		s.Do(t, "CLIENT", "KILL", "TYPE", "NORMAL", "SKIPME", "YES")
		time.Sleep(20 * time.Millisecond)
		if err := c.Incr(t.Context(), "n").Err(); err == nil || errors.Is(err, pooler.ErrUnknownOutcome) {
			t.Errorf("INCR after the end of the connection: %v", err)
		}
	})
}
