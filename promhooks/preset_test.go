package promhooks_test

import (
	"context"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/pooler"
	"github.com/everpool/everpool/promhooks"
)

// Baseplate's metrics count what a client does.
func TestBaseplateNamesCount(t *testing.T) {
	s := testkit.Start(t, testkit.Redis)
	w := watch(t, "test", "redis://"+s.Addr+"/3?max_open_conns=7", prometheus.NewRegistry(), []promhooks.Setting{promhooks.WithBaseplateNames(), promhooks.WithRedisType("sentinel")})
	ctx := t.Context()
	w.Set(ctx, "k", "v", 0)
	w.Get(ctx, "nothing")
	w.LPush(ctx, "k", "x")
	if _, err := w.TxPipelined(ctx, func(p redis.Pipeliner) error { return p.Get(ctx, "k").Err() }); err != nil {
		t.Error(err)
	}
	labels := func(command, success string) string {
		return `{redis_client_name="test",redis_command="` + command + `",redis_database="3",redis_success="` + success + `",redis_type="sentinel"}`
	}
	got := gather(t, w.reg)
	for command, success := range map[string]string{"SET": "true", "GET": "true", "LPUSH": "false", "pipeline": "true"} {
		got.want(t, samples{
			"redis_client_latency_seconds_count" + labels(command, success):                                                                   1,
			"redis_client_requests_total" + labels(command, success):                                                                          1,
			`redis_client_active_requests{redis_client_name="test",redis_command="` + command + `",redis_database="3",redis_type="sentinel"}`: 0,
		})
	}
	if n := len(got.starting("redis_client_requests_total")); n != 4 {
		t.Errorf("%d series of requests", n)
	}
	got.want(t, samples{
		`redis_client_pool_max_size{redis_pool="test"}`:           7,
		`redis_client_pool_active_connections{redis_pool="test"}`: 1,
		`redis_client_pool_idle_connections{redis_pool="test"}`:   0,
		// The package's own are there too.
		`redis_client_command_duration_seconds_count{command="SET",outcome="ok"}`: 1,
	})
}

// A hook that was added without Attach doesn't know the database.
func TestBaseplateDatabaseIsEmptyIfUnknown(t *testing.T) {
	m := must(promhooks.NewMetrics("test", promhooks.WithBaseplateNames()))(t)
	_ = hooked(t, m, func(context.Context, redis.Cmder) error { return nil })(t.Context(), redis.NewStringCmd(t.Context(), "get", "k"))
	gather(t, registry(t, m)).want(t, samples{
		`redis_client_requests_total{redis_client_name="test",redis_command="GET",redis_database="",redis_success="true",redis_type="standalone"}`: 1,
	})
}

// redis-manager's metrics are really incremented, each by what it is named for.
func TestRedisManagerNamesCount(t *testing.T) {
	s := testkit.Start(t, testkit.Redis)
	w := watchWith(t, "test", "redis://"+s.Addr+"?max_retries=-1", prometheus.NewRegistry(), driver.Config{Pool: pooler.Config{
		ConnMaxIdleTime: 20 * time.Millisecond, HealthCheckInterval: 20 * time.Millisecond,
		FailFastAfter: time.Millisecond, BackoffMax: 20 * time.Millisecond, SharedConns: -1,
	}}, []promhooks.Setting{promhooks.WithRedisManagerNames()})
	ctx := t.Context()
	node := `{node_redis_url="` + s.Addr + `"}`
	w.Ping(ctx)
	gather(t, w.reg).want(t, samples{
		"redis_pool_size" + node:                        1,
		"redis_pool_idle" + node:                        1,
		"redis_pool_active" + node:                      0,
		"redis_pool_healthy" + node:                     1,
		"redis_pool_unhealthy" + node:                   0,
		"redis_connections_created_total" + node:        1,
		"redis_failed_connections_total" + node:         0,
		"redis_connection_latency_seconds_count" + node: 1,
	})
	until(t, w.reg, "redis_idle_cleanup_events_total"+node)
	s.Kill()
	for range 3 {
		w.Ping(ctx)
	}
	until(t, w.reg, "redis_failed_connections_total"+node)
	until(t, w.reg, "redis_pool_unhealthy"+node)
	gather(t, w.reg).want(t, samples{"redis_pool_healthy" + node: 0})
}

// until waits for a metric to be more than 0.
func until(tb testing.TB, g prometheus.Gatherer, name string) {
	tb.Helper()
	testkit.Await(tb, name+" is more than 0", func() bool { return gather(tb, g)[name] > 0 })
}
