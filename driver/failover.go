package driver

import (
	"slices"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/internal/callers"
	"github.com/everpool/everpool/internal/session"
	"github.com/everpool/everpool/internal/topology"
)

// FailoverOptions returns a copy of o with which [redis.NewFailoverClient] and
// [redis.NewFailoverClusterClient] make a client on this driver. o isn't changed. Its
// fields do what those of the same name do in [Driver.Options], for each node.
//
// Callers wait for a primary that is away in the dial, until it is back or the sentinels
// name another one, which they are asked about at once; the client's connections are made
// to that one then. Nothing waits for a sentinel that has gone, or, for more than a quarter
// of a second, for one that is silent or can't be reached while another may answer: go-redis
// asks all of them, and one that doesn't answer would hold up every dial. Where all are
// silent callers wait, for ReadTimeout at most; go-redis asks again then, DialerRetries
// times (5, as on the stock pool). A client made with NewFailoverClusterClient is sent to
// the new primary by MOVED, and reads from replicas as one of ClusterOptions does.
//
// If the options can't work every command fails with an error that names each mistake,
// as with Options. A sentinel among several that can't be dialed is only logged.
func (d *Driver) FailoverOptions(o *redis.FailoverOptions) *redis.FailoverOptions {
	d = d.orUnmade()
	if o == nil {
		o = &redis.FailoverOptions{}
	}
	c := *o
	c.SentinelAddrs = slices.Clone(c.SentinelAddrs)
	flat := flatten(&c)
	b := d.complete(flat, c.SentinelAddrs...)
	if b == nil {
		return &c
	}
	transfer(&c, flat)
	c.DialerRetries = o.DialerRetries // go-redis asks the sentinels in the dial, which may fail
	if b.Courses != nil && c.PushNotificationProcessor == nil {
		// go-redis would have one of its own for each connection's OnConnect, see [handle.Courses.OnConnect].
		c.PushNotificationProcessor = redis.NewPushNotificationProcessor()
	}
	b.late = func() *redis.Options { return flatten(&c) }
	newGroup(b, &c)
	return &c
}

// group is a group of sentinels and the nodes that they watch. go-redis dials both with
// one Dialer, which is the data nodes' binding.
type group struct {
	nodes     *binding // of a client that follows no MOVED
	clustered *binding // of one that does
	sentinels *binding
	oracle    *topology.Sentinels
}

func newGroup(b *binding, o *redis.FailoverOptions) {
	s, many := *b, *b
	reads := o.ReplicaOnly || o.RouteByLatency || o.RouteRandomly
	home := b.driver.home()
	asks := topology.NewSentinels(home, b.driver.sentinels(), o.MasterName, reads, o.SentinelAddrs)
	// Sentinels have users of their own.
	s.Identity, s.Places, s.WaitsInDial, s.late, s.Courses = &session.Identity{}, topology.AtSentinels{Sentinels: asks}, false, nil, nil
	options := b.asking()
	options.Dialer, options.DB = s.connect, 0
	options.Username, options.Password = o.SentinelUsername, o.SentinelPassword
	options.CredentialsProvider, options.CredentialsProviderContext, options.StreamingCredentialsProvider = nil, nil, nil
	asks.Options, asks.Disconnected = options, o.UseDisconnectedReplicas

	b.belong(topology.New(home, "sentinel", asks, topology.Ways{Deposes: true, Alone: o.ReplicaOnly}))
	many.belong(topology.New(home, "sentinel", topology.ClusterNames{Sentinels: asks}, topology.Ways{Deposes: true, Moves: true, Reads: reads}))
	many.WaitsInDial, many.late = false, nil
	b.group = &group{nodes: b, clustered: &many, sentinels: &s, oracle: asks}
}

// bindingOf returns the binding that dials the address.
func (g *group) bindingOf(addr string) *binding {
	switch {
	case g.oracle.Has(addr):
		return g.sentinels
	case callers.Include(callers.MasterDialer):
		return g.nodes
	}
	return g.clustered
}
