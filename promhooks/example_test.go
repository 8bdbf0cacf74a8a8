package promhooks_test

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/alicebob/miniredis/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/hooks"
	"github.com/everpool/everpool/promhooks"
)

// startServer starts a server for an example.
func startServer() (addr string, stop func()) {
	m := miniredis.NewMiniRedis()
	if err := m.Start(); err != nil {
		log.Fatal(err)
	}
	return m.Addr(), m.Close
}

// show prints the lines of a scrape that begin so.
func show(reg *prometheus.Registry, prefixes ...string) {
	response := httptest.NewRecorder()
	promhttp.HandlerFor(reg, promhttp.HandlerOpts{}).ServeHTTP(response, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	for line := range strings.Lines(response.Body.String()) {
		for _, p := range prefixes {
			if strings.HasPrefix(line, p) {
				fmt.Print(line)
			}
		}
	}
}

// A client on everpool with all its metrics.
func Example() {
	addr, stop := startServer()
	defer stop()
	ctx := context.Background()

	reg := prometheus.NewRegistry()
	db, err := driver.Open("redis://"+addr, promhooks.Option(reg, "orders"))
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()

	db.Set(ctx, "1", "book", 0)
	db.Get(ctx, "1")
	db.Get(ctx, "2")
	show(reg, "redis_client_command_duration_seconds_count", "redis_client_dial_duration_seconds_count")

	// Output:
	// redis_client_command_duration_seconds_count{client="orders",command="GET",outcome="miss"} 1
	// redis_client_command_duration_seconds_count{client="orders",command="GET",outcome="ok"} 1
	// redis_client_command_duration_seconds_count{client="orders",command="SET",outcome="ok"} 1
	// redis_client_dial_duration_seconds_count{client="orders",outcome="error",pool="everpool"} 0
	// redis_client_dial_duration_seconds_count{client="orders",outcome="error",pool="go-redis"} 0
	// redis_client_dial_duration_seconds_count{client="orders",outcome="ok",pool="everpool"} 1
	// redis_client_dial_duration_seconds_count{client="orders",outcome="ok",pool="go-redis"} 0
}

// A client on go-redis's own pool.
func ExampleNewStockPool() {
	addr, stop := startServer()
	defer stop()
	rdb := redis.NewClient(&redis.Options{Addr: addr, PoolSize: 20, PipelinePoolSize: -1})
	defer rdb.Close()

	operations, err := promhooks.NewMetrics("users")
	if err != nil {
		log.Fatal(err)
	}
	connections, err := promhooks.NewStockPool("users", rdb)
	if err != nil {
		log.Fatal(err)
	}
	reg := prometheus.NewRegistry()
	reg.MustRegister(operations, connections)
	hook, err := hooks.New(operations)
	if err != nil {
		log.Fatal(err)
	}
	if _, err := hook.Attach(rdb); err != nil {
		log.Fatal(err)
	}

	rdb.Incr(context.Background(), "visits")
	show(reg, "redis_client_command_duration_seconds_count", "redis_client_commands_in_flight")

	// Output:
	// redis_client_command_duration_seconds_count{client="users",command="INCR",outcome="ok"} 1
	// redis_client_commands_in_flight{client="users"} 0
}

// What is wrong is named when the metrics are made.
func ExampleNewMetrics_validation() {
	_, err := promhooks.NewMetrics("redis://:password@host:6379", promhooks.WithBuckets([]float64{.1, .01}))
	fmt.Println(err)

	// Output:
	// promhooks: client has :// or @ in it, as URLs have; a name is required, since a URL may hold a password
	// promhooks: WithBuckets: bound 1 is 0.01 after 0.1; the bounds have to rise
}
