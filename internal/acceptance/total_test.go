package acceptance_test

import (
	"fmt"
	"net"
	"sync"
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
	testkit.Waits(t)
	drivertest.BothWays(t, func(t *testing.T, shared int) {
		const total = 5
		c := testkit.StartCluster(t, testkit.Redis, testkit.ClusterConfig{Replicas: -1})
		var sockets testkit.Census
		d, err := driver.New(driver.Config{MaxOpenConnsTotal: total, Dial: sockets.Through(new(net.Dialer).DialContext), Pool: pooler.Config{SharedConns: min(shared, 2), WaitTimeout: time.Minute}})
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
		sockets.ResetPeak()
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
		if n := sockets.Peak(); n > total {
			t.Errorf("%d sockets, want at most %d", n, total)
		}
		t.Logf("%d sockets at most, %d dials", sockets.Peak(), sockets.Dials())
	})
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
