package driver_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/pooler"
)

func TestHealthAsksTheNodesNow(t *testing.T) {
	inLab(t, driver.Config{}, func(t *lab) {
		if err := t.d.Health(t.Context()); err != nil {
			t.Errorf("a driver without nodes: %v", err)
		}
		rdb := t.client()
		if err := rdb.Ping(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		pings := t.f.Count("PING")
		if err := t.d.Health(t.Context()); err != nil || t.f.Count("PING") != pings+1 {
			t.Errorf("a node that is up: %v, %d PINGs", err, t.f.Count("PING")-pings)
		}
		if code, body := get(t.T, t.d.Handler(), ""); code != http.StatusOK || len(body["nodes"].([]any)) != 1 {
			t.Errorf("the handler says %d, %v", code, body)
		}

		t.f.Freeze(true)
		began := time.Now()
		if err := t.d.Health(t.Context()); !errors.Is(err, driver.ErrNoHealthyNode) || time.Since(began) > 2*time.Second {
			t.Errorf("a frozen server: %v after %s", err, time.Since(began))
		}
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if err := t.d.Health(ctx); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, driver.ErrNoHealthyNode) || strings.Contains(err.Error(), "\n") {
			t.Errorf("a frozen server, in 100ms: %v", err)
		}
		t.f.Freeze(false)
		time.Sleep(5 * time.Second)

		t.f.DownRefused()
		err := t.d.Health(t.Context()) // of which no pool knows yet
		var e *driver.NoHealthyNodeError
		if !errors.As(err, &e) || e.Name != "" || len(e.Nodes) != 1 || e.Nodes[0].Addr != labAddr || !strings.Contains(err.Error(), labAddr+" is") || !strings.Contains(err.Error(), "refused") {
			t.Errorf("a node that is away: %v", err)
		}
		if code, _ := get(t.T, t.d.Handler(), ""); code != http.StatusServiceUnavailable {
			t.Errorf("the handler says %d", code)
		}
		time.Sleep(time.Hour) // after which the pool looks no more
		t.f.Up()
		if err := t.d.Health(t.Context()); err != nil {
			t.Errorf("a node that is back: %v", err)
		}
		if err := t.d.Close(); err != nil {
			t.Error(err)
		}
		if err := t.d.Health(t.Context()); !errors.Is(err, pooler.ErrClosed) {
			t.Errorf("a driver that is closed: %v", err)
		}
		if code, body := get(t.T, t.d.Handler(), ""); code != http.StatusServiceUnavailable || !strings.Contains(body["error"].(string), "closed") {
			t.Errorf("its handler says %d, %v", code, body)
		}
	})
}

func TestHandlersLookForWhatNobodyAsksFor(t *testing.T) {
	inLab(t, driver.Config{}, func(t *lab) {
		if err := t.client().Ping(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		probe := func(d time.Duration) (code int) {
			for range int(d / time.Second) {
				time.Sleep(time.Second)
				code, _ = get(t.T, t.d.Handler(), "")
			}
			return code
		}
		t.f.DownRefused()
		if code := probe(4 * time.Second); code != http.StatusServiceUnavailable {
			t.Errorf("4s after its end: %d", code)
		}
		probe(10 * time.Minute)
		t.f.Up()
		if code := probe(4 * time.Second); code != http.StatusOK {
			t.Errorf("4s after its return: %d", code)
		}
	})
}

func TestAnUnmadeDriverIsNotHealthy(t *testing.T) {
	for _, d := range []*driver.Driver{nil, new(driver.Driver)} {
		if err := d.Health(t.Context()); !errors.Is(err, pooler.ErrConfig) {
			t.Errorf("got %v", err)
		}
		if code, _ := get(t, d.Handler(), ""); code != http.StatusServiceUnavailable {
			t.Errorf("the handler says %d", code)
		}
	}
}

// A node that the client has turned away from is nobody's reason for a 503.
func TestNodesThatNoClientUsesDoNotCount(t *testing.T) {
	inLab(t, driver.Config{}, func(t *lab) {
		rdb := t.client()
		if err := rdb.Ping(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		_ = rdb.Close()
		t.f.DownRefused()
		if err := t.d.Health(t.Context()); err != nil {
			t.Errorf("got %v", err)
		}
		if code, _ := get(t.T, t.d.Handler(), ""); code != http.StatusOK {
			t.Errorf("the handler says %d", code)
		}
	})
}

func TestARingIsHealthyWithAnyOfItsShards(t *testing.T) {
	inManager(t, 2, driver.Config{}, func(m *managed) {
		d := m.add("plain", "redis://10.0.0.1").(*driver.DB).Driver
		if err := m.Remove(m.Context(), "plain"); err != nil {
			m.Fatal(err)
		}
		ring := redis.NewRing(d.RingOptions(&redis.RingOptions{Addrs: map[string]string{"a": "10.0.0.1:6379", "b": "10.0.0.2:6379"}}))
		defer ring.Close()
		if err := ring.ForEachShard(m.Context(), func(ctx context.Context, c *redis.Client) error { return c.Ping(ctx).Err() }); err != nil {
			m.Fatal(err)
		}
		m.server(1).DownRefused()
		if err := d.Health(m.Context()); err != nil {
			m.Errorf("one shard is left: %v", err)
		}
		m.server(2).DownRefused()
		if err := d.Health(m.Context()); !errors.Is(err, driver.ErrNoHealthyNode) {
			m.Errorf("no shard is left: %v", err)
		}
	})
}

func TestADriverIsHealthyByItsClustersMasters(t *testing.T) {
	inManager(t, 2, driver.Config{}, func(m *managed) {
		m.asCluster(0)
		d := m.add("c", "redis://10.0.0.1?cluster=true").(*driver.DB).Driver
		if err := d.Health(m.Context()); err != nil {
			m.Errorf("got %v", err)
		}
		m.server(2).DownRefused()
		if err := d.Health(m.Context()); !errors.Is(err, driver.ErrNoHealthyNode) {
			m.Errorf("half of the slots are nobody's: %v", err)
		}
	})
}
