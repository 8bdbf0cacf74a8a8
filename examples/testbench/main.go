// Testbench shows everpool beside go-redis's own pool: the same work on both, the same
// faults at the same time, live in a browser.
//
//	go run ./examples/testbench                                 # then open the page that it names
//	go run ./examples/testbench -duration 30s -report out.html  # without a browser
//	go run ./examples/testbench -help                           # all flags, faults and workloads
//
// It starts the servers that it needs, and ends them. In the end it compares what the
// callers were told with what the servers have: see [account] and [verdict].
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/redis/go-redis/v9/logging"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the program at once
	logging.Disable()            // go-redis reports each failed dial of its own
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err == nil || errors.Is(err, flag.ErrHelp) {
		return
	}
	fmt.Fprintln(os.Stderr, "testbench:", err)
	if errors.Is(err, errVerdict) {
		os.Exit(1)
	}
	os.Exit(2)
}

// errVerdict is the error of a run whose verdict isn't passed.
var errVerdict = errors.New("the verdict isn't passed")

// run is the program. When ctx is done it ends early, with a verdict.
func run(ctx context.Context, args []string, out io.Writer) error {
	set, err := parse(args, out)
	if err != nil {
		return err
	}
	b, err := newBench(ctx, set, out)
	if err != nil {
		return err
	}
	return errors.Join(b.run(ctx), b.close())
}
