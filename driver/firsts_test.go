package driver_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/pooler"
)

// seen are how many lines have a text, and the last of them.
func (l *lines) seen(text string) (n int, last string) {
	all := l.with(text)
	if len(all) == 0 {
		return 0, ""
	}
	return len(all), all[len(all)-1]
}

// Each node says once what it goes by.
func TestANodeSaysItsSettingsOnce(t *testing.T) {
	log := new(lines)
	inLab(t, driver.Config{
		Logger: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})), Pool: pooler.Config{MaxOpenConns: 7},
	}, func(l *lab) {
		for range 2 {
			rdb := l.client(func(o *redis.Options) { o.Password = "hunter2" })
			rdb.Ping(l.Context())
		}
		n, line := log.seen("node is used")
		for _, want := range []string{"level=DEBUG", "node=" + labAddr, "pool.MaxOpenConns=7", "pool.WaitTimeout=5s", "retry=safe", "tls=false"} {
			if n != 1 || !strings.Contains(line, want) || strings.Contains(line, "hunter2") {
				t.Errorf("%d lines, %q; want one with %s", n, line, want)
			}
		}
	})
}

// Of the unknown outcomes of an outage the first is logged, and that of the next outage.
func TestTheFirstUnknownOutcomeOfAnOutageIsLogged(t *testing.T) {
	log := new(lines)
	inBothLabs(t, driver.Config{Logger: log.logger()}, func(l *lab) {
		const text = "outcome of a request is unknown"
		before, _ := log.seen(text)
		rdb := l.client(func(o *redis.Options) { o.MaxRetries = -1 })
		for outage := range 2 {
			rdb.Ping(l.Context())
			l.f.Freeze(true)
			var wg sync.WaitGroup
			var unknown atomic.Int64
			for range 3 {
				wg.Go(func() {
					if errors.Is(rdb.Incr(l.Context(), "n").Err(), pooler.ErrUnknownOutcome) {
						unknown.Add(1)
					}
				})
			}
			synctest.Wait()
			l.f.DownRefused()
			wg.Wait()
			ctx, cancel := context.WithTimeout(l.Context(), time.Second)
			rdb.Ping(ctx) // has the node dialed, in vain
			cancel()
			synctest.Wait()
			if n := unknown.Load(); n == 0 || n < 3 && !l.leased { // who has no connection yet has sent nothing
				l.Errorf("%d outcomes are unknown", n)
			}
			n, line := log.seen(text)
			if n != before+outage+1 || !strings.Contains(line, "level=WARN") || !strings.Contains(line, "node="+labAddr+" command=INCR") {
				l.Errorf("%d lines of %d outages; the last is %q", n-before, outage+1, line)
			}
			l.f.Freeze(false)
			l.f.Up()
			time.Sleep(5 * time.Second) // of the bubble: the node is up again
		}
	})
}

// Of the waits in vain the first is logged, until there were none for a minute.
func TestTheFirstWaitTimeoutIsLogged(t *testing.T) {
	log := new(lines)
	inLab(t, driver.Config{Logger: log.logger(), Pool: pooler.Config{SharedConns: -1, MaxOpenConns: 1, WaitTimeout: 100 * time.Millisecond}}, func(l *lab) {
		rdb := l.client(func(o *redis.Options) { o.MaxRetries = -1 })
		wait := func(n int) {
			l.Helper()
			ctx, cancel := context.WithCancel(l.Context())
			var wg sync.WaitGroup
			wg.Go(func() { rdb.BLPop(ctx, time.Second, "nothing") })
			synctest.Wait()
			for range n {
				if err := rdb.Get(l.Context(), "k").Err(); !errors.Is(err, pooler.ErrWaitTimeout) {
					l.Errorf("got %v; want a wait timeout", err)
				}
			}
			wg.Wait()
			cancel()
			synctest.Wait()
		}
		wait(3)
		if n, _ := log.seen("got no connection in time"); n != 1 {
			l.Errorf("%d lines", n)
		}
		time.Sleep(2 * time.Minute) // of the bubble
		wait(1)
		if n, line := log.seen("got no connection in time"); n != 2 || !strings.Contains(line, "level=WARN") || !strings.Contains(line, "waited=") {
			l.Errorf("%d lines, the last is %q", n, line)
		}
	})
}
