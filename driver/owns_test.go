package driver_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/pooler"
)

// mustNotDial is a Dialer that nobody may call who only asks.
func mustNotDial(t *testing.T) func(context.Context, string, string) (net.Conn, error) {
	return func(context.Context, string, string) (net.Conn, error) {
		t.Error("dialed")
		return nil, net.ErrClosed
	}
}

func TestOwnsKnowsWhichClientsStandOnTheDriver(t *testing.T) {
	dial := mustNotDial(t)
	d, another := newDriver(t, driver.Config{Dial: dial}), newDriver(t, driver.Config{Dial: dial})
	db, err := driver.Open("redis://" + labAddr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	client := func(change func(*redis.Options)) redis.UniversalClient {
		o := d.Options(&redis.Options{Addr: labAddr, TLSConfig: &tls.Config{ServerName: "name", MinVersion: tls.VersionTLS12}})
		change(o)
		c := redis.NewClient(o)
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	plain := func(*redis.Options) {}
	ours := d.Options(&redis.Options{}).Dialer
	cluster := func(dialer func(context.Context, string, string) (net.Conn, error)) redis.UniversalClient {
		c := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{labAddr}, Dialer: dialer})
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	ring := func(dialer func(context.Context, string, string) (net.Conn, error)) redis.UniversalClient {
		c := redis.NewRing(&redis.RingOptions{Dialer: dialer})
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	for name, c := range map[string]struct {
		d    *driver.Driver
		c    redis.UniversalClient
		want bool
	}{
		"its own":                  {d, client(plain), true},
		"with other settings":      {d, client(func(o *redis.Options) { o.DB, o.PoolSize = 3, 7 }), true},
		"with another timeout":     {d, client(plain).(*redis.Client).WithTimeout(1e9), true},
		"another driver's":         {another, client(plain), false},
		"its Dialer was replaced":  {d, client(func(o *redis.Options) { o.Dialer = dial }), false},
		"its Dialer was taken out": {d, client(func(o *redis.Options) { o.Dialer = nil }), false},
		"its TLS was replaced":     {d, client(func(o *redis.Options) { o.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12} }), false},
		"its TLS was taken out":    {d, client(func(o *redis.Options) { o.TLSConfig = nil }), false},
		"a cluster on it":          {d, cluster(ours), true},
		"a stock cluster":          {d, cluster(nil), false},
		"a ring on it":             {d, ring(ours), true},
		"a ring with a dialer":     {d, ring(dial), false},
		"opened":                   {db.Driver, db, true},
		"opened, another's":        {d, db, false},
		"nil":                      {d, nil, false},
		"a nil client":             {d, (*redis.Client)(nil), false},
		"of no driver":             {new(driver.Driver), client(plain), false},
	} {
		if got := c.d.Owns(c.c); got != c.want {
			t.Errorf("%s: Owns says %t", name, got)
		}
	}
}

// TLS that is set where nobody looks would send passwords in clear.
func TestWhatIsSetTooLateIsToldByEveryCommand(t *testing.T) {
	for name, change := range map[string]func(*redis.Options){
		"TLSConfig":                    func(o *redis.Options) { o.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12} },
		"ClientSideCacheConfig":        func(o *redis.Options) { o.ClientSideCacheConfig = &redis.ClientSideCacheConfig{} },
		"ClientSideCache":              func(o *redis.Options) { o.ClientSideCache = redis.NewLocalCache(redis.ClientSideCacheConfig{}) },
		"StreamingCredentialsProvider": func(o *redis.Options) { o.StreamingCredentialsProvider = streaming{} },
	} {
		t.Run(name, func(t *testing.T) {
			inLab(t, driver.Config{}, func(t *lab) {
				o := t.d.Options(&redis.Options{Addr: labAddr, MaxRetries: -1})
				change(o)
				for range 2 {
					nc, err := o.Dialer(t.Context(), "tcp", labAddr)
					if err != nil {
						t.Fatal(err)
					}
					_, err = nc.Write([]byte(frames("PING")))
					t.wantErr(err, pooler.ErrConfig)
					if err == nil || !strings.Contains(err.Error(), name+" was changed") {
						t.Errorf("%v doesn't name %s", err, name)
					}
				}
				if t.f.Dials() != 0 {
					t.Error("it was dialed")
				}
			})
		})
	}
}

