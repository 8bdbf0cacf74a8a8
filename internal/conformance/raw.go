package conformance

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

var rawGuarantees = []guarantee{
	{name: "Do sends any command with any type of argument", check: func(w *world) {
		k := w.key("k")
		want(w, any("OK"))(w.rdb.Do(w.ctx, "set", []byte(k), 1).Result())
		want(w, "1")(w.rdb.Do(w.ctx, "GeT", k).Text())
		want(w, 1)(w.rdb.Do(w.ctx, "GET", k).Int())
		want(w, any("OK"))(w.rdb.Do(w.ctx, "SET", k, 1.5).Result())
		want(w, 1.5)(w.rdb.Do(w.ctx, "GET", k).Float64())
		want(w, any("OK"))(w.rdb.Do(w.ctx, "SET", k, true).Result())
		want(w, true)(w.rdb.Do(w.ctx, "GET", k).Bool())
		want(w, any("OK"))(w.rdb.Do(w.ctx, "SET", k, time.Second).Result())
		want(w, int64(time.Second))(w.rdb.Do(w.ctx, "GET", k).Int64())
		want(w, []any{"1000000000", nil})(w.rdb.Do(w.ctx, "MGET", k, w.key("none")).Slice())
		wantErr(w, w.rdb.Do(w.ctx, "GET", w.key("none")).Err(), redis.Nil)
	}},
	{name: "commands of two words work in any case", check: func(w *world) {
		want(w, any("OK"))(w.rdb.Do(w.ctx, "config", "SET", "maxmemory-samples", "5").Result())
		want(w, map[string]string{"maxmemory-samples": "5"})(w.rdb.ConfigGet(w.ctx, "maxmemory-samples").Result())
		if n, err := w.rdb.Do(w.ctx, "Command", "Count").Int(); err != nil || n < 100 {
			w.Fatalf("COMMAND COUNT: %d, %v", n, err)
		}
	}},
	{name: "INFO, DBSIZE and TIME answer", check: func(w *world) {
		ok(w, w.rdb.Set(w.ctx, w.key("k"), "v", 0).Err())
		info, err := w.rdb.Info(w.ctx, "clients").Result()
		ok(w, err)
		if !strings.Contains(info, "connected_clients") {
			w.Fatalf("INFO clients: %q", info)
		}
		if n, err := w.rdb.DBSize(w.ctx).Result(); err != nil || n < 1 {
			w.Fatalf("DBSIZE: %d, %v", n, err)
		}
		if _, err := w.rdb.Time(w.ctx).Result(); err != nil {
			w.Fatalf("TIME: %v", err)
		}
	}},
	{name: "MULTI over several calls on a Conn is a transaction", check: func(w *world) {
		each(w, 6, func(i int) error {
			k := w.key(fmt.Sprint(i))
			conn := w.node(w.rdb).Conn()
			defer conn.Close()
			for round := range 3 {
				for _, step := range []struct {
					args []any
					want string
				}{
					{[]any{"MULTI"}, "OK"},
					{[]any{"SET", k, round}, "QUEUED"},
					{[]any{"GET", k}, "QUEUED"},
				} {
					got, err := conn.Do(w.ctx, step.args...).Text()
					if err := answer(fmt.Sprint(step.args), got, err, step.want); err != nil {
						return err
					}
					// Others neither see it nor get into it.
					got, err = w.rdb.Echo(w.ctx, k).Result()
					if err := answer("ECHO beside MULTI", got, err, k); err != nil {
						return err
					}
				}
				got, err := conn.Do(w.ctx, "EXEC").Slice()
				if err != nil || len(got) != 2 || got[0] != "OK" || got[1] != fmt.Sprint(round) {
					return wrongf("EXEC: %v, %v", got, err)
				}
			}
			return nil
		})
	}},
	{name: "DISCARD on a Conn drops what was queued", check: func(w *world) {
		k := w.key("k")
		conn := w.node(w.rdb).Conn()
		defer conn.Close()
		for range 2 {
			want(w, any("OK"))(conn.Do(w.ctx, "MULTI").Result())
			want(w, any("QUEUED"))(conn.Do(w.ctx, "SET", k, "v").Result())
			want(w, any("OK"))(conn.Do(w.ctx, "DISCARD").Result())
			wantErr(w, conn.Get(w.ctx, k).Err(), redis.Nil)
		}
		wantPrefix(w, conn.Do(w.ctx, "EXEC").Err(), "EXEC without MULTI")
		wantPrefix(w, conn.Do(w.ctx, "DISCARD").Err(), "DISCARD without MULTI")
	}},
	{name: "WATCH by hand on a Conn notices a change", check: func(w *world) {
		k := w.key("k")
		conn := w.node(w.rdb).Conn()
		defer conn.Close()
		want(w, any("OK"))(conn.Do(w.ctx, "WATCH", k).Result())
		ok(w, w.rdb.Set(w.ctx, k, "other", 0).Err())
		want(w, any("OK"))(conn.Do(w.ctx, "MULTI").Result())
		want(w, any("QUEUED"))(conn.Do(w.ctx, "SET", k, "mine").Result())
		wantErr(w, conn.Do(w.ctx, "EXEC").Err(), redis.Nil)
		want(w, "other")(conn.Get(w.ctx, k).Result())
	}},
	{name: "a Conn discarded inside MULTI leaves nothing behind", check: func(w *world) {
		k := w.key("k")
		for range 5 {
			conn := w.node(w.rdb).EphemeralConn()
			want(w, any("OK"))(conn.Do(w.ctx, "MULTI").Result())
			want(w, any("QUEUED"))(conn.Do(w.ctx, "SET", k, "v").Result())
			ok(w, conn.Close())
		}
		each(w, 16, func(i int) error {
			got, err := w.rdb.Echo(w.ctx, fmt.Sprint(i)).Result()
			return answer("ECHO", got, err, fmt.Sprint(i))
		})
		wantErr(w, w.rdb.Get(w.ctx, k).Err(), redis.Nil)
	}},
	{name: "WAIT for no replica answers at once", check: func(w *world) {
		node := w.node(w.rdb)
		conn := node.Conn()
		defer conn.Close()
		for _, c := range []interface {
			Set(ctx context.Context, key string, value any, expiration time.Duration) *redis.StatusCmd
			Wait(ctx context.Context, numSlaves int, timeout time.Duration) *redis.IntCmd
		}{node, conn} {
			ok(w, c.Set(w.ctx, w.key("k"), "v", 0).Err())
			// A node alone has none; others may have theirs acknowledge it already.
			if n, err := c.Wait(w.ctx, 0, time.Second).Result(); err != nil || n != 0 && w.target.Topology == Node {
				w.Fatalf("WAIT 0: %d, %v", n, err)
			}
		}
	}},
	{name: "a killed connection costs the next command a retry, no error", check: func(w *world) {
		c := w.named("victim")
		each(w, 4, func(int) error { return c.Ping(w.ctx).Err() })
		for _, conn := range w.conns("victim") {
			conn.kill(w)
		}
		each(w, 8, func(i int) error {
			got, err := c.Echo(w.ctx, fmt.Sprint(i)).Result()
			return answer("ECHO after CLIENT KILL", got, err, fmt.Sprint(i))
		})
	}},
	{name: "CLIENT UNBLOCK ends a blocked command", check: func(w *world) {
		c := w.named("stuck")
		done := make(chan error, 1)
		go func() { done <- c.BLPop(w.ctx, blockFor, w.key("empty")).Err() }()
		w.awaitBlocked("stuck", 1)
		for _, conn := range w.conns("stuck") {
			if strings.Contains(conn.fields["flags"], "b") {
				want(w, any(int64(1)))(conn.node.Do(w.ctx, "CLIENT", "UNBLOCK", conn.fields["id"], "ERROR").Result())
			}
		}
		wantPrefix(w, receive(w, done, "the unblocked BLPOP"), "UNBLOCKED")
		want(w, "on")(c.Echo(w.ctx, "on").Result())
	}},
	{name: "a Conn that monitors disturbs nobody else", check: func(w *world) {
		// Not by Client.Monitor: the stock one reads on after it has given its
		// connection back, which the race detector reports.
		conn := w.node(w.rdb).EphemeralConn()
		want(w, any("OK"))(conn.Do(w.ctx, "MONITOR").Result())
		each(w, 8, func(i int) error {
			for n := range 20 {
				v := fmt.Sprintf("%d.%d", i, n)
				got, err := w.rdb.Echo(w.ctx, v).Result()
				if err := answer("ECHO beside MONITOR", got, err, v); err != nil {
					return err
				}
			}
			return nil
		})
		ok(w, conn.Close())
		want(w, "on")(w.rdb.Echo(w.ctx, "on").Result())
	}},
	{name: "SCRIPT KILL gets past a running script", serial: true, check: func(w *world) {
		// No name: while the script runs, a server refuses the SETNAME of a
		// new connection, and the stock client gives such a connection up.
		c := w.node(w.client(func(o *redis.Options) { o.MaxRetries, o.ReadTimeout = -1, 20*time.Second }))
		node := w.node(w.rdb)
		ok(w, node.ConfigSet(w.ctx, "busy-reply-threshold", "50").Err())
		defer node.ConfigSet(w.ctx, "busy-reply-threshold", "5000")
		done := make(chan error, 1)
		// It ends by itself, so that a failure here fails nobody else.
		const busy = `for i = 1, 1e9 do end`
		go func() { done <- c.Eval(w.ctx, busy, nil).Err() }()
		// NOTBUSY until the script runs, then OK.
		w.eventually("the script killed", func() bool {
			err := c.ScriptKill(w.ctx).Err()
			if err != nil && !redis.HasErrorPrefix(err, "NOTBUSY") {
				w.Fatalf("SCRIPT KILL: %v", err)
			}
			return err == nil
		})
		if err := receive(w, done, "the killed script"); err == nil || errors.Is(err, redis.Nil) || isTimeout(err) {
			w.Fatalf("EVAL that was killed: %v (%T)", err, err)
		}
		want(w, "on")(c.Echo(w.ctx, "on").Result())
	}},
}
