package driver_test

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/pooler"
)

// While a slot moves a node has some keys of a command, and not others. go-redis sends a
// pipeline again as a whole whose first command is told so: on the stock pool four times, with
// all that has run.
func TestAPipelineOfWhichTheFirstCommandIsToTryAgainRunsTheOthersOnce(t *testing.T) {
	for name, refusals := range map[string]int64{"soon": 2, "never": 1000} {
		t.Run(name, func(t *testing.T) {
			bothWays(t, func(t *testing.T, shared int) {
				inServers(t, 1, func(m *managed) {
					m.Cleanup(func() { time.Sleep(time.Minute) }) // go-redis rests from its reloads
					m.asCluster(0, 1)
					var asked, counted atomic.Int64
					m.server(1).Handle("MGET", func(*testkit.FakeConn, []string) []byte {
						if asked.Add(1) <= refusals {
							return []byte("-TRYAGAIN Multiple keys request during rehashing of slot\r\n")
						}
						return testkit.ReplyArray(testkit.ReplyBulk("a"), testkit.ReplyBulk("b"))
					})
					m.server(1).Handle("INCR", func(*testkit.FakeConn, []string) []byte {
						return testkit.ReplyInt(counted.Add(1))
					})
					d := newDriver(m.T, driver.Config{Dial: m.dial, Pool: pooler.Config{SharedConns: shared}})
					c := redis.NewClusterClient(d.ClusterOptions(&redis.ClusterOptions{Addrs: []string{"10.0.0.1:6379"}}))
					defer c.Close()
					p := c.Pipeline()
					got, n := p.MGet(m.Context(), "{k}1", "{k}2"), p.Incr(m.Context(), "{k}n")
					_, _ = p.Exec(m.Context())
					if err := got.Err(); (err == nil) != (name == "soon") || err != nil && !redis.IsTryAgainError(err) {
						m.Errorf("MGET: %v", err)
					}
					if n.Val() != 1 || n.Err() != nil || counted.Load() != 1 {
						m.Errorf("INCR: %d, %v; it has run %d times", n.Val(), n.Err(), counted.Load())
					}
				})
			})
		})
	}
}
