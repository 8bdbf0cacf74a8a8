package hooks_test

import (
	"context"
	"slices"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/everpool/everpool/hooks"
	"github.com/everpool/everpool/internal/testkit"
)

func handshakeNames(r *recorder) (names []string) {
	for _, h := range r.shook() {
		if !slices.Contains(names, h.Name) {
			names = append(names, h.Name)
		}
	}
	slices.Sort(names)
	return names
}

func TestHandshakesAreNoOperationsInAnyFormOfClient(t *testing.T) {
	s := testkit.Start(t, testkit.Redis, testkit.WithPassword("pw"))
	c := startCluster(t)
	of := func(change func(*redis.Options)) func() redis.UniversalClient {
		return func() redis.UniversalClient {
			o := &redis.Options{Addr: s.Addr, Password: "pw"}
			change(o)
			return redis.NewClient(o)
		}
	}
	for name, c := range map[string]struct {
		make func() redis.UniversalClient
		want []string
	}{
		"default":       {of(func(*redis.Options) {}), []string{"CLIENT MAINT_NOTIFICATIONS", "CLIENT SETINFO", "HELLO"}},
		"RESP2":         {of(func(o *redis.Options) { o.Protocol = 2 }), []string{"CLIENT SETINFO", "HELLO"}},
		"database":      {of(func(o *redis.Options) { o.DB = 1 }), []string{"CLIENT MAINT_NOTIFICATIONS", "CLIENT SETINFO", "HELLO", "SELECT"}},
		"name":          {of(func(o *redis.Options) { o.ClientName, o.DB = "me", 1 }), []string{"CLIENT MAINT_NOTIFICATIONS", "CLIENT SETINFO", "CLIENT SETNAME", "HELLO", "SELECT"}},
		"no identity":   {of(func(o *redis.Options) { o.DisableIdentity = true; o.MaintNotificationsConfig = noMaint() }), []string{"HELLO"}},
		"idle ones":     {of(func(o *redis.Options) { o.MinIdleConns = 3; o.DB = 1 }), []string{"CLIENT MAINT_NOTIFICATIONS", "CLIENT SETINFO", "HELLO", "SELECT"}},
		"local caching": {of(func(o *redis.Options) { o.ClientSideCacheConfig = &redis.CacheConfig{} }), []string{"CLIENT MAINT_NOTIFICATIONS", "CLIENT SETINFO", "CLIENT TRACKING", "HELLO"}},
		"ring": {func() redis.UniversalClient {
			return redis.NewRing(&redis.RingOptions{Addrs: map[string]string{"a": s.Addr}, Password: "pw", DB: 1, ClientName: "me"})
		}, []string{"CLIENT MAINT_NOTIFICATIONS", "CLIENT SETINFO", "CLIENT SETNAME", "HELLO", "SELECT"}},
		"cluster": {func() redis.UniversalClient {
			return redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{c.Addr}, ReadOnly: true, MaintNotificationsConfig: noMaint()})
		}, []string{"CLIENT SETINFO", "HELLO", "READONLY"}},
	} {
		t.Run(name, func(t *testing.T) {
			rdb := c.make()
			defer rdb.Close()
			r := new(recorder)
			attach(t, rdb, r)
			for range 3 {
				if err := rdb.Set(t.Context(), "k", "v", 0).Err(); err != nil {
					t.Fatal(err)
				}
			}
			ops, attempts := r.take()
			if !slices.Equal(opNames(ops), []string{"SET", "SET", "SET"}) {
				t.Errorf("operations %v", opNames(ops))
			}
			for _, a := range attempts {
				if !slices.Equal(a.Cmds, []string{"SET"}) {
					t.Errorf("attempt %+v", a)
				}
			}
			if got := handshakeNames(r); !slices.Equal(got, c.want) {
				t.Errorf("told of %v, want %v", got, c.want)
			}
		})
	}
}

func noMaint() *maintnotifications.Config {
	return &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
}

func TestHandshakeObserversLearnOfErrors(t *testing.T) {
	s := testkit.Start(t, testkit.Redis, testkit.WithPassword("pw"))
	told := func(o *redis.Options) []shook {
		o.Addr, o.MaxRetries, o.DialerRetries, o.MaintNotificationsConfig = s.Addr, -1, 1, noMaint()
		o.DisableIdentity = true
		rdb := client(t, o)
		r := new(recorder)
		attach(t, rdb, r)
		err := rdb.Get(t.Context(), "k").Err()
		if op := r.one(t); op.Outcome != hooks.Error || op.ErrorType != hooks.ErrorType(err) {
			t.Errorf("%+v of %v", op, err)
		}
		return r.shook()
	}
	if got := told(&redis.Options{Password: "secret"}); !slices.Equal(got, []shook{{"HELLO", "WRONGPASS"}, {"AUTH", "WRONGPASS"}}) {
		t.Errorf("wrong password: %v", got)
	}
	if got := told(&redis.Options{Password: "pw", DB: 99}); !slices.Equal(got, []shook{{"HELLO", ""}, {"SELECT", "ERR"}}) {
		t.Errorf("no such database: %v", got)
	}
}

func TestAUsersOwnHandshakeCommands(t *testing.T) {
	r := new(recorder)
	h := newHook(t, hooks.Func{}, r)
	_ = h.ProcessHook(answering(replied("ERR no")))(t.Context(), cmd("select", 1))
	_ = h.ProcessPipelineHook(answers(nil, replied("NOPERM x")))(t.Context(), batch("select 1", "client setname x"))
	if ops, _ := r.take(); len(ops) != 0 {
		t.Errorf("operations %v", opNames(ops))
	}
	if got := r.shook(); !slices.Equal(got, []shook{{"SELECT", "ERR"}, {"SELECT", ""}, {"CLIENT SETNAME", "NOPERM"}}) {
		t.Errorf("told of %v", got)
	}
	_ = h.ProcessPipelineHook(answers())(t.Context(), batch("select 1", "get k"))
	if op := r.one(t); op.Name != "PIPELINE" || len(r.shook()) != 3 {
		t.Errorf("%+v, %v", op, r.shook())
	}
	// A frame that was used for a handshake is as good as new.
	for range 10 {
		_ = h.ProcessPipelineHook(answers())(t.Context(), batch("select 1", "select 2"))
		_ = h.ProcessHook(answering(nil))(context.Background(), cmd("get", "k"))
		if op := r.one(t); op.Kind != hooks.Single || op.Name != "GET" || !slices.Equal(op.Cmds, []string{"GET"}) {
			t.Errorf("%+v", op)
		}
	}
}
