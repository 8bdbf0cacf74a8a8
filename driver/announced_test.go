package driver_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/pooler"
)

// A cluster that knows no address of a node announces one that can't be dialed. That is
// no mistake in the options, no node is made for it, and calls go on when it has another.
func TestAnAddressThatTheClusterAnnouncesIsNoMistake(t *testing.T) {
	inShard(t, []string{primary}, func(s *shard) {
		var moved int // so many times more
		s.nodes[primary].Handle("GET", func(*testkit.FakeConn, []string) []byte {
			if moved--; moved >= 0 {
				return testkit.ReplyError("MOVED 0 :0")
			}
			return testkit.ReplyBulk("x")
		})
		rdb := s.client(&redis.ClusterOptions{})
		moved = 1
		if err := rdb.Get(s.Context(), "a").Err(); err != nil {
			s.Errorf("announced once: %v", err)
		}
		moved = 1 << 30
		if err := rdb.Get(s.Context(), "a").Err(); err == nil || errors.Is(err, pooler.ErrConfig) {
			s.Errorf("announced again and again: %v", err)
		}
		_, err := rdb.Pipelined(s.Context(), func(p redis.Pipeliner) error { return p.Get(s.Context(), "a").Err() })
		if err == nil || errors.Is(err, pooler.ErrConfig) {
			s.Errorf("in a pipeline: %v", err)
		}
		synctest.Wait()
		for _, n := range s.d.Nodes() {
			if n.Addr != primary {
				s.Errorf("there is a node %q", n.Addr)
			}
		}
	})
}

// Of several seeds, and of several sentinels, those that can't be dialed are logged, and
// the others used. All of them, and a shard of a ring, are a mistake.
func TestABadAddressAmongOthersIsLogged(t *testing.T) {
	for what, c := range map[string]struct {
		refused bool
		call    func(d *driver.Driver) error
	}{
		"a seed": {false, func(d *driver.Driver) error {
			return pinged(redis.NewClusterClient(d.ClusterOptions(&redis.ClusterOptions{Addrs: []string{"nowhere", "127.0.0.1:1"}, MaxRedirects: -1})))
		}},
		"all seeds": {true, func(d *driver.Driver) error {
			return pinged(redis.NewClusterClient(d.ClusterOptions(&redis.ClusterOptions{Addrs: []string{"nowhere", "127.0.0.1:99999"}})))
		}},
		"a sentinel": {false, func(d *driver.Driver) error {
			return pinged(redis.NewFailoverClient(d.FailoverOptions(&redis.FailoverOptions{MasterName: "m", SentinelAddrs: []string{"nowhere", "127.0.0.1:1"}, MaxRetries: -1})))
		}},
		"all sentinels": {true, func(d *driver.Driver) error {
			return pinged(redis.NewFailoverClient(d.FailoverOptions(&redis.FailoverOptions{MasterName: "m", SentinelAddrs: []string{"nowhere"}})))
		}},
		"a shard": {true, func(d *driver.Driver) error {
			return pinged(redis.NewRing(d.RingOptions(&redis.RingOptions{Addrs: map[string]string{"a": "nowhere", "b": "127.0.0.1:1"}})))
		}},
		"the node": {true, func(d *driver.Driver) error {
			return pinged(redis.NewClient(d.Options(&redis.Options{Addr: "nowhere"})))
		}},
	} {
		t.Run(what, func(t *testing.T) {
			var log bytes.Buffer
			d := newDriver(t, driver.Config{
				Pool: pooler.Config{FailFastAfter: time.Millisecond}, Logger: slog.New(slog.NewTextHandler(&log, nil)),
			})
			err := c.call(d)
			if _ = d.Close(); err == nil || errors.Is(err, pooler.ErrConfig) != c.refused {
				t.Errorf("%v", err)
			}
			if named := strings.Contains(log.String(), "nowhere"); named == c.refused {
				t.Errorf("the log has %s", &log)
			}
		})
	}
}

// pinged returns what the client says to a PING.
func pinged(c redis.UniversalClient) error {
	return errors.Join(c.Ping(context.Background()).Err(), c.Close())
}
