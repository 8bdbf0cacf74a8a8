package command_test

import (
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/internal/testkit"
)

func server(t *testing.T, kind testkit.Kind) *redis.Client {
	t.Helper()
	rdb := redis.NewClient(&redis.Options{Addr: testkit.Start(t, kind).Addr, Protocol: 2, DisableIdentity: true})
	t.Cleanup(func() { _ = rdb.Close() })
	return rdb
}
