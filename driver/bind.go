package driver

import (
	"context"

	"github.com/redis/go-redis/v9"
)

// Bind tells the driver of a cluster client whose options [Driver.ClusterOptions] or
// [Driver.FailoverOptions] has made, which is worth two things. The client reloads its own
// view of the cluster as soon as the driver sees a change: without it the client learns of one
// when a request is redirected, which is soon too where there is traffic. And its commands
// are spared a context with a timer each, by a hook that go-redis's ContextTimeoutEnabled
// makes worth it. [Open] and [Driver.Gather] do it by themselves; once is enough. Bind doesn't
// block. It does nothing for a client of another kind. Safe for concurrent use.
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
	if !c.Options().DisableRoutingPolicies { // then there is no look
		c.AddHook(new(keySteps))
	}
}
