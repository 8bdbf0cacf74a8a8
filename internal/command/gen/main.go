// Command gen writes the command table: what a Redis and a Valkey server answer
// to COMMAND, what go-redis speaks and they don't (hand.txt), and what the pool
// wants to know of each (classify.go).
//
//	go run ./gen [-redis addr] [-valkey addr] [-o table.go]
//
// Without addresses it starts both servers itself, on free ports.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"time"
)

func main() {
	var (
		redisAddr  = flag.String("redis", "", "address of a Redis server; empty: start redis-server")
		valkeyAddr = flag.String("valkey", "", "address of a Valkey server; empty: start valkey-server")
		out        = flag.String("o", "table.go", "file to write; -: standard output")
	)
	flag.Parse()
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt)
	defer cancel()
	if err := run(ctx, *redisAddr, *valkeyAddr, *out); err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, redisAddr, valkeyAddr, out string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	all := map[string]*entry{}
	rv, err := merge(ctx, all, redisAddr, "redis-server", func(e *entry) { e.redis = true })
	if err != nil {
		return err
	}
	vv, err := merge(ctx, all, valkeyAddr, "valkey-server", func(e *entry) { e.valkey = true })
	if err != nil {
		return err
	}
	mine, err := byHand()
	if err != nil {
		return err
	}
	for _, e := range mine {
		if old := all[e.name]; old != nil {
			return fmt.Errorf("%s is listed twice by hand, or a server knows it now", e.name)
		}
		all[e.name] = e
	}
	if err := classify(all); err != nil {
		return err
	}
	src, err := render(all, "Redis "+rv+", Valkey "+vv)
	if err != nil {
		return err
	}
	if out == "-" {
		_, err = os.Stdout.Write(src)
		return err
	}
	return os.WriteFile(out, src, 0o644)
}

// merge adds what a server knows. The last one asked wins, since it is the
// newer; that the earlier one knew the command too is kept.
func merge(ctx context.Context, all map[string]*entry, addr, binary string, mark func(*entry)) (version string, err error) {
	pid := 0
	if addr == "" {
		started, id, stop, err := start(ctx, binary)
		if err != nil {
			return "", err
		}
		defer stop()
		addr, pid = started, id
	}
	version, answer, err := ask(ctx, addr, pid)
	if err != nil {
		return "", fmt.Errorf("%s: %w", addr, err)
	}
	for _, e := range answer {
		if old := all[e.name]; old != nil {
			e.redis, e.valkey = old.redis, old.valkey
		}
		mark(e)
		all[e.name] = e
	}
	return version, nil
}
