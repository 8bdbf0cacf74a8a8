package driver_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/pooler"
)

// A primary and its replica that have lost all their connections but those that a caller
// holds, and accept no new ones for a while, don't send a read to and fro between them until
// go-redis has had enough of it: the read waits for one of them.
func TestReadsAreNotSentToAndFroBetweenNodesThatAreBothIll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		t.Cleanup(func() { time.Sleep(time.Minute) }) // go-redis rests from its reloads
		const other = replica2
		slots := func(first, last int64, addrs ...string) []byte {
			all := [][]byte{testkit.ReplyInt(first), testkit.ReplyInt(last)}
			for _, addr := range addrs {
				host, _, _ := net.SplitHostPort(addr)
				all = append(all, testkit.ReplyArray(testkit.ReplyBulk(host), testkit.ReplyInt(6379), testkit.ReplyBulk("")))
			}
			return testkit.ReplyArray(all...)
		}
		var refuses atomic.Bool
		nodes := make(map[string]*testkit.Fake)
		var mu sync.Mutex
		held := make(map[string]*testkit.FakeConn) // by a caller, by the node
		done := make(chan struct{})
		for _, addr := range []string{primary, replica, other} {
			f := testkit.NewFake()
			t.Cleanup(f.Close)
			nodes[addr] = f
			f.Handle("CLUSTER", func(*testkit.FakeConn, []string) []byte {
				return testkit.ReplyArray(slots(0, 8191, primary, replica), slots(8192, 16383, other))
			})
			f.Handle("GET", func(*testkit.FakeConn, []string) []byte { return testkit.ReplyBulk(addr) })
			f.Handle("BLPOP", func(c *testkit.FakeConn, _ []string) []byte {
				mu.Lock()
				held[addr] = c
				mu.Unlock()
				<-done
				return []byte("_\r\n")
			})
		}
		d := newDriver(t, driver.Config{
			Logger: slog.New(slog.DiscardHandler),
			Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
				if addr != other && refuses.Load() {
					return nil, fmt.Errorf("%w: %s", syscall.ECONNREFUSED, addr)
				}
				return nodes[addr].Dial(ctx, network, addr)
			},
		})
		rdb := redis.NewClusterClient(d.ClusterOptions(&redis.ClusterOptions{Addrs: []string{other}, RouteRandomly: true}))
		t.Cleanup(func() { _ = rdb.Close() })
		const key = "b" // of slot 3300
		for range 50 {
			if err := rdb.Get(t.Context(), key).Err(); err != nil {
				t.Fatal(err)
			}
		}
		block := func(ctx context.Context, node *redis.Client) error {
			go node.BLPop(ctx, time.Minute, "list")
			return nil
		}
		if err := rdb.ForEachShard(context.WithoutCancel(t.Context()), block); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		refuses.Store(true)
		for _, addr := range []string{primary, replica} {
			for _, c := range nodes[addr].Conns() {
				if held[addr] == nil {
					t.Fatalf("nothing is held at %s", addr)
				}
				if c != held[addr] {
					c.ResetNow()
				}
			}
		}
		synctest.Wait()
		time.AfterFunc(3*time.Second, func() { refuses.Store(false) })
		for range 40 {
			if got, err := rdb.Get(t.Context(), key).Result(); err != nil {
				t.Errorf("%q, %v", got, err)
			}
			time.Sleep(50 * time.Millisecond)
		}
		close(done)
	})
}

// A replica that accepts no more connections, and has some of another session only, keeps
// no read of a session that it can't serve: the primary is well.
func TestAReadDoesNotWaitAtAReplicaThatAnswersOnlyOthers(t *testing.T) {
	bothWays(t, func(t *testing.T, shared int) {
		inShard(t, []string{primary, replica}, func(s *shard) {
			s.d = newDriver(s.T, driver.Config{
				Pool: pooler.Config{SharedConns: shared}, Logger: slog.New(slog.DiscardHandler), Dial: s.dial,
			})
			one := s.client(&redis.ClusterOptions{ReadOnly: true, ClientName: "one"})
			other := s.client(&redis.ClusterOptions{ReadOnly: true, ClientName: "other"})
			get := func(rdb *redis.ClusterClient, want string) {
				s.Helper()
				if got, err := rdb.Get(s.Context(), "k").Result(); got != want {
					s.Errorf("read from %q, not %q: %v", got, want, err)
				}
			}
			get(other, replica)
			stay := s.nodes[replica].Conns()
			get(one, replica)
			full := replica
			s.refuses.Store(&full)
			for _, c := range s.nodes[replica].Conns() {
				if !slices.Contains(stay, c) {
					c.ResetNow()
				}
			}
			synctest.Wait()
			for range 3 {
				get(one, primary)
				get(other, replica)
			}
		})
	})
}
