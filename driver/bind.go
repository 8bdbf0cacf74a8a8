package driver

import (
	"context"

	"github.com/redis/go-redis/v9"
)

// Bind has a cluster client, whose options [Driver.ClusterOptions] or
// [Driver.FailoverOptions] has made, reload its own view of the cluster as soon as the
// driver sees a change. Without it the client learns of one when a request is
// redirected, which is soon too where there is traffic. Bind doesn't block. It does
// nothing for a client of another kind.
func (d *Driver) Bind(c *redis.ClusterClient) {
	if c == nil {
		return
	}
	b := bindingOf(c.Options().Dialer)
	if b != nil && b.group != nil {
		b = b.group.clustered
	}
	if b == nil || !b.driver.is(d) || b.topology() == nil {
		return
	}
	b.topology().Bind(func() { c.ReloadState(context.Background()) })
}
