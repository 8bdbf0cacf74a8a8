package acceptance_test

import (
	"context"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/internal/testkit/drivertest"
	"github.com/everpool/everpool/pooler"
)

// The connection would be inside MULTI for ever, and its next user with it.
func TestAnEXECThatIsNoCommandThereEndsItsConnection(t *testing.T) {
	server := testkit.Start(t, testkit.Redis, testkit.WithArgs("--rename-command", "EXEC", "ELSEWHERE"))
	ctx := context.Background()
	drivertest.BothWays(t, func(t *testing.T, shared int) {
		s := ourSide(t, driver.Config{Pool: pooler.Config{MaxOpenConns: 1, SharedConns: shared}}, redis.Options{Addr: server.Addr, MaxRetries: -1})
		for _, size := range []int{1, 70 << 10} {
			_, err := s.rdb.TxPipelined(ctx, func(p redis.Pipeliner) error {
				return p.Set(ctx, "a", strings.Repeat("x", size), 0).Err()
			})
			if err == nil {
				t.Error("a transaction without EXEC has worked")
			}
			if got, err := s.rdb.Echo(ctx, "hello").Result(); got != "hello" || err != nil {
				t.Errorf("the next caller: %q, %v", got, err)
			}
		}
	})
}
