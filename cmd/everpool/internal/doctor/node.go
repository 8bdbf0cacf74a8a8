package doctor

import (
	"context"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// node is a server that is asked, on one connection.
type node struct {
	addr string
	rdb  *redis.Client
	info map[string]string // of INFO, empty if that isn't permitted
}

// newNode returns one that is connected to when it is first asked. Nothing is tried
// twice: what goes wrong is what is looked for.
func newNode(o *redis.Options, timeout time.Duration) *node {
	o.MaxRetries, o.DialerRetries = -1, 1
	o.PoolSize, o.PipelinePoolSize = 1, -1
	o.ContextTimeoutEnabled = true
	o.DialTimeout, o.ReadTimeout, o.WriteTimeout = timeout, timeout, timeout
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	return &node{addr: o.Addr, rdb: redis.NewClient(o)}
}

func (n *node) close() {
	if n != nil {
		_ = n.rdb.Close() // nothing is kept on it
	}
}

// ask sends one command.
func (k *known) ask(ctx context.Context, args ...any) *redis.Cmd {
	ctx, cancel := k.bounded(ctx)
	defer cancel()
	return k.node.rdb.Do(ctx, args...)
}

// isUnpermitted reports whether the server's answer is that the user may not.
func isUnpermitted(err error) bool { return err != nil && strings.HasPrefix(err.Error(), "NOPERM") }

// fields are the lines "name:value" of INFO and CLUSTER INFO.
func fields(text string) map[string]string {
	all := map[string]string{}
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			all[name] = value
		}
	}
	return all
}

// inMilliseconds is a time as it is read most easily.
func inMilliseconds(d time.Duration) string { return d.Round(10 * time.Microsecond).String() }
