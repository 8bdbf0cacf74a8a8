// Quickstart shows an outage through the eyes of the callers of two go-redis
// clients: one with everpool underneath, one with go-redis's own connections.
//
//	go run ./examples/quickstart                        # an embedded server, stopped and started again
//	go run ./examples/quickstart -addr localhost:6379   # your server; only this program's connections are cut
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
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/pooler"
)

const (
	callers    = 16
	pace       = 2 * time.Millisecond
	clientName = "everpool-quickstart"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the program at once
	logging.Disable()            // go-redis reports each failed dial of its own
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "quickstart:", err)
		os.Exit(1)
	}
}

// run is the program. It ends early, with what it has measured, when ctx is done.
func run(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("quickstart", flag.ContinueOnError)
	flags.SetOutput(out)
	addr := flags.String("addr", "", "address of a real `server`; empty: an embedded one")
	length := flags.Duration("for", 3*time.Second, "how long the callers work")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *length < 300*time.Millisecond {
		return fmt.Errorf("-for is %s; allowed are 300ms and more", *length)
	}
	srv, err := newServer(ctx, *addr)
	if err != nil {
		return err
	}
	defer srv.close()
	d := &diary{out: out}

	// This is all it takes: a driver, and its Options around your own.
	drv, err := driver.New(driver.Config{
		Pool:   pooler.Config{OnEvent: d.event}, // for the lines that this program prints
		Logger: slog.New(slog.DiscardHandler),   // instead of those
	})
	if err != nil {
		return err
	}
	defer drv.Close()
	ours := newSide("with everpool", drv.Options(&redis.Options{Addr: srv.addr, ClientName: clientName}))
	defer ours.rdb.Close()

	var dialer countingDialer
	stock := newSide("go-redis alone", &redis.Options{Addr: srv.addr, ClientName: clientName, Dialer: dialer.Dial})
	defer stock.rdb.Close()
	ours.dials = func() int64 { return totalDials(drv) }
	stock.dials = dialer.dials.Load
	sides := []*side{ours, stock}
	if err := srv.prepare(ctx, sides); err != nil {
		return err
	}

	fmt.Fprintf(out, `Two clients, one server, one outage.

Both clients are go-redis %s with the same options. Each has %d callers that
send a request every %s: seven GETs, then an INCR. One client has everpool
underneath, the other go-redis's own connections.
%s

`, redis.Version(), callers, pace, srv.about)
	work(ctx, d, srv, sides, *length)
	for _, s := range sides {
		if s.counter, err = srv.count(s); err != nil {
			return fmt.Errorf("reading the counter of the client %s: %w", s.name, err)
		}
	}
	fmt.Fprintln(out)
	reportCallers(out, ours, stock)
	for _, n := range drv.Nodes() {
		reportNode(out, n)
	}
	return nil
}

// work has the callers of both sides work for the given time, with the outage in
// the middle of it.
func work(ctx context.Context, d *diary, srv *server, sides []*side, length time.Duration) {
	working, stop := context.WithCancel(ctx)
	defer stop()
	d.begin()
	d.note("the callers start")
	var wg sync.WaitGroup
	for _, s := range sides {
		for range callers {
			wg.Go(func() { s.call(working, pace) })
		}
	}
	third := length / 3
	pause(ctx, third)
	srv.outage(ctx, d, min(third, 2*time.Second))
	pause(ctx, length-third-min(third, 2*time.Second))
	if ctx.Err() != nil {
		d.note("interrupted; these are the figures so far")
	} else {
		d.note("the callers stop")
	}
	stop()
	wg.Wait()
	d.end()
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

// diary prints what happens, and when.
type diary struct {
	mu    sync.Mutex
	out   io.Writer
	start time.Time // zero: not begun, or ended
}

func (d *diary) begin() {
	d.mu.Lock()
	d.start = time.Now()
	d.mu.Unlock()
}

// end has the diary take no more notes: a pool's event may come after the
// requests that it is about, in the middle of the report.
func (d *diary) end() {
	d.mu.Lock()
	d.start = time.Time{}
	d.mu.Unlock()
}

func (d *diary) note(format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.start.IsZero() {
		fmt.Fprintf(d.out, "  %5.2f s  %s\n", time.Since(d.start).Seconds(), fmt.Sprintf(format, args...))
	}
}

// event notes the node's changes of state. It is the pool's OnEvent.
func (d *diary) event(ev pooler.Event) {
	switch {
	case ev.Kind != pooler.EventState:
	case ev.State == pooler.StateUp:
		d.note("everpool: the node is up again after %s", ev.Duration.Round(time.Millisecond))
	default:
		d.note("everpool: the node is %s (%v)", ev.State, ev.Err)
	}
}
