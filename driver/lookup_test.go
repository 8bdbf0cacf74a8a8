package driver_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/internal/testkit"
)

// A resolver of the net package has the dials of one name share a lookup for as long as one
// of them waits for it. Where the name service has swallowed a question, dials that follow
// each other closely enough, as those of an outage and those that are made beside a hanging
// one do, would all wait for the answer to it, though the next question would be answered.
func TestADialDoesntWaitForTheLookupOfAnother(t *testing.T) {
	old := net.DefaultResolver
	t.Cleanup(func() { net.DefaultResolver = old })
	var asked atomic.Int64
	over := make(chan struct{})
	// No name service ever answers. The name is complete, and of tcp4, so that one
	// question is asked for each lookup.
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		asked.Add(1)
		<-over
		return nil, errors.New("no name service")
	}}
	d := newDriver(t, driver.Config{Logger: slog.New(slog.DiscardHandler)})
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for _, addr := range []string{"silent.test.:1", "silent.test.:2"} {
		rdb := redis.NewClient(d.Options(&redis.Options{Network: "tcp4", Addr: addr}))
		t.Cleanup(func() { _ = rdb.Close() })
		wg.Go(func() { _ = rdb.Ping(ctx).Err() })
	}
	t.Cleanup(func() {
		cancel()
		close(over)
		wg.Wait()
	})
	testkit.Await(t, "each of two dials has looked the name up", func() bool { return asked.Load() >= 2 })
}
