package acceptance_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
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
func TestInvalidationsComeAsSoonAsOnTheStockPool(t *testing.T) {
	caches := func(o *redis.Options) { o.ClientSideCacheConfig = &redis.ClientSideCacheConfig{} }
	tracked(t, caches, func(t *testing.T, _ *testkit.Server, rdb, beside *redis.Client) {
		var took []time.Duration
		for i := range 21 {
			if err := beside.Set(t.Context(), "k", i, 0).Err(); err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			for v := -1; v != i; time.Sleep(time.Millisecond) {
				var err error
				if v, err = rdb.Get(t.Context(), "k").Int(); err != nil || time.Since(began) > 5*time.Second {
					t.Fatalf("%d, %v; want %d", v, err, i)
				}
			}
			took = append(took, time.Since(began))
			time.Sleep(20 * time.Millisecond) // what go-redis reads at once after a command is over
		}
		if slices.Sort(took); took[10] > 40*time.Millisecond {
			t.Errorf("the median invalidation took %s", took[10])
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
