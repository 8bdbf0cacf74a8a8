package driver_test

import (
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/internal/testkit"
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
