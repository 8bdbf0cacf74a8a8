package driver_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/pooler"
)

func TestOpenMakesAClientOfAURL(t *testing.T) {
	server := miniredis.RunT(t)
	server.RequireUserAuth("me", "sec/ret")
	db, err := driver.Open("redis://me:sec%2Fret@"+server.Addr()+"/2?max_open_conns=3&wait_timeout=2s&retry=none&dial_timeout=1&max_retries=1",
		driver.WithClientOptions(func(o *redis.Options) { o.ClientName = "opened" }))
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	if err := db.Set(ctx, "key", "value", 0).Err(); err != nil {
		t.Fatal(err)
	}
	if v, _ := server.DB(2).Get("key"); v != "value" {
		t.Errorf("database 2 holds %q, want the value", v)
	}
	if n := db.Driver.Nodes(); len(n) != 1 || n[0].Stats.MaxOpenConnections != 3 {
		t.Errorf("nodes %+v, want one with at most 3 connections", n)
	}
	if err := db.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	if err := db.Get(ctx, "key").Err(); !errors.Is(err, redis.ErrClosed) {
		t.Errorf("after Close: %v, want redis.ErrClosed", err)
	}
}

func TestAPrintedClientShowsNoPassword(t *testing.T) {
	for _, url := range []string{
		"redis://me:hunter2@localhost:6379/2",
		"redis://me:hunter2@localhost:6379?cluster=true",
		"redis://me:hunter2@localhost:26379?master_name=main&password=hunter2",
	} {
		db, err := driver.Open(url)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = db.Close() }()
		for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
			if shown := fmt.Sprintf(verb, db); strings.Contains(shown, "hunter2") {
				t.Errorf("%s of %s: %s", verb, url, shown)
			}
		}
		if s := db.String(); !strings.HasPrefix(s, "redis://localhost:") {
			t.Errorf("%s prints as %q", url, s)
		}
	}
}

func TestOpenNamesAllThatIsWrongAndNoPassword(t *testing.T) {
	for name, c := range map[string]struct {
		url  string
		opts []driver.Option
		want []string
	}{
		"scheme":            {url: "http://:hunter2@localhost", want: []string{`"http"`, "redis, rediss and unix"}},
		"no URL":            {url: "://:hunter2@x", want: []string{"can't be parsed"}},
		"no slashes":        {url: "redis:hunter2@localhost:6379", want: []string{"redis://, rediss:// and unix://"}},
		"an address":        {url: "10.0.0.1:6379", want: []string{"redis://, rediss:// and unix://"}},
		"a line feed":       {url: "redis://:hunter2@localhost\n", want: []string{"white space"}},
		"login in addr":     {url: "redis://:hunter2@localhost?addr=redis://:hunter2@localhost:6380", want: []string{"has an @ behind its host"}},
		"login in a number": {url: "redis://localhost?max_waiters=redis://:hunter2@localhost:6380", want: []string{`max_waiters is "localhost:6380"`}},
		"seconds beyond what a duration can be": {
			url: "redis://localhost?wait_timeout=9223372037&backoff_max=9223372037", want: []string{`wait_timeout is "9223372037"`, `backoff_max is "9223372037"`},
		},
		"several of go-redis's own": {
			url:  "redis://localhost?pool_size=a&read_timeout=b&max_opn_conns=3&max_waiters=c",
			want: []string{"pool_size", `"a"`, "read_timeout", `"b"`, "max_opn_conns", "max_waiters"},
		},
		"several of go-redis's own, of sentinels": {
			url: "redis://localhost?master_name=m&pool_size=a&read_timeout=b&addr=nowhere", want: []string{"pool_size", "read_timeout", "nowhere"},
		},
		"password unquoted": {url: "redis://:hunter2/[@localhost:6379", want: []string{"can't be parsed"}},
		"unknown parameter": {url: "redis://:hunter2@localhost?max_opn_conns=3", want: []string{"max_opn_conns"}},
		"several": {
			url:  "redis://:hunter2@localhost?max_open_conns=x&wait_timeout=y&retry=z",
			want: []string{"max_open_conns", `"x"`, "wait_timeout", `"y"`, "retry", "safe, all and none"},
		},
		"ranges": {
			url:  "redis://:hunter2@localhost?max_open_conns=-7&shared_conns=-4",
			want: []string{"MaxOpenConns is -7", "SharedConns is -4"},
		},
		"relation": {
			url: "redis://:hunter2@localhost", opts: []driver.Option{driver.WithConfig(driver.Config{Pool: pooler.Config{BackoffMin: time.Second, BackoffMax: time.Millisecond}})},
			want: []string{"BackoffMin is 1s"},
		},
		"unix path": {url: "unix://:hunter2@", want: []string{"empty unix socket path"}},
	} {
		t.Run(name, func(t *testing.T) {
			db, err := driver.Open(c.url, c.opts...)
			if err == nil {
				_ = db.Close()
				t.Fatal("no error")
			}
			if !errors.Is(err, pooler.ErrConfig) {
				t.Errorf("%v is no ErrConfig", err)
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q doesn't say %q", err, want)
				}
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("error %q shows the password", err)
			}
		})
	}
}

// go-redis makes idle handles as soon as there is a client, while Open still looks at what
// is wrong with it. The race detector says whether that is seen to.
func TestOpenLooksWhileIdleHandlesAreMade(t *testing.T) {
	server := testkit.NewFake()
	defer server.Close()
	for range 50 {
		db, err := driver.Open("redis://"+labAddr+"?min_idle_conns=1", driver.WithConfig(driver.Config{Dial: server.Dial, Logger: slog.New(slog.DiscardHandler)}))
		if err != nil {
			t.Fatal(err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
