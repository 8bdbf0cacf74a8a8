package driver

import (
	"cmp"
	"reflect"
	"slices"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/internal/topology"
	"github.com/everpool/everpool/pooler"
)

// ClusterOptions returns a copy of o with which [redis.NewClusterClient] makes a client
// on this driver. o isn't changed. Its fields do what those of the same name do in
// [Driver.Options], for each node: PoolSize is of a node, as in go-redis. MaxRedirects
// is 8 where it isn't set, and go-redis learns of CLUSTERDOWN after 250 ms, or half of the
// time that is left: while a cluster elects a primary all its nodes may refuse for a
// second or two, which go-redis's tries are to outlast.
//
// Requests for a node that is ill don't wait in the dial but where they are known: the
// other nodes are asked for the slots at once. While none of them says otherwise a
// request waits for its node; as soon as one names a new owner, the request is answered
// MOVED in the place of the ill node, and go-redis asks the owner. Where replicas are read
// from (ReadOnly, RouteByLatency, RouteRandomly) a read waits for no primary that is ill,
// but goes to a replica that answers. What needs no key goes to another node. A
// subscription to a node all of whose slots another one has taken over is made at that
// one. What asks one node, as the client of a node does, is answered by no other.
//
// With ClusterSlots set there is no such topology: what isn't asked of the nodes isn't
// known by them. Callers wait at a node that is away until FailFastAfter and get
// [pooler.ErrNodeDown] then, until go-redis calls ClusterSlots again by itself and that
// says otherwise.
//
// If the options can't work every command fails with an error that names each mistake,
// as with Options. A seed among several that can't be dialed is only logged.
func (d *Driver) ClusterOptions(o *redis.ClusterOptions) *redis.ClusterOptions {
	d = d.orUnmade()
	if o == nil {
		o = &redis.ClusterOptions{}
	}
	c := *o
	c.Addrs = slices.Clone(c.Addrs)
	flat := flatten(&c)
	b := d.complete(flat, c.Addrs...)
	if b == nil {
		return &c
	}
	transfer(&c, flat)
	c.MaxRedirects = cmp.Or(c.MaxRedirects, clusterRedirects)
	b.late = func() *redis.Options { return flatten(&c) }
	b.WaitsInDial = false
	if c.ClusterSlots == nil {
		home := d.home()
		asks := &topology.Cluster{Home: home, Options: b.asking()}
		b.belong(topology.New(home, "cluster", asks, topology.Ways{
			Seeds: c.Addrs, Moves: true, Reads: c.ReadOnly || c.RouteByLatency || c.RouteRandomly,
		}))
	}
	return &c
}

// clusterRedirects is how often a request to a cluster is tried again, where its client
// doesn't say.
const clusterRedirects = 8

// asking returns the options of clients that ask the topology's members: they have the
// session of the topology's own, and wait for nothing.
func (b *binding) asking() redis.Options { return b.askingAt(topology.Hasty{}) }

// askingAt is asking, with those places to ask whether to wait for an ill node.
func (b *binding) askingAt(places pooler.Places) redis.Options {
	asker := *b
	asker.late, asker.WaitsInDial, asker.Wait = nil, false, topology.AskTime
	asker.Topology, asker.Places, asker.group, asker.Courses = nil, places, nil, nil
	o := b.returned
	o.Dialer = asker.connect
	o.PoolSize, o.MinIdleConns, o.MaxIdleConns, o.PipelinePoolSize = 1, 0, 0, -1
	o.MaxRetries, o.ContextTimeoutEnabled, o.ReadTimeout, o.WriteTimeout = -1, true, topology.AskTime, topology.AskTime
	o.ClientSideCache, o.ClientSideCacheConfig = nil, nil
	return o
}

// flatten returns the fields that options of another kind have in common with those of
// a client of one node.
func flatten(from any) *redis.Options {
	o := &redis.Options{Network: "tcp"}
	transfer(o, from)
	return o
}

// transfer sets the fields of the struct that to points to, to those of the same name
// and type in the other one.
func transfer(to, from any) {
	dst, src := reflect.ValueOf(to).Elem(), reflect.ValueOf(from).Elem()
	for i := range dst.NumField() {
		f := dst.Type().Field(i)
		if v := src.FieldByName(f.Name); f.IsExported() && v.IsValid() && v.Type() == f.Type {
			dst.Field(i).Set(v)
		}
	}
}
