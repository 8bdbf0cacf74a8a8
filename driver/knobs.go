package driver

import (
	"maps"
	"slices"
	"time"
)

// tunable is a pool whose bounds can be changed while it works. [pooler.Pool]
// is one.
type tunable interface {
	SetMaxOpenConns(n int)
	SetMaxIdleConns(n int)
	SetConnMaxIdleTime(d time.Duration)
	SetConnMaxLifetime(d time.Duration)
}

// SetMaxOpenConns changes the bound on the open connections of every node, and
// of those to come. See [pooler.Pool.SetMaxOpenConns].
func (d *Driver) SetMaxOpenConns(n int) {
	d.turn("MaxOpenConns", func(t tunable) { t.SetMaxOpenConns(n) })
}

// SetMaxIdleConns changes the bound on the idle connections of every node, and
// of those to come. See [pooler.Pool.SetMaxIdleConns].
func (d *Driver) SetMaxIdleConns(n int) {
	d.turn("MaxIdleConns", func(t tunable) { t.SetMaxIdleConns(n) })
}

// SetConnMaxIdleTime changes how long connections may be idle, on every node and
// on those to come. See [pooler.Pool.SetConnMaxIdleTime].
func (d *Driver) SetConnMaxIdleTime(t time.Duration) {
	d.turn("ConnMaxIdleTime", func(p tunable) { p.SetConnMaxIdleTime(t) })
}

// SetConnMaxLifetime changes how old connections may grow, on every node and on
// those to come. See [pooler.Pool.SetConnMaxLifetime].
func (d *Driver) SetConnMaxLifetime(t time.Duration) {
	d.turn("ConnMaxLifetime", func(p tunable) { p.SetConnMaxLifetime(t) })
}

// turn applies a knob to all pools that have it; one that a NewPooler brought
// need not.
func (d *Driver) turn(name string, to func(tunable)) {
	d.mu.Lock()
	if d.turned == nil {
		d.turned = make(map[string]func(tunable))
	}
	d.turned[name] = to
	nodes := slices.Collect(maps.Values(d.nodes))
	d.mu.Unlock()
	for _, n := range nodes { // unlocked: it may close connections, and tell of it
		if t, ok := n.pool.(tunable); ok {
			to(t)
		}
	}
}
