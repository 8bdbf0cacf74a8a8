package otelhooks_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/otelhooks"
	"github.com/everpool/everpool/pooler"
)

// broken panics when it is read, as long as it has something to say.
type broken struct {
	all   []pooler.NodeStatus
	panic any
}

func (b *broken) Nodes() []pooler.NodeStatus {
	if b.panic != nil {
		panic(b.panic)
	}
	return b.all
}

func (b *broken) PoolStats() *redis.PoolStats {
	b.Nodes()
	return &redis.PoolStats{Timeouts: 3}
}

// collectFails collects and returns the error, and all that was collected.
func (t *tester) collectFails() (text string, all metricdata.ResourceMetrics) {
	t.Helper()
	err := t.reader.Collect(context.Background(), &all)
	if err == nil {
		t.Fatal("the collection didn't fail")
	}
	if strings.Contains(err.Error(), "secret") {
		t.Errorf("the error has the panic's value in it: %v", err)
	}
	return err.Error(), all
}

// A panic of what is read fails the collection, and counters go on after it.
func TestAPanicFailsTheCollection(tt *testing.T) {
	t := newTester(tt)
	p := t.pools()
	b := &broken{all: []pooler.NodeStatus{full()}}
	t.watch(p, b)
	t.stock(b, "stock")
	t.want("before", t.collectPoints()["everpool.heals"]["h:1"], int64(26))
	for _, v := range []any{"secret", &redis.Options{Password: "secret"}} {
		b.panic = v
		if text, all := t.collectFails(); !strings.Contains(text, "panicked") || len(all.ScopeMetrics) != 0 {
			t.Errorf("%s, and there is %v", text, all.ScopeMetrics)
		}
	}
	b.panic = nil
	got := t.collectPoints()
	t.want("heals after", got["everpool.heals"]["h:1"], int64(26))
	t.want("timeouts after", got["db.client.connection.timeouts"]["stock"], int64(3))
}

// WithPoolName's function may panic on the pool's goroutines as well.
func TestAPanicOfTheNameIsContained(tt *testing.T) {
	t := newTester(tt)
	p := t.pools(otelhooks.WithPoolName(func(string) string { panic("secret") }))
	t.watch(p, &nodes{[]pooler.NodeStatus{full()}})
	p.OnWait("user:secret@h:1", time.Millisecond, nil)
	_, all := t.collectFails()
	if len(all.ScopeMetrics) != 1 || len(all.ScopeMetrics[0].Metrics) != 1 {
		t.Fatalf("collected: %v", all.ScopeMetrics)
	}
	t.want("wait_time", points(all.ScopeMetrics[0].Metrics[0]), map[string]int64{"h:1": 1})
}

func TestANilPointerIsRefused(tt *testing.T) {
	t := newTester(tt)
	if _, err := t.pools().Watch((*driver.Driver)(nil)); err == nil {
		t.Error("Watch took a nil driver")
	}
	for _, c := range []otelhooks.PoolStatser{(*redis.Client)(nil), (*redis.ClusterClient)(nil), (*leaving)(nil)} {
		if _, err := otelhooks.NewStockPool("name", c); err == nil || !strings.Contains(err.Error(), "nil") {
			t.Errorf("NewStockPool took a nil %T: %v", c, err)
		}
	}
}
