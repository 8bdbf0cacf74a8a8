package driver

import (
	"fmt"
	"log/slog"

	"github.com/everpool/everpool/pooler"
)

// note is a line for the driver's log.
type note struct {
	text  string
	attrs []slog.Attr
}

// pooled are the settings that a client's options may give to the pool of a node,
// where the first client decides.
var pooled = []struct {
	field, options string
	of             func(pooler.Config) any
}{
	{"MaxOpenConns", "PoolSize, MaxActiveConns, PipelinePoolSize", func(c pooler.Config) any { return c.MaxOpenConns }},
	{"MinIdleConns", "MinIdleConns", func(c pooler.Config) any { return c.MinIdleConns }},
	{"MaxIdleConns", "MaxIdleConns", func(c pooler.Config) any { return c.MaxIdleConns }},
	{"MaxConcurrentDials", "MaxConcurrentDials", func(c pooler.Config) any { return c.MaxConcurrentDials }},
	{"ConnMaxIdleTime", "ConnMaxIdleTime", func(c pooler.Config) any { return c.ConnMaxIdleTime }},
	{"ConnMaxLifetime", "ConnMaxLifetime", func(c pooler.Config) any { return c.ConnMaxLifetime }},
	{"ConnMaxLifetimeJitter", "ConnMaxLifetimeJitter", func(c pooler.Config) any { return c.ConnMaxLifetimeJitter }},
	{"DialTimeout", "DialTimeout", func(c pooler.Config) any { return c.DialTimeout }},
}

// compareLocked returns what the log should say of a later client whose settings
// are others than those in force, once for each. What was turned at run time is no
// client's. Driver.mu is held.
func (n *node) compareLocked(b *binding, turned map[string]func(pooler.Pooler)) []note {
	if b == n.first {
		return nil
	}
	var notes []note
	inForce, asked := n.first.pool.Limits(), b.pool.Limits()
	for _, s := range pooled {
		have, want := s.of(inForce), s.of(asked)
		together := s.field == "MaxOpenConns" && !n.clients.fixed // they have their sockets together
		if key := fmt.Sprint(s.field, want); have == want || turned[s.field] != nil || n.told[key] || together {
			continue
		} else if n.told == nil {
			n.told = map[string]bool{key: true}
		} else {
			n.told[key] = true
		}
		notes = append(notes, note{
			"everpool: clients of a node share its pool, and the first one decides: a later one's setting isn't in force",
			[]slog.Attr{
				slog.String("node", n.key.addr), slog.String("field", s.field), slog.String("options", s.options),
				slog.Any("asked", want), slog.Any("in_force", have),
			},
		})
	}
	return notes
}
