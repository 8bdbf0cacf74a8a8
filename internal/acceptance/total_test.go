package acceptance_test

import (
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/internal/testkit/drivertest"
	"github.com/everpool/everpool/pooler"
)

// 48 callers of a cluster share five sockets for its three masters, whatever they do
// there: commands, pipelines over all nodes, transactions, commands that block. Each of
// these nodes needs more than one at times, and none waits for another for ever.
func TestOneBoundForAllNodesServesEverybody(t *testing.T) {
	drivertest.BothWays(t, func(t *testing.T, shared int) {
		const total = 5
		c := testkit.StartCluster(t, testkit.Redis, testkit.ClusterConfig{Replicas: -1})
		var sockets census
		d, err := driver.New(driver.Config{MaxOpenConnsTotal: total, Dial: sockets.dial, Pool: pooler.Config{SharedConns: min(shared, 2), WaitTimeout: time.Minute}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = d.Close() })
		rdb := redis.NewClusterClient(d.ClusterOptions(&redis.ClusterOptions{Addrs: c.Addrs()}))
		t.Cleanup(func() { _ = rdb.Close() })
		for i := range 30 { // each node has its first connection
			if err := rdb.Set(t.Context(), fmt.Sprint("warm", i), 1, 0).Err(); err != nil {
				t.Fatal(err)
			}
		}
		sockets.peak.Store(0)
		var work sync.WaitGroup
		for i := range 48 {
			work.Go(func() {
				key := fmt.Sprintf("{%d}", i)
				for n := range 10 {
					if err := useInEveryWay(t, rdb, key, i%8 == 0 && n == i/8); err != nil {
						t.Errorf("caller %d: %v", i, err)
						return
					}
				}
			})
		}
		work.Wait()
		if n := sockets.peak.Load(); n > total {
			t.Errorf("%d sockets, want at most %d", n, total)
		}
		t.Logf("%d sockets at most, %d dials", sockets.peak.Load(), sockets.dials.Load())
	})
}

// census counts sockets.
type census struct{ open, peak, dials atomic.Int64 }

func (c *census) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	c.dials.Add(1)
	n := c.open.Add(1)
	for old := c.peak.Load(); n > old && !c.peak.CompareAndSwap(old, n); old = c.peak.Load() {
		continue
	}
	conn, err := new(net.Dialer).DialContext(ctx, network, addr)
	if err != nil {
		c.open.Add(-1)
		return nil, err
	}
	return &counted{conn, sync.OnceFunc(func() { c.open.Add(-1) })}, nil
}

// counted is a socket until it is closed.
type counted struct {
	net.Conn
	gone func()
}

func (c *counted) Close() error {
	defer c.gone()
	return c.Conn.Close()
}

// useInEveryWay uses keys of one slot, and of all.
func useInEveryWay(t *testing.T, rdb *redis.ClusterClient, key string, block bool) error {
	ctx := t.Context()
	if err := rdb.Incr(ctx, key+"n").Err(); err != nil {
		return fmt.Errorf("INCR: %w", err)
	}
	if _, err := rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i := range 10 {
			p.Incr(ctx, fmt.Sprint("all", i))
		}
		return nil
	}); err != nil {
		return fmt.Errorf("pipeline: %w", err)
	}
	if block {
		if err := rdb.BLPop(ctx, time.Second, key+"empty").Err(); err != redis.Nil { //nolint:errorlint // as go-redis has it
			return fmt.Errorf("BLPOP: %w", err)
		}
	}
	err := rdb.Watch(ctx, func(tx *redis.Tx) error {
		_, err := tx.TxPipelined(ctx, func(p redis.Pipeliner) error {
			p.Incr(ctx, key+"tx")
			return nil
		})
		return err
	}, key+"tx")
	if err != nil {
		return fmt.Errorf("WATCH: %w", err)
	}
	return nil
}
