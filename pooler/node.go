package pooler

import "time"

// NodeStatus is what is known of one node: what a driver says of each of its
// nodes, and what metrics are made of.
type NodeStatus struct {
	Network string
	Addr    string
	TLS     bool
	Handles int // handles that go-redis holds
	State   State
	Since   time.Time // of the state
	Silent  bool      // it owes replies, and a connection that was opened to ask is not answered yet
	Stats   Stats
	Events  []Happening // that were last, the oldest first; a few dozen at most

	// Of a node among several, by what these have said last.

	Topology string // "cluster", "sentinel", "ring", or "" for a node by itself
	Role     string // "master", "replica", "sentinel", "shard", or ""
	Slots    int    // that it owns
}

// Happening is something that has happened to a node, once or several times. What has
// happened in the same state of the node and is alike is one: the Event is the last of
// them.
type Happening struct {
	Event
	First time.Time
	Times int
}
