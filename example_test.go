package everpool_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/pooler"
)

var ctx = context.Background()

// startServer starts a server for an example.
func startServer() (addr string, stop func()) {
	m := miniredis.NewMiniRedis()
	if err := m.Start(); err != nil {
		log.Fatal(err)
	}
	return m.Addr(), m.Close
}

// A program on go-redis's own pool passes its options through a driver.
func Example_goRedis() {
	addr, stop := startServer()
	defer stop()

	d, err := driver.New(driver.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer d.Close() // after the client
	rdb := redis.NewClient(d.Options(&redis.Options{Addr: addr, PoolSize: 20}))
	defer rdb.Close()

	fmt.Println(rdb.Incr(ctx, "visits").Result())
	// Output: 1 <nil>
}

// A worker goes on after an outcome that nobody knows, and ends with its client.
func Example_worker() {
	addr, stop := startServer()
	defer stop()

	d, err := driver.New(driver.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer d.Close()
	rdb := redis.NewClient(d.Options(&redis.Options{Addr: addr}))

	if err := rdb.LPush(ctx, "jobs", "paint", "dry").Err(); err != nil {
		log.Fatal(err)
	}
	fmt.Println(work(rdb, func(job string) {
		fmt.Println(job)
		if job == "dry" {
			_ = rdb.Close()
		}
	}))
	// Output:
	// paint
	// dry
	// <nil>
}

func work(rdb *redis.Client, do func(job string)) error {
	for {
		job, err := rdb.BLMove(ctx, "jobs", "working", "RIGHT", "LEFT", time.Second).Result()
		switch {
		case errors.Is(err, redis.ErrClosed): // the client was closed with the call under way
			return nil
		case errors.Is(err, redis.Nil), errors.Is(err, pooler.ErrUnknownOutcome):
			continue // what may have been taken is in "working"
		case err != nil:
			return err
		}
		do(job)
	}
}

// redigo's pool becomes options.
func Example_redigo() {
	addr, stop := startServer()
	defer stop()

	d, err := driver.New(driver.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer d.Close()
	rdb := redis.NewClient(d.Options(&redis.Options{
		Addr:            addr,
		MaxActiveConns:  20,              // Pool.MaxActive
		MaxIdleConns:    5,               // Pool.MaxIdle
		ConnMaxIdleTime: 4 * time.Minute, // Pool.IdleTimeout
		ConnMaxLifetime: time.Hour,       // Pool.MaxConnLifetime
	}))
	defer rdb.Close()

	name, err := rdb.Do(ctx, "GET", "name").Text() // redis.String(conn.Do("GET", "name"))
	if errors.Is(err, redis.Nil) {                 // redigo's ErrNil
		name = "nobody"
	}

	fmt.Println(name)
	// Output: nobody
}

// rueidis's DoMulti becomes a pipeline.
func Example_rueidis() {
	addr, stop := startServer()
	defer stop()

	db, err := driver.Open("redis://" + addr + "?shared_conns=2")
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()

	cmds, err := db.Pipelined(ctx, func(p redis.Pipeliner) error { // client.DoMulti(ctx, ...)
		p.Set(ctx, "greeting", "hello", 0)
		p.Incr(ctx, "visits")
		return nil
	})

	fmt.Println(len(cmds), err)
	// Output: 2 <nil>
}

// redis-manager's context-managed clients become functions.
func Example_redisManager() {
	addr, stop := startServer()
	defer stop()

	m, err := driver.NewManager(driver.Config{Pool: pooler.Config{
		MinIdleConns:        1,               // kept open at each node
		MaxOpenConns:        20,              // grows up to that on demand
		ConnMaxIdleTime:     5 * time.Minute, // and shrinks again
		HealthCheckInterval: 5 * time.Second,
	}})
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()
	if _, err := m.Add(ctx, "orders", "redis://"+addr); err != nil {
		log.Fatal(err)
	}

	err = m.With(ctx, "orders", func(ctx context.Context, rdb redis.UniversalClient) error {
		return rdb.Incr(ctx, "visits").Err()
	})
	if errors.Is(err, driver.ErrNoHealthyNode) {
		log.Print("orders can't be served now") // known without a wait
	}

	fmt.Println(err)
	// Output: <nil>
}

// Baseplate's settings are read as they are.
func Example_baseplate() {
	addr, stop := startServer()
	defer stop()

	url, options, err := driver.ConfigFromMap("rediscluster.", map[string]string{
		"rediscluster.url":                      "redis://" + addr,
		"rediscluster.max_connections":          "20",
		"rediscluster.max_connections_per_node": "true",
		"rediscluster.timeout":                  "200 milliseconds",
	})
	if err != nil {
		log.Fatal(err) // it names every key that is wrong
	}
	db, err := driver.Open(url, options...)
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()

	fmt.Println(db.Incr(ctx, "visits").Result())
	// Output: 1 <nil>
}
