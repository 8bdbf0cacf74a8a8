package driver_test

import (
	"errors"
	"sync/atomic"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/pooler"
)

// A cluster's client tries a command again that ends with io.EOF, by which go-redis knows that
// a SHUTDOWN has succeeded: at the same node, and at others.
func TestAClustersClientSendsSHUTDOWNOnce(t *testing.T) {
	inShard(t, []string{primary}, func(s *shard) {
		var ran atomic.Int64
		s.nodes[primary].Handle("SHUTDOWN", func(c *testkit.FakeConn, _ []string) []byte {
			ran.Add(1)
			c.CloseAfterReplies()
			return nil
		})
		err := s.client(&redis.ClusterOptions{}).ShutdownNoSave(s.Context()).Err()
		if n := ran.Load(); n != 1 || !errors.Is(err, pooler.ErrUnknownOutcome) {
			s.Errorf("it ran %d times: %v", n, err)
		}
	})
}
