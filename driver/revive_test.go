package driver_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/pooler"
)

// go-redis keeps a handle after an error of the server's. It asks none whether it is still
// well that a Conn keeps, or a client with a cache, and none at all on Windows.
func TestAHandleThatGoRedisKeepsOutlivesAServerThatIsNotReady(t *testing.T) {
	commands := []string{"HELLO", "CLIENT SETINFO", "SELECT", "PING", "GET", "SET", "BLPOP"}
	for name, of := range map[string]func(rdb *redis.Client) redis.Cmdable{
		"Conn":  func(rdb *redis.Client) redis.Cmdable { return rdb.Conn() },
		"cache": func(rdb *redis.Client) redis.Cmdable { return rdb },
	} {
		for _, word := range []string{"LOADING", "MASTERDOWN"} {
			t.Run(name+" "+word, func(t *testing.T) {
				inBothLabs(t, driver.Config{}, func(t *lab) {
					t.answers("*2\r\n$1\r\nq\r\n$1\r\nx\r\n", "BLPOP")
					rdb := t.client(func(o *redis.Options) {
						o.DB = 1
						if name == "cache" {
							o.Protocol, o.ClientSideCacheConfig = 3, &redis.ClientSideCacheConfig{}
						}
					})
					c := of(rdb)
					if err := c.Get(t.Context(), "k").Err(); err != nil && !errors.Is(err, redis.Nil) {
						t.Fatal(err)
					}
					t.answers("-"+word+" said by the test\r\n", commands...)
					for range 3 {
						if err := c.BLPop(t.Context(), time.Second, "q").Err(); !redis.HasErrorPrefix(err, word) {
							t.Errorf("BLPOP: %v", err)
						}
						if err := c.Get(t.Context(), "k").Err(); !redis.HasErrorPrefix(err, word) {
							t.Errorf("GET: %v", err)
						}
						if err := c.Set(t.Context(), "k", strings.Repeat("x", 1<<20), 0).Err(); !redis.HasErrorPrefix(err, word) {
							t.Errorf("SET: %v", err)
						}
						time.Sleep(time.Second)
					}
					for _, name := range commands {
						t.f.Handle(name, nil)
					}
					t.answers("*2\r\n$1\r\nq\r\n$1\r\nx\r\n", "BLPOP")
					time.Sleep(time.Second)
					if err := c.BLPop(t.Context(), time.Second, "q").Err(); err != nil {
						t.Errorf("ready again: BLPOP: %v", err)
					}
					if err := c.Get(t.Context(), "k").Err(); err != nil && !errors.Is(err, redis.Nil) {
						t.Errorf("ready again: GET: %v", err)
					}
					if err := c.Set(t.Context(), "k", strings.Repeat("x", 1<<20), 0).Err(); err != nil {
						t.Errorf("ready again: SET: %v", err)
					}
				})
			})
		}
	}
}

// go-redis keeps what it has dialed for a caller who then had left. On Windows it asks it
// nothing before its next use.
func TestWhatWasDialedForNobodyInAnOutageServesALaterCaller(t *testing.T) {
	inBothLabs(t, driver.Config{}, func(t *lab) {
		rdb := t.client()
		if err := rdb.Ping(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		t.f.DownRefused()
		t.wantErr(rdb.Ping(t.Context()).Err(), pooler.ErrNodeDown)
		first, kept := t.handle(), t.handle()
		_, err := first.Conn.Write([]byte(frames("GET k")))
		t.wantErr(err, pooler.ErrNodeDown)
		t.f.Up()
		time.Sleep(5 * time.Second)
		kept.do("SET k v", "+OK")
	})
}

// PubSub keeps its handle after the word of a server, and has no other brought.
func TestTheEndOfASubscriptionIsNoWordOfAServer(t *testing.T) {
	for _, when := range []string{"before", "open", "up"} {
		t.Run(when, func(t *testing.T) {
			inBothLabs(t, driver.Config{}, func(t *lab) {
				commands := []string{"HELLO", "CLIENT SETINFO", "PING", "GET"}
				rdb := t.client()
				if err := rdb.Ping(t.Context()).Err(); err != nil {
					t.Fatal(err)
				}
				ps := rdb.Subscribe(t.Context())
				defer ps.Close()
				if when == "open" {
					if err := ps.Subscribe(t.Context(), "news"); err != nil {
						t.Fatal(err)
					}
				}
				t.answers("-LOADING said by the test\r\n", commands...)
				if when != "up" {
					t.f.ResetAll()
				}
				_ = rdb.BLPop(t.Context(), time.Second, "q") // needs a new connection
				if when != "open" {
					_ = ps.Subscribe(t.Context(), "news")
				}
				ch := ps.Channel(redis.WithChannelHealthCheckInterval(0))
				time.Sleep(3 * time.Second)
				for _, name := range commands {
					t.f.Handle(name, nil)
				}
				time.Sleep(3 * time.Second) // go-redis's pauses
				if n := t.f.Publish("news", "hello"); n != 1 {
					t.Errorf("%d subscriptions", n)
				}
				select {
				case <-ch:
				case <-time.After(time.Second):
					t.Error("no message")
				}
			})
		})
	}
}
