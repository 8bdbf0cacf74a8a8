package acceptance_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/internal/testkit/drivertest"
	"github.com/everpool/everpool/pooler"
)

// looked at is a connection that a handle has kept, before it is used again: a
// server's timeout, or an administrator, may have closed it long ago.
func TestAKeptConnectionThatTheServerHasClosedCostsNoRequest(t *testing.T) {
	server := testkit.Start(t, testkit.Redis)
	ctx := context.Background()
	keep := map[string]func(t *testing.T, rdb *redis.Client){
		"CLIENT ID": func(t *testing.T, rdb *redis.Client) {
			if err := rdb.Do(ctx, "CLIENT", "ID").Err(); err != nil {
				t.Fatal(err)
			}
		},
	}
	for name, pin := range keep {
		t.Run(name, func(t *testing.T) {
			s := ourSide(t, driver.Config{}, redis.Options{Addr: server.Addr})
			for range 3 {
				pin(t, s.rdb)
				server.Do(t, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
				closed := s.stats(t).Closes[pooler.ClosePeer]
				if err := s.rdb.Incr(ctx, "n").Err(); err != nil {
					t.Errorf("INCR after the server has closed the connection: %v", err)
				}
				testkit.Await(t, "the kept connection is closed here too", func() bool { return s.stats(t).Closes[pooler.ClosePeer] > closed })
			}
			if n := s.stats(t).Unknown; n != 0 {
				t.Errorf("%d unknown outcomes", n)
			}
			conn := s.rdb.Conn() // keeps its handle: go-redis doesn't look at that
			defer conn.Close()
			if err := conn.Do(ctx, "CLIENT", "ID").Err(); err != nil {
				t.Fatal(err)
			}
			server.Do(t, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
			if err := conn.Incr(ctx, "n").Err(); errors.Is(err, pooler.ErrUnknownOutcome) {
				t.Errorf("%v, of a request that was never sent", err)
			}
		})
	}
}

// More sessions than are remembered: handles keep their connections.
func TestConnectionsOfManySessionsThatTheServerHasClosedCostNoRequest(t *testing.T) {
	server := testkit.Start(t, testkit.Redis)
	ctx := context.Background()
	d := drivertest.New(t, driver.Config{Pool: pooler.Config{MaxOpenConns: 200}})
	var tenants []*redis.Client
	for i := range 100 {
		c := redis.NewClient(d.Options(&redis.Options{Addr: server.Addr, ClientName: fmt.Sprint("tenant", i)}))
		defer c.Close()
		tenants = append(tenants, c)
		if err := c.Incr(ctx, "n").Err(); err != nil {
			t.Fatal(err)
		}
	}
	if d.Nodes()[0].Stats.Pinned == 0 {
		t.Fatal("no handle keeps its connection")
	}
	server.Do(t, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
	var failed atomic.Int64
	for _, c := range tenants {
		if err := c.Incr(ctx, "n").Err(); err != nil {
			failed.Add(1)
			t.Log(err)
		}
	}
	if n := failed.Load(); n != 0 {
		t.Errorf("%d of %d INCRs failed", n, len(tenants))
	}
}
