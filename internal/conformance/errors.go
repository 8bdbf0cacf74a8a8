package conformance

import (
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"
)

var errorGuarantees = []guarantee{
	{name: "WRONGTYPE is the command's error and the connection goes on", check: func(w *world) {
		k := w.key("s")
		ok(w, w.rdb.Set(w.ctx, k, "v", 0).Err())
		one := w.client(func(o *redis.Options) { o.PoolSize = 1 })
		each(w, 8, func(i int) error {
			for j := range 20 {
				if err := one.LPush(w.ctx, k, "x").Err(); !redis.HasErrorPrefix(err, "WRONGTYPE") {
					return wrongf("LPUSH on a string: %v", err)
				}
				v := fmt.Sprintf("%d-%d", i, j)
				got, err := one.Echo(w.ctx, v).Result()
				if err := answer("ECHO after an error", got, err, v); err != nil {
					return err
				}
			}
			return nil
		})
		want(w, "v")(one.Get(w.ctx, k).Result())
	}},
	{name: "an unknown command is the server's error and the connection goes on", check: func(w *world) {
		for range 3 {
			wantPrefix(w, w.rdb.Do(w.ctx, "NOSUCHCOMMAND", "a", "b").Err(), "unknown command")
			want(w, "still here")(w.rdb.Echo(w.ctx, "still here").Result())
		}
	}},
	{name: "a wrong number of arguments is the server's error", check: func(w *world) {
		wantPrefix(w, w.rdb.Do(w.ctx, "GET").Err(), "wrong number of arguments")
		wantPrefix(w, w.rdb.Do(w.ctx, "SET", w.key("k")).Err(), "wrong number of arguments")
		want(w, "PONG")(w.rdb.Ping(w.ctx).Result())
	}},
	{name: "a value that is no integer is the server's error", check: func(w *world) {
		k := w.key("k")
		ok(w, w.rdb.Set(w.ctx, k, "ten", 0).Err())
		wantPrefix(w, w.rdb.Incr(w.ctx, k).Err(), "value is not an integer")
		want(w, "ten")(w.rdb.Get(w.ctx, k).Result())
	}},
	{name: "an argument that can't be encoded fails before anything is sent", check: func(w *world) {
		one := w.client(func(o *redis.Options) { o.PoolSize = 1 })
		k := w.key("k")
		if err := one.Set(w.ctx, k, struct{ A int }{1}, 0).Err(); err == nil {
			w.Fatal("SET of a struct succeeded")
		}
		wantErr(w, one.Get(w.ctx, k).Err(), redis.Nil)
		cause := errors.New("no encoding today")
		wantErr(w, one.Set(w.ctx, k, badMarshaler{cause}, 0).Err(), cause)
		want(w, "fine")(one.Echo(w.ctx, "fine").Result())
	}},
}

// badMarshaler fails in the middle of writing a command.
type badMarshaler struct{ err error }

// MarshalBinary implements encoding.BinaryMarshaler.
func (b badMarshaler) MarshalBinary() ([]byte, error) { return nil, b.err }
