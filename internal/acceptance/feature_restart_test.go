package acceptance_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/internal/testkit/drivertest"
	"github.com/everpool/everpool/pooler"
)

// A cached value that changed while its connection was dead isn't served for
// ever.
func TestTheClientSideCacheSurvivesARestart(t *testing.T) {
	t.Parallel() // what runs are its subtests
	for _, kind := range testkit.Kinds {
		t.Run(string(kind), func(t *testing.T) {
			testkit.Waits(t)
			ctx := context.Background()
			server := testkit.Start(t, kind, durable)
			s := ourSide(t, driver.Config{}, redis.Options{Addr: server.Addr, Protocol: 3, ClientSideCacheConfig: &redis.ClientSideCacheConfig{}})
			for round := range 3 {
				value := fmt.Sprint("before ", round)
				server.Do(t, "SET", "cached", value)
				testkit.Await(t, "the cache has the value", func() bool { return s.rdb.Get(ctx, "cached").Val() == value })
				hits := s.rdb.CSCStats().Hits
				for range 100 {
					if got, err := s.rdb.Get(ctx, "cached").Result(); err != nil || got != value {
						t.Fatalf("cached value: %q, %v; want %q", got, err, value)
					}
				}
				t.Logf("100 reads, %d from the cache", s.rdb.CSCStats().Hits-hits)
				if s.rdb.CSCStats().Hits == hits {
					t.Error("the cache answers nothing")
				}
				server.Kill()
				server.Restart(t)
				value = fmt.Sprint("after ", round)
				server.Do(t, "SET", "cached", value)
				testkit.Await(t, "the new value is seen", func() bool { return s.rdb.Get(ctx, "cached").Val() == value })
			}
			st := s.stats(t)
			t.Logf("pins %v, closes %v", st.Pins, st.Closes)
			if len(st.Pins) == 0 {
				t.Error("tracking has pinned nothing")
			}
		})
	}
}

// A subscription comes back with the server.
func TestASubscriptionSurvivesARestart(t *testing.T) {
	t.Parallel() // what runs are its subtests
	for _, protocol := range []int{2, 3} {
		t.Run(fmt.Sprintf("RESP%d", protocol), func(t *testing.T) {
			testkit.Waits(t)
			ctx := context.Background()
			server := testkit.Start(t, testkit.Redis)
			s := ourSide(t, driver.Config{}, redis.Options{Addr: server.Addr, Protocol: protocol})
			sub := s.rdb.Subscribe(ctx, "one", "two")
			defer sub.Close()
			pattern := s.rdb.PSubscribe(ctx, "t*")
			defer pattern.Close()
			messages, matches := sub.Channel(), pattern.Channel()
			for round := range 3 {
				// Publish until it arrives: to subscribe again takes a moment.
				text := fmt.Sprint("message ", round)
				for _, ch := range []<-chan *redis.Message{messages, matches} {
					var got *redis.Message
					testkit.Await(t, "the message arrives", func() bool {
						if err := s.rdb.Publish(ctx, "two", text).Err(); err != nil && !errors.Is(err, pooler.ErrUnknownOutcome) {
							t.Fatalf("publish: %v", err)
						}
						select {
						case got = <-ch:
						case <-time.After(20 * time.Millisecond):
						}
						return got != nil && got.Payload == text
					})
					if got.Channel != "two" {
						t.Errorf("the message came on %q", got.Channel)
					}
				}
				if round < 2 {
					server.Kill()
					server.Restart(t)
				}
			}
			if st := s.stats(t); st.Streams != 2 || st.State != pooler.StateUp {
				t.Errorf("%d streams, node %v; want 2 and up", st.Streams, st.State)
			}
		})
	}
}

