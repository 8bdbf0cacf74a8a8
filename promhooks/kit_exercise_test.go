package promhooks_test

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/hooks"
	"github.com/everpool/everpool/hotkey"
	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/internal/testkit/promcheck"
	"github.com/everpool/everpool/pooler"
)

// exercise returns the traffic of a client that is in the registry, with its hot keys.
func exercise(tb testing.TB, reg *prometheus.Registry) *promcheck.Traffic {
	tb.Helper()
	s := testkit.Start(tb, testkit.Redis)
	proxy := testkit.NewProxy(tb, s.Addr)
	tracker := must(hotkey.New(hotkey.Config{ReadSampleRate: 1, WriteSampleRate: 1, Window: time.Second}))(tb)
	tb.Cleanup(func() { tracker.Close() })
	if err := reg.Register(must(tracker.Collector(hotkey.CollectorConfig{Client: "test", Salt: "of the test"}))(tb)); err != nil {
		tb.Fatal(err)
	}
	w := watchWith(tb, "test", "redis://"+proxy.Addr()+"?max_retries=-1", reg, driver.Config{Pool: pooler.Config{
		MaxOpenConns: 3, SharedConns: 1, WaitTimeout: 20 * time.Millisecond, BackoffMax: 20 * time.Millisecond,
	}}, nil, tracker)
	refused := redis.NewClient(&redis.Options{Addr: s.Addr, Password: "not needed", MaxRetries: -1})
	tb.Cleanup(func() { refused.Close() })
	must(must(hooks.New(w.metrics))(tb).Attach(refused))(tb)
	misled := testkit.MisledCluster(tb, "MOVED")
	must(must(hooks.New(w.metrics))(tb).Attach(misled))(tb)
	return &promcheck.Traffic{Client: w, Nodes: w.Driver.Nodes, Proxy: proxy, Misled: misled, Refused: refused}
}
