// Manager keeps the clients of two servers under names, ends one of the servers, and shows
// what callers and a readiness probe see of that.
//
//	go run ./examples/manager    # the servers are embedded
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/pooler"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the program at once
	logging.Disable()
	err := run(ctx, os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "manager:", err)
		os.Exit(1)
	}
}

// run is the program. It ends early when ctx is done.
func run(ctx context.Context, out io.Writer) (err error) {
	// Nodes without traffic are looked at five times a second, so that nobody waits here.
	m, err := driver.NewManager(driver.Config{
		Pool:   pooler.Config{HealthCheckInterval: 200 * time.Millisecond},
		Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.Close()) }()

	servers := make(map[string]*miniredis.Miniredis)
	for _, name := range []string{"orders", "users"} {
		s := miniredis.NewMiniRedis()
		s.RequireAuth("secret")
		if err := s.Start(); err != nil {
			return fmt.Errorf("starting an embedded server: %w", err)
		}
		defer s.Close()
		servers[name] = s
		// Add waits until the server answers: at most as long as ctx lasts.
		adding, cancel := context.WithTimeout(ctx, 10*time.Second)
		_, err := m.Add(adding, name, "redis://:secret@"+s.Addr())
		cancel()
		if err != nil {
			return err
		}
	}
	probe, end, err := serve(m.Handler())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, end()) }()

	show(ctx, out, m, probe)
	fmt.Fprintf(out, "\nThe server of orders is killed.\n\n")
	began := time.Now()
	servers["orders"].Close()
	await(ctx, func() bool { return !m.Status()[0].Healthy })
	fmt.Fprintf(out, "After %s that is known, though nobody has called.\n", time.Since(began).Round(time.Millisecond))
	show(ctx, out, m, probe)
	fmt.Fprintf(out, "\nThe server of orders is started again.\n\n")
	began = time.Now()
	if err := servers["orders"].Restart(); err != nil {
		return err
	}
	await(ctx, func() bool { return m.Status()[0].Healthy })
	fmt.Fprintf(out, "After %s that is known.\n", time.Since(began).Round(time.Millisecond))
	show(ctx, out, m, probe)
	return ctx.Err()
}

// show has both clients count, and prints what a caller and the probe are told.
func show(ctx context.Context, out io.Writer, m *driver.Manager, probe string) {
	for _, c := range m.Status() {
		began := time.Now()
		err := m.With(ctx, c.Name, func(ctx context.Context, rdb redis.UniversalClient) error {
			return rdb.Incr(ctx, "visits").Err()
		})
		said := "counts"
		if err != nil {
			said = err.Error()
		}
		fmt.Fprintf(out, "  With(%q), %s: %s\n", c.Name, time.Since(began).Round(100*time.Microsecond), said)
	}
	fmt.Fprintf(out, "  GET /health: %s\n", ask(ctx, probe))
}

// serve answers HTTP at /health until end is called.
func serve(h http.Handler) (url string, end func() error, err error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("/health", h)
	web := &http.Server{Handler: mux, ReadHeaderTimeout: time.Second}
	go func() { _ = web.Serve(listener) }() // until it is closed
	return fmt.Sprintf("http://%s/health", listener.Addr()), web.Close, nil
}

// ask asks as a probe does.
func ask(ctx context.Context, url string) string {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err.Error()
	}
	request.Close = true
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err.Error()
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return err.Error()
	}
	return response.Status + "\n    " + string(body)
}

// await waits until it is so, or ctx is done.
func await(ctx context.Context, so func() bool) {
	for ctx.Err() == nil && !so() {
		time.Sleep(time.Millisecond)
	}
}
