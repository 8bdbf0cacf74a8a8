package acceptance_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/pooler"
)

// busyLoop keeps a server busy. It answers nobody meanwhile, if lua-time-limit is
// 0: beyond that time it would answer BUSY.
const busyLoop = "local n = tonumber(ARGV[1]) while n > 0 do n = n - 1 end return 1"

// beBusy runs busyLoop for n rounds, and returns how long it took. Scripts have no
// clock that goes on in all servers.
func beBusy(t *testing.T, server *testkit.Server, n int) time.Duration {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	began := time.Now()
	if got, err := server.Call(ctx, "EVAL", busyLoop, "0", fmt.Sprint(n)); err != nil || got != "1" {
		t.Fatalf("EVAL: %q, %v", got, err)
	}
	return time.Since(began)
}

// A server that is busy with somebody's script is waited for: its silence costs
// no connection and no call.
func TestABusyServerCostsNoSharedConnection(t *testing.T) {
	for name, writesOf8 := range map[string]int{"reads": 0, "mixed": 1, "writes": 8} {
		t.Run(name, func(t *testing.T) {
			testkit.Works(t)
			silenceCostsNothing(t, writesOf8)
		})
	}
}

func silenceCostsNothing(t *testing.T, writesOf8 int) {
	const timeout = time.Minute // not a bound: the script takes about two seconds
	server := testkit.Start(t, testkit.Redis, testkit.WithArgs("--lua-time-limit", "0"))
	const sample = 10_000_000
	rounds := int(sample * (2 * time.Second) / beBusy(t, server, sample))
	var silences atomic.Int64
	// No more shared connections than many callers use: few have more, and a busy machine has
	// few at a time now and then.
	cfg := driver.Config{Pool: pooler.Config{SharedConns: 2, OnEvent: countSilences(&silences)}}
	s := ourSide(t, cfg, redis.Options{Addr: server.Addr, ReadTimeout: timeout, WriteTimeout: timeout})
	server.Do(t, "SET", "counter:"+s.name, "0")
	s.warm(t, callers)
	stop := make(chan struct{})
	saw := new(split)
	wg := s.driveSplit(t, stop, callers, writesOf8, saw)
	s.grown(t)
	before, arrived := s.stats(t), accepted(t, server)

	took := beBusy(t, server, rounds)
	pause(300 * time.Millisecond)
	close(stop)
	wg.Wait()
	st := s.settled(t)
	arrived = accepted(t, server) - arrived - 2 // the script's, and that of this question
	t.Logf("busy for %v: %v; %d dials, %d arrived; closes %v, %d resent", took.Round(time.Millisecond), saw, st.Dials-before.Dials, arrived, st.Closes, st.Resent)
	saw.check(t, server.Do(t, "GET", "counter:"+s.name))
	if n := saw.writes.never.Load() + saw.writes.unknown.Load(); n != 0 {
		t.Errorf("%d INCR failed or ended unknown", n)
	}
	// Where reads wait behind writes another connection is opened earlier, to ask whether
	// writes are held back, which a busy machine gives reason for, too.
	asks := writesOf8 == 0 || writesOf8 == 8
	if n, asked := st.Dials-before.Dials, silences.Load(); asks && (n > asked || arrived > asked) {
		t.Errorf("%d dials, %d new connections at the server; want those that have asked, %d", n, arrived, asked)
	}
	if len(st.Closes) != 0 {
		t.Errorf("connections were closed: %v", st.Closes)
	}
}

// A server that holds writes back answers them in the end, once, and reads go
// on meanwhile, on other connections where they must.
func TestPausedWritesAreAnsweredAndReadsGoOn(t *testing.T) {
	t.Parallel() // what runs are its subtests
	for _, kind := range testkit.Kinds {
		t.Run(string(kind), func(t *testing.T) {
			testkit.Works(t)
			server := testkit.Start(t, kind)
			s := ourSide(t, driver.Config{}, redis.Options{Addr: server.Addr, ReadTimeout: time.Minute, WriteTimeout: time.Minute})
			s.warm(t, callers)
			stop := make(chan struct{})
			saw := new(split)
			var late atomic.Int64 // reads in the pause, when it has been noticed
			var paused atomic.Bool
			wg := repeat(t, stop, callers, func(id, i int) {
				if id%2 == 0 {
					saw.writes.incr(saw.writes.call(func() error { return s.rdb.Incr(context.Background(), "counter:"+s.name).Err() }))
					return
				}
				s.echoOnce(saw, fmt.Sprintf("%d-%d", id, i))
				if paused.Load() {
					late.Add(1)
				}
			})
			pause(200 * time.Millisecond)
			before := s.stats(t)
			server.Do(t, "CLIENT", "PAUSE", "60000", "WRITE")
			pause(500 * time.Millisecond)
			paused.Store(true)
			// Of so many, most have begun in the pause.
			goOn := testkit.AwaitErr("reads are answered in the pause", func() bool { return late.Load() > 4*callers })
			paused.Store(false)
			held := saw.writes.incrs.Load()
			server.Do(t, "CLIENT", "UNPAUSE")
			answered := testkit.AwaitErr("writes are answered after the pause", func() bool { return saw.writes.incrs.Load() > held })
			close(stop)
			wg.Wait()
			st := s.settled(t)
			t.Logf("%v; %d reads in the pause; %d dials, closes %v, %d resent, %d moved", saw, late.Load(), st.Dials-before.Dials, st.Closes, st.Resent, st.Moved)
			saw.check(t, server.Do(t, "GET", "counter:"+s.name))
			if n := saw.writes.never.Load() + saw.writes.unknown.Load(); n != 0 {
				t.Errorf("%d INCR failed or ended unknown", n)
			}
			if err := errors.Join(goOn, answered); err != nil {
				t.Error(err)
			}
		})
	}
}
