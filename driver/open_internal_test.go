package driver

import (
	"testing"

	"github.com/everpool/everpool/pooler"
)

// Clients of Open learn of a change without traffic: they are bound, those on sentinels
// by the topology that their cluster client uses.
func TestOpenBindsClusterClients(t *testing.T) {
	for _, url := range []string{"redis://10.0.0.1?cluster=true", "redis://10.0.0.1?master_name=m&route_randomly=true"} {
		db, err := Open(url)
		if err != nil {
			t.Fatal(err)
		}
		if n := db.topology().Bound(); n != 1 {
			t.Errorf("%s: bound %d times", url, n)
		}
		_ = db.Close()
	}
}

// What the map says nothing of is as a WithConfig has it.
func TestAMapLeavesTheBoundsOfTheConfiguration(t *testing.T) {
	for _, c := range []struct {
		max        string
		cfg        Config
		node, both int
	}{
		{"", Config{}, 50, 50},
		{"7", Config{}, 7, 7},
		{"", Config{MaxOpenConnsTotal: 5}, 50, 5},
		{"7", Config{MaxOpenConnsTotal: 5}, 7, 7},
		{"", Config{Pool: pooler.Config{MaxOpenConns: 3}}, 3, 3},
	} {
		url, opts, err := ConfigFromMap("r.", map[string]string{"r.url": "redis://10.0.0.1", "r.max_connections": c.max})
		if err != nil {
			t.Fatal(err)
		}
		o, _, err := prepare(Config{}, url, nil, append([]Option{WithConfig(c.cfg)}, opts...))
		if err != nil || o.cfg.Pool.MaxOpenConns != c.node || o.cfg.MaxOpenConnsTotal != c.both {
			t.Errorf("%q: %d of a node, %d of all, %v; want %d and %d", c.max, o.cfg.Pool.MaxOpenConns, o.cfg.MaxOpenConnsTotal, err, c.node, c.both)
		}
	}
}
