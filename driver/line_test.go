package driver_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/pooler"
)

// takesItsTime has the lab's server take so long for each INCR, one after the other.
func (l *lab) takesItsTime(d time.Duration) {
	turn := make(chan struct{}, 1)
	var n atomic.Int64
	l.f.Handle("INCR", func(*testkit.FakeConn, []string) []byte {
		turn <- struct{}{}
		time.Sleep(d)
		<-turn
		return testkit.ReplyInt(n.Add(1))
	})
}

// ends is how many of the calls ended how, and when the last of them did.
type ends struct {
	well, unknown int
	last          time.Duration
}

// inLine has 200 callers call INCR at once, each with a context of its own.
func (l *lab) inLine(rdb *redis.Client, within time.Duration) ends {
	l.Helper()
	return l.inLineOf(200, rdb, within)
}

func (l *lab) inLineOf(callers int, rdb *redis.Client, within time.Duration) (saw ends) {
	if err := rdb.Ping(l.Context()).Err(); err != nil {
		l.Fatal(err)
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	began := time.Now()
	for range callers {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), within)
			defer cancel()
			err := rdb.Incr(ctx, "n").Err()
			mu.Lock()
			defer mu.Unlock()
			saw.last = max(saw.last, time.Since(began))
			switch {
			case err == nil:
				saw.well++
			case errors.Is(err, pooler.ErrUnknownOutcome):
				saw.unknown++
			default:
				l.Errorf("%v", err)
			}
		})
	}
	wg.Wait()
	return saw
}

// What a client's ReadTimeout bounds is how long a server takes for a request. Who stands in
// line on the stock pool stands there for a connection, and by PoolTimeout.
func TestWhoStandsInLineOnASharedConnectionHasTheTimeForThat(t *testing.T) {
	inLab(t, driver.Config{Pool: pooler.Config{SharedConns: 1}}, func(t *lab) {
		t.takesItsTime(7 * time.Millisecond)
		rdb := t.client(func(o *redis.Options) { o.ReadTimeout, o.MaxRetries = time.Second, -1 })
		if saw := t.inLine(rdb, time.Minute); saw.well != 200 || saw.last <= time.Second {
			t.Errorf("%+v, want all to go well", saw)
		}
		if n := t.stats().Unknown; n != 0 {
			t.Errorf("%d unknown", n)
		}
	})
}

// But no longer: neither than PoolTimeout for each try, nor than the caller's context lasts.
func TestWhoStandsInLineOnASharedConnectionWaitsNoLonger(t *testing.T) {
	for name, of := range map[string]struct {
		pool    time.Duration
		retries int
		context time.Duration
	}{
		"than PoolTimeout":           {250 * time.Millisecond, -1, time.Minute},
		"than PoolTimeout each time": {125 * time.Millisecond, 1, time.Minute},
		"than the context":           {time.Minute, -1, 1250 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			inLab(t, driver.Config{Pool: pooler.Config{SharedConns: 1}}, func(t *lab) {
				t.takesItsTime(7 * time.Millisecond)
				rdb := t.client(func(o *redis.Options) { o.ReadTimeout, o.PoolTimeout, o.MaxRetries = time.Second, of.pool, of.retries })
				saw := t.inLine(rdb, of.context)
				if saw.well < 170 || saw.well > 180 || saw.well+saw.unknown != 200 {
					t.Errorf("%+v, want what the server does in 1.25 s to go well", saw)
				}
				if saw.last < 1250*time.Millisecond || saw.last > 1350*time.Millisecond {
					t.Errorf("the last was told after %v, want 1.25 s", saw.last)
				}
			})
		})
	}
}

// Without RESP3 the context can't be asked for, and may end any moment; unless it is of no
// importance to replies, as on the stock pool.
func TestWhoseContextIsNotKnownStandsInLineForNoLongerThanReadTimeout(t *testing.T) {
	for _, leaves := range []bool{false, true} {
		t.Run(fmt.Sprintf("LeaveContextTimeout %t", leaves), func(t *testing.T) {
			inLab(t, driver.Config{LeaveContextTimeout: leaves, Pool: pooler.Config{SharedConns: 1}}, func(t *lab) {
				t.takesItsTime(7 * time.Millisecond)
				rdb := t.client(func(o *redis.Options) { o.Protocol, o.ReadTimeout, o.MaxRetries = 2, time.Second, -1 })
				saw := t.inLine(rdb, 1250*time.Millisecond)
				if most := 145; leaves && saw.well != 200 || !leaves && (saw.well > most || saw.last > 1100*time.Millisecond) {
					t.Errorf("%+v", saw)
				}
			})
		})
	}
}

// A server that stands still has nobody wait for longer than ReadTimeout, nor who has stood in
// line for that long already for longer than that once more.
func TestNobodyStandsInLineAtAServerThatStandsStill(t *testing.T) {
	for _, of := range []struct{ timeout, freeze, told time.Duration }{
		{20 * time.Millisecond, 5 * time.Millisecond, 20 * time.Millisecond},
		{100 * time.Millisecond, 25 * time.Millisecond, 100 * time.Millisecond},
		{time.Second, 250 * time.Millisecond, time.Second},
		{time.Second, 1250 * time.Millisecond, 2 * time.Second},
	} {
		t.Run(fmt.Sprintf("%v, after %v", of.timeout, of.freeze), func(t *testing.T) {
			inLab(t, driver.Config{Pool: pooler.Config{SharedConns: 1}}, func(t *lab) {
				t.takesItsTime(of.timeout / 100)
				rdb := t.client(func(o *redis.Options) { o.ReadTimeout, o.MaxRetries = of.timeout, -1 })
				time.AfterFunc(of.freeze, func() { t.f.Freeze(true) })
				saw := t.inLine(rdb, time.Minute)
				t.f.Freeze(false)
				if saw.unknown < 70 || saw.last < of.told || saw.last > of.told+100*time.Millisecond {
					t.Errorf("%+v, want the rest to be told after %v", saw, of.told)
				}
				synctest.Wait()
			})
		})
	}
}

