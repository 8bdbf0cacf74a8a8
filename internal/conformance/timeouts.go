package conformance

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

var timeoutGuarantees = []guarantee{
	{name: "a reply later than ReadTimeout is a timeout and shifts no later reply", check: func(w *world) {
		c := w.client(func(o *redis.Options) { o.MaxRetries = -1 })
		// The clone shares the pool; only its commands are that impatient.
		hasty := w.node(c).WithTimeout(50 * time.Millisecond)
		each(w, 6, func(i int) error {
			for j := range 3 {
				if err := hasty.Do(w.ctx, "BLPOP", w.key("empty"), 1).Err(); !isTimeout(err) {
					return wrongf("BLPOP beyond the read timeout: %v (%T)", err, err)
				}
				for n := range 10 {
					v := fmt.Sprintf("%d.%d.%d", i, j, n)
					got, err := c.Echo(w.ctx, v).Result()
					if err := answer("ECHO after a timeout", got, err, v); err != nil {
						return err
					}
				}
			}
			return nil
		})
	}},
	{name: "a value pushed after a timed-out pop is not lost to it", check: func(w *world) {
		// The caller that timed out has gone; what its pop was waiting for
		// belongs to the next one.
		k := w.key("l")
		c := w.named("gone", func(o *redis.Options) { o.MaxRetries = -1 })
		wantTimeout(w, w.node(c).WithTimeout(50*time.Millisecond).Do(w.ctx, "BLPOP", k, 30).Err())
		w.eventually("the abandoned pop gone", func() bool {
			for _, conn := range w.conns("gone") {
				if conn.fields["cmd"] == "blpop" && conn.fields["flags"] == "b" {
					return false
				}
			}
			return true
		})
		ok(w, c.RPush(w.ctx, k, "v").Err())
		want(w, []string{k, "v"})(c.BLPop(w.ctx, blockFor, k).Result())
	}},
	{name: "writes that a paused server holds back time out and shift no later reply", serial: true, check: func(w *world) {
		c := w.client(func(o *redis.Options) { o.MaxRetries = -1 })
		hasty := w.node(c).WithTimeout(100 * time.Millisecond)
		// Connections are there before the pause: only the writes meet it.
		each(w, 8, func(int) error { return c.Ping(w.ctx).Err() })
		ok(w, w.everywhere("CLIENT", "PAUSE", 60_000, "WRITE"))
		unpause := func() error { return w.everywhere("CLIENT", "UNPAUSE") }
		w.Cleanup(func() { _ = unpause() })
		each(w, 8, func(i int) error {
			if err := hasty.Set(w.ctx, w.key(fmt.Sprint(i)), i, 0).Err(); !isTimeout(err) {
				return wrongf("SET on a paused server: %v (%T)", err, err)
			}
			return nil
		})
		ok(w, unpause())
		each(w, 16, func(i int) error {
			for n := range 20 {
				v := fmt.Sprintf("%d.%d", i, n)
				got, err := c.Echo(w.ctx, v).Result()
				if err := answer("ECHO after the pause", got, err, v); err != nil {
					return err
				}
			}
			return nil
		})
		for i := range 8 {
			got, err := c.Get(w.ctx, w.key(fmt.Sprint(i))).Result()
			if !errors.Is(err, redis.Nil) && (err != nil || got != fmt.Sprint(i)) {
				w.Fatalf("key %d: %q, %v: neither written nor absent", i, got, err)
			}
		}
	}},
	{name: "a pipeline that a paused server holds back times out and shifts no later reply", serial: true, check: func(w *world) {
		c := w.client(func(o *redis.Options) { o.MaxRetries = -1 })
		hasty := w.node(c).WithTimeout(100 * time.Millisecond)
		each(w, 4, func(int) error { // connections for all of them: the way there isn't the subject
			_, err := nilIsNil(c.Do(w.ctx, "BLPOP", w.key("empty"), 0.3).Result())
			return err
		})
		ok(w, w.everywhere("CLIENT", "PAUSE", 60_000, "WRITE"))
		unpause := func() error { return w.everywhere("CLIENT", "UNPAUSE") }
		w.Cleanup(func() { _ = unpause() })
		each(w, 4, func(i int) error {
			cmds, err := hasty.Pipelined(w.ctx, func(p redis.Pipeliner) error {
				p.Echo(w.ctx, "answered")
				p.Set(w.ctx, w.key(fmt.Sprint(i)), i, 0)
				p.Echo(w.ctx, "not answered")
				return nil
			})
			if !isTimeout(err) || !isTimeout(cmds[1].Err()) || !isTimeout(cmds[2].Err()) {
				return wrongf("pipeline on a paused server: %v; %v", err, cmds)
			}
			return nil
		})
		ok(w, unpause())
		bad := w.key("string")
		ok(w, c.Set(w.ctx, bad, "x", 0).Err())
		each(w, 8, func(i int) error { return checkPipeline(w, c, bad, 30, fmt.Sprint(i)) })
	}},
	{name: "a deadline ends a waiting command when ContextTimeoutEnabled", check: func(w *world) {
		c := w.client(func(o *redis.Options) { o.ContextTimeoutEnabled, o.MaxRetries = true, -1 })
		each(w, 4, func(int) error { return c.Exists(w.ctx, w.key("empty")).Err() }) // the way there isn't the subject
		each(w, 4, func(i int) error {
			ctx, cancel := context.WithTimeout(w.ctx, 50*time.Millisecond)
			defer cancel()
			if err := c.Do(ctx, "BLPOP", w.key("empty"), 1).Err(); !isTimeout(err) {
				return wrongf("BLPOP with a deadline: %v (%T)", err, err)
			}
			v := fmt.Sprint(i)
			got, err := c.Echo(w.ctx, v).Result()
			return answer("ECHO after the deadline", got, err, v)
		})
	}},
	{name: "a deadline doesn't end a waiting command unless ContextTimeoutEnabled", check: func(w *world) {
		// The deadline does end a dial, and what blocks may need another connection than what doesn't.
		want(w, any(nil))(nilIsNil(w.rdb.Do(w.ctx, "BLPOP", w.key("empty"), 0.01).Result()))
		ctx, cancel := context.WithTimeout(w.ctx, 100*time.Millisecond)
		defer cancel()
		want(w, any(nil))(nilIsNil(w.rdb.Do(ctx, "BLPOP", w.key("empty"), 0.3).Result()))
	}},
	{name: "a command of a cancelled context isn't sent", check: func(w *world) {
		ctx, cancel := context.WithCancel(w.ctx)
		cancel()
		k := w.key("n")
		each(w, 8, func(int) error {
			if err := w.rdb.Incr(ctx, k).Err(); err == nil || !isContextCanceled(err) {
				return wrongf("INCR of a cancelled context: %v", err)
			}
			return nil
		})
		wantErr(w, w.rdb.Get(w.ctx, k).Err(), redis.Nil)
	}},
	{name: "a clone made by WithTimeout shares the pool", check: func(w *world) {
		node := w.node(w.rdb)
		clone := node.WithTimeout(3 * time.Second)
		equal(w, clone.Options().ReadTimeout, 3*time.Second)
		ok(w, clone.Set(w.ctx, w.key("k"), "v", 0).Err())
		want(w, "v")(w.rdb.Get(w.ctx, w.key("k")).Result())
		equal(w, clone.PoolStats().TotalConns, node.PoolStats().TotalConns)
	}},
	{name: "a pool whose connections are all held answers ErrPoolTimeout", check: func(w *world) {
		one := w.node(w.client(func(o *redis.Options) {
			o.PoolSize, o.PipelinePoolSize, o.PoolTimeout, o.MaxRetries = 1, -1, 30*time.Millisecond, -1
		}))
		conn := one.Conn()
		ok(w, conn.Do(w.ctx, "WATCH", w.key("held")).Err()) // so that it can't be shared
		wantErr(w, one.Ping(w.ctx).Err(), redis.ErrPoolTimeout)
		ok(w, conn.Do(w.ctx, "UNWATCH").Err())
		ok(w, conn.Close())
		want(w, "PONG")(one.Ping(w.ctx).Result())
	}},
}

// nilIsNil turns redis.Nil into no error.
func nilIsNil(v any, err error) (any, error) {
	if errors.Is(err, redis.Nil) {
		return v, nil
	}
	return v, err
}
