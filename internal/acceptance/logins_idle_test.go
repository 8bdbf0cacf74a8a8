//go:build !everpool_noveto

package acceptance_test

import (
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/internal/testkit/drivertest"
)

// A session that was lost leaves its idle handles on go-redis's list. They must not cost
// a try each: a call has four, and would fail although the server accepts it again.
func TestIdleHandlesOfADeadSessionCostNoTries(t *testing.T) {
	s := testkit.Start(t, testkit.Redis)
	ctx := t.Context()
	admin := redis.NewClient(&redis.Options{Addr: s.Addr})
	defer admin.Close()
	d := drivertest.New(t, driver.Config{Logger: slog.New(slog.DiscardHandler)})
	stock := &redis.Options{Addr: s.Addr, Username: "bob", Password: "pw", PoolSize: 100}
	for name, o := range map[string]*redis.Options{"everpool": d.Options(stock), "stock": stock} {
		user := func(pw string) {
			t.Helper()
			if err := admin.Do(ctx, "ACL", "SETUSER", "bob", "reset", "on", ">"+pw, "allcommands", "allkeys", "allchannels").Err(); err != nil {
				t.Fatal(err)
			}
		}
		user("pw")
		rdb := redis.NewClient(o)
		defer rdb.Close()
		conns := make([]*redis.Conn, 60)
		for i := range conns {
			conns[i] = rdb.Conn()
			if err := conns[i].Ping(ctx).Err(); err != nil {
				t.Fatal(err)
			}
		}
		for _, c := range conns {
			_ = c.Close()
		}
		user("other")
		_ = admin.Do(ctx, "CLIENT", "KILL", "USER", "bob").Err()
		time.Sleep(50 * time.Millisecond)
		refused := rdb.Get(ctx, "k").Err()
		user("pw")
		failed := 0
		var last error
		for range 30 {
			if err := rdb.Get(ctx, "k").Err(); err != nil && !errors.Is(err, redis.Nil) {
				failed, last = failed+1, err
			}
		}
		t.Logf("%s: while it was wrong: %v", name, refused)
		if failed > 0 {
			t.Errorf("%s: %d calls failed although the password is right again: %v", name, failed, last)
		}
	}
}
