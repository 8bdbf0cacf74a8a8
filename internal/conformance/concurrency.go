package conformance

import (
	"fmt"
	"strings"

	"github.com/redis/go-redis/v9"
)

var concurrencyGuarantees = []guarantee{
	{name: "64 goroutines get no foreign reply", works: true, check: func(w *world) {
		each(w, 64, func(i int) error {
			for n := range 50 {
				// Sizes differ, so that a shifted reply can't look right.
				v := fmt.Sprintf("%d.%d.%s", i, n, strings.Repeat("x", (i*31+n*17)%200))
				got, err := w.rdb.Echo(w.ctx, v).Result()
				if err := answer("ECHO", got, err, v); err != nil {
					return err
				}
			}
			return nil
		})
	}},
	{name: "64 goroutines on a pool of two get no foreign reply", works: true, check: func(w *world) {
		two := w.client(func(o *redis.Options) { o.PoolSize, o.PipelinePoolSize = 2, 1 })
		bad := w.key("string")
		ok(w, two.Set(w.ctx, bad, "x", 0).Err())
		each(w, 64, func(i int) error {
			for n := range 10 {
				tag := fmt.Sprintf("%d.%d", i, n)
				if i%4 == 0 {
					if err := checkPipeline(w, two, bad, 10, tag); err != nil {
						return err
					}
					continue
				}
				got, err := two.Echo(w.ctx, tag).Result()
				if err := answer("ECHO", got, err, tag); err != nil {
					return err
				}
			}
			return nil
		})
	}},
	{name: "every kind of use at once gets its own replies", works: true, check: func(w *world) {
		bad := w.key("string")
		ok(w, w.rdb.Set(w.ctx, bad, "x", 0).Err())
		kinds := []func(tag string) error{
			func(tag string) error {
				got, err := w.rdb.Echo(w.ctx, tag).Result()
				return answer("ECHO", got, err, tag)
			},
			func(tag string) error { return checkPipeline(w, w.rdb, bad, 25, tag) },
			func(tag string) error {
				if err := w.rdb.RPush(w.ctx, w.key(tag), tag).Err(); err != nil {
					return err
				}
				got, err := w.rdb.BLPop(w.ctx, blockFor, w.key(tag)).Result()
				if err != nil {
					return err
				}
				return answer("BLPOP", got[1], nil, tag)
			},
			func(tag string) error {
				return w.rdb.Watch(w.ctx, func(tx *redis.Tx) error {
					cmds, err := tx.TxPipelined(w.ctx, func(p redis.Pipeliner) error {
						p.Echo(w.ctx, tag)
						return nil
					})
					if err != nil {
						return err
					}
					echo := cmds[0].(*redis.StringCmd)
					return answer("ECHO in a transaction", echo.Val(), echo.Err(), tag)
				}, w.key(tag))
			},
			func(tag string) error {
				conn := w.node(w.rdb).Conn()
				defer conn.Close()
				got, err := conn.Echo(w.ctx, tag).Result()
				return answer("ECHO on a Conn", got, err, tag)
			},
			func(tag string) error {
				v := tag + strings.Repeat("y", 70_000)
				got, err := w.rdb.Echo(w.ctx, v).Result()
				return answer("big ECHO", got, err, v)
			},
			func(tag string) error {
				got, err := w.rdb.Eval(w.ctx, `return ARGV[1]`, nil, tag).Text()
				return answer("EVAL", got, err, tag)
			},
			func(string) error {
				if err := w.rdb.LPush(w.ctx, bad, "x").Err(); !redis.HasErrorPrefix(err, "WRONGTYPE") {
					return wrongf("LPUSH on a string: %v", err)
				}
				return nil
			},
		}
		each(w, 4*len(kinds), func(i int) error {
			for n := range 12 {
				if err := kinds[(i+n)%len(kinds)](fmt.Sprintf("%d.%d", i, n)); err != nil {
					return err
				}
			}
			return nil
		})
	}},
}