// A program may have one place that all options go through.
func TestOptionsThatOptionsHasMadeStayAsTheyAre(t *testing.T) {
	inLab(t, driver.Config{}, func(t *lab) {
		first := t.d.Options(&redis.Options{Addr: labAddr, PoolSize: 10, ClientName: "name", MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}})
		rdb := redis.NewClient(first)
		defer rdb.Close()
		for name, o := range map[string]*redis.Options{"of Options": first, "of a client": rdb.Options()} {
			again := t.d.Options(o)
			if again == o || again.MaintNotificationsConfig == o.MaintNotificationsConfig {
				t.Errorf("%s: it isn't a copy", name)
			}
			again.DB = 1
			second := redis.NewClient(again)
			if err := second.Set(t.Context(), name, "v", 0).Err(); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if o := second.Options(); o.PoolSize != 4096 || o.ClientName != "name" || !t.d.Owns(second) {
				t.Errorf("%s: %d handles, named %q, owned %t", name, o.PoolSize, o.ClientName, t.d.Owns(second))
			}
			_ = second.Close()
		}
		if n := t.d.Nodes(); len(n) != 1 || n[0].Stats.MaxOpenConnections != 20 {
			t.Errorf("nodes: %+v", n)
		}
	})
}

func TestOptionsOfAnotherDriverAreRefused(t *testing.T) {
	inLab(t, driver.Config{}, func(t *lab) {
		another := newDriver(t.T, driver.Config{})
		changed := t.d.Options(&redis.Options{Addr: labAddr})
		changed.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12}
		for name, o := range map[string]*redis.Options{
			"two drivers":    another.Options(t.d.Options(&redis.Options{Addr: labAddr})),
			"of a client":    another.Options(t.client().Options()),
			"only the seam":  another.Options(&redis.Options{Addr: labAddr, Dialer: t.d.Options(nil).Dialer}),
			"with other TLS": t.d.Options(changed),
		} {
			rdb := redis.NewClient(o)
			err := rdb.Ping(t.Context()).Err()
			if !errors.Is(err, pooler.ErrConfig) || !strings.Contains(err.Error(), "Dialer is of another everpool driver") {
				t.Errorf("%s: %v", name, err)
			}
			_ = rdb.Close()
		}
		if _, err := driver.New(driver.Config{Dial: t.d.Options(nil).Dialer}); !errors.Is(err, pooler.ErrConfig) || !strings.Contains(err.Error(), "Dial is everpool's") {
			t.Errorf("as a Dial: %v", err)
		}
	})
}

func TestADriverThatNewHasntMadeSaysSo(t *testing.T) {
	var d driver.Driver
	rdb := redis.NewClient(d.Options(&redis.Options{Addr: labAddr}))
	defer rdb.Close()
	for name, err := range map[string]error{
		"Ping":  rdb.Ping(t.Context()).Err(),
		"again": rdb.Ping(t.Context()).Err(),
		"Close": d.Close(),
	} {
		if !errors.Is(err, pooler.ErrConfig) || !strings.Contains(err.Error(), "zero value") {
			t.Errorf("%s: %v", name, err)
		}
	}
	d.SetMaxOpenConns(3)
	d.SetConnMaxLifetime(0)
	if n := d.Nodes(); len(n) != 0 {
		t.Errorf("nodes: %v", n)
	}
}

func TestAPoolerThatIsNoneIsToldByEveryCommand(t *testing.T) {
	d := newDriver(t, driver.Config{NewPooler: func(pooler.Node, pooler.Config) (pooler.Pooler, error) { return nil, nil }}) //nolint:nilnil // that is the mistake
	rdb := redis.NewClient(d.Options(&redis.Options{Addr: labAddr}))
	defer rdb.Close()
	if err := rdb.Ping(t.Context()).Err(); !errors.Is(err, pooler.ErrConfig) || !strings.Contains(err.Error(), "NewPooler") {
		t.Error(err)
	}
}

func TestOpenTellsOfAllThatIsWrongWithItsOptions(t *testing.T) {
	_, err := driver.Open("redis://:hunter2@localhost?retry=never", nil, driver.WithClientOptions(nil), driver.WithConfig(driver.Config{Retry: 9}))
	if !errors.Is(err, pooler.ErrConfig) {
		t.Fatal(err)
	}
	for _, part := range []string{"option 0 is nil", "WithClientOptions", "retry is", "Retry is 9"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q doesn't name %q", err, part)
		}
	}
	if strings.Contains(err.Error(), "hunter2") {
		t.Errorf("the password is in %q", err)
	}
}
