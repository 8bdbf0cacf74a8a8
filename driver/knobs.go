package driver

import (
	"maps"
	"slices"
	"time"

	"github.com/everpool/everpool/pooler"
)

// SetMaxOpenConns changes the bound on the open connections of every node, and
// of those to come. See [pooler.Pool.SetMaxOpenConns].
func (d *Driver) SetMaxOpenConns(n int) {
	d.setKnob("MaxOpenConns", func(t pooler.Pooler) { t.SetMaxOpenConns(n) })
}

// SetMaxIdleConns changes the bound on the idle connections of every node, and
// of those to come. See [pooler.Pool.SetMaxIdleConns].
func (d *Driver) SetMaxIdleConns(n int) {
	d.setKnob("MaxIdleConns", func(t pooler.Pooler) { t.SetMaxIdleConns(n) })
}

// SetConnMaxIdleTime changes how long connections may be idle, on every node and
// on those to come. See [pooler.Pool.SetConnMaxIdleTime].
func (d *Driver) SetConnMaxIdleTime(t time.Duration) {
	d.setKnob("ConnMaxIdleTime", func(p pooler.Pooler) { p.SetConnMaxIdleTime(t) })
}

// SetConnMaxLifetime changes how old connections may grow, on every node and on
// those to come. See [pooler.Pool.SetConnMaxLifetime].
func (d *Driver) SetConnMaxLifetime(t time.Duration) {
	d.setKnob("ConnMaxLifetime", func(p pooler.Pooler) { p.SetConnMaxLifetime(t) })
}

// knob returns what the knob of that name was turned to, or nil.
func (d *Driver) knob(name string) func(pooler.Pooler) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.knobs[name]
}

// turn applies a knob to the pools of all nodes, and of those to come.
func (d *Driver) setKnob(name string, to func(pooler.Pooler)) {
	if d.unmade() != nil {
		return
	}
	d.mu.Lock()
	if d.knobs == nil {
		d.knobs = make(map[string]func(pooler.Pooler))
	}
	d.knobs[name] = to
	nodes := slices.Collect(maps.Values(d.nodes))
	d.mu.Unlock()
	for _, n := range nodes { // unlocked: it may close connections, and tell of it
		to(n.Pool)
	}
}
