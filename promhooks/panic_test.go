package promhooks_test

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/pooler"
	"github.com/everpool/everpool/promhooks"
)

// broken panics when it is read, as long as it is told to.
type broken struct{ panic any }

func (b *broken) Nodes() []pooler.NodeStatus {
	if b.panic != nil {
		panic(b.panic)
	}
	return []pooler.NodeStatus{{Addr: "a:1", Stats: pooler.Stats{WaitCount: 3}}}
}

func (b *broken) PoolStats() *redis.PoolStats {
	b.Nodes()
	return &redis.PoolStats{WaitCount: 3}
}

// scrapeFails returns the error, which must not have the panic's value in it.
func scrapeFails(tb testing.TB, g prometheus.Gatherer) string {
	tb.Helper()
	_, err := g.Gather()
	if err == nil {
		tb.Fatal("the scrape didn't fail")
	}
	if strings.Contains(err.Error(), "secret") {
		tb.Errorf("the error has the panic's value in it: %v", err)
	}
	return err.Error()
}

// A panic of what is read fails the scrape, and nothing is forgotten for it.
func TestAPanicFailsTheScrape(t *testing.T) {
	b := &broken{}
	p := must(promhooks.NewPool("test"))(t)
	see(t, p, b)
	reg := registry(t, p)
	stock := registry(t, must(promhooks.NewStockPool("test", b))(t))
	gather(t, reg)
	gather(t, stock)
	tellOf(p, "a:1")
	for _, v := range []any{"secret", &redis.Options{Password: "secret"}} {
		b.panic = v
		for _, g := range []prometheus.Gatherer{reg, stock} {
			if text := scrapeFails(t, g); !strings.Contains(text, "panicked") {
				t.Error(text)
			}
		}
	}
	b.panic = nil
	gather(t, reg).want(t, samples{`redis_client_pool_waits_total{node="a:1"}`: 3, heal + `_count{node="a:1"}`: 1})
	gather(t, stock).want(t, samples{`redis_client_pool_waits_total{node=""}`: 3})
}

func TestANilPointerIsAnError(t *testing.T) {
	for _, c := range []promhooks.PoolStatser{nil, (*redis.Client)(nil), (*redis.Ring)(nil), (*stockStats)(nil)} {
		if _, err := promhooks.NewStockPool("test", c); err == nil || !strings.Contains(err.Error(), "nil") {
			t.Errorf("NewStockPool took a nil %T: %v", c, err)
		}
	}
	p := must(promhooks.NewPool("test"))(t)
	for _, n := range []promhooks.Nodes{nil, (*driver.Driver)(nil), (*nodes)(nil)} {
		if _, err := p.Watch(n); err == nil || !strings.Contains(err.Error(), "nil") {
			t.Errorf("Watch took a nil %T: %v", n, err)
		}
	}
	once := &nodes{}
	stop := see(t, p, once)
	if _, err := p.Watch(once); err == nil {
		t.Error("Watch took the same nodes twice")
	}
	stop()
	see(t, p, once)
}
