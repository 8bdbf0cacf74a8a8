package driver_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/hooks"
	"github.com/everpool/everpool/pooler"
)

// open opens a URL of which nothing is dialed.
func open(t *testing.T, url string, opts ...driver.Option) *driver.DB {
	t.Helper()
	db, err := driver.Open(url, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	if !db.Driver.Owns(db) {
		t.Errorf("the client of %s doesn't stand on its driver", url)
	}
	return db
}

func TestOpenMakesTheClientThatTheURLMeans(t *testing.T) {
	for url, want := range map[string]string{
		"redis://10.0.0.1":                                                      "node",
		"redis://10.0.0.1?cluster=false":                                        "node",
		"unix:///run/redis.sock":                                                "node",
		"redis://10.0.0.1:1?cluster=TRUE":                                       "cluster of [10.0.0.1:1]",
		"redis://10.0.0.1:1/0?addr=10.0.0.2:2":                                  "cluster of [10.0.0.1:1 10.0.0.2:2]",
		"rediss://10.0.0.1:1?addr=10.0.0.2:2&addr=10.0.0.3:3&read_only=true":    "cluster of [10.0.0.1:1 10.0.0.2:2 10.0.0.3:3], read only",
		"redis://10.0.0.1:1?cluster=true&read_from_replicas=true":               "cluster of [10.0.0.1:1], random, read only",
		"redis://10.0.0.1?addr=10.0.0.2:2&read_from_replicas=false":             "cluster of [10.0.0.1:6379 10.0.0.2:2]",
		"redis://10.0.0.1?master_name=m":                                        "node",
		"redis://10.0.0.1?master_name=m&addr=10.0.0.2:2&max_open_conns=3&db=2":  "node",
		"redis://10.0.0.1?master_name=m&route_randomly=true":                    "cluster of [], random, read only",
		"redis://10.0.0.1?master_name=m&route_by_latency=true":                  "cluster of [], by latency, read only",
		"redis://10.0.0.1?master_name=m&cluster=true":                           "cluster of []",
		"redis://10.0.0.1?master_name=m&read_from_replicas=true&max_retries=-1": "cluster of [], random, read only",
	} {
		t.Run(url, func(t *testing.T) {
			if diff := cmp.Diff(want, kindOf(open(t, url))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func kindOf(db *driver.DB) string {
	c, ok := db.Unwrap().(*redis.ClusterClient)
	if !ok {
		return "node"
	}
	o := c.Options()
	var kind strings.Builder
	kind.WriteString("cluster of [" + strings.Join(o.Addrs, " ") + "]")
	for _, f := range []struct {
		name string
		on   bool
	}{{", random", o.RouteRandomly}, {", by latency", o.RouteByLatency}, {", read only", o.ReadOnly}} {
		if f.on {
			kind.WriteString(f.name)
		}
	}
	return kind.String()
}

func TestOpenServesAClusterByOneOfItsNodes(t *testing.T) {
	server := miniredis.RunT(t)
	server.RequireUserAuth("me", "secret")
	var seen []string
	watch, err := hooks.New(hooks.Func{OnEnd: func(_ context.Context, op *hooks.Operation) { seen = append(seen, op.Name) }})
	if err != nil {
		t.Fatal(err)
	}
	db := open(t, "redis://me:secret@"+server.Addr()+"?cluster=true&max_open_conns=3", driver.WithHooks(watch))
	if err := db.Set(t.Context(), "key", "value", 0).Err(); err != nil {
		t.Fatal(err)
	}
	if v, _ := server.Get("key"); v != "value" {
		t.Errorf("the server has %q", v)
	}
	if n := db.Driver.Nodes(); len(n) != 1 || n[0].Stats.MaxOpenConnections != 3 {
		t.Errorf("nodes %+v, want one with at most 3 connections", n)
	}
	if len(seen) == 0 || seen[0] != "SET" {
		t.Errorf("the hook has seen %q, want SET", seen)
	}
}

func TestOpenLetsTheCallerChangeTheOptionsOfEachKind(t *testing.T) {
	db := open(t, "redis://10.0.0.1?cluster=true", driver.WithClusterOptions(func(o *redis.ClusterOptions) { o.MaxRedirects = 3 }),
		driver.WithClusterOptions(func(o *redis.ClusterOptions) { o.MaxRedirects++ }))
	if n := db.Unwrap().(*redis.ClusterClient).Options().MaxRedirects; n != 4 {
		t.Errorf("MaxRedirects is %d, want 4", n)
	}
	db = open(t, "redis://10.0.0.1?master_name=m", driver.WithFailoverOptions(func(o *redis.FailoverOptions) { o.ReadTimeout = time.Minute }))
	if d := db.Unwrap().(*redis.Client).Options().ReadTimeout; d != time.Minute {
		t.Errorf("ReadTimeout is %s, want a minute", d)
	}
}

func TestOpenRefusesWhatTheKindOfTheURLDoesNotHave(t *testing.T) {
	single := driver.WithClientOptions(func(*redis.Options) { t.Error("called") })
	cluster := driver.WithClusterOptions(func(*redis.ClusterOptions) { t.Error("called") })
	failover := driver.WithFailoverOptions(func(*redis.FailoverOptions) { t.Error("called") })
	for name, c := range map[string]struct {
		url  string
		opts []driver.Option
		want []string
	}{
		"node":               {"redis://:hunter2@10.0.0.1", []driver.Option{cluster, failover}, []string{"WithClusterOptions", "WithFailoverOptions", "standalone"}},
		"cluster":            {"redis://:hunter2@10.0.0.1?cluster=true", []driver.Option{single, failover}, []string{"WithClientOptions", "WithFailoverOptions", "cluster"}},
		"sentinel":           {"redis://:hunter2@10.0.0.1?master_name=m", []driver.Option{single, cluster}, []string{"WithClientOptions", "WithClusterOptions", "sentinel"}},
		"nil":                {"redis://:hunter2@10.0.0.1", []driver.Option{driver.WithClusterOptions(nil), driver.WithFailoverOptions(nil), nil}, []string{"WithClusterOptions", "WithFailoverOptions", "option 2 is nil"}},
		"all at once":        {"redis://:hunter2@10.0.0.1", []driver.Option{cluster, driver.WithConfig(driver.Config{Retry: 7}), nil}, []string{"WithClusterOptions", "Retry is 7", "option 2 is nil"}},
		"no replicas":        {"redis://:hunter2@10.0.0.1?read_from_replicas=true", nil, []string{"read_from_replicas", "cluster=true", "master_name"}},
		"no truth":           {"redis://:hunter2@10.0.0.1?cluster=yes&read_from_replicas=1", nil, []string{"cluster", `"yes"`, "read_from_replicas", `"1"`, "true and false"}},
		"database":           {"redis://:hunter2@10.0.0.1/2?cluster=true", nil, []string{`"/2"`, "database 0"}},
		"unix cluster":       {"unix://:hunter2@/run/redis.sock?cluster=true", nil, []string{"unix"}},
		"addr of one node":   {"redis://:hunter2@10.0.0.1?addr=10.0.0.2", nil, []string{"addr", "10.0.0.2"}},
		"bad seed":           {"redis://:hunter2@10.0.0.1:1?addr=10.0.0.2:x", nil, []string{"10.0.0.2:x"}},
		"password with a /":  {"redis://me:12/hunter2@10.0.0.1", nil, []string{"@ behind its host"}},
		"password with a ?":  {"redis://me:12?hunter2@10.0.0.1", nil, []string{"@ behind its host"}},
		"password with a #":  {"redis://me:12#hunter2@10.0.0.1", nil, []string{"@ behind its host"}},
		"password of a node": {"redis://10.0.0.1?master_name=m&password=hunter2&nonsense=1", nil, []string{"nonsense"}},
	} {
		t.Run(name, func(t *testing.T) {
			db, err := driver.Open(c.url, c.opts...)
			if err == nil {
				_ = db.Close()
				t.Fatal("no error")
			}
			if !errors.Is(err, pooler.ErrConfig) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("error %q; want an ErrConfig without the password", err)
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q doesn't say %q", err, want)
				}
			}
		})
	}
}
