package acceptance_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/pooler"
)

// What stops a script gets past the shared connection that is stuck behind it.
func TestKillsGetPastASharedConnectionThatIsStuckBehindAScript(t *testing.T) {
	testkit.Waits(t)
	ctx := context.Background()
	for _, script := range []struct {
		kind testkit.Kind
		name string
		run  func(rdb *redis.Client) error
		kill func(rdb *redis.Client) error
	}{
		{
			testkit.Redis, "SCRIPT KILL",
			func(rdb *redis.Client) error { return rdb.Eval(ctx, "while true do end", nil).Err() },
			func(rdb *redis.Client) error { return rdb.ScriptKill(ctx).Err() },
		},
		{
			testkit.Valkey, "FUNCTION KILL",
			func(rdb *redis.Client) error { return rdb.FCall(ctx, "forever", nil).Err() },
			func(rdb *redis.Client) error { return rdb.FunctionKill(ctx).Err() },
		},
	} {
		t.Run(string(script.kind)+"/"+script.name, func(t *testing.T) {
			server := testkit.Start(t, script.kind, testkit.WithArgs("--lua-time-limit", "50"))
			server.Do(t, "FUNCTION", "LOAD", "#!lua name=l\nredis.register_function('forever', function() while true do end end)")
			s := ourSide(t, driver.Config{},
				redis.Options{Addr: server.Addr, MaxRetries: -1, ReadTimeout: 15 * time.Second, WriteTimeout: 15 * time.Second})
			s.warm(t, 16)
			before := s.stats(t)
			var stuck error
			var wg sync.WaitGroup
			wg.Go(func() { stuck = script.run(s.rdb) })
			pause(100 * time.Millisecond)
			// Those behind it wait, or are told that the server is busy.
			for range 16 {
				wg.Go(func() {
					if err := s.rdb.Get(ctx, "constant").Err(); err != nil && !strings.HasPrefix(err.Error(), "BUSY") {
						t.Errorf("GET behind the script: %v", err)
					}
				})
			}
			// CLIENT KILL isn't for a busy server, but it is told so at once.
			if err := s.rdb.ClientKillByFilter(ctx, "TYPE", "pubsub").Err(); err == nil || !strings.HasPrefix(err.Error(), "BUSY") {
				t.Errorf("CLIENT KILL beside the script: %v, want BUSY", err)
			}
			pause(500 * time.Millisecond) // longer than silence is put up with
			began := time.Now()
			ended := script.kill(s.rdb)
			took, state := time.Since(began), s.stats(t).State
			if ended != nil {
				t.Errorf("%s: %v", script.name, ended)
				server.Do(t, strings.Fields(script.name)...)
			}
			wg.Wait()
			st := s.settled(t)
			t.Logf("%s took %v, the node is %v; the script's caller got %v; %d shared, %d leased, %d dials, %d of them failed; closes %v, %d resent", script.name, took.Round(time.Millisecond), state, stuck,
				st.Shared-before.Shared, st.Leased-before.Leased, st.Dials-before.Dials, st.DialErrors, st.Closes, st.Resent)
			if stuck == nil || !strings.Contains(strings.ToLower(stuck.Error()), "kill") {
				t.Errorf("the script's caller got %v, want that it was killed", stuck)
			}
			if err := s.rdb.Get(ctx, "constant").Err(); err != nil {
				t.Errorf("GET afterwards: %v", err)
			}
		})
	}
}

// A script that keeps the server busy for longer than requests wait for a node
// that is down can still be killed: a server that says BUSY isn't down.
//
// Once the probe of the silent connection was answered BUSY, which counted as a
// failed dial. The prober took over, with a dial each 40 ms; the node was down
// after BackoffMax, and from FailFastAfter on the very command that would help was
// refused with ErrNodeDown.
func TestAScriptThatLastsCanBeKilled(t *testing.T) {
	testkit.Works(t)
	server := testkit.Start(t, testkit.Redis, testkit.WithArgs("--lua-time-limit", "50"))
	s := ourSide(t, driver.Config{Pool: pooler.Config{FailFastAfter: 200 * time.Millisecond, BackoffMax: 200 * time.Millisecond}},
		redis.Options{Addr: server.Addr, MaxRetries: -1, ReadTimeout: 15 * time.Second, WriteTimeout: 15 * time.Second})
	s.warm(t, 1)
	before := s.stats(t).Dials
	var stuck error
	var wg sync.WaitGroup
	wg.Go(func() { stuck = s.rdb.Eval(context.Background(), "while true do end", nil).Err() })
	pause(1500 * time.Millisecond)
	st := s.stats(t)
	if err := s.rdb.ScriptKill(context.Background()).Err(); err != nil {
		t.Errorf("SCRIPT KILL: %v", err)
		server.Do(t, "SCRIPT", "KILL")
	}
	wg.Wait()
	t.Logf("in 1.5 s of a script %d dials, %d of them failed; the node is %v; the script's caller got %v", st.Dials-before, st.DialErrors, st.State, stuck)
	if st.State == pooler.StateDown {
		t.Error("the node is down, and answers BUSY")
	}
	if stuck == nil || !strings.Contains(strings.ToLower(stuck.Error()), "kill") {
		t.Errorf("the script's caller got %v, want that it was killed", stuck)
	}
}

// CLIENT KILL gets past shared connections that the server holds back, and kills
// one of them: its reads go on on another, its writes have never run.
func TestClientKillGetsPastSharedConnectionsThatAreHeldBack(t *testing.T) {
	ctx := context.Background()
	server := testkit.Start(t, testkit.Redis)
	s := ourSide(t, driver.Config{}, redis.Options{Addr: server.Addr, ReadTimeout: 30 * time.Second, WriteTimeout: 30 * time.Second})
	s.warm(t, 16)
	before := s.stats(t).Shared
	server.Do(t, "CLIENT", "PAUSE", "600000", "WRITE")
	var wg sync.WaitGroup
	var incr, get error
	wg.Go(func() { incr = s.rdb.Incr(ctx, "counter").Err() })
	testkit.Await(t, "the INCR is on its way", func() bool { return s.stats(t).Shared > before })
	pause(20 * time.Millisecond)
	wg.Go(func() { get = s.rdb.Get(ctx, "constant").Err() })
	began := time.Now()
	killed, err := s.rdb.ClientKillByFilter(ctx, "TYPE", "normal", "SKIPME", "yes").Result()
	took := time.Since(began)
	wg.Wait()
	server.Do(t, "CLIENT", "UNPAUSE")
	st := s.settled(t)
	t.Logf("CLIENT KILL took %v and killed %d; INCR: %v; GET: %v; closes %v, %d resent, %d unknown", took.Round(time.Millisecond), killed, incr, get, st.Closes, st.Resent, st.Unknown)
	if err != nil || killed == 0 {
		t.Errorf("CLIENT KILL killed %d in %v: %v", killed, took, err)
	}
	if !errors.Is(incr, pooler.ErrUnknownOutcome) || get != nil {
		t.Errorf("INCR: %v, want an unknown outcome; GET: %v", incr, get)
	}
	if got, err := s.rdb.Get(ctx, "counter").Result(); !errors.Is(err, redis.Nil) {
		t.Errorf("the counter is %q (%v), want none", got, err)
	}
}
