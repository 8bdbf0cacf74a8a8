package testkit

import (
	"fmt"
	"testing"
)

// Ring is a set of servers that know nothing of each other, for go-redis's
// client-side sharding. A shard is an ordinary [Server]: kill, freeze and
// restart it as such.
type Ring struct {
	shards []*Server
}

// StartRing starts n servers for one test, as [Start] does.
func StartRing(tb testing.TB, kind Kind, n int, opts ...ServerOption) *Ring {
	tb.Helper()
	each := make([][]ServerOption, n)
	for i := range each {
		each[i] = opts
	}
	return &Ring{shards: startAll(tb, kind, each...)}
}

// Addrs returns the shards' addresses by name, shard1 and so on, for
// redis.RingOptions.
func (r *Ring) Addrs() map[string]string {
	addrs := map[string]string{}
	for i, s := range r.shards {
		addrs[fmt.Sprintf("shard%d", i+1)] = s.Addr
	}
	return addrs
}

// Shards returns the servers, shard1 first.
func (r *Ring) Shards() []*Server { return r.shards }

// Shard returns the server with that name, nil if there is none.
func (r *Ring) Shard(name string) *Server {
	addr, ok := r.Addrs()[name]
	if !ok {
		return nil
	}
	return serverAt(r.shards, addr)
}

// serverAt returns the server with that address, nil if there is none.
func serverAt(servers []*Server, addr string) *Server {
	for _, s := range servers {
		if s.Addr == addr {
			return s
		}
	}
	return nil
}
