package acceptance_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/internal/testkit/drivertest"
	"github.com/everpool/everpool/pooler"
)

// A cluster client that is bound isn't made to ask for the server's table of commands with
// each command, which takes a timer: it allocates less than stock's, and answers as before,
// also what is split between nodes by its keys' distance.
func TestABoundClusterClientIsSparedTheTableOfCommands(t *testing.T) {
	ctx := t.Context()
	c := testkit.StartCluster(t, testkit.Redis, testkit.ClusterConfig{Replicas: -1})
	shares := drivertest.New(t, driver.Config{})
	leases := drivertest.New(t, driver.Config{Pool: pooler.Config{SharedConns: -1}})
	cost := make(map[string]float64)
	var outcome []string // of commands with keys of several nodes
	for _, name := range []string{"stock", "unbound", "bound", "gathered", "leased"} {
		d := shares
		if name == "leased" {
			d = leases
		}
		o := &redis.ClusterOptions{Addrs: c.Addrs()}
		if name != "stock" {
			o = d.ClusterOptions(o)
		}
		rdb := redis.NewClusterClient(o)
		t.Cleanup(func() { _ = rdb.Close() })
		switch name {
		case "bound", "leased":
			d.Bind(rdb)
		case "gathered":
			if _, err := d.Gather(rdb); err != nil {
				t.Fatal(err)
			}
		}
		cost[name] = testing.AllocsPerRun(1000, func() {
			if err := rdb.Get(ctx, "k").Err(); !errors.Is(err, redis.Nil) {
				t.Fatal(err)
			}
		})
		var pairs []any
		var keys []string
		for i := range 30 { // of all nodes
			keys = append(keys, fmt.Sprint("k", i))
			pairs = append(pairs, keys[i], i)
			if err := rdb.Set(ctx, keys[i], i, 0).Err(); err != nil {
				t.Fatal(name, err)
			}
		}
		var told []string
		for _, cmd := range []redis.Cmder{rdb.MGet(ctx, keys...), rdb.Exists(ctx, keys...), rdb.MSet(ctx, pairs...), rdb.MSet(ctx, "{k}1", 1, "{k}2", 2), rdb.Touch(ctx, keys...), rdb.Del(ctx, keys...)} {
			told = append(told, cmd.String())
		}
		if outcome == nil {
			outcome = told
		}
		if diff := cmp.Diff(outcome, told); diff != "" {
			t.Errorf("%s: -stock +here\n%s", name, diff)
		}
	}
	t.Logf("allocations a GET: %v", cost)
	if max(cost["bound"], cost["gathered"], cost["leased"]) > cost["stock"] || cost["bound"] > cost["unbound"]-3 {
		t.Errorf("allocations a GET: %v", cost)
	}
}
