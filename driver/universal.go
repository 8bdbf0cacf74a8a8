package driver

import (
	"github.com/redis/go-redis/v9"
)

// UniversalOptions returns a copy of o with which [redis.NewUniversalClient] makes a
// client on this driver: of one node, a cluster or a group of sentinels, as go-redis
// decides by the options. o isn't changed. Its fields do what they do in
// [Driver.Options], [Driver.ClusterOptions] and [Driver.FailoverOptions].
func (d *Driver) UniversalOptions(o *redis.UniversalOptions) *redis.UniversalOptions {
	d = d.orUnmade()
	if o == nil {
		o = &redis.UniversalOptions{}
	}
	c := *o
	switch {
	case c.MasterName != "":
		transfer(&c, d.FailoverOptions(c.Failover()))
	case len(c.Addrs) > 1 || c.IsClusterMode:
		transfer(&c, d.ClusterOptions(c.Cluster()))
	default:
		transfer(&c, d.Options(c.Simple()))
	}
	if b := bindingOf(c.Dialer); b != nil && b.late != nil {
		b.late = func() *redis.Options { return flatten(&c) }
	}
	return &c
}