// A reply that has begun isn't put off: what asks for the context would come in the middle of it.
func TestNothingComesInTheMiddleOfAReply(t *testing.T) {
	inLab(t, driver.Config{Pool: pooler.Config{SharedConns: 1}}, func(t *lab) {
		rdb := t.client(func(o *redis.Options) { o.ReadTimeout, o.MaxRetries = 100*time.Millisecond, -1 })
		t.f.Handle("INCR", func(c *testkit.FakeConn, _ []string) []byte {
			time.Sleep(80 * time.Millisecond)
			c.Push([]byte(":1"))
			time.Sleep(70 * time.Millisecond)
			return []byte("2\r\n")
		})
		if n, err := rdb.Incr(t.Context(), "n").Result(); !errors.Is(err, pooler.ErrUnknownOutcome) {
			t.Errorf("%d, %v, want a timeout", n, err)
		}
	})
}

// A wait for a connection, or for room on a shared one, is bounded by PoolTimeout, as on the
// stock pool, and not by the time that go-redis gives a write.
func TestAWaitForAConnectionIsNoTimeOfTheSockets(t *testing.T) {
	for name, of := range map[string]struct {
		shared, callers int
		each            time.Duration
	}{
		"for a lease": {-1, 200, 10 * time.Millisecond},
		"for room":    {1, 3000, time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			inLab(t, driver.Config{Pool: pooler.Config{SharedConns: of.shared}}, func(t *lab) {
				t.takesItsTime(of.each)
				rdb := t.client(func(o *redis.Options) {
					o.ReadTimeout, o.WriteTimeout, o.PoolTimeout = time.Second, time.Second, time.Minute
				})
				if saw := t.inLineOf(of.callers, rdb, time.Minute); saw.well != of.callers {
					t.Errorf("%+v, want all to go well", saw)
				}
			})
		})
	}
}

// Nor does it outlast PoolTimeout, or the caller's context, which may end by itself.
func TestAWaitForRoomEndsAsOneForAConnectionDoes(t *testing.T) {
	for name, of := range map[string]struct {
		pool, within time.Duration
		cancel       bool
		want         error
	}{
		"with PoolTimeout":              {500 * time.Millisecond, 0, false, redis.ErrPoolTimeout},
		"at the context's deadline":     {time.Minute, 500 * time.Millisecond, false, context.DeadlineExceeded},
		"when the context is cancelled": {time.Minute, 500 * time.Millisecond, true, context.Canceled},
	} {
		t.Run(name, func(t *testing.T) {
			inLab(t, driver.Config{Pool: pooler.Config{SharedConns: 1}}, func(t *lab) {
				t.takesItsTime(time.Millisecond)
				patient := t.client(func(o *redis.Options) { o.ReadTimeout, o.PoolTimeout = time.Minute, time.Minute })
				rdb := t.client(func(o *redis.Options) { o.ReadTimeout, o.PoolTimeout = time.Minute, of.pool })
				var others sync.WaitGroup
				for range 2800 {
					others.Go(func() {
						if err := patient.Incr(t.Context(), "n").Err(); err != nil {
							t.Error(err)
						}
					})
				}
				time.Sleep(10 * time.Millisecond)
				ctx, cancel := context.WithCancel(context.Background())
				switch {
				case of.cancel:
					time.AfterFunc(of.within, cancel)
				case of.within > 0:
					ctx, cancel = context.WithTimeout(ctx, of.within)
				}
				defer cancel()
				began := time.Now()
				if err := rdb.Incr(ctx, "n").Err(); !errors.Is(err, of.want) || errors.Is(err, pooler.ErrUnknownOutcome) {
					t.Errorf("told %v, want %v", err, of.want)
				}
				if took := time.Since(began); took < 500*time.Millisecond || took > 510*time.Millisecond {
					t.Errorf("told after %v, want half a second", took)
				}
				others.Wait()
			})
		})
	}
}

// Gathered calls are a pipeline, whose replies go-redis gives the time of one.
func TestGatheredCallsStandInLineAsOthersDo(t *testing.T) {
	inLab(t, driver.Config{Pool: pooler.Config{SharedConns: 1}}, func(t *lab) {
		t.takesItsTime(5 * time.Millisecond)
		rdb := t.client(func(o *redis.Options) { o.ReadTimeout, o.MaxRetries = time.Second, -1 })
		detach, err := t.d.Gather(rdb)
		if err != nil {
			t.Fatal(err)
		}
		defer detach()
		if saw := t.inLineOf(600, rdb, time.Minute); saw.well != 600 || saw.last <= time.Second {
			t.Errorf("%+v, want all to go well", saw)
		}
	})
}
