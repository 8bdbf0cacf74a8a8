package conformance

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

var sessionGuarantees = []guarantee{
	{name: "SELECT on a Conn holds there and nowhere else", check: func(w *world) {
		k := w.key("k")
		conn := w.node(w.rdb).EphemeralConn()
		want(w, "OK")(conn.Select(w.ctx, 5).Result())
		want(w, "OK")(conn.Set(w.ctx, k, "five", 0).Result())
		each(w, 8, func(int) error {
			if err := w.rdb.Get(w.ctx, k).Err(); !errors.Is(err, redis.Nil) {
				return wrongf("another connection sees database 5: %v", err)
			}
			return nil
		})
		for range 5 {
			want(w, "five")(conn.Get(w.ctx, k).Result())
		}
		ok(w, conn.Close())
		wantErr(w, w.rdb.Get(w.ctx, k).Err(), redis.Nil)
		five := w.client(func(o *redis.Options) { o.DB = 5 })
		want(w, "five")(five.Get(w.ctx, k).Result())
	}},
	{name: "a SELECT that fails changes nothing", check: func(w *world) {
		k := w.key("k")
		conn := w.node(w.rdb).EphemeralConn()
		defer conn.Close()
		ok(w, conn.Set(w.ctx, k, "v", 0).Err())
		if err := conn.Select(w.ctx, 100_000).Err(); err == nil {
			w.Fatal("SELECT 100000 succeeded")
		}
		want(w, "v")(conn.Get(w.ctx, k).Result())
	}},
	{name: "a name set on a Conn holds there and nowhere else", check: func(w *world) {
		name := w.key("me")
		conn := w.node(w.rdb).EphemeralConn()
		want(w, true)(conn.ClientSetName(w.ctx, name).Result())
		for range 5 {
			want(w, name)(conn.ClientGetName(w.ctx).Result())
		}
		each(w, 8, func(int) error {
			if got := w.node(w.rdb).ClientGetName(w.ctx).Val(); got != "" {
				return wrongf("another connection is named %q", got)
			}
			return nil
		})
		ok(w, conn.Close())
		equal(w, w.node(w.rdb).ClientGetName(w.ctx).Val(), "")
	}},
	{name: "Conns side by side keep their own state", check: func(w *world) {
		each(w, 8, func(i int) error {
			conn := w.node(w.rdb).EphemeralConn()
			defer conn.Close()
			name := w.key(fmt.Sprint(i))
			if err := conn.ClientSetName(w.ctx, name).Err(); err != nil {
				return err
			}
			if err := conn.Select(w.ctx, i).Err(); err != nil {
				return err
			}
			if err := conn.Set(w.ctx, w.key("same"), i, 0).Err(); err != nil {
				return err
			}
			for range 20 {
				got, err := conn.ClientGetName(w.ctx).Result()
				if err := answer("CLIENT GETNAME", got, err, name); err != nil {
					return err
				}
				got, err = conn.Get(w.ctx, w.key("same")).Result()
				if err := answer("GET", got, err, fmt.Sprint(i)); err != nil {
					return err
				}
			}
			return nil
		})
	}},
	{name: "CLIENT ID is one within a Conn and another in another", check: func(w *world) {
		a, b := w.node(w.rdb).Conn(), w.node(w.rdb).Conn()
		defer a.Close()
		defer b.Close()
		id, err := a.ClientID(w.ctx).Result()
		ok(w, err)
		other, err := b.ClientID(w.ctx).Result()
		ok(w, err)
		if id == other {
			w.Fatalf("two Conns share the connection %d", id)
		}
		for i := range 30 {
			want(w, fmt.Sprint(i))(a.Echo(w.ctx, fmt.Sprint(i)).Result())
			want(w, id)(a.ClientID(w.ctx).Result())
			want(w, other)(b.ClientID(w.ctx).Result())
		}
	}},
	{name: "a Conn gives its connection back", check: func(w *world) {
		one := w.client(func(o *redis.Options) { o.PoolSize, o.PipelinePoolSize = 1, -1 })
		for range 5 {
			conn := w.node(one).Conn()
			want(w, "PONG")(conn.Ping(w.ctx).Result())
			ok(w, conn.Close())
			want(w, "PONG")(one.Ping(w.ctx).Result())
		}
	}},
	{name: "the DB option isolates", check: func(w *world) {
		k := w.key("k")
		var dbs []redis.UniversalClient
		for i := range 4 {
			c := w.client(func(o *redis.Options) { o.DB = i + 1 })
			ok(w, c.Set(w.ctx, k, i+1, 0).Err())
			dbs = append(dbs, c)
		}
		each(w, 16, func(i int) error {
			for range 20 {
				got, err := dbs[i%4].Get(w.ctx, k).Result()
				if err := answer("GET", got, err, fmt.Sprint(i%4+1)); err != nil {
					return err
				}
			}
			return nil
		})
		wantErr(w, w.rdb.Get(w.ctx, k).Err(), redis.Nil)
	}},
	{name: "a DB that doesn't exist is an error, not database 0", check: func(w *world) {
		c := w.client(func(o *redis.Options) { o.DB = 100_000 })
		wantPrefix(w, c.Ping(w.ctx).Err(), "DB index is out of range")
	}},
	{name: "ClientName is what the server lists", check: func(w *world) {
		c := w.named("visible")
		want(w, w.key("visible"))(c.ClientGetName(w.ctx).Result())
		if len(w.conns("visible")) == 0 {
			w.Fatal("CLIENT LIST doesn't show the name")
		}
	}},
	{name: "the library's name and version are what the server lists", check: func(w *world) {
		c := w.named("lib", func(o *redis.Options) { o.IdentitySuffix = "suffix" })
		ok(w, c.Ping(w.ctx).Err())
		for _, conn := range w.conns("lib") {
			if !strings.Contains(conn.fields["lib-name"], "go-redis") || !strings.Contains(conn.fields["lib-name"], "suffix") || conn.fields["lib-ver"] == "" {
				w.Fatalf("lib-name %q, lib-ver %q", conn.fields["lib-name"], conn.fields["lib-ver"])
			}
		}
	}},
	{name: "OnConnect runs commands before anybody else does", check: func(w *world) {
		k := w.key("k")
		var called atomic.Int64
		c := w.client(func(o *redis.Options) {
			o.OnConnect = func(ctx context.Context, conn *redis.Conn) error {
				called.Add(1)
				if err := conn.Select(ctx, 6).Err(); err != nil {
					return err
				}
				return conn.Incr(ctx, k).Err()
			}
		})
		ok(w, c.Set(w.ctx, w.key("in six"), "v", 0).Err())
		each(w, 8, func(int) error { return c.Get(w.ctx, w.key("in six")).Err() })
		if called.Load() == 0 {
			w.Fatal("OnConnect wasn't called")
		}
		want(w, called.Load())(c.Get(w.ctx, k).Int64())
		wantErr(w, w.rdb.Get(w.ctx, w.key("in six")).Err(), redis.Nil)
	}},
	{name: "OnConnect's error is the command's", check: func(w *world) {
		cause := errors.New("not this server")
		c := w.client(func(o *redis.Options) {
			o.OnConnect = func(context.Context, *redis.Conn) error { return cause }
		})
		wantErr(w, c.Ping(w.ctx).Err(), cause)
		_, err := c.Pipelined(w.ctx, func(p redis.Pipeliner) error {
			p.Ping(w.ctx)
			return nil
		})
		wantErr(w, err, cause)
	}},
	{name: "OnConnect's error once doesn't poison the client", check: func(w *world) {
		var calls atomic.Int64
		c := w.client(func(o *redis.Options) {
			o.OnConnect = func(ctx context.Context, conn *redis.Conn) error {
				if calls.Add(1) == 1 {
					return errors.New("not yet")
				}
				return conn.Ping(ctx).Err()
			}
		})
		if err := c.Ping(w.ctx).Err(); err == nil {
			w.Fatal("the first command succeeded")
		}
		want(w, "PONG")(c.Ping(w.ctx).Result())
	}},
	{name: "RESET on a Conn ends its state and only its", check: func(w *world) {
		conn := w.node(w.rdb).EphemeralConn()
		defer conn.Close()
		if !w.inCluster() { // it has one database
			ok(w, conn.Select(w.ctx, 3).Err())
		}
		ok(w, conn.ClientSetName(w.ctx, w.key("me")).Err())
		want(w, any("RESET"))(conn.Do(w.ctx, "RESET").Result())
		if o := w.target.Options(); o.Password != "" {
			// RESET takes the user away as well.
			wantPrefix(w, conn.Ping(w.ctx).Err(), "NOAUTH")
			ok(w, conn.Do(w.ctx, "AUTH", o.Password).Err())
		}
		equal(w, conn.ClientGetName(w.ctx).Val(), "")
		ok(w, conn.Set(w.ctx, w.key("k"), "v", 0).Err())
		want(w, "v")(w.rdb.Get(w.ctx, w.key("k")).Result())
	}},
	{name: "HELLO on a Conn changes the protocol there and nowhere else", check: func(w *world) {
		k := w.key("h")
		ok(w, w.rdb.HSet(w.ctx, k, "f", "v").Err())
		conn := w.node(w.rdb).EphemeralConn()
		defer conn.Close()
		other := 5 - w.protocol
		hello, err := conn.Hello(w.ctx, other, "", "", "").Result()
		ok(w, err)
		equal(w, hello["proto"], any(int64(other)))
		for range 3 {
			want(w, map[string]string{"f": "v"})(conn.HGetAll(w.ctx, k).Result())
			want(w, map[string]string{"f": "v"})(w.rdb.HGetAll(w.ctx, k).Result())
		}
	}},
	{name: "QUIT is answered and the client goes on", check: func(w *world) {
		for range 3 {
			want(w, any("OK"))(w.rdb.Do(w.ctx, "QUIT").Result())
			want(w, "on")(w.rdb.Echo(w.ctx, "on").Result())
		}
	}},
	{name: "maintenance notifications left to the client don't disturb it", check: func(w *world) {
		c := w.client(func(o *redis.Options) {
			o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeAuto}
		})
		each(w, 8, func(i int) error {
			got, err := c.Echo(w.ctx, fmt.Sprint(i)).Result()
			return answer("ECHO", got, err, fmt.Sprint(i))
		})
	}},
}
