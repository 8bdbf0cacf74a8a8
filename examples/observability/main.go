// Observability shows what a service sees of its Redis: spans and metrics of
// OpenTelemetry on the terminal, metrics for Prometheus and the hot keys on a
// web page.
//
//	go run ./examples/observability                        # an embedded server
//	go run ./examples/observability -addr localhost:6379   # your server; keys shop:* are written, to go in an hour
//
// It works until it is stopped, or for as long as -for says.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9/logging"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the program at once
	logging.Disable()
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "observability:", err)
		os.Exit(1)
	}
}

// run is the program. It ends when ctx is done, or after -for.
func run(ctx context.Context, args []string, out io.Writer) (err error) {
	flags := flag.NewFlagSet("observability", flag.ContinueOnError)
	flags.SetOutput(out)
	addr := flags.String("addr", "", "address of a real `server`; empty: an embedded one")
	listen := flags.String("listen", "127.0.0.1:9121", "`address` of the web page; port 0: any")
	length := flags.Duration("for", 0, "how long to work; 0: until stopped")
	spans := flags.Int("spans", 5, "how many spans to print, each with a name of its own")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *length < 0 || *spans < 0 {
		return fmt.Errorf("-for is %s and -spans is %d; allowed are 0 and more", *length, *spans)
	}
	if *addr == "" {
		m := miniredis.NewMiniRedis()
		if err := m.Start(); err != nil {
			return fmt.Errorf("starting the embedded server: %w", err)
		}
		defer m.Close()
		*addr = m.Addr()
	}
	if *length > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, *length)
		defer cancel()
	}

	out = &lockedWriter{out: out}
	s, err := newService(*addr, out, *spans)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()

	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		return err
	}
	web := &http.Server{Handler: s.pages(), ReadHeaderTimeout: time.Second}
	defer web.Close()
	go func() { _ = web.Serve(listener) }() // until web.Close
	fmt.Fprintf(out, `The server is %s. While this program works:

  http://%s/metrics           what Prometheus reads
  http://%[2]s/hotkeys           which keys are used most
  http://%[2]s/debug/everpool    what the pool is doing, and what is wrong

Ctrl-C ends it. The first %d spans of different names, as OpenTelemetry has them:

`, *addr, listener.Addr(), *spans)

	shop(ctx, s.rdb)
	return s.report()
}

// lockedWriter lets exporters and the program print without mixing their lines.
type lockedWriter struct {
	mu  sync.Mutex
	out io.Writer
}

func (w *lockedWriter) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.out.Write(b)
}
