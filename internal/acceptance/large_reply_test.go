package acceptance_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/pooler"
)

const large = 16 << 20

// allocated is what reading a large value allocates: the least of a few. No request, key or
// command is known for its large reply.
func (s side) allocated(t *testing.T) uint64 {
	t.Helper()
	least := ^uint64(0)
	for i := range 3 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		value, err := s.rdb.Get(context.Background(), fmt.Sprint("large", i)).Bytes()
		runtime.ReadMemStats(&after)
		if err != nil || len(value) != large {
			t.Fatalf("%s: %d bytes, %v", s.name, len(value), err)
		}
		least = min(least, after.TotalAlloc-before.TotalAlloc)
	}
	return least
}

// A large value is copied once: to where go-redis wants it.
func TestALargeSharedReplyIsNotCopied(t *testing.T) {
	server := testkit.Start(t, testkit.Redis)
	for i := range 3 {
		server.Do(t, "SETRANGE", fmt.Sprint("large", i), fmt.Sprint(large-1), "x")
	}
	ours := ourSide(t, driver.Config{}, redis.Options{Addr: server.Addr})
	stock := stockSide(t, redis.Options{Addr: server.Addr})
	ours.warm(t, 1)
	stock.warm(t, 1)
	a, b := ours.allocated(t), stock.allocated(t)
	st := ours.settled(t)
	t.Logf("a GET of %d MiB allocates %.2f MiB, stock %.2f MiB; %d shared", large>>20, float64(a)/(1<<20), float64(b)/(1<<20), st.Shared)
	if int64(a)-int64(b) >= 4<<20 {
		t.Errorf("a GET of %d bytes allocates %d bytes, %d on the stock pool", large, a, b)
	}
	if st.Shared < 3 {
		t.Errorf("%d requests were shared", st.Shared)
	}
}

// Small reads get their answers while a large one is being transferred.
func TestSmallReadsGoOnBesideALargeSharedReply(t *testing.T) {
	testkit.Works(t)
	server := testkit.Start(t, testkit.Redis)
	server.Do(t, "SETRANGE", "large", fmt.Sprint(large-1), "x")
	for _, s := range []side{ourSide(t, driver.Config{}, redis.Options{Addr: server.Addr}), stockSide(t, redis.Options{Addr: server.Addr})} {
		s.warm(t, 8)
		transfers := int64(0) // no request is known for its large reply
		transfer := func() time.Duration {
			began := time.Now()
			transfers++
			if value, err := s.rdb.GetRange(context.Background(), "large", 0, large+transfers).Bytes(); err != nil || len(value) != large {
				t.Errorf("%s: %d bytes, %v", s.name, len(value), err)
			}
			return time.Since(began)
		}
		transfer()
		alone := min(transfer(), transfer())
		stop := make(chan struct{})
		saw := new(split)
		wg := repeat(t, stop, 8, func(id, i int) { s.echoOnce(saw, fmt.Sprintf("%d-%d", id, i)) })
		pause(20 * time.Millisecond)
		before := saw.reads.reads.Load()
		var beside time.Duration
		const times = 5
		for range times {
			beside += transfer() / times
		}
		small := saw.reads.reads.Load() - before
		close(stop)
		wg.Wait()
		t.Logf("%-9s the transfer alone takes %v, beside 8 callers %v; %d small reads meanwhile, slowest %v", s.name, alone.Round(time.Millisecond), beside.Round(time.Millisecond),
			small, time.Duration(saw.reads.slowest.Load()).Round(100*time.Microsecond))
		saw.check(t, "0")
		if small == 0 {
			t.Errorf("%s: no small read was answered beside the large ones", s.name)
		}
	}
}

// A server that bounds what it keeps for a client closes the connection of replies that
// are larger together, and with it the lane: not again and again for the same requests.
func TestRepliesThatAreTooLargeForTheServerCostFewLanes(t *testing.T) {
	testkit.Works(t)
	server := testkit.Start(t, testkit.Redis, testkit.WithArgs("--client-output-buffer-limit", "normal", "1mb", "1mb", "0"))
	ctx := context.Background()
	const others, gets = 16, 200
	for _, c := range []struct {
		name    string
		readers int
		size    int
		comes   bool  // alone on its connection
		lanes   int64 // that they may cost: the first ones come on several at a time
	}{{"1 of 5 MB", 1, 5 << 20, false, 3}, {"16 of 200 KB", 16, 200 << 10, true, 8}} {
		t.Run(c.name, func(t *testing.T) {
			for i := range c.readers {
				key := fmt.Sprint("large", i)
				server.Do(t, "DEL", key)
				server.Do(t, "SETRANGE", key, fmt.Sprint(c.size), "x")
			}
			s := ourSide(t, driver.Config{}, redis.Options{Addr: server.Addr, MaxRetries: -1})
			s.warm(t, 8)
			stop := make(chan struct{})
			var unknown, ran, lost atomic.Int64
			wg := repeat(t, stop, others, func(int, int) {
				if err := s.rdb.Incr(ctx, "n").Err(); err == nil {
					ran.Add(1)
				} else if errors.Is(err, pooler.ErrUnknownOutcome) {
					unknown.Add(1)
				} else {
					t.Error(err)
				}
			})
			var readers sync.WaitGroup
			for i := range c.readers {
				readers.Go(func() {
					for range gets / c.readers {
						if err := s.rdb.Get(ctx, fmt.Sprint("large", i)).Err(); err != nil {
							lost.Add(1)
						}
					}
				})
			}
			readers.Wait()
			close(stop)
			wg.Wait()
			t.Logf("%d INCRs beside %d GETs, of which %d failed: %d unknown, closes %v", ran.Load(), gets, lost.Load(), unknown.Load(), s.settled(t).Closes)
			if unknown.Load() > c.lanes*others {
				t.Errorf("%d INCRs are unknown, more than %d lanes had", unknown.Load(), c.lanes)
			}
			if most := int64(2 * c.readers); c.comes && lost.Load() > most || !c.comes && lost.Load() != gets {
				t.Errorf("%d of %d GETs failed", lost.Load(), gets)
			}
		})
	}
}
