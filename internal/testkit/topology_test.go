package testkit_test

import (
	"fmt"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/internal/testkit"
)

// setAndGet sets keys in many slots and reads them again.
func setAndGet(t *testing.T, rdb redis.UniversalClient) error {
	t.Helper()
	for i := range 30 {
		key := fmt.Sprint("key", i)
		if err := rdb.Set(t.Context(), key, i, 0).Err(); err != nil {
			return err
		}
		if got, err := rdb.Get(t.Context(), key).Int(); got != i || err != nil {
			return fmt.Errorf("%s is %d, %w", key, got, err)
		}
	}
	return nil
}

// awaitService is for the time in which a client finds out what has become of
// a topology.
func awaitService(t *testing.T, rdb redis.UniversalClient) {
	t.Helper()
	var err error
	testkit.Await(t, "the client is served again", func() bool {
		err = setAndGet(t, rdb)
		return err == nil
	})
}
