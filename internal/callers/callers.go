// Package callers tells what a goroutine is used for by the functions that it is in, where
// nothing that go-redis passes says so.
package callers

import (
	"runtime"
	"strings"
)

// Functions of go-redis, by which a dial and a handle tell what they are for: the contexts
// of a subscription's dial have the same forms as others', and a command of OnConnect is
// like any. Should go-redis change the names, subscriptions wait as other dials do, and
// PubSub.Close with them; a handle whose OnConnect has asked for its CLIENT ID keeps its
// connection; pipelines for a replica that is away are MOVED; a cluster client on
// sentinels that is born in an outage waits for five seconds whatever its callers' contexts;
// subscriptions of a cluster's client come to no heir before go-redis reloads its slots;
// and what has no key waits at a member of a cluster that is away, where another would do.
const (
	PubSubConn = "go-redis/v9.(*PubSub).conn"
	// Subscribe asks for a channel, for a caller who waits for that.
	Subscribe     = "go-redis/v9.(*PubSub).subscribe"
	InitConn      = "go-redis/v9.(*baseClient).initConn"
	ClientProcess = "go-redis/v9.(*Client).Process"
	ConnProcess   = "go-redis/v9.(*Conn).Process"
	TxProcess     = "go-redis/v9.(*Tx).Process"
	RingProcess   = "go-redis/v9.(*Ring).process"
	// ClusterProcess runs a command of a cluster's own client, at a node of its choice.
	ClusterProcess = "go-redis/v9.(*ClusterClient).process"
	// LoadState asks members of a cluster for the slots, one after the other.
	LoadState = "go-redis/v9.(*ClusterClient).loadState"
	// ClusterPubSub connects a subscription of a cluster's own client, to the node of its choice.
	ClusterPubSub = "go-redis/v9.(*ClusterClient).pubSub"
	// CommandInfo asks members of a cluster for the table of commands.
	CommandInfo = "go-redis/v9.(*ClusterClient).cmdsInfo"
	// ReleaseConn gives a handle back after a request.
	ReleaseConn = "go-redis/v9.(*baseClient).releaseConnToPool"
	// FullDuplex has commands of an AutoPipeliner written and read by two goroutines.
	FullDuplex = "go-redis/v9.(*fdEngine).session"
	// PipelineNode has a node of a cluster run its part of a pipeline.
	PipelineNode = "go-redis/v9.(*ClusterClient).processPipelineNode"
	// MasterDialer dials what the sentinels have named to a failover client; a cluster
	// client on sentinels dials nodes itself.
	MasterDialer = "masterReplicaDialer"
	// Flight runs gathered calls of several callers: everpool's own.
	Flight = "internal/gather.(*line).flight"
)

// Include reports whether a function of that name, or one inside it, is among the callers
// of the function that asks.
func Include(name string) bool {
	var pcs [32]uintptr
	for skip := 2; ; skip += len(pcs) {
		n := runtime.Callers(skip, pcs[:])
		for _, pc := range pcs[:n] {
			f := runtime.FuncForPC(pc - 1)
			if f != nil && (strings.HasSuffix(f.Name(), name) || strings.Contains(f.Name(), name+".func")) {
				return true
			}
		}
		if n < len(pcs) {
			return false
		}
	}
}
