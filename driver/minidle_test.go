package driver_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/internal/testkit"
)

// As with the stock client sockets are open before the first command. After it a burst
// finds them in its session, and waits for no dial.
func TestMinIdleConnsOpensSocketsWhenTheClientIsMade(t *testing.T) {
	inBothLabs(t, driver.Config{}, func(t *lab) {
		rdb := t.client(func(o *redis.Options) { o.DB, o.MinIdleConns = 1, 5 })
		synctest.Wait()
		if n := t.f.Live(); n != 5 {
			t.Errorf("%d sockets, want 5", n)
		}
		if ran := t.f.Commands(); len(ran) != 0 {
			t.Errorf("ran %v", ran)
		}
		if err := rdb.Set(t.Context(), "k", "v", 0).Err(); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		before := t.stats().WaitCount
		var burst sync.WaitGroup
		for range 5 {
			burst.Go(func() {
				_ = rdb.Watch(t.Context(), func(*redis.Tx) error {
					time.Sleep(time.Second) // until all have one
					return nil
				}, "k")
			})
		}
		burst.Wait()
		if waits := t.stats().WaitCount - before; waits != 0 {
			t.Errorf("%d had to wait", waits)
		}
	})
}

// What a handshake passes through keeps none of them, whatever the server refuses of it.
func TestMinIdleConnsBelongToTheSessionThatOnConnectMakes(t *testing.T) {
	inBothLabs(t, driver.Config{}, func(t *lab) {
		rdb := t.client(func(o *redis.Options) {
			o.MinIdleConns = 6
			o.OnConnect = func(ctx context.Context, cn *redis.Conn) error {
				time.Sleep(time.Millisecond) // as far as a server is away
				if err := cn.ClientSetName(ctx, "worker").Err(); err != nil {
					return err
				}
				time.Sleep(time.Millisecond)
				return cn.Select(ctx, 3).Err()
			}
		})
		synctest.Wait()
		if err := rdb.Set(t.Context(), "k", "v", 0).Err(); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		begun, done := 0, 0
		for _, ran := range t.f.Commands() {
			begun += strings.Count(ran, "HELLO")
			done += strings.Count(ran, "SELECT 3")
		}
		if begun != done {
			t.Errorf("%d sockets have run HELLO, %d of them are in the session", begun, done)
		}
		if n := t.f.Live(); n > 8 { // one works, and one was opened before there was a session
			t.Errorf("%d sockets", n)
		}
	}, testkit.WithoutSetInfo())
}
