package conformance

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"
)

var pubsubGuarantees = []guarantee{
	{name: "Subscribe is confirmed and delivers", check: func(w *world) {
		ch := w.key("c")
		sub := w.subscribe(ch)
		ok(w, w.publish(w.rdb, ch, "hello"))
		msg, err := sub.ReceiveMessage(w.ctx)
		ok(w, err)
		equal(w, *msg, redis.Message{Channel: ch, Payload: "hello"})
	}},
	{name: "PSubscribe delivers by pattern", check: func(w *world) {
		sub := w.rdb.PSubscribe(w.ctx, w.key("*"))
		defer sub.Close()
		w.confirm(sub, "psubscribe", w.key("*"), 1)
		ok(w, w.rdb.Publish(w.ctx, w.key("x"), "hello").Err())
		msg, err := sub.ReceiveMessage(w.ctx)
		ok(w, err)
		equal(w, *msg, redis.Message{Channel: w.key("x"), Pattern: w.key("*"), Payload: "hello"})
	}},
	{name: "SSubscribe delivers on shard channels", check: func(w *world) {
		ch := w.key("c")
		sub := w.rdb.SSubscribe(w.ctx, ch)
		defer sub.Close()
		w.confirm(sub, "ssubscribe", ch, 1)
		want(w, int64(1))(w.rdb.SPublish(w.ctx, ch, "hello").Result())
		msg, err := sub.ReceiveMessage(w.ctx)
		ok(w, err)
		equal(w, *msg, redis.Message{Channel: ch, Payload: "hello"})
		ok(w, sub.SUnsubscribe(w.ctx, ch))
		w.confirm(sub, "sunsubscribe", ch, 0)
	}},
	{name: "one SUBSCRIBE of many channels is confirmed once for each", check: func(w *world) {
		var channels []string
		for i := range 50 {
			channels = append(channels, w.key(fmt.Sprint(i)))
		}
		sub := w.rdb.Subscribe(w.ctx, channels...)
		defer sub.Close()
		for i, ch := range channels {
			w.confirm(sub, "subscribe", ch, i+1)
		}
		node := w.node(w.rdb) // one, which keeps the order of what it is sent
		for _, ch := range channels {
			ok(w, w.publish(node, ch, ch))
		}
		for _, ch := range channels {
			msg, err := sub.ReceiveMessage(w.ctx)
			ok(w, err)
			equal(w, *msg, redis.Message{Channel: ch, Payload: ch})
		}
	}},
	{name: "channels added later deliver, channels left no more", check: func(w *world) {
		a, b, c := w.key("a"), w.key("b"), w.key("c")
		sub := w.subscribe(a)
		ok(w, sub.Subscribe(w.ctx, b))
		ok(w, sub.Subscribe(w.ctx, c))
		w.confirm(sub, "subscribe", b, 2)
		w.confirm(sub, "subscribe", c, 3)
		ok(w, sub.Unsubscribe(w.ctx, a))
		w.confirm(sub, "unsubscribe", a, 2)
		want(w, int64(0))(w.node(w.rdb).Publish(w.ctx, a, "nobody").Result())
		for _, ch := range []string{b, c} {
			ok(w, w.publish(w.rdb, ch, "to "+ch))
			msg, err := sub.ReceiveMessage(w.ctx)
			ok(w, err)
			equal(w, *msg, redis.Message{Channel: ch, Payload: "to " + ch})
		}
	}},
	{name: "a channel is added while a receiver waits", check: func(w *world) {
		a, b := w.key("a"), w.key("b")
		sub := w.subscribe(a)
		got := make(chan *redis.Message, 1)
		failed := make(chan error, 1)
		go func() {
			msg, err := sub.ReceiveMessage(w.ctx)
			if err != nil {
				failed <- err
				return
			}
			got <- msg
		}()
		ok(w, sub.Subscribe(w.ctx, b))
		w.eventually("a subscriber of the added channel", func() bool {
			return w.node(w.rdb).PubSubNumSub(w.ctx, b).Val()[b] == 1
		})
		ok(w, w.rdb.Publish(w.ctx, b, "hello").Err())
		select {
		case msg := <-got:
			equal(w, *msg, redis.Message{Channel: b, Payload: "hello"})
		case err := <-failed:
			w.Fatal(err)
		}
	}},
	{name: "Ping on a subscription is answered with its payload", check: func(w *world) {
		sub := w.subscribe(w.key("c"))
		for range 3 {
			ok(w, sub.Ping(w.ctx, "are you there"))
			got, err := sub.Receive(w.ctx)
			ok(w, err)
			pong, isPong := got.(*redis.Pong)
			if !isPong || pong.Payload != "are you there" {
				w.Fatalf("got %#v, want a Pong", got)
			}
		}
	}},
	{name: "1000 messages of concurrent publishers arrive in each one's order", works: true, check: func(w *world) {
		const publishers, each1 = 4, 250
		ch := w.key("c")
		sub := w.subscribe(ch)
		messages := sub.Channel(redis.WithChannelSize(publishers * each1))
		node := w.node(w.rdb) // one, which keeps the order of what it is sent
		each(w, publishers, func(p int) error {
			for i := range each1 {
				if err := w.publish(node, ch, fmt.Sprintf("%d %d", p, i)); err != nil {
					return err
				}
			}
			return nil
		})
		var next [publishers]int
		for range publishers * each1 {
			var p, i int
			msg := receive(w, messages, "a published message")
			if _, err := fmt.Sscan(msg.Payload, &p, &i); err != nil {
				w.Fatalf("payload %q: %v", msg.Payload, err)
			}
			if i != next[p] {
				w.Fatalf("publisher %d: message %d after %d", p, i, next[p]-1)
			}
			next[p]++
		}
	}},
	{name: "big messages arrive whole", check: func(w *world) {
		ch := w.key("c")
		sub := w.subscribe(ch)
		for _, size := range []int{0, 1, 32768, 65537, 1 << 20} {
			v := string(binary(size, 5))
			ok(w, w.publish(w.rdb, ch, v))
			msg, err := sub.ReceiveMessage(w.ctx)
			ok(w, err)
			equal(w, msg.Payload == v, true)
		}
	}},
	{name: "ReceiveTimeout times out and the subscription goes on", check: func(w *world) {
		ch := w.key("c")
		sub := w.subscribe(ch)
		for range 2 {
			_, err := sub.ReceiveTimeout(w.ctx, 20*time.Millisecond)
			wantTimeout(w, err)
		}
		ok(w, w.publish(w.rdb, ch, "still"))
		msg, err := sub.ReceiveMessage(w.ctx)
		ok(w, err)
		equal(w, msg.Payload, "still")
	}},
	{name: "a closed subscription leaves the server and closes its channel", check: func(w *world) {
		ch := w.key("c")
		sub := w.subscribe(ch)
		messages := sub.Channel()
		ok(w, sub.Close())
		for range messages {
			w.Fatal("a message nobody sent")
		}
		w.eventually("no subscriber", func() bool { return w.node(w.rdb).PubSubNumSub(w.ctx, ch).Val()[ch] == 0 })
		wantErr(w, sub.Subscribe(w.ctx, ch), redis.ErrClosed)
		wantErr(w, sub.Close(), redis.ErrClosed)
	}},
	{name: "closing a subscription ends a waiting Receive", check: func(w *world) {
		sub := w.subscribe(w.key("c"))
		done := make(chan error, 1)
		go func() {
			_, err := sub.Receive(w.ctx)
			done <- err
		}()
		// Whether Receive waits already can't be seen; it has to end either way.
		ok(w, sub.Close())
		if err := receive(w, done, "the end of Receive"); err == nil {
			w.Fatal("Receive of a closed subscription without an error")
		}
	}},
	{name: "subscriptions don't take the commands' connections", check: func(w *world) {
		one := w.client(func(o *redis.Options) { o.PoolSize, o.PipelinePoolSize = 1, -1 })
		for i := range 5 {
			ch := w.key(fmt.Sprint(i))
			sub := one.Subscribe(w.ctx, ch)
			defer sub.Close()
			w.confirm(sub, "subscribe", ch, 1)
		}
		want(w, "free")(one.Echo(w.ctx, "free").Result())
		ok(w, w.publish(one, w.key("3"), "x"))
	}},
	{name: "subscriptions and commands side by side don't mix", check: func(w *world) {
		each(w, 12, func(i int) error {
			ch := w.key(fmt.Sprint("c", i))
			sub := w.rdb.Subscribe(w.ctx, ch)
			defer sub.Close()
			if _, err := sub.Receive(w.ctx); err != nil {
				return err
			}
			for j := range 20 {
				v := fmt.Sprintf("%d.%d", i, j)
				if err := w.publish(w.rdb, ch, v); err != nil {
					return err
				}
				got, err := w.rdb.Echo(w.ctx, v).Result()
				if err := answer("ECHO", got, err, v); err != nil {
					return err
				}
				if err := w.hears(sub, ch, v); err != nil {
					return err
				}
			}
			return nil
		})
	}},
	{name: "a subscription whose connection is killed subscribes again", check: func(w *world) {
		ch := w.key("c")
		c := w.named("sub")
		sub := c.Subscribe(w.ctx, ch)
		defer sub.Close()
		w.confirm(sub, "subscribe", ch, 1)
		messages := sub.Channel()
		// A client of a topology has connections that ask for it, too.
		subscribed := func() []serverConn {
			return slices.DeleteFunc(w.conns("sub"), func(c serverConn) bool { return c.fields["sub"] != "1" })
		}
		conns := subscribed()
		equal(w, len(conns), 1)
		conns[0].kill(w)
		w.eventually("the subscription on another connection", func() bool {
			now := subscribed()
			return len(now) == 1 && now[0].fields["id"] != conns[0].fields["id"]
		})
		ok(w, w.publish(w.rdb, ch, "again"))
		equal(w, receive(w, messages, "a message after the kill").Payload, "again")
	}},
	{name: "a deadline ends Receive", check: func(w *world) {
		// Subscriptions heed the context whatever ContextTimeoutEnabled says.
		sub := w.subscribe(w.key("c"))
		ctx, cancel := context.WithTimeout(w.ctx, 50*time.Millisecond)
		defer cancel()
		_, err := sub.Receive(ctx)
		wantTimeout(w, err)
	}},
}

