// Cluster kills a primary of a Redis cluster, and shows what the callers of two go-redis
// clients see of that: one with everpool underneath, one with go-redis's own connections.
//
//	go run ./examples/cluster    # needs redis-server or valkey-server on the PATH; starts six, and ends them
//
// All figures that it prints are measured in that very run.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/pooler"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the program at once
	logging.Disable()            // go-redis reports each failed dial of its own
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "cluster:", err)
		os.Exit(1)
	}
}

// run is the program. It ends early when ctx is done.
func run(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("cluster", flag.ContinueOnError)
	flags.SetOutput(out)
	callers := flags.Int("callers", 16, "how many `callers` each client has")
	timeout := flags.Duration("node-timeout", time.Second, "the servers' cluster-node-`timeout`")
	after := flags.Duration("for", 3*time.Second, "how long the callers work on after the election")
	if err := flags.Parse(args); err != nil {
		return err
	}
	fmt.Fprintln(out, "Starting three primaries and three replicas ...")
	c, err := startCluster(ctx, *timeout)
	if err != nil {
		return err
	}
	defer c.stop()

	// This is all it takes: a driver, its ClusterOptions around your own, and, for the last
	// tenth of the throughput, Bind.
	drv, err := driver.New(driver.Config{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	defer drv.Close()
	ours := &side{name: "with everpool", rdb: redis.NewClusterClient(drv.ClusterOptions(c.options()))}
	defer ours.rdb.Close()
	drv.Bind(ours.rdb)
	stock := &side{name: "go-redis alone", rdb: redis.NewClusterClient(c.options())}
	defer stock.rdb.Close()
	sides := []*side{ours, stock}

	working, stop := context.WithCancel(ctx)
	defer stop()
	var wg sync.WaitGroup
	for _, s := range sides {
		for i := range *callers {
			wg.Go(func() { s.call(working, i) })
		}
	}
	pause(ctx, time.Second)
	victim := c.nodes[0]
	fmt.Fprintf(out, "Both clients have %d callers: three GETs, then an INCR, over all slots. %s is killed now.\n", *callers, victim.addr)
	killed := time.Now()
	for _, s := range sides {
		s.from.Store(killed.UnixNano())
	}
	victim.kill()
	heir, err := c.awaitHeir(ctx, victim.addr)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "The others have elected %s after %s.\n\n", heir, time.Since(killed).Round(10*time.Millisecond))
	pause(ctx, *after)
	stop()
	wg.Wait()

	fmt.Fprintf(out, "%-26s%16s%16s\n", "", ours.name, stock.name)
	row := func(what string, of func(*side) any) {
		fmt.Fprintf(out, "%-26s%16v%16v\n", what, of(ours), of(stock))
	}
	row("calls", func(s *side) any { return s.calls.Load() })
	row("failed", func(s *side) any { return s.failed.Load() })
	row("  of unknown outcome", func(s *side) any { return s.unknown.Load() })
	row("the slowest call", func(s *side) any { return time.Duration(s.slowest.Load()).Round(time.Millisecond) })
	row("the last failure after", func(s *side) any { return time.Duration(s.last.Load()).Round(time.Millisecond) })
	fmt.Fprintln(out, "\nAn INCR whose primary dies before it answers may have run: everpool says so\n(pooler.ErrUnknownOutcome), and doesn't run it again.")
	for _, n := range drv.Nodes() {
		fmt.Fprintf(out, "%s: %s, %s, %d slots, %d dials\n", n.Addr, n.State, n.Role, n.Slots.Count(), n.Stats.Dials)
	}
	return ctx.Err()
}

// side is a client and what its callers have seen.
type side struct {
	name                   string
	rdb                    *redis.ClusterClient
	from                   atomic.Int64 // when the primary was killed, as UnixNano
	calls, failed, unknown atomic.Int64
	slowest, last          atomic.Int64 // nanoseconds
}

// call is a caller: it works until ctx is done, on keys all over the cluster.
func (s *side) call(ctx context.Context, caller int) {
	for i := 0; ctx.Err() == nil; i++ {
		key := fmt.Sprintf("%s:%d:%d", s.name, caller, i%100)
		began := time.Now()
		var err error
		if i%4 == 3 {
			err = s.rdb.Incr(context.Background(), key).Err()
		} else if err = s.rdb.Get(context.Background(), key).Err(); errors.Is(err, redis.Nil) {
			err = nil
		}
		s.note(err, time.Since(began))
		pause(ctx, 5*time.Millisecond)
	}
}

// note takes note of a call.
func (s *side) note(err error, took time.Duration) {
	s.calls.Add(1)
	for {
		if old := s.slowest.Load(); int64(took) <= old || s.slowest.CompareAndSwap(old, int64(took)) {
			break
		}
	}
	if err == nil {
		return
	}
	s.failed.Add(1)
	if errors.Is(err, pooler.ErrUnknownOutcome) {
		s.unknown.Add(1)
	}
	if from := s.from.Load(); from != 0 {
		s.last.Store(time.Now().UnixNano() - from)
	}
}

// pause waits for the given time or until ctx is done.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
