package conformance

import (
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"
)

var txGuarantees = []guarantee{
	{name: "TxPipelined runs all of its commands at once", check: func(w *world) {
		a, b := w.key("a"), w.key("b")
		each(w, 16, func(int) error {
			for range 10 {
				cmds, err := w.rdb.TxPipelined(w.ctx, func(p redis.Pipeliner) error {
					p.Incr(w.ctx, a)
					p.Incr(w.ctx, b)
					return nil
				})
				if err != nil {
					return err
				}
				// Between the two nobody else may count: they must agree.
				x, y := cmds[0].(*redis.IntCmd).Val(), cmds[1].(*redis.IntCmd).Val()
				if x != y {
					return wrongf("counters %d and %d within one transaction", x, y)
				}
			}
			return nil
		})
		want(w, "160")(w.rdb.Get(w.ctx, a).Result())
	}},
	{name: "a transaction of 2000 commands keeps order", works: true, check: func(w *world) {
		cmds, err := w.rdb.TxPipelined(w.ctx, func(p redis.Pipeliner) error {
			for i := range 2000 {
				p.Echo(w.ctx, w.key(fmt.Sprint(i)))
			}
			return nil
		})
		ok(w, err)
		for i, cmd := range cmds {
			want(w, w.key(fmt.Sprint(i)))(cmd.(*redis.StringCmd).Result())
		}
	}},
	{name: "a transaction with big values keeps order", check: func(w *world) {
		k, v := w.key("k"), string(binary(200_000, 3))
		var get, last *redis.StringCmd
		_, err := w.rdb.TxPipelined(w.ctx, func(p redis.Pipeliner) error {
			p.Set(w.ctx, k, v, 0)
			get = p.Get(w.ctx, k)
			last = p.Echo(w.ctx, w.key("last"))
			return nil
		})
		ok(w, err)
		want(w, v)(get.Result())
		want(w, w.key("last"))(last.Result())
	}},
	{name: "a command refused while queued aborts the transaction", check: func(w *world) {
		k := w.key("k")
		one := w.client(func(o *redis.Options) { o.PoolSize, o.PipelinePoolSize = 1, -1 })
		for range 3 {
			cmds, err := one.TxPipelined(w.ctx, func(p redis.Pipeliner) error {
				p.Set(w.ctx, k, "v", 0)
				p.Do(w.ctx, "SET", k)
				p.Echo(w.ctx, w.key("x"))
				return nil
			})
			if _, cluster := one.(*redis.ClusterClient); cluster {
				// It tells the cause.
				wantPrefix(w, err, "wrong number of arguments")
			} else {
				wantPrefix(w, err, "EXECABORT")
			}
			wantPrefix(w, cmds[1].Err(), "wrong number of arguments")
			wantErr(w, one.Get(w.ctx, k).Err(), redis.Nil)
		}
	}},
	{name: "a command that fails while executed leaves the others done", check: func(w *world) {
		s, k := w.key("string"), w.key("k")
		ok(w, w.rdb.Set(w.ctx, s, "v", 0).Err())
		cmds, err := w.rdb.TxPipelined(w.ctx, func(p redis.Pipeliner) error {
			p.Set(w.ctx, k, "1", 0)
			p.LPush(w.ctx, s, "x")
			p.Incr(w.ctx, k)
			return nil
		})
		wantPrefix(w, err, "WRONGTYPE")
		wantPrefix(w, cmds[1].Err(), "WRONGTYPE")
		want(w, int64(2))(cmds[2].(*redis.IntCmd).Result())
		want(w, "2")(w.rdb.Get(w.ctx, k).Result())
	}},
	{name: "transactions and pipelines side by side don't mix", check: func(w *world) {
		bad := w.key("string")
		ok(w, w.rdb.Set(w.ctx, bad, "x", 0).Err())
		each(w, 24, func(i int) error {
			for j := range 10 {
				if i%2 == 0 {
					if err := checkPipeline(w, w.rdb, bad, 20, fmt.Sprintf("%d.%d", i, j)); err != nil {
						return err
					}
					continue
				}
				v := fmt.Sprintf("tx%d.%d", i, j)
				cmds, err := w.rdb.TxPipelined(w.ctx, func(p redis.Pipeliner) error {
					p.Set(w.ctx, w.key(v), v, 0)
					p.Get(w.ctx, w.key(v))
					return nil
				})
				if err != nil {
					return err
				}
				get := cmds[1].(*redis.StringCmd)
				if err := answer("GET in a transaction", get.Val(), get.Err(), v); err != nil {
					return err
				}
			}
			return nil
		})
	}},
	{name: "MULTI and EXEC inside a plain pipeline are a transaction", check: func(w *world) {
		k := w.key("k")
		cmds, err := w.rdb.Pipelined(w.ctx, func(p redis.Pipeliner) error {
			p.Echo(w.ctx, "before")
			p.Do(w.ctx, "MULTI")
			p.Do(w.ctx, "INCR", k)
			p.Do(w.ctx, "INCR", k)
			p.Do(w.ctx, "EXEC")
			p.Echo(w.ctx, "after")
			return nil
		})
		ok(w, err)
		want(w, any("QUEUED"))(cmds[3].(*redis.Cmd).Result())
		want(w, any([]any{int64(1), int64(2)}))(cmds[4].(*redis.Cmd).Result())
		want(w, "after")(cmds[5].(*redis.StringCmd).Result())
	}},
	{name: "Watch without a conflict commits", check: func(w *world) {
		k := w.key("k")
		ok(w, w.rdb.Set(w.ctx, k, "1", 0).Err())
		ok(w, w.rdb.Watch(w.ctx, func(tx *redis.Tx) error {
			n, err := tx.Get(w.ctx, k).Int()
			if err != nil {
				return err
			}
			_, err = tx.TxPipelined(w.ctx, func(p redis.Pipeliner) error {
				p.Set(w.ctx, k, n+1, 0)
				return nil
			})
			return err
		}, k))
		want(w, "2")(w.rdb.Get(w.ctx, k).Result())
	}},
	{name: "Watch with a conflict is TxFailedErr and changes nothing", check: func(w *world) {
		k := w.key("k")
		err := w.rdb.Watch(w.ctx, func(tx *redis.Tx) error {
			if err := w.rdb.Set(w.ctx, k, "other", 0).Err(); err != nil {
				return err
			}
			_, err := tx.TxPipelined(w.ctx, func(p redis.Pipeliner) error {
				p.Set(w.ctx, k, "mine", 0)
				return nil
			})
			return err
		}, k)
		wantErr(w, err, redis.TxFailedErr)
		want(w, "other")(w.rdb.Get(w.ctx, k).Result())
	}},
	{name: "32 transactions on one counter, retried on conflict, lose no update", works: true, check: func(w *world) {
		k := w.key("n")
		incr := func(tx *redis.Tx) error {
			n, err := tx.Get(w.ctx, k).Int()
			if err != nil && !errors.Is(err, redis.Nil) {
				return err
			}
			_, err = tx.TxPipelined(w.ctx, func(p redis.Pipeliner) error {
				p.Set(w.ctx, k, n+1, 0)
				return nil
			})
			return err
		}
		each(w, 32, func(int) error {
			for {
				if err := w.rdb.Watch(w.ctx, incr, k); !errors.Is(err, redis.TxFailedErr) {
					return err
				}
			}
		})
		want(w, "32")(w.rdb.Get(w.ctx, k).Result())
	}},
	{name: "an error in Watch's function leaves no watch behind", check: func(w *world) {
		// With one connection, the transaction below runs on the one that watched.
		one := w.client(func(o *redis.Options) { o.PoolSize, o.PipelinePoolSize = 1, -1 })
		k, cause := w.key("k"), errors.New("changed my mind")
		wantErr(w, one.Watch(w.ctx, func(*redis.Tx) error { return cause }, k), cause)
		ok(w, w.rdb.Set(w.ctx, k, "other", 0).Err())
		_, err := one.TxPipelined(w.ctx, func(p redis.Pipeliner) error {
			p.Set(w.ctx, k, "mine", 0)
			return nil
		})
		ok(w, err)
		want(w, "mine")(w.rdb.Get(w.ctx, k).Result())
	}},
	{name: "Unwatch lets the transaction pass", check: func(w *world) {
		k := w.key("k")
		ok(w, w.rdb.Watch(w.ctx, func(tx *redis.Tx) error {
			if err := w.rdb.Set(w.ctx, k, "other", 0).Err(); err != nil {
				return err
			}
			if err := tx.Unwatch(w.ctx).Err(); err != nil {
				return err
			}
			_, err := tx.TxPipelined(w.ctx, func(p redis.Pipeliner) error {
				p.Set(w.ctx, k, "mine", 0)
				return nil
			})
			return err
		}, k))
		want(w, "mine")(w.rdb.Get(w.ctx, k).Result())
	}},
	{name: "keys watched later in the transaction count, too", check: func(w *world) {
		a, b := w.key("a"), w.key("b")
		err := w.rdb.Watch(w.ctx, func(tx *redis.Tx) error {
			if err := tx.Watch(w.ctx, b).Err(); err != nil {
				return err
			}
			if err := w.rdb.Set(w.ctx, b, "other", 0).Err(); err != nil {
				return err
			}
			_, err := tx.TxPipelined(w.ctx, func(p redis.Pipeliner) error {
				p.Set(w.ctx, a, "mine", 0)
				return nil
			})
			return err
		}, a)
		wantErr(w, err, redis.TxFailedErr)
		wantErr(w, w.rdb.Get(w.ctx, a).Err(), redis.Nil)
	}},
	{name: "a plain pipeline within Watch keeps the watch", check: func(w *world) {
		k := w.key("k")
		err := w.rdb.Watch(w.ctx, func(tx *redis.Tx) error {
			if _, err := tx.Pipelined(w.ctx, func(p redis.Pipeliner) error {
				p.Echo(w.ctx, "1")
				p.Echo(w.ctx, "2")
				return nil
			}); err != nil {
				return err
			}
			if err := w.rdb.Set(w.ctx, k, "other", 0).Err(); err != nil {
				return err
			}
			_, err := tx.TxPipelined(w.ctx, func(p redis.Pipeliner) error {
				p.Set(w.ctx, k, "mine", 0)
				return nil
			})
			return err
		}, k)
		wantErr(w, err, redis.TxFailedErr)
	}},
}
