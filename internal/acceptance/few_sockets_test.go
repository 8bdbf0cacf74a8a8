package acceptance_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/pooler"
)

// crowd is more callers than anybody has sockets for.
const crowd = 1024

// A thousand callers need eight sockets at most; those that block have their own,
// and hold up nobody else.
func TestAThousandCallersShareAFewSockets(t *testing.T) {
	testkit.Works(t)
	server := testkit.Start(t, testkit.Redis)
	// On a busy machine the server pauses for longer than SilenceAfter is by default,
	// and each such pause costs a dial; and those who block wait for a long time.
	s := ourSide(t, driver.Config{Pool: pooler.Config{SilenceAfter: time.Minute, WaitTimeout: -1}}, redis.Options{Addr: server.Addr, ReadTimeout: 20 * time.Second, WriteTimeout: 20 * time.Second})
	s.warm(t, 1)
	stop := make(chan struct{})
	saw := new(split)
	wg := repeat(t, stop, crowd, func(id, i int) { s.echoOnce(saw, fmt.Sprintf("%d-%d", id, i)) })
	served := testkit.AwaitErr("all are served", func() bool { return saw.reads.reads.Load() > 4*crowd })
	alone, dials := saw.reads.reads.Load(), s.dials.Load()
	if open := strings.Count(server.Do(t, "CLIENT", "LIST"), " addr=") - 1; served != nil || dials > 8 || open > 8 {
		t.Errorf("%v; %d callers use %d sockets and %d dials, want at most 8", served, crowd, open, dials)
	}

	// More of them block than there is room for.
	const blocking = 64
	var got atomic.Int64
	var blockers sync.WaitGroup
	for id := range blocking {
		blockers.Go(func() {
			value, err := s.rdb.BLPop(context.Background(), 0, "queue").Result()
			if err != nil || len(value) != 2 {
				t.Errorf("BLPOP %d: %q, %v", id, value, err)
			}
			got.Add(1)
		})
	}
	testkit.Await(t, "the server and the pool hold the callers of BLPOP", func() bool {
		st := s.stats(t)
		return st.Waiting > 0 && st.OpenConnections == st.MaxOpenConnections
	})
	before := saw.reads.reads.Load()
	beside := testkit.AwaitErr("reads are answered while all block", func() bool { return saw.reads.reads.Load() > before+2*crowd })
	if beside != nil || got.Load() != 0 {
		t.Errorf("%v; %d BLPOP were answered while all blocked; want none", beside, got.Load())
	}
	for i := range blocking {
		if err := s.rdb.RPush(context.Background(), "queue", i).Err(); err != nil {
			t.Errorf("RPUSH: %v", err)
		}
	}
	blockers.Wait()
	close(stop)
	wg.Wait()
	st := s.settled(t)
	t.Logf("%v; %d before anybody blocked; %d BLPOP; %d dials then, %d in the end; %d shared, %d leased, closes %v",
		saw, alone, blocking, dials, st.Dials, st.Shared, st.Leased, st.Closes)
	saw.check(t, "0")
	if left := server.Do(t, "LLEN", "queue"); left != "0" {
		t.Errorf("%s elements are left in the queue", left)
	}
}