// MONITOR shows what others do, and works again on another connection after a
// restart. By hand: the stock Monitor reads on a goroutine that nobody can wait
// for.
func TestMonitorWorksBeforeAndAfterARestart(t *testing.T) {
	testkit.Waits(t)
	ctx := context.Background()
	server := testkit.Start(t, testkit.Redis)
	s := ourSide(t, driver.Config{}, redis.Options{Addr: server.Addr})
	for round := range 2 {
		conn := s.rdb.Conn()
		if got, err := conn.Do(ctx, "MONITOR").Result(); err != nil || got != "OK" {
			t.Fatalf("MONITOR: %v, %v", got, err)
		}
		seen := fmt.Sprintf("seen-%d", round)
		if err := s.rdb.Get(ctx, seen).Err(); err != nil && !errors.Is(err, redis.Nil) {
			t.Fatal(err)
		}
		// Whatever asks for a reply gets the next line.
		for shown := false; !shown; {
			line, err := conn.Do(ctx, "PING").Text()
			if err != nil {
				t.Fatalf("line of MONITOR: %v", err)
			}
			shown = strings.Contains(line, seen)
		}
		if st := s.stats(t); st.Streams != 1 || st.Pinned != 1 {
			t.Errorf("%d streams, %d pinned; want 1 of each: %v", st.Streams, st.Pinned, st.Pins)
		}
		// The handle goes back to go-redis with lines that nobody has read.
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
		for i := range 20 {
			payload := fmt.Sprint(round, i)
			if got, err := s.rdb.Echo(ctx, payload).Result(); err != nil || got != payload {
				t.Fatalf("after MONITOR: asked for %q, got %q, %v", payload, got, err)
			}
		}
		if st := s.settled(t); st.Streams != 0 || st.Pinned != 0 {
			t.Errorf("%d streams, %d pinned after MONITOR has ended; want none", st.Streams, st.Pinned)
		}
		server.Kill()
		server.Restart(t)
	}
}

// Batches of automatic pipelines follow the same rules as any other request.
func TestAutoPipelineSurvivesARestart(t *testing.T) {
	testkit.Waits(t)
	drivertest.BothWays(t, func(t *testing.T, shared int) {
		server := testkit.Start(t, testkit.Redis, durable)
		cfg := driver.Config{Pool: pooler.Config{MaxOpenConns: sockets, SharedConns: shared}}
		reader, writer := ourSide(t, cfg, redis.Options{Addr: server.Addr}), ourSide(t, cfg, redis.Options{Addr: server.Addr})
		reader.warm(t, sockets)
		ctx := context.Background()
		gets, err := reader.rdb.AutoPipeline()
		if err != nil {
			t.Fatal(err)
		}
		both, err := writer.rdb.AutoPipeline()
		if err != nil {
			t.Fatal(err)
		}
		stop := make(chan struct{})
		read, mixed := new(tally), new(tally)
		wg := repeat(t, stop, callers, func(id, i int) {
			payload := fmt.Sprintf("%d-%d", id, i)
			ap, saw := gets, read
			if id%2 == 0 {
				ap, saw = both, mixed
				if i%8 == 0 {
					saw.incr(saw.call(func() error { return ap.Incr(ctx, "counter").Err() }))
					return
				}
			}
			saw.reads.Add(1)
			err := saw.call(func() error {
				got, err := ap.Echo(ctx, payload).Result()
				if err == nil && got != payload {
					saw.wrong.Add(1)
				}
				return err
			})
			if err != nil {
				saw.failedReads.Add(1)
			}
		})
		pause(200 * time.Millisecond)
		server.Kill()
		pause(300 * time.Millisecond)
		read.arm()
		mixed.arm()
		server.Restart(t)
		testkit.Await(t, "both succeed again", func() bool { return read.first.Load() != 0 && mixed.first.Load() != 0 })
		pause(long(200 * time.Millisecond))
		close(stop)
		wg.Wait()
		reader.settled(t)
		writer.settled(t)
		t.Logf("reads alone %d, %d failed%s", read.reads.Load(), read.failedReads.Load(), read.failures())
		t.Logf("reads beside INCRs %d, %d failed; %d INCR acknowledged, %d unknown, %d never sent%s", mixed.reads.Load(), mixed.failedReads.Load(), mixed.incrs.Load(), mixed.unknown.Load(), mixed.never.Load(), mixed.failures())
		if read.failedReads.Load() != 0 || read.wrong.Load()+mixed.wrong.Load() != 0 {
			t.Errorf("%d reads failed, %d replies belong to other calls", read.failedReads.Load(), read.wrong.Load()+mixed.wrong.Load())
		}
		mixed.checkCounter(t, server.Do(t, "GET", "counter"))
	})
}

// Maintenance notifications that the user asks for, of a server that has none,
// do no harm: that is what "auto" means.
func TestMaintNotificationsInAutoModeWorkAsStock(t *testing.T) {
	t.Parallel() // what runs are its subtests
	for _, kind := range testkit.Kinds {
		t.Run(string(kind), func(t *testing.T) {
			testkit.Works(t)
			server := testkit.Start(t, kind, durable)
			s := ourSide(t, driver.Config{Pool: pooler.Config{MaxOpenConns: sockets}}, redis.Options{
				Addr: server.Addr, Protocol: 3,
				MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeAuto, EndpointType: maintnotifications.EndpointTypeNone},
			})
			s.survive(t, server, 300*time.Millisecond)
			st := s.stats(t)
			t.Logf("pins %v, %d open", st.Pins, st.OpenConnections)
		})
	}
}
