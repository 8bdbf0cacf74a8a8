package conformance

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/redis/go-redis/v9"
)

var authGuarantees = []guarantee{
	{name: "a user's password opens the server", check: func(w *world) {
		user := w.user("u", "secret")
		c := w.client(asUser(user, "secret"))
		each(w, 8, func(int) error {
			got, err := c.Do(w.ctx, "ACL", "WHOAMI").Text()
			return answer("ACL WHOAMI", got, err, user)
		})
	}},
	{name: "a wrong password is the server's WRONGPASS, every time", check: func(w *world) {
		user := w.user("u", "secret")
		c := w.client(asUser(user, "guess"))
		each(w, 4, func(int) error {
			for range 2 {
				err := c.Ping(w.ctx).Err()
				if !redis.IsAuthError(err) || !redis.HasErrorPrefix(err, "WRONGPASS") {
					return wrongf("PING with a wrong password: %v (%T)", err, err)
				}
			}
			return nil
		})
		// A refusal is nothing to remember: the same credentials may become right.
		ok(w, w.everywhere("ACL", "SETUSER", user, ">guess"))
		want(w, "PONG")(c.Ping(w.ctx).Result())
	}},
	{name: "clients with different users never share a connection", check: func(w *world) {
		const n = 4
		users, clients := make([]string, n), make([]redis.UniversalClient, n)
		for i := range n {
			users[i] = w.user(fmt.Sprint("u", i), "same")
			clients[i] = w.client(asUser(users[i], "same"))
		}
		each(w, 16, func(i int) error {
			for range 20 {
				got, err := clients[i%n].Do(w.ctx, "ACL", "WHOAMI").Text()
				if err := answer("ACL WHOAMI", got, err, users[i%n]); err != nil {
					return err
				}
			}
			return nil
		})
	}},
	{name: "NOPERM is the command's error and the connection goes on", check: func(w *world) {
		user := w.user("u", "secret", "-set")
		c := w.client(asUser(user, "secret"))
		for i := range 5 {
			err := c.Set(w.ctx, w.key("k"), "v", 0).Err()
			if !redis.IsPermissionError(err) {
				w.Fatalf("SET without permission: %v", err)
			}
			want(w, fmt.Sprint(i))(c.Echo(w.ctx, fmt.Sprint(i)).Result())
		}
	}},
	{name: "AUTH on a Conn changes the user there and nowhere else", check: func(w *world) {
		user := w.user("u", "secret")
		me, err := w.rdb.Do(w.ctx, "ACL", "WHOAMI").Text()
		ok(w, err)
		conn := w.node(w.rdb).EphemeralConn()
		defer conn.Close()
		want(w, "OK")(conn.AuthACL(w.ctx, user, "secret").Result())
		for range 3 {
			want(w, user)(conn.Do(w.ctx, "ACL", "WHOAMI").Text())
			want(w, me)(w.rdb.Do(w.ctx, "ACL", "WHOAMI").Text())
		}
		if err := conn.AuthACL(w.ctx, user, "guess").Err(); !redis.IsAuthError(err) {
			w.Fatalf("AUTH with a wrong password: %v", err)
		}
		want(w, user)(conn.Do(w.ctx, "ACL", "WHOAMI").Text())
	}},
	{name: "credentials that a provider rotates are used after a kill", check: func(w *world) {
		user := w.user("u", "p1")
		var password atomic.Value
		password.Store("p1")
		c := w.client(func(o *redis.Options) {
			asUser("", "")(o)
			o.CredentialsProvider = func() (string, string) { return user, password.Load().(string) }
		})
		each(w, 8, func(int) error { return c.Ping(w.ctx).Err() })
		for _, next := range []string{"p2", "p3"} {
			ok(w, w.everywhere("ACL", "SETUSER", user, "resetpass", ">"+next))
			password.Store(next)
			ok(w, w.everywhere("CLIENT", "KILL", "USER", user))
			each(w, 8, func(int) error {
				got, err := c.Do(w.ctx, "ACL", "WHOAMI").Text()
				return answer("ACL WHOAMI after the rotation", got, err, user)
			})
		}
	}},
	{name: "a password changed without the client knowing fails new connections only", check: func(w *world) {
		user := w.user("u", "p1")
		c := w.client(asUser(user, "p1"))
		conn := w.node(c).Conn()
		defer conn.Close()
		ok(w, conn.Ping(w.ctx).Err())
		ok(w, w.everywhere("ACL", "SETUSER", user, "resetpass", ">p2"))
		want(w, "PONG")(conn.Ping(w.ctx).Result())
		ok(w, conn.Close())
		ok(w, w.everywhere("CLIENT", "KILL", "USER", user))
		if err := c.Ping(w.ctx).Err(); !redis.IsAuthError(err) {
			w.Fatalf("PING with the old password: %v (%T)", err, err)
		}
		ok(w, w.everywhere("ACL", "SETUSER", user, ">p1"))
		want(w, "PONG")(c.Ping(w.ctx).Result())
	}},
	{name: "a provider's error is the command's", check: func(w *world) {
		cause := errors.New("vault is sealed")
		c := w.client(func(o *redis.Options) {
			asUser("", "")(o)
			o.CredentialsProviderContext = func(context.Context) (string, string, error) { return "", "", cause }
		})
		wantErr(w, c.Ping(w.ctx).Err(), cause)
	}},
	{name: "a subscription authenticates as its client does", check: func(w *world) {
		user := w.user("u", "secret", "allchannels")
		c := w.client(asUser(user, "secret"))
		sub := c.Subscribe(w.ctx, w.key("c"))
		defer sub.Close()
		w.confirm(sub, "subscribe", w.key("c"), 1)
		wrong := w.client(asUser(user, "guess")).Subscribe(w.ctx, w.key("c"))
		defer wrong.Close()
		if _, err := wrong.Receive(w.ctx); !redis.IsAuthError(err) {
			w.Fatalf("a subscription with a wrong password: %v (%T)", err, err)
		}
	}},
}

// user makes an ACL user of this guarantee with all permissions, then rules.
func (w *world) user(name, password string, rules ...string) string {
	w.Helper()
	user := w.id + name
	args := []any{"ACL", "SETUSER", user, "on", ">" + password, "~*", "&*", "+@all"}
	for _, r := range rules {
		args = append(args, r)
	}
	ok(w, w.everywhere(args...))
	w.Cleanup(func() {
		if err := w.everywhere("ACL", "DELUSER", user); err != nil {
			w.Errorf("removing a user: %v", err)
		}
	})
	return user
}

// asUser sets fixed credentials.
func asUser(user, password string) func(*redis.Options) {
	return func(o *redis.Options) { o.Username, o.Password = user, password }
}

func isContextCanceled(err error) bool { return errors.Is(err, context.Canceled) }