// subscribe returns a confirmed subscription that is closed with the guarantee.
func (w *world) subscribe(channel string) *redis.PubSub {
	w.Helper()
	sub := w.rdb.Subscribe(w.ctx, channel)
	w.Cleanup(func() {
		if err := sub.Close(); err != nil && !errors.Is(err, redis.ErrClosed) {
			w.Errorf("closing a subscription: %v", err)
		}
	})
	w.confirm(sub, "subscribe", channel, 1)
	return sub
}

// hears receives the next message, which must be this one.
func (w *world) hears(sub *redis.PubSub, channel, payload string) error {
	msg, err := sub.ReceiveMessage(w.ctx)
	if err == nil && (msg.Channel != channel || msg.Payload != payload) {
		err = wrongf("message %v, want %s on %s", msg, payload, channel)
	}
	return err
}

// confirm receives the server's confirmation of a change of subscriptions.
func (w *world) confirm(sub *redis.PubSub, kind, channel string, count int) {
	w.Helper()
	got, err := sub.Receive(w.ctx)
	ok(w, err)
	s, isSub := got.(*redis.Subscription)
	if !isSub {
		w.Fatalf("got %#v, want a Subscription", got)
	}
	equal(w, *s, redis.Subscription{Kind: kind, Channel: channel, Count: count})
}
