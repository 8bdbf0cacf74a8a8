package acceptance_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/pooler"
)

// autoPusher pushes values of its own to a list, through an AutoPipeline.
type autoPusher struct {
	name, key string
	pipe      *redis.AutoPipeliner
	acked     atomic.Int64
	mu        sync.Mutex
	failed    map[string]int
}

// push makes a few calls at a time until stop is closed, each with a value of its own.
func (p *autoPusher) push(stop <-chan struct{}) {
	ctx := context.Background()
	for i := 0; ; i++ {
		select {
		case <-stop:
			return
		default:
		}
		var pushed []*redis.IntCmd
		for k := range 3 {
			pushed = append(pushed, p.pipe.RPush(ctx, p.key, fmt.Sprintf("%d.%d", i, k)))
		}
		for _, cmd := range pushed {
			switch err := cmd.Err(); {
			case err == nil:
				p.acked.Add(1)
			case !errors.Is(err, pooler.ErrUnknownOutcome):
				p.mu.Lock()
				p.failed[err.Error()]++
				p.mu.Unlock()
			}
		}
		pause(2 * time.Millisecond)
	}
}

// AutoPipelines of all kinds go through an election: no call fails, but those whose
// outcome nobody knows, and none runs twice.
func TestAutoPipelinesGoThroughAnElection(t *testing.T) {
	testkit.Waits(t)
	c := testkit.StartCluster(t, testkit.Redis, soonElected)
	victim := c.Nodes()[0]
	there, _ := keysAt(c, victim.Addr, "auto", 4)
	d := patientDriver(t)
	var pushers []*autoPusher
	for i, o := range []redis.AutoPipelineOptions{{}, {FullDuplex: true}, {FullDuplex: true, NumShards: 4}, {MaxConcurrentBatches: 4, Unordered: true}} {
		rdb := redis.NewClusterClient(d.ClusterOptions(&redis.ClusterOptions{Addrs: c.Addrs()}))
		t.Cleanup(func() { _ = rdb.Close() })
		made := rdb.AutoPipelineWithOptions
		if i%2 == 1 {
			d.Bind(rdb)
			made = rdb.AsyncAutoPipelineWithOptions
		}
		pipe, err := made(&o)
		if err != nil {
			t.Fatal(err)
		}
		pushers = append(pushers, &autoPusher{name: fmt.Sprintf("%+v", o), key: there[i], pipe: pipe, failed: make(map[string]int)})
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for _, p := range pushers {
		wg.Go(func() { p.push(stop) })
	}
	served := func() {
		t.Helper()
		for _, p := range pushers {
			before := p.acked.Load()
			testkit.Await(t, p.name+" is served", func() bool { return p.acked.Load() > before+3 })
		}
	}
	served()
	victim.Kill()
	c.AwaitOwner(t, 0, victim.Addr)
	served()
	close(stop)
	wg.Wait()
	read := redis.NewClusterClient(&redis.ClusterOptions{Addrs: c.Addrs()})
	defer read.Close()
	for _, p := range pushers {
		for text, n := range p.failed {
			t.Errorf("%s: %d calls failed: %s", p.name, n, text)
		}
		values, err := read.LRange(t.Context(), p.key, 0, -1).Result()
		if err != nil {
			t.Fatal(err)
		}
		seen := make(map[string]bool)
		for _, v := range values {
			if seen[v] {
				t.Errorf("%s: %s was pushed twice", p.name, v)
			}
			seen[v] = true
		}
		if err := p.pipe.Close(); err != nil {
			t.Errorf("%s: %v", p.name, err)
		}
	}
}
