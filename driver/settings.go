package driver

import (
	"log/slog"
)

// settings are those in force at the node: its pool's, and those of the driver whose client
// has decided for it.
func (n *node) settings() []slog.Attr {
	all := n.Pool.Config().LogValue().Group()
	d := n.first.driver
	if d.cfg.Pool.WaitTimeout == 0 {
		for i := range all {
			if all[i].Key == "WaitTimeout" {
				all[i].Value = slog.StringValue(all[i].Value.String() + ", or a client's PoolTimeout")
			}
		}
	}
	return append(all, d.cfg.own(n.first.custom())...)
}

// own are the settings that aren't each pool's. custom says that a function of the user's
// opens the sockets, which may be a client's, too.
func (c *Config) own(custom bool) []slog.Attr {
	total := slog.IntValue(c.MaxOpenConnsTotal)
	if c.MaxOpenConnsTotal < 1 {
		total = slog.StringValue("no bound")
	}
	function := func(name string, given bool) slog.Attr {
		return slog.String(name, map[bool]string{true: "given", false: "none"}[given])
	}
	gather := c.Gather.withDefaults()
	return []slog.Attr{
		{Key: "MaxOpenConnsTotal", Value: total},
		slog.String("Retry", c.Retry.String()),
		slog.Bool("LeaveContextTimeout", c.LeaveContextTimeout),
		slog.Int("Gather.From", gather.From), slog.Int("Gather.Flights", gather.Flights), slog.Int("Gather.Largest", gather.Largest),
		function("Dial", custom), function("MapAddr", c.MapAddr != nil), function("NewPooler", c.NewPooler != nil),
	}
}
