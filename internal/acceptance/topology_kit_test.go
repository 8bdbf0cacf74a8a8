package acceptance_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/internal/hashslot"
	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/internal/testkit/drivertest"
	"github.com/everpool/everpool/pooler"
)

// patientDriver is a driver whose callers wait as long as an election takes on a busy
// machine.
func patientDriver(tb testing.TB) *driver.Driver {
	return drivertest.New(tb, driver.Config{
		Pool:   pooler.Config{FailFastAfter: time.Minute},
		Gather: gathering,
		Logger: slog.New(slog.DiscardHandler),
	})
}

// gathers has the crew's commands gathered, and sees that they are.
func gathers(t *testing.T, d *driver.Driver, w *crew) {
	if _, err := d.Gather(w.rdb); err != nil {
		t.Fatal(err)
	}
	testkit.Await(t, w.name+": commands are gathered", func() bool {
		var wg sync.WaitGroup
		for range 64 {
			wg.Go(func() { _ = w.rdb.Get(t.Context(), "gathered").Err() })
		}
		wg.Wait()
		return d.GatherStats().Gathered > 0
	})
}

// crew is a client of a topology and what its callers have met. Each key is one
// caller's own.
type crew struct {
	name  string
	rdb   redis.UniversalClient
	tx    bool   // writes are transactions
	reads bool   // there are no writes
	large []byte // is written, too, if there are writes

	mu      sync.Mutex
	errs    map[string]int
	acked   map[string]int64 // increments
	unknown map[string]int64
	good    map[string]*atomic.Int64 // calls
}

func newCrew(tb testing.TB, name string, rdb redis.UniversalClient) *crew {
	tb.Cleanup(func() { _ = rdb.Close() })
	return &crew{
		name: name, rdb: rdb, errs: make(map[string]int), acked: make(map[string]int64),
		unknown: make(map[string]int64), good: make(map[string]*atomic.Int64),
	}
}

// work has a caller call for each key until stop is closed: three reads, then a write.
func (c *crew) work(wg *sync.WaitGroup, stop <-chan struct{}, keys []string) {
	for _, key := range keys {
		good := new(atomic.Int64)
		c.good[key] = good
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				c.call(key, i%4 == 3 && !c.reads, good)
				pause(5 * time.Millisecond)
			}
		})
	}
}

// call makes one call, and takes note of what came of it.
func (c *crew) call(key string, write bool, good *atomic.Int64) {
	ctx := context.Background()
	var err error
	switch {
	case !write:
		err = c.rdb.Get(ctx, key).Err()
	case c.tx:
		_, err = c.rdb.TxPipelined(ctx, func(p redis.Pipeliner) error {
			p.Incr(ctx, key)
			if c.large != nil {
				p.Set(ctx, "{"+key+"}large", c.large, 0)
			}
			p.Get(ctx, key)
			return nil
		})
	case c.large != nil && good.Load()%2 == 0:
		write = false // it may be written twice
		err = c.rdb.Set(ctx, "{"+key+"}large", c.large, 0).Err()
	case c.large != nil:
		write = false
		var cmds []redis.Cmder
		cmds, err = c.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
			for range 3 {
				p.Set(ctx, "{"+key+"}large", c.large, 0)
			}
			return nil
		})
		if cmds[0].Err() == nil && redis.IsClusterDownError(err) {
			err = nil // go-redis tries no command again that is refused behind the first
		}
	default:
		err = c.rdb.Incr(ctx, key).Err()
	}
	if errors.Is(err, redis.Nil) {
		err = nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case err == nil:
		good.Add(1)
		if write {
			c.acked[key]++
		}
	case write && errors.Is(err, pooler.ErrUnknownOutcome):
		c.unknown[key]++
	default:
		c.errs[err.Error()]++
	}
}

// served waits until each of the keys has been served from now on.
func (c *crew) served(tb testing.TB, keys []string) {
	tb.Helper()
	before := make(map[string]int64)
	for _, key := range keys {
		before[key] = c.good[key].Load()
	}
	for _, key := range keys {
		// Two: the first may have been under way.
		testkit.Await(tb, c.name+"'s "+key+" is served", func() bool { return c.good[key].Load() > before[key]+1 })
	}
}

// check reports calls that failed, and increments that ran twice. It returns how many
// ended unknown.
func (c *crew) check(tb testing.TB, read func(key string) int64) (unknown int64) {
	tb.Helper()
	for text, n := range c.errs {
		tb.Errorf("%s: %d calls failed: %s", c.name, n, text)
	}
	for key := range c.good {
		unknown += c.unknown[key]
		if got := read(key); got > c.acked[key]+c.unknown[key] {
			tb.Errorf("%s: %s is %d, with %d acknowledged increments and %d unknown ones", c.name, key, got, c.acked[key], c.unknown[key])
		}
	}
	return unknown
}

// counter reads counters with a client of its own.
func counter(tb testing.TB, rdb redis.UniversalClient) func(string) int64 {
	tb.Cleanup(func() { _ = rdb.Close() })
	return func(key string) int64 {
		n, err := rdb.Get(context.Background(), key).Int64()
		if err != nil && !errors.Is(err, redis.Nil) {
			tb.Errorf("%s can't be read: %v", key, err)
		}
		return n
	}
}

// keysAt returns n keys whose slots the node at addr owns, and n that others own.
func keysAt(c *testkit.Cluster, addr, prefix string, n int) (there, elsewhere []string) {
	owners := make(map[int]string)
	for i := 0; len(there) < n || len(elsewhere) < n; i++ {
		key := fmt.Sprintf("%s:%d", prefix, i)
		slot := hashslot.Of([]byte(key))
		if owners[slot] == "" {
			owners[slot] = c.Owner(slot)
		}
		switch here := owners[slot] == addr; {
		case here && len(there) < n:
			there = append(there, key)
		case !here && len(elsewhere) < n:
			elsewhere = append(elsewhere, key)
		}
	}
	return there, elsewhere
}
