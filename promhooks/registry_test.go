package promhooks_test

import (
	"errors"
	"strconv"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/promhooks"
)

func quoted(s string) string { return strconv.Quote(s) }

// Two clients fit in one registry, each with all its metrics.
func TestTwoClientsShareARegistry(t *testing.T) {
	s := testkit.Start(t, testkit.Redis)
	reg := prometheus.NewRegistry()
	opts := []promhooks.Setting{promhooks.WithBaseplateNames(), promhooks.WithRedisManagerNames()}
	orders := watch(t, "orders", "redis://"+s.Addr, reg, opts)
	users := watch(t, "users", "redis://"+s.Addr+"/1", reg, opts)
	stock := must(promhooks.NewStockPool("stock", &stockStats{}, opts...))(t)
	if err := reg.Register(stock); err != nil {
		t.Error(err)
	}
	for range 2 {
		orders.Ping(t.Context())
	}
	users.Ping(t.Context())
	gather(t, reg).want(t, samples{
		`redis_client_command_duration_seconds_count{client="orders",command="PING",outcome="ok"}`:                                                    2,
		`redis_client_command_duration_seconds_count{client="users",command="PING",outcome="ok"}`:                                                     1,
		`redis_client_pool_node_up{client="orders",node="` + s.Addr + `"}`:                                                                            1,
		`redis_client_pool_node_up{client="users",node="` + s.Addr + `"}`:                                                                             1,
		`redis_client_requests_total{redis_client_name="users",redis_command="PING",redis_database="1",redis_success="true",redis_type="standalone"}`: 1,
	})
}

// What Prometheus says of that names nothing.
func TestAnOptionWhoseNameIsTakenIsNamed(t *testing.T) {
	fake := testkit.NewFake()
	t.Cleanup(fake.Close)
	d := must(driver.New(driver.Config{Dial: fake.Dial}))(t)
	t.Cleanup(func() { d.Close() })
	rdb := redis.NewClient(d.Options(&redis.Options{Addr: "10.0.0.1:6379"}))
	t.Cleanup(func() { rdb.Close() })
	reg := prometheus.NewRegistry()
	for kind, taken := range map[string]prometheus.Collector{
		"client": must(promhooks.NewMetrics("orders"))(t),
		"pool":   must(promhooks.NewPool("orders"))(t),
	} {
		reg.MustRegister(taken)
		_, err := d.Watch(rdb, promhooks.Option(reg, "orders"))
		var already prometheus.AlreadyRegisteredError
		if err == nil || !errors.As(err, &already) || !strings.Contains(err.Error(), kind+` metrics of "orders"`) {
			t.Errorf("%s: %v", kind, err)
		}
		reg.Unregister(taken)
	}
}

// The same name twice is an error, and the first one stays.
func TestANameFitsInARegistryOnce(t *testing.T) {
	reg := prometheus.NewRegistry()
	for name, collector := range map[string]func() prometheus.Collector{
		"Metrics": func() prometheus.Collector { return must(promhooks.NewMetrics("a"))(t) },
		"Pool":    func() prometheus.Collector { return must(promhooks.NewPool("a"))(t) },
	} {
		first := collector()
		if err := reg.Register(first); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		var already prometheus.AlreadyRegisteredError
		if err := reg.Register(collector()); !errors.As(err, &already) || already.ExistingCollector != first {
			t.Errorf("%s again: %v", name, err)
		}
	}
	// With other options it isn't the same collector, and is refused as well.
	for _, c := range []prometheus.Collector{
		must(promhooks.NewMetrics("a", promhooks.WithBaseplateNames()))(t),
		must(promhooks.NewPool("a", promhooks.WithRedisManagerNames()))(t),
		must(promhooks.NewStockPool("a", &stockStats{}))(t),
	} {
		if reg.Register(c) == nil {
			t.Errorf("%T of a name that is taken is registered", c)
		}
	}
	if _, err := reg.Gather(); err != nil {
		t.Error(err)
	}
}
