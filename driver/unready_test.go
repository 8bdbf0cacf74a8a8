package driver_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
)

// As with the stock client, whatever it needs a connection of its own for: the server
// says why, and once it doesn't, all goes on.
func TestCallersAreToldThatTheServerIsNotReady(t *testing.T) {
	commands := []string{"HELLO", "CLIENT SETINFO", "SELECT", "PING", "GET", "INCR", "MULTI", "EXEC", "WATCH", "UNWATCH", "BLPOP"}
	for name, call := range map[string]func(ctx context.Context, rdb *redis.Client) error{
		"Get":       calls["Get"],
		"Pipelined": calls["Pipelined"],
		"TxPipelined": func(ctx context.Context, rdb *redis.Client) error {
			err := calls["TxPipelined"](ctx, rdb)
			if !driver.Vetoes && err != nil && strings.Contains(err.Error(), "an earlier caller left replies unread") {
				// go-redis leaves a refused transaction after its first reply, and keeps the handle
				// if no other was there yet. Where it doesn't ask before it uses that again, the
				// next caller's transaction isn't sent, and go-redis doesn't try it again.
				err = calls["TxPipelined"](ctx, rdb)
			}
			return err
		},
		"Watch": func(ctx context.Context, rdb *redis.Client) error {
			return rdb.Watch(ctx, func(tx *redis.Tx) error {
				_, err := tx.TxPipelined(ctx, func(p redis.Pipeliner) error { p.Incr(ctx, "n"); return nil })
				return err
			}, "k")
		},
		"BLPop": func(ctx context.Context, rdb *redis.Client) error {
			rdb.RPush(ctx, "q", "x")
			return rdb.BLPop(ctx, time.Second, "q").Err()
		},
	} {
		for _, word := range []string{"LOADING", "MASTERDOWN", "READONLY"} {
			for _, warm := range []bool{true, false} {
				t.Run(name+" "+word, func(t *testing.T) {
					inBothLabs(t, driver.Config{}, func(t *lab) {
						t.answers("*2\r\n$1\r\nq\r\n$1\r\nx\r\n", "BLPOP")
						rdb := t.client(func(o *redis.Options) { o.DB, o.MaxRetries = 1, 3 })
						if warm {
							_ = rdb.Get(t.Context(), "k")
						}
						t.answers("-"+word+" said by the test\r\n", commands...)
						for range 3 {
							began := time.Now()
							err := call(t.Context(), rdb)
							if took := time.Since(began); !redis.HasErrorPrefix(err, word) || !strings.HasSuffix(err.Error(), word+" said by the test") || took > 4*time.Second { // two calls, with what go-redis waits between its tries
								t.Errorf("after %s: %v", took, err)
							}
							time.Sleep(time.Second)
						}
						for _, name := range commands {
							t.f.Handle(name, nil)
						}
						t.answers("*2\r\n$1\r\nq\r\n$1\r\nx\r\n", "BLPOP")
						time.Sleep(time.Millisecond) // what was asked in this very moment is told LOADING yet
						began := time.Now()
						if err := call(t.Context(), rdb); err != nil || time.Since(began) > 50*time.Millisecond {
							t.Errorf("after %s: %v", time.Since(began), err)
						}
					})
				})
			}
		}
	}
}
