// Manager keeps the clients of two servers under names, kills one of the servers, and shows
// what callers and a readiness probe see of that, and callers of go-redis alone.
//
//	go run ./examples/manager    # starts redis-server or valkey-server; without one the servers are embedded
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

	servers, stock := make(map[string]*server), make(map[string]*redis.Client)
	for _, name := range []string{"orders", "users"} {
		s, err := newServer()
		if err != nil {
			return err
		}
		defer s.end()
		servers[name] = s
		// Add waits until the server answers: at most as long as ctx lasts.
		adding, cancel := context.WithTimeout(ctx, 10*time.Second)
		_, err = m.Add(adding, name, "redis://:"+password+"@"+s.addr)
		cancel()
		if err != nil {
			return err
		}
		stock[name] = redis.NewClient(&redis.Options{Addr: s.addr, Password: password})
		defer stock[name].Close()
	}
	probe, end, err := serve(m.Handler())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, end()) }()

	show(ctx, out, m, stock, probe)
	fmt.Fprintf(out, "\nThe server of orders is killed.\n\n")
	began := time.Now()
	servers["orders"].kill()
	await(ctx, func() bool { return !m.Status()[0].Healthy })
	fmt.Fprintf(out, "After %s that is known, though nobody has called.\n", time.Since(began).Round(time.Millisecond))
	show(ctx, out, m, stock, probe)
	fmt.Fprintf(out, "\nThe server of orders is started again.\n\n")
	began = time.Now()
	if err := servers["orders"].start(); err != nil {
		return err
	}
	await(ctx, func() bool { return m.Status()[0].Healthy })
	fmt.Fprintf(out, "After %s that is known.\n", time.Since(began).Round(time.Millisecond))
	show(ctx, out, m, stock, probe)
	return ctx.Err()
}

// show has all clients count, and prints what callers and the probe are told.
func show(ctx context.Context, out io.Writer, m *driver.Manager, stock map[string]*redis.Client, probe string) {
	for _, c := range m.Status() {
		told(out, fmt.Sprintf("With(%q)", c.Name), func() error {
			return m.With(ctx, c.Name, func(ctx context.Context, rdb redis.UniversalClient) error {
				return rdb.Incr(ctx, "visits").Err()
			})
		})
		told(out, "go-redis alone", func() error { return stock[c.Name].Incr(ctx, "visits").Err() })
	}
	fmt.Fprintf(out, "  GET /health: %s\n", ask(ctx, probe))
}

// told prints what a caller is told, and after how long.
func told(out io.Writer, who string, call func() error) {
	began := time.Now()
	said := "counts"
	if err := call(); err != nil {
		said = err.Error()
	}
	fmt.Fprintf(out, "  %s, %s: %s\n", who, time.Since(began).Round(100*time.Microsecond), said)
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
