package acceptance_test

import (
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/pooler"
)

// What can't work until somebody mends it is told at once, with a hint, and not
// after FailFastAfter.
func TestAMistakeAboutTheServerIsToldAtOnceWithAHint(t *testing.T) {
	testkit.Waits(t)
	secure := testkit.Start(t, testkit.Redis, testkit.WithTLS())
	valkey := testkit.Start(t, testkit.Valkey, testkit.WithTLS())
	plain := testkit.Start(t, testkit.Redis)
	web := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(web.Close)
	with := func(change func(*tls.Config)) *tls.Config {
		cfg := secure.TLSConfig()
		change(cfg)
		return cfg
	}
	for name, c := range map[string]struct {
		o    redis.Options
		is   error
		says []string
	}{
		"plain to TLS":         {redis.Options{Addr: secure.Addr}, pooler.ErrNodeDown, []string{"this is a TLS port: set TLSConfig"}},
		"plain to TLS, Valkey": {redis.Options{Addr: valkey.Addr}, pooler.ErrNodeDown, []string{"this is a TLS port"}},
		"TLS to plain":         {redis.Options{Addr: plain.Addr, TLSConfig: &tls.Config{MinVersion: tls.VersionTLS12}}, pooler.ErrNodeDown, []string{"without TLS"}},
		"unknown authority":    {redis.Options{Addr: secure.Addr, TLSConfig: with(func(c *tls.Config) { c.RootCAs = nil })}, pooler.ErrNodeDown, []string{"unknown authority", "RootCAs"}},
		"another name":         {redis.Options{Addr: secure.Addr, TLSConfig: with(func(c *tls.Config) { c.ServerName = "other.example" })}, pooler.ErrNodeDown, []string{"other.example", "ServerName"}},
		"no certificate":       {redis.Options{Addr: secure.Addr, TLSConfig: with(func(c *tls.Config) { c.Certificates = nil })}, pooler.ErrNodeDown, []string{"TLSConfig.Certificates"}},
		"a web server":         {redis.Options{Addr: strings.TrimPrefix(web.URL, "http://")}, pooler.ErrProtocol, []string{"HTTP"}},
		"TLS to a web server":  {redis.Options{Addr: strings.TrimPrefix(web.URL, "http://"), TLSConfig: &tls.Config{MinVersion: tls.VersionTLS12}}, pooler.ErrNodeDown, []string{"without TLS"}},
	} {
		t.Run(name, func(t *testing.T) {
			d, err := driver.New(driver.Config{Logger: slog.New(slog.DiscardHandler), Pool: pooler.Config{DialTimeout: time.Minute, FailFastAfter: time.Hour, BackoffMin: time.Hour, BackoffMax: time.Hour}})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = d.Close() })
			rdb := redis.NewClient(d.Options(&c.o))
			t.Cleanup(func() { _ = rdb.Close() })
			for range 3 {
				err := rdb.Ping(t.Context()).Err()
				if !errors.Is(err, c.is) {
					t.Errorf("%v, want %v", err, c.is)
				}
				for _, part := range c.says {
					if err == nil || !strings.Contains(err.Error(), part) {
						t.Errorf("%v doesn't say %q", err, part)
					}
				}
				t.Log(err)
			}
			// Only for the calls, since BackoffMin hasn't passed. No dial takes so long here that others
			// are made beside it, as after a quarter of DialTimeout.
			if s := d.Nodes()[0].Stats; s.Dials > 6 {
				t.Errorf("%d dials", s.Dials)
			}
		})
	}
}

// A proxy whose server is still starting does that too, so nothing is known.
func TestAServerThatHangsUpWithoutAWordIsNoMistake(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			_ = nc.Close()
		}
	}()
	d, err := driver.New(driver.Config{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	rdb := redis.NewClient(d.Options(&redis.Options{Addr: l.Addr().String(), MaxRetries: 1}))
	t.Cleanup(func() { _ = rdb.Close() })
	for range 3 {
		err := rdb.Ping(t.Context()).Err()
		if _, hint := errors.AsType[*pooler.SetupError](err); err == nil || hint || errors.Is(err, pooler.ErrNodeDown) || strings.Contains(err.Error(), "TLS") {
			t.Errorf("%v; want a lost connection, as with the stock client", err)
		}
	}
}
