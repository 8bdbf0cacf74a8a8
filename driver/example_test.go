package driver_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/alicebob/miniredis/v2/server"
	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/pooler"
)

// startServer starts a server for an example.
func startServer() (addr string, stop func()) {
	m := miniredis.NewMiniRedis()
	if err := m.Start(); err != nil {
		log.Fatal(err)
	}
	return m.Addr(), m.Close
}

// The README's example: these lines and nothing else replace the pool of a
// go-redis client.
func Example() {
	addr, stop := startServer()
	defer stop()

	// One driver for the program. The zero Config has good defaults.
	d, err := driver.New(driver.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer d.Close()

	// Your own options go through d.Options; the client is go-redis's.
	rdb := redis.NewClient(d.Options(&redis.Options{Addr: addr}))
	defer rdb.Close()

	ctx := context.Background()
	if err := rdb.Set(ctx, "greeting", "hello", 0).Err(); err != nil {
		log.Fatal(err)
	}
	err = rdb.Incr(ctx, "visits").Err()
	if errors.Is(err, pooler.ErrUnknownOutcome) {
		log.Print("the INCR may or may not have run") // and wasn't run again
	}
	fmt.Println(rdb.Get(ctx, "greeting").Val(), rdb.Get(ctx, "visits").Val())

	// Output:
	// hello 1
}

// Several clients may share a driver; those of the same address share its
// connections. Each keeps its own settings: database 1 is never seen through a
// connection that has selected database 0.
func ExampleDriver_Options() {
	addr, stop := startServer()
	defer stop()
	d, err := driver.New(driver.Config{Pool: pooler.Config{MaxOpenConns: 50}})
	if err != nil {
		log.Fatal(err)
	}
	defer d.Close()

	users := redis.NewClient(d.Options(&redis.Options{Addr: addr, DB: 0}))
	defer users.Close()
	sessions := redis.NewClient(d.Options(&redis.Options{Addr: addr, DB: 1}))
	defer sessions.Close()

	ctx := context.Background()
	users.Set(ctx, "1", "Ada", 0)
	fmt.Println("in sessions:", sessions.Get(ctx, "1").Err())
	fmt.Println("in users:", users.Get(ctx, "1").Val())
	for _, n := range d.Nodes() {
		fmt.Println(n.Stats.OpenConnections, "connections of at most", n.Stats.MaxOpenConnections)
	}

	// Output:
	// in sessions: redis: nil
	// in users: Ada
	// 2 connections of at most 50
}

// Sockets are counted here; redis.Client.PoolStats counts handles.
func ExampleDriver_Nodes() {
	addr, stop := startServer()
	defer stop()
	d, err := driver.New(driver.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer d.Close()
	rdb := redis.NewClient(d.Options(&redis.Options{Addr: addr}))
	defer rdb.Close()
	for range 100 {
		rdb.Incr(context.Background(), "counter")
	}

	for _, n := range d.Nodes() {
		st := n.Stats
		fmt.Printf("node is %s: %d open, %d shared, %d idle\n", n.State, st.OpenConnections, st.Lanes, st.Idle)
		fmt.Printf("%d dials, %d of them failed, came back %d times\n", st.Dials, st.DialErrors, st.Heals)
		fmt.Printf("%d requests with unknown outcome, %d waiting\n", st.Unknown, st.Waiting)
	}

	// Output:
	// node is up: 1 open, 1 shared, 0 idle
	// 1 dials, 0 of them failed, came back 0 times
	// 0 requests with unknown outcome, 0 waiting
}

// replyless starts a server that runs INCR and hangs up in place of the reply.
func replyless() (addr string, stop func()) {
	m := miniredis.NewMiniRedis()
	if err := m.Start(); err != nil {
		log.Fatal(err)
	}
	m.Server().SetPreHook(func(c *server.Peer, cmd string, args ...string) bool {
		if !strings.EqualFold(cmd, "INCR") {
			return false
		}
		if _, err := m.Incr(args[0], 1); err != nil {
			log.Print(err)
		}
		c.Close()
		return true
	})
	return m.Addr(), m.Close
}

// A connection that is lost after INCR was sent: by default nothing runs it
// twice, and the caller is told. With RetryAll go-redis runs it again, as it does
// on its own pool.
func ExampleRetry() {
	ctx := context.Background()
	for _, retry := range []driver.Retry{driver.RetrySafe, driver.RetryAll} {
		addr, stop := replyless() // it runs INCR and hangs up in place of the reply
		d, err := driver.New(driver.Config{Retry: retry})
		if err != nil {
			log.Fatal(err)
		}
		rdb := redis.NewClient(d.Options(&redis.Options{Addr: addr, MaxRetries: 3}))

		err = rdb.Incr(ctx, "counter").Err()
		fmt.Printf("retry %s: unknown outcome: %t; ", retry, errors.Is(err, pooler.ErrUnknownOutcome))
		fmt.Println("the server counted", rdb.Get(ctx, "counter").Val())

		rdb.Close()
		d.Close()
		stop()
	}

	// Output:
	// retry safe: unknown outcome: true; the server counted 1
	// retry all: unknown outcome: false; the server counted 4
}

// Clients under names, and what a readiness probe is told of them.
func ExampleManager() {
	addr, stop := startServer()
	defer stop()

	m, err := driver.NewManager(driver.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()

	// Add waits until the server answers, as long as its context lasts.
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if _, err := m.Add(ctx, "orders", "redis://"+addr); err != nil {
		log.Fatal(err)
	}
	err = m.With(ctx, "orders", func(ctx context.Context, rdb redis.UniversalClient) error {
		return rdb.Incr(ctx, "visits").Err()
	})
	if errors.Is(err, driver.ErrNoHealthyNode) {
		log.Print("orders can't be served now") // known at once, without a wait
	}
	probe := httptest.NewRecorder()
	m.Handler().ServeHTTP(probe, httptest.NewRequest(http.MethodGet, "/ready?name=orders", nil))
	fmt.Println(err, probe.Code)
	// Output: <nil> 200
}

// What can't work is named when the driver is made, all of it at once.
func ExampleNew_validation() {
	_, err := driver.New(driver.Config{Pool: pooler.Config{MaxOpenConns: -5, BackoffMin: -time.Second}})
	fmt.Println(err)
	fmt.Println(errors.Is(err, pooler.ErrConfig))

	// Output:
	// everpool: bad configuration: MaxOpenConns is -5; allowed are -1 and more
	// everpool: bad configuration: BackoffMin is -1s; allowed are 0 and 1ms or more, it can't be switched off
	// true
}

// A Dial of your own opens the sockets: through a proxy or a tunnel, or to a
// name that only you can resolve. TLS, if the options ask for it, is put on top.
func ExampleConfig_dial() {
	addr, stop := startServer()
	defer stop()
	var opened atomic.Int64
	d, err := driver.New(driver.Config{
		Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			opened.Add(1)
			var nd net.Dialer
			return nd.DialContext(ctx, network, addr)
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer d.Close()
	rdb := redis.NewClient(d.Options(&redis.Options{Addr: "redis.internal:6379"}))
	defer rdb.Close()

	fmt.Println(rdb.Ping(context.Background()).Val(), "over", opened.Load(), "socket")

	// Output:
	// PONG over 1 socket
}

// OnEvent is told what happens to nodes and connections. It is called on the
// goroutine that caused the event, so it only takes note.
func ExampleConfig_onEvent() {
	addr, stop := startServer()
	defer stop()
	d, err := driver.New(driver.Config{Pool: pooler.Config{
		OnEvent: func(ev pooler.Event) {
			switch ev.Kind {
			case pooler.EventState:
				fmt.Println("node is", ev.State, ev.Err)
			case pooler.EventDial:
				fmt.Println("dial, error:", ev.Err)
			case pooler.EventClose:
				fmt.Println("close:", ev.Reason)
			case pooler.EventPin:
				fmt.Println("pin:", ev.Pin)
			}
		},
	}})
	if err != nil {
		log.Fatal(err)
	}
	rdb := redis.NewClient(d.Options(&redis.Options{Addr: addr}))
	rdb.Ping(context.Background())
	rdb.Close()
	d.Close()

	// Events of different goroutines may come in another order than they have happened in.

	// Unordered output:
	// dial, error: <nil>
	// close: pool_closed
}

// visits is the code under test of TestUnitTestWithMiniredis. It takes the
// client, and knows nothing of what is underneath.
func visits(ctx context.Context, rdb redis.Cmdable, page string) (int64, error) {
	var n *redis.IntCmd
	_, err := rdb.TxPipelined(ctx, func(p redis.Pipeliner) error {
		n = p.Incr(ctx, "visits:"+page)
		p.Expire(ctx, "visits:"+page, time.Hour)
		return nil
	})
	return n.Val(), err
}

// A unit test with miniredis is what it was without everpool, one line apart.
func TestUnitTestWithMiniredis(t *testing.T) {
	m := miniredis.RunT(t)
	d, err := driver.New(driver.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	rdb := redis.NewClient(d.Options(&redis.Options{Addr: m.Addr()}))
	t.Cleanup(func() { rdb.Close() })

	for want := int64(1); want <= 2; want++ {
		if n, err := visits(t.Context(), rdb, "home"); err != nil || n != want {
			t.Errorf("visit %d: %d, %v", want, n, err)
		}
	}
	m.CheckGet(t, "visits:home", "2")

	m.FastForward(time.Hour) // miniredis's own clock, as ever
	if n, err := visits(t.Context(), rdb, "home"); err != nil || n != 1 {
		t.Errorf("after an hour: %d, %v; want 1", n, err)
	}

	m.SetError("ERR injected")
	if err := rdb.Get(t.Context(), "visits:home").Err(); err == nil || err.Error() != "ERR injected" {
		t.Errorf("with miniredis's injected error: %v", err)
	}
	m.SetError("")

	// A restart costs a read some time, and no error.
	m.Close()
	if err := m.Restart(); err != nil {
		t.Fatal(err)
	}
	if n, err := rdb.Get(t.Context(), "visits:home").Int(); err != nil || n != 1 {
		t.Errorf("after a restart: %d, %v; want 1", n, err)
	}
}

// The README can't show what isn't run here.
func TestReadmeShowsTheExample(t *testing.T) {
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(readme), "```go\n")
	shown, _, ok2 := strings.Cut(rest, "```")
	if !ok || !ok2 {
		t.Fatal("README.md has no go example")
	}
	source, err := os.ReadFile("example_test.go")
	if err != nil {
		t.Fatal(err)
	}
	var want strings.Builder
	for line := range strings.Lines(shown) {
		if strings.TrimSpace(line) != "" {
			want.WriteString("\t")
		}
		want.WriteString(strings.ReplaceAll(line, `"localhost:6379"`, "addr"))
	}
	if !strings.Contains(string(source), want.String()) {
		t.Errorf("README.md shows other lines than Example:\n%s", want.String())
	}
}
