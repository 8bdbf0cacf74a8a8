package driver_test

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/pooler"
)

// settingsOf are the settings in force at a node, by their names.
func settingsOf(n driver.NodeStatus) map[string]string {
	all := make(map[string]string)
	for _, a := range n.Settings {
		all[a.Key] = a.Value.String()
	}
	return all
}

func wantSettings(t *testing.T, got, want map[string]string) {
	t.Helper()
	for name, v := range want {
		if got[name] != v {
			t.Errorf("%s is %q, want %q", name, got[name], v)
		}
	}
}

// A driver tells which settings are in force at each node, wherever they are from: the
// configuration, the options of the client that came first, defaults, and the knobs.
func TestTheSettingsInForceAreKnown(t *testing.T) {
	cfg := driver.Config{Pool: pooler.Config{SilenceAfter: -1, FailFastAfter: -1, MaxWaiters: 9}, Retry: driver.RetryNone, MaxOpenConnsTotal: 50}
	inLab(t, cfg, func(t *lab) {
		rdb := t.client(func(o *redis.Options) {
			o.PoolSize, o.PipelinePoolSize, o.MaxIdleConns, o.DialTimeout, o.PoolTimeout = 12, -1, 7, 3*time.Second, time.Second
			o.Password = "hunter2"
		})
		if err := rdb.Ping(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		got := settingsOf(t.d.Nodes()[0])
		wantSettings(t.T, got, map[string]string{
			"MaxOpenConns": "12", "MaxIdleConns": "7", "DialTimeout": "3s", "SilenceAfter": "off", "FailFastAfter": "never", "MaxWaiters": "9",
			"SharedConns": "8", "HealthCheckInterval": "5s", "ConnMaxLifetime": "off", "WaitTimeout": "5s, or a client's PoolTimeout",
			"MaxOpenConnsTotal": "50", "Retry": "none", "LeaveContextTimeout": "false", "Gather.From": "8", "Dial": "given", "MapAddr": "none", "NewPooler": "none",
		})
		if text := fmt.Sprint(got); strings.Contains(text, "hunter2") {
			t.Error(text)
		}
		t.d.SetMaxIdleConns(-1)
		t.d.SetMaxOpenConns(-1)
		t.d.SetConnMaxLifetime(time.Hour)
		wantSettings(t.T, settingsOf(t.d.Nodes()[0]), map[string]string{
			"MaxOpenConns": "no bound", "MaxIdleConns": "none", "ConnMaxLifetime": "1h0m0s", "ConnMaxLifetimeJitter": "6m0s", "SilenceAfter": "off",
		})
	})
}

// So does a manager, of each client's own configuration.
func TestTheSettingsOfAManagersClientsAreKnown(t *testing.T) {
	cfg := driver.Config{Pool: pooler.Config{WaitTimeout: 2 * time.Second}}
	inManager(t, 2, cfg, func(m *managed) {
		for i, url := range []string{"redis://:hunter2@10.0.0.1:6379", "redis://10.0.0.2:6379"} {
			var opts []driver.Option
			if i == 1 {
				opts = append(opts, driver.WithConfig(driver.Config{Dial: func(ctx context.Context, network, addr string) (net.Conn, error) { return m.dial(ctx, network, addr) }}))
			}
			if _, err := m.Add(m.Context(), fmt.Sprint(i), url, opts...); err != nil {
				m.Fatal(err)
			}
		}
		for i, want := range []map[string]string{
			{"WaitTimeout": "2s", "MaxOpenConnsTotal": "no bound"}, {"WaitTimeout": "5s, or a client's PoolTimeout", "Retry": "safe"},
		} {
			wantSettings(m.T, settingsOf(m.Status()[i].Nodes[0]), want)
		}
	})
}
