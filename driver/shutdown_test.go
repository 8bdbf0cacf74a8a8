package driver_test

import (
	"errors"
	"sync/atomic"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/pooler"
)

// The end of the connection is a server's answer to SHUTDOWN: go-redis takes a bare io.EOF
// for success. With retries it would send it again, and with the stock pool its callers are
// told the error of the dials that follow.
func TestTheEndOfTheConnectionIsTheAnswerToSHUTDOWN(t *testing.T) {
	inBothLabs(t, driver.Config{}, func(t *lab) {
		t.f.Handle("SHUTDOWN", func(c *testkit.FakeConn, _ []string) []byte {
			c.CloseAfterReplies()
			return nil
		})
		for name, rdb := range map[string]*redis.Client{"stock": t.stock(), "everpool": t.client()} {
			if err := rdb.ShutdownNoSave(t.Context()).Err(); err != nil {
				t.Errorf("%s, without retries: %v", name, err)
			}
		}
	})
}

// A cluster's client tries a command again that ends with io.EOF, at the same node and at
// others, although its nodes' clients have no retries.
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

// What is in a pipeline with a SHUTDOWN has an outcome of its own, which isn't known.
func TestWhatIsLostBesideSHUTDOWNIsUnknown(t *testing.T) {
	inBothLabs(t, driver.Config{}, func(t *lab) {
		t.f.Handle("SHUTDOWN", func(*testkit.FakeConn, []string) []byte {
			return testkit.ReplyError("ERR Errors trying to SHUTDOWN. Check logs.")
		})
		t.f.Handle("INCR", func(c *testkit.FakeConn, _ []string) []byte {
			c.CloseAfterReplies()
			return nil
		})
		p := t.client().Pipeline()
		p.Do(t.Context(), "SHUTDOWN")
		incr := p.Incr(t.Context(), "k")
		_, _ = p.Exec(t.Context())
		t.wantErr(incr.Err(), pooler.ErrUnknownOutcome)
	})
}
