package main

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/internal/testkit"
)

// BenchmarkOutage is where the figures in the README come from: 64 callers in a
// loop on a redis-server of their own (seven GETs, then an INCR, every other one in
// a transaction; default retries), a subscriber beside them, and a fault in the
// middle. The custom metrics count; ns/op is the length of the experiment.
//
//	go test -run '^$' -bench Outage -benchtime 1x -count 3 ./examples/quickstart
func BenchmarkOutage(b *testing.B) {
	restart := fault{
		length: 1500 * time.Millisecond, timeout: time.Second,
		begin: func(s *testkit.Server) { s.Kill() },
		end:   func(tb testing.TB, s *testkit.Server) { s.StartAgain(tb) },
	}
	freeze := fault{
		length: time.Second, timeout: 100 * time.Millisecond,
		begin: func(s *testkit.Server) { s.Freeze() },
		end:   func(_ testing.TB, s *testkit.Server) { s.Thaw() },
	}
	for _, bench := range []struct {
		name  string
		fault fault
		ours  bool
	}{
		{"fault=restart/client=stock", restart, false},
		{"fault=restart/client=everpool", restart, true},
		{"fault=freeze/client=stock", freeze, false},
		{"fault=freeze/client=everpool", freeze, true},
	} {
		b.Run(bench.name, func(b *testing.B) {
			for b.Loop() {
				bench.fault.run(b, bench.ours)
			}
		})
	}
}

// fault is what happens to the server.
type fault struct {
	length  time.Duration
	timeout time.Duration // of the clients' reads and writes
	begin   func(*testkit.Server)
	end     func(testing.TB, *testkit.Server)
}

func (f fault) run(b *testing.B, ours bool) {
	const calm = 500 * time.Millisecond // before the fault, and two more after it
	srv := testkit.Start(b, testkit.Redis, testkit.WithArgs("--appendonly", "yes", "--appendfsync", "always"))
	defer srv.Close()
	o := &redis.Options{Addr: srv.Addr, ReadTimeout: f.timeout, WriteTimeout: f.timeout}
	var dialer countingDialer
	if ours {
		d, err := driver.New(driver.Config{Dial: dialer.Dial, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			b.Fatal(err)
		}
		defer d.Close()
		o = d.Options(o)
	} else {
		o.Dialer = dialer.Dial
	}
	s := newSide("", o)
	s.txEvery = 2
	defer s.rdb.Close()
	srv.Do(b, "SET", s.key, "value")
	subscription := s.rdb.Subscribe(context.Background(), "news")
	messages := subscription.Channel()
	defer func() {
		_ = subscription.Close()
		for range messages { // until go-redis has ended its sender
			continue
		}
	}()

	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() { s.call(ctx, 0) })
	}
	pause(ctx, calm)
	before := dialer.dials.Load()
	f.begin(srv)
	pause(ctx, f.length)
	f.end(b, srv)
	ended := time.Now()
	wg.Go(func() { publish(ctx, srv) })
	deaf := -1.0
	for deaf < 0 && time.Since(ended) < 10*time.Second {
		select {
		case <-messages:
			deaf = float64(time.Since(ended).Milliseconds())
		case <-time.After(10 * time.Millisecond):
		}
	}
	pause(ctx, 3*calm-time.Since(ended))
	stop()
	wg.Wait()
	srv.WaitReady(b)
	counted, err := s.rdb.Get(context.Background(), s.incrKey).Int()
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(s.reads), "failed-GETs")
	b.ReportMetric(float64(s.failures()-s.reads), "failed-INCRs")
	b.ReportMetric(float64(s.failed[outcomeUnknown]), "told-unknown")
	b.ReportMetric(float64(s.txs), "transactions-failed-otherwise")
	b.ReportMetric(deaf, "subscriber-deaf-ms")
	b.ReportMetric(float64(max(0, counted-s.incrs)), "INCRs-run-beyond-calls")
	b.ReportMetric(float64(dialer.dials.Load()-before), "dials")
	b.ReportMetric(float64(s.slowest.Milliseconds()), "slowest-ms")
	b.ReportMetric(float64(s.gap.Milliseconds()), "no-answer-ms")
}

// publish sends a message every few milliseconds.
func publish(ctx context.Context, srv *testkit.Server) {
	for ctx.Err() == nil {
		_, _ = srv.Call(ctx, "PUBLISH", "news", "hello") // it may still be starting
		pause(ctx, 5*time.Millisecond)
	}
}
