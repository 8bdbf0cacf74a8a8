package bench

import (
	"context"
	"fmt"
	"strings"
)

// Client is what all peers can do. Each does it in the way that its own
// documentation shows first. All methods but Close are safe for concurrent use.
type Client interface {
	// Get returns the value of a key.
	Get(ctx context.Context, key string) (string, error)
	// Set stores a value.
	Set(ctx context.Context, key, value string) error
	// Incr adds one to the number that a key holds.
	Incr(ctx context.Context, key string) error
	// Pipeline sends all commands at once and fills in what they got.
	Pipeline(ctx context.Context, batch []Command) error
	// Close closes all connections.
	Close() error
}

// Command is one command of a pipeline.
type Command struct {
	Key   string
	Value string // to be stored; empty: the command is a GET
	Got   string // by a GET
}

// Setup is what a client is made for.
type Setup struct {
	Addr       string // of the server
	Cluster    bool   // it is one of a cluster
	Goroutines int    // that use the client at a time
	ValueSize  int    // that those who have no server return
}

// Peer is a client library with the options that it is compared with.
type Peer struct {
	Name  string
	About string // one line for the legend
	New   func(Setup) (Client, error)

	// Memory means that there is no server: what is stored is lost.
	Memory bool

	// Cluster means that it can be a client of a cluster.
	Cluster bool
}

// peers are all, in the order of the tables' rows.
var peers = []Peer{
	{Name: "stock", About: "go-redis, default options", New: newStock, Cluster: true},
	{Name: "stock-n", About: "go-redis with PoolSize = goroutines", New: newStockN},
	{Name: "autopipeline", About: "go-redis's AutoPipeline, the blocking form, default options", New: newAutoPipeline, Cluster: true},
	{Name: "everpool", About: "go-redis on everpool, default options", New: newEverpool, Cluster: true},
	{Name: "everpool-gathered", About: "go-redis on everpool with gathering, default options", New: newEverpoolGathered, Cluster: true},
	{Name: "everpool-leases", About: "go-redis on everpool without shared connections", New: newEverpoolLeases, Cluster: true},
	{Name: "everpool-autopipeline", About: "go-redis's AutoPipeline, the blocking form, on everpool, default options", New: newEverpoolAutoPipeline, Cluster: true},
	{Name: "rueidis", About: "rueidis, default options", New: newRueidis, Cluster: true},
	{Name: "valkey-go", About: "valkey-go, default options", New: newValkey, Cluster: true},
	{Name: "redigo", About: "redigo, a pool of 20 that waits", New: newRedigo},
	{Name: "redigo-n", About: "redigo, a pool of as many connections as goroutines", New: newRedigoN},
	{Name: "radix", About: "radix, default options", New: newRadix},
	{Name: "floor", About: "go-redis on a connection that answers from memory, no server: what go-redis itself costs", New: newFloor, Memory: true},
	{Name: "floor-parked", About: "the same, but half of the callers wait until all of them are there, as callers wait whose replies come together", New: newFloorParked, Memory: true},
}

// Peers returns all peers.
func Peers() []Peer { return append([]Peer(nil), peers...) }

// FindPeer returns the peer of that name.
func FindPeer(name string) (Peer, error) {
	var names []string
	for _, p := range peers {
		if p.Name == name {
			return p, nil
		}
		names = append(names, p.Name)
	}
	return Peer{}, fmt.Errorf("client %q; allowed are %s", name, strings.Join(names, ", "))
}
