package testkit_test

import (
	"context"
	"errors"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/everpool/everpool/internal/testkit"
)

// client returns an unmodified go-redis client of a fake. The pool is larger
// than any test needs: a wait for a connection would use a timer of another
// bubble.
func client(t *testing.T, f *testkit.Fake, change func(*redis.Options)) *redis.Client {
	t.Helper()
	o := &redis.Options{
		Addr:                     "10.0.0.1:6379",
		Dialer:                   f.Dial,
		PoolSize:                 100,
		MaxRetries:               -1,
		DialerRetries:            1,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
	if change != nil {
		change(o)
	}
	rdb := redis.NewClient(o)
	t.Cleanup(func() { _ = rdb.Close() })
	return rdb
}

func TestGoRedisSpeaksWithTheFake(t *testing.T) {
	for _, proto := range []int{2, 3} {
		bubble(t, func(t *testing.T, f *testkit.Fake) {
			f.SetPassword("app", "pw")
			f.SetPassword("", "other")
			rdb := client(t, f, func(o *redis.Options) {
				o.Protocol, o.Username, o.Password, o.DB, o.ClientName = proto, "app", "pw", 3, "me"
			})
			ctx := t.Context()
			if err := rdb.Set(ctx, "k", "v", time.Minute).Err(); err != nil {
				t.Fatal(err)
			}
			if v, err := rdb.Get(ctx, "k").Result(); v != "v" || err != nil {
				t.Fatal(v, err)
			}
			wantErr(t, "get", rdb.Get(ctx, "none").Err(), redis.Nil)
			time.Sleep(time.Minute)
			wantErr(t, "get after the expiry", rdb.Get(ctx, "k").Err(), redis.Nil)
			cmds, err := rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
				p.Incr(ctx, "n")
				p.RPush(ctx, "l", "a", "b")
				p.LRange(ctx, "l", 0, -1)
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]string{"a", "b"}, cmds[2].(*redis.StringSliceCmd).Val()); diff != "" {
				t.Fatal(diff)
			}
			infos, err := rdb.Command(ctx).Result()
			if err != nil || !infos["get"].ReadOnly || infos["blpop"].FirstKeyPos != 1 {
				t.Fatalf("COMMAND: %v, %v", infos, err)
			}
			s := f.Conns()[0].Session()
			if s.User != "app" || s.DB != 3 || s.Proto != proto || s.Name != "me" || s.LibName == "" {
				t.Fatalf("session %+v", s)
			}
		})
	}
}

func TestGoRedisDeadlinesPassInFakeTime(t *testing.T) {
	bubble(t, func(t *testing.T, f *testkit.Fake) {
		rdb := client(t, f, func(o *redis.Options) { o.ReadTimeout = 100 * time.Hour })
		if err := rdb.Ping(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		f.Freeze(true)
		start := time.Now()
		err := rdb.Ping(t.Context()).Err()
		wantErr(t, "ping", err, os.ErrDeadlineExceeded)
		if ne, ok := errors.AsType[net.Error](err); !ok || !ne.Timeout() {
			t.Fatalf("%v isn't a timeout", err)
		}
		if took := time.Since(start); took != 100*time.Hour {
			t.Fatalf("took %v", took)
		}
	})
}

func TestGoRedisWatchConflict(t *testing.T) {
	bubble(t, func(t *testing.T, f *testkit.Fake) {
		rdb := client(t, f, nil)
		ctx := t.Context()
		attempts := 0
		tx := func(tx *redis.Tx) error {
			n, err := tx.Get(ctx, "n").Int()
			if err != nil && !errors.Is(err, redis.Nil) {
				return err
			}
			if attempts++; attempts == 1 {
				rdb.Incr(ctx, "n") // on another connection
			}
			_, err = tx.TxPipelined(ctx, func(p redis.Pipeliner) error {
				p.Set(ctx, "n", n+10, 0)
				return nil
			})
			return err
		}
		wantErr(t, "first attempt", rdb.Watch(ctx, tx, "n"), redis.TxFailedErr)
		wantErr(t, "second attempt", rdb.Watch(ctx, tx, "n"), nil)
		if n, err := rdb.Get(ctx, "n").Int(); n != 11 || err != nil {
			t.Fatal(n, err)
		}
	})
}

func TestGoRedisBlockingPop(t *testing.T) {
	bubble(t, func(t *testing.T, f *testkit.Fake) {
		rdb := client(t, f, nil)
		ctx := t.Context()
		start := time.Now()
		wantErr(t, "blpop", rdb.BLPop(ctx, time.Hour, "l").Err(), redis.Nil)
		if took := time.Since(start); took != time.Hour {
			t.Fatalf("took %v", took)
		}
		time.AfterFunc(time.Minute, func() { rdb.RPush(ctx, "l", "x") })
		v, err := rdb.BLPop(ctx, time.Hour, "l").Result()
		if diff := cmp.Diff([]string{"l", "x"}, v); diff != "" || err != nil {
			t.Fatal(diff, err)
		}
		if took := time.Since(start); took != time.Hour+time.Minute {
			t.Fatalf("took %v", took)
		}
	})
}

func TestGoRedisPubSub(t *testing.T) {
	bubble(t, func(t *testing.T, f *testkit.Fake) {
		rdb := client(t, f, nil)
		ctx := t.Context()
		sub := rdb.Subscribe(ctx, "news")
		defer sub.Close()
		if _, err := sub.Receive(ctx); err != nil {
			t.Fatal(err)
		}
		if n := rdb.Publish(ctx, "news", "hi").Val(); n != 1 {
			t.Fatalf("%d receivers", n)
		}
		m, err := sub.ReceiveMessage(ctx)
		if err != nil || m.Payload != "hi" {
			t.Fatal(m, err)
		}
	})
}

func TestGoRedisMeetsDownAndUp(t *testing.T) {
	bubble(t, func(t *testing.T, f *testkit.Fake) {
		rdb := client(t, f, func(o *redis.Options) { o.MaxRetries = 3 })
		ctx := t.Context()
		if err := rdb.Set(ctx, "k", "v", 0).Err(); err != nil {
			t.Fatal(err)
		}
		f.DownRefused()
		if err := rdb.Get(ctx, "k").Err(); err == nil {
			t.Fatal("no error from a server that is down")
		}
		f.Up()
		time.Sleep(2 * time.Second)
		if v, err := rdb.Get(ctx, "k").Result(); v != "v" || err != nil {
			t.Fatal(v, err)
		}
	})
}

// Every offset of a reply, cut: the client must see an error or the truth.
func TestGoRedisWithACutAtEveryOffset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for at := range int64(400) {
			f := testkit.NewFake(testkit.WithConnWrapper(
				testkit.ByteFault{Kind: testkit.FaultCut, Dir: testkit.ToClient, At: at}.Wrap))
			rdb := client(t, f, nil)
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			v, err := rdb.Set(ctx, "k", "v", 0).Result()
			if err == nil && v != "OK" {
				t.Fatalf("cut at %d: %q", at, v)
			}
			cancel()
			_ = rdb.Close()
			f.Close()
		}
	})
}
