package conformance

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

// blockFor is longer than a guarantee lasts: a command that blocks this long
// returns because of what the test does and not because of its own timeout.
const blockFor = 30 * time.Second

var blockingGuarantees = []guarantee{
	{name: "BLPOP takes a value that is there", check: func(w *world) {
		k := w.key("l")
		ok(w, w.rdb.RPush(w.ctx, k, "v").Err())
		want(w, []string{k, "v"})(w.rdb.BLPop(w.ctx, blockFor, w.key("empty"), k).Result())
	}},
	{name: "BLPOP takes a value that comes later, and others go on meanwhile", check: func(w *world) {
		const n = 8
		c := w.named("blocked")
		got := make(chan error, n)
		for i := range n {
			go func() {
				k := w.key(fmt.Sprint(i))
				res, err := c.BLPop(w.ctx, blockFor, k).Result()
				if err == nil && (res[0] != k || res[1] != fmt.Sprint("v", i)) {
					err = wrongf("BLPOP %s: got %v", k, res)
				}
				got <- err
			}()
		}
		w.awaitBlocked("blocked", n)
		each(w, 8, func(i int) error {
			v := fmt.Sprint("echo", i)
			res, err := c.Echo(w.ctx, v).Result()
			return answer("ECHO beside blocked commands", res, err, v)
		})
		for i := range n {
			ok(w, c.RPush(w.ctx, w.key(fmt.Sprint(i)), fmt.Sprint("v", i)).Err())
		}
		for range n {
			ok(w, receive(w, got, "a blocked BLPOP's value"))
		}
	}},
	{name: "BLPOP that times out is redis.Nil and the client goes on", check: func(w *world) {
		each(w, 4, func(i int) error {
			if err := w.rdb.BLPop(w.ctx, time.Second, w.key("empty")).Err(); !errors.Is(err, redis.Nil) {
				return wrongf("BLPOP on an empty list: %v", err)
			}
			v := fmt.Sprint("after", i)
			got, err := w.rdb.Echo(w.ctx, v).Result()
			return answer("ECHO after BLPOP", got, err, v)
		})
	}},
	{name: "a blocking command may outlast ReadTimeout", check: func(w *world) {
		// Left to itself, the time to write would be as short, and with it the time to
		// wait for a connection.
		c := w.client(func(o *redis.Options) { o.ReadTimeout, o.WriteTimeout = 200*time.Millisecond, 5*time.Second })
		start := time.Now()
		wantErr(w, c.BLPop(w.ctx, time.Second, w.key("empty")).Err(), redis.Nil)
		if d := time.Since(start); d < 900*time.Millisecond {
			w.Fatalf("BLPOP returned after %v, want a second", d)
		}
	}},
	{name: "BRPOPLPUSH moves a value that comes later", check: laterValue(
		func(w *world, c redis.UniversalClient, k string) (any, error) {
			return c.BRPopLPush(w.ctx, k, k+"-dest", blockFor).Result()
		},
		func(w *world, c redis.UniversalClient, k string) error { return c.RPush(w.ctx, k, "v").Err() },
		func(string) any { return "v" },
	)},
	{name: "BLMOVE moves a value that comes later", check: laterValue(
		func(w *world, c redis.UniversalClient, k string) (any, error) {
			return c.BLMove(w.ctx, k, k+"-dest", "LEFT", "RIGHT", blockFor).Result()
		},
		func(w *world, c redis.UniversalClient, k string) error { return c.RPush(w.ctx, k, "v").Err() },
		func(string) any { return "v" },
	)},
	{name: "BZPOPMIN takes a member that comes later", check: laterValue(
		func(w *world, c redis.UniversalClient, k string) (any, error) {
			z, err := c.BZPopMin(w.ctx, blockFor, k).Result()
			if err != nil {
				return nil, err
			}
			return *z, nil
		},
		func(w *world, c redis.UniversalClient, k string) error {
			return c.ZAdd(w.ctx, k, redis.Z{Score: 1.5, Member: "m"}).Err()
		},
		func(k string) any { return redis.ZWithKey{Z: redis.Z{Score: 1.5, Member: "m"}, Key: k} },
	)},
	{name: "XREAD BLOCK takes a message that comes later", check: laterValue(
		func(w *world, c redis.UniversalClient, k string) (any, error) {
			return c.XRead(w.ctx, &redis.XReadArgs{Streams: []string{k, "0"}, Block: blockFor}).Result()
		},
		addMessage,
		func(k string) any { return []redis.XStream{{Stream: k, Messages: []redis.XMessage{aMessage}}} },
	)},
	{name: "XREADGROUP BLOCK takes a message that comes later", check: laterValue(
		func(w *world, c redis.UniversalClient, k string) (any, error) {
			if err := c.XGroupCreateMkStream(w.ctx, k, "g", "0").Err(); err != nil {
				return nil, err
			}
			return c.XReadGroup(w.ctx, &redis.XReadGroupArgs{
				Group: "g", Consumer: "c", Streams: []string{k, ">"}, Block: blockFor,
			}).Result()
		},
		// On miniredis nothing says that the group exists yet; a message
		// added before it is delivered as well, for the group starts at 0.
		addMessage,
		func(k string) any { return []redis.XStream{{Stream: k, Messages: []redis.XMessage{aMessage}}} },
	)},
	{name: "XREAD BLOCK written by hand blocks in any case and type of argument", check: laterValue(
		func(w *world, c redis.UniversalClient, k string) (any, error) {
			// Do's own read timeout doesn't know BLOCK, hence the clone's.
			res, err := w.node(c).WithTimeout(blockFor).Do(w.ctx, []byte("xReAd"), "COUNT", 1, []byte("bLoCk"), 20_000, "STREAMS", k, "0").Result()
			return res != nil, err
		},
		addMessage,
		func(string) any { return true },
	)},
	{name: "XREAD BLOCK that times out is redis.Nil", check: func(w *world) {
		err := w.rdb.XRead(w.ctx, &redis.XReadArgs{Streams: []string{w.key("s"), "$"}, Block: 20 * time.Millisecond}).Err()
		wantErr(w, err, redis.Nil)
		want(w, "on")(w.rdb.Echo(w.ctx, "on").Result())
	}},
	{name: "a value is popped by exactly one of many waiting consumers", check: func(w *world) {
		const n = 8
		k := w.key("l")
		c := w.named("consumers")
		got := make(chan string, n)
		failed := make(chan error, n)
		for range n {
			go func() {
				res, err := c.BRPop(w.ctx, blockFor, k).Result()
				if err != nil {
					failed <- err
					return
				}
				got <- res[1]
			}()
		}
		w.awaitBlocked("consumers", n)
		for i := range n {
			ok(w, w.rdb.LPush(w.ctx, k, i).Err())
		}
		seen := map[string]bool{}
		for range n {
			select {
			case v := <-got:
				seen[v] = true
			case err := <-failed:
				w.Fatal(err)
			}
		}
		equal(w, len(seen), n)
	}},
	{name: "a deadline ends a blocked command when ContextTimeoutEnabled", check: func(w *world) {
		c := w.client(func(o *redis.Options) { o.ContextTimeoutEnabled, o.MaxRetries = true, -1 })
		each(w, 4, func(int) error { return c.Exists(w.ctx, w.key("empty")).Err() }) // the way there isn't the subject
		each(w, 4, func(i int) error {
			ctx, cancel := context.WithTimeout(w.ctx, 100*time.Millisecond)
			defer cancel()
			start := time.Now()
			if err := c.BLPop(ctx, blockFor, w.key("empty")).Err(); !isTimeout(err) {
				return wrongf("BLPOP with a deadline: %v (%T)", err, err)
			}
			if d := time.Since(start); d > 5*time.Second {
				return wrongf("BLPOP with a deadline of 100 ms returned after %v", d)
			}
			v := fmt.Sprint("after", i)
			got, err := c.Echo(w.ctx, v).Result()
			return answer("ECHO after the deadline", got, err, v)
		})
	}},
	{name: "a context cancelled while a command is blocked leaves the client usable", check: func(w *world) {
		// The stock client doesn't interrupt the read: what the call returns
		// depends on the layer, that it returns and shifts no reply does not.
		c := w.named("cancelled", func(o *redis.Options) { o.ContextTimeoutEnabled, o.MaxRetries = true, -1 })
		k := w.key("l")
		ctx, cancel := context.WithCancel(w.ctx)
		done := make(chan error, 1)
		go func() {
			res, err := c.BLPop(ctx, blockFor, k).Result()
			if err == nil && res[1] != "v" {
				err = wrongf("BLPOP: got %v", res)
			}
			done <- err
		}()
		w.awaitBlocked("cancelled", 1)
		cancel()
		ok(w, w.rdb.RPush(w.ctx, k, "v").Err())
		if err := receive(w, done, "the end of a cancelled BLPOP"); err != nil && !errors.Is(err, context.Canceled) {
			w.Fatal(err)
		}
		for i := range 20 {
			want(w, fmt.Sprint(i))(c.Echo(w.ctx, fmt.Sprint(i)).Result())
		}
	}},
}

var aMessage = redis.XMessage{ID: "1-1", Values: map[string]any{"f": "v"}}

func addMessage(w *world, c redis.UniversalClient, k string) error {
	return c.XAdd(w.ctx, &redis.XAddArgs{Stream: k, ID: aMessage.ID, Values: aMessage.Values}).Err()
}

// laterValue checks that take blocks until give has given, in several
// goroutines at once, each with a key of its own.
func laterValue(
	take func(w *world, c redis.UniversalClient, key string) (any, error),
	give func(w *world, c redis.UniversalClient, key string) error,
	value func(key string) any,
) func(*world) {
	return func(w *world) {
		const n = 3
		c := w.named("blocked")
		type result struct {
			i   int
			v   any
			err error
		}
		results := make(chan result, n)
		for i := range n {
			go func() {
				v, err := take(w, c, w.key(fmt.Sprint(i)))
				results <- result{i, v, err}
			}()
		}
		w.awaitBlocked("blocked", n)
		for i := range n {
			ok(w, give(w, w.rdb, w.key(fmt.Sprint(i))))
		}
		for range n {
			r := receive(w, results, "a blocked command's reply")
			want(w, value(w.key(fmt.Sprint(r.i))))(r.v, r.err)
		}
	}
}
