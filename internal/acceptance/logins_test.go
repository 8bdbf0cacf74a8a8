package acceptance_test

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/internal/testkit/drivertest"
	"github.com/everpool/everpool/pooler"
)

// Real servers: users that come, go, and change at run time.
func TestUsersAtRunTime(t *testing.T) {
	s := testkit.Start(t, testkit.Redis)
	drivertest.BothWays(t, func(t *testing.T, shared int) {
		ctx := t.Context()
		admin := redis.NewClient(&redis.Options{Addr: s.Addr})
		defer admin.Close()
		acl := func(args ...any) {
			t.Helper()
			if err := admin.Do(ctx, append([]any{"ACL"}, args...)...).Err(); err != nil {
				t.Fatal(err)
			}
		}
		d := drivertest.New(t, driver.Config{Logger: slog.New(slog.DiscardHandler), Pool: pooler.Config{MaxOpenConns: 6, SharedConns: shared}})
		acl("SETUSER", "bob", "reset", "on", ">p1", "allcommands", "allkeys", "allchannels")
		client := func(pw string) *redis.Client {
			return redis.NewClient(d.Options(&redis.Options{Addr: s.Addr, Username: "bob", Password: pw}))
		}
		a := client("p1")
		defer a.Close()
		many := func(c *redis.Client) error {
			var wg sync.WaitGroup
			errs := make([]error, 30)
			for i := range errs {
				wg.Go(func() {
					if errs[i] = c.Get(ctx, "nokey").Err(); errors.Is(errs[i], redis.Nil) {
						errs[i] = nil
					}
				})
			}
			wg.Wait()
			return errors.Join(errs...)
		}
		if err := many(a); err != nil {
			t.Fatal(err)
		}
		// Another password: connections stay, new clients with the old one are refused.
		acl("SETUSER", "bob", "resetpass", ">p2")
		b := client("p1")
		defer b.Close()
		if err := b.Get(ctx, "nokey").Err(); !redis.HasErrorPrefix(err, "WRONGPASS") {
			t.Errorf("new client, old password: %v", err)
		}
		c := client("p2")
		defer c.Close()
		if err := many(c); err != nil {
			t.Errorf("new client, new password: %v", err)
		}
		acl("DELUSER", "bob")
		if err := c.Get(ctx, "nokey").Err(); !redis.HasErrorPrefix(err, "WRONGPASS") && !errors.Is(err, pooler.ErrSessionLost) {
			t.Errorf("after DELUSER: %v", err)
		}
		acl("SETUSER", "bob", "reset", "on", ">p2", "allcommands", "allkeys", "allchannels")
		if err := many(c); err != nil {
			t.Errorf("once it is there again: %v", err)
		}
		// requirepass at run time.
		plain := redis.NewClient(d.Options(&redis.Options{Addr: s.Addr}))
		defer plain.Close()
		if err := many(plain); err != nil {
			t.Fatal(err)
		}
		acl("SETUSER", "default", "resetpass", ">root")
		admin2 := redis.NewClient(&redis.Options{Addr: s.Addr, Password: "root"})
		defer admin2.Close()
		if err := admin2.Do(ctx, "CLIENT", "KILL", "USER", "default", "SKIPME", "yes").Err(); err != nil {
			t.Fatal(err)
		}
		for i := range 15 { // see TestIdleHandlesOfADeadSessionCostNoTries
			if err := plain.Get(ctx, "nokey").Err(); i > 10 && !redis.HasErrorPrefix(err, "NOAUTH") {
				t.Errorf("%d: no password: %v", i, err)
			}
		}
		late := redis.NewClient(d.Options(&redis.Options{Addr: s.Addr, CredentialsProvider: func() (string, string) { return "", "root" }}))
		defer late.Close()
		if err := many(late); err != nil {
			t.Errorf("provider without a user: %v", err)
		}
		if err := admin2.Do(ctx, "ACL", "SETUSER", "default", "nopass").Err(); err != nil {
			t.Fatal(err)
		}
		if err := many(plain); err != nil {
			t.Errorf("nopass again: %v", err)
		}
		empty := redis.NewClient(d.Options(&redis.Options{Addr: s.Addr, CredentialsProvider: func() (string, string) { return "", "" }}))
		defer empty.Close()
		if err := many(empty); err != nil {
			t.Errorf("empty password: %v", err)
		}
		if st := d.Nodes()[0].Stats; st.Pinned != 0 {
			t.Errorf("%d pinned", st.Pinned)
		}
		admin = admin2
	})
}

// Providers, Conn, Tx and pub/sub at once while the password rotates and connections die.
func TestProvidersUnderLoadOnARealServer(t *testing.T) {
	testkit.Works(t)
	s := testkit.Start(t, testkit.Redis)
	ctx := t.Context()
	admin := redis.NewClient(&redis.Options{Addr: s.Addr})
	defer admin.Close()
	var mu sync.Mutex
	pw := "p0"
	set := func(next string) {
		mu.Lock()
		defer mu.Unlock()
		if err := admin.Do(ctx, "ACL", "SETUSER", "bob", "on", "resetpass", ">"+next, "allcommands", "allkeys", "allchannels").Err(); err != nil {
			t.Error(err)
		}
		pw = next
	}
	set("p0")
	d := drivertest.New(t, driver.Config{Logger: slog.New(slog.DiscardHandler), Pool: pooler.Config{MaxOpenConns: 12}})
	provider := func() (string, string) { mu.Lock(); defer mu.Unlock(); return "bob", pw }
	stop := make(chan struct{})
	var wg sync.WaitGroup
	var bad, ok atomic.Int64
	note := func(what string, err error) {
		switch {
		case err == nil, errors.Is(err, redis.Nil), errors.Is(err, redis.TxFailedErr):
			ok.Add(1)
		case errors.Is(err, pooler.ErrUnknownOutcome):
		case what == "Watch" || what == "Conn": // killed, and they keep theirs
		default:
			if bad.Add(1) < 6 {
				t.Errorf("%s: %v (%T)", what, err, err)
			}
		}
	}
	running := func() bool {
		select {
		case <-stop:
			return false
		default:
			return true
		}
	}
	for range 2 {
		rdb := redis.NewClient(d.Options(&redis.Options{Addr: s.Addr, CredentialsProvider: provider, DB: 1}))
		t.Cleanup(func() { _ = rdb.Close() })
		short := rdb.WithTimeout(2 * time.Second)
		for i := range 6 {
			wg.Go(func() {
				for n := 0; running(); n++ {
					k := fmt.Sprint("k", i)
					note("SET", short.Set(ctx, k, n, 0).Err())
					got, err := rdb.Get(ctx, k).Result()
					note("GET "+got, err)
					note("Watch", rdb.Watch(ctx, func(tx *redis.Tx) error {
						_, err := tx.TxPipelined(ctx, func(p redis.Pipeliner) error { p.Get(ctx, k); return nil })
						return err
					}, k))
					c := rdb.Conn()
					note("Conn", c.Ping(ctx).Err())
					_ = c.Close()
				}
			})
		}
	}
	for n := range 12 {
		time.Sleep(150 * time.Millisecond)
		set(fmt.Sprint("p", n+1))
		if n%2 == 0 {
			_ = admin.Do(ctx, "CLIENT", "KILL", "USER", "bob").Err()
		}
	}
	close(stop)
	wg.Wait()
	t.Logf("%d well, %d not", ok.Load(), bad.Load())
}
