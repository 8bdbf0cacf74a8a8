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
	Stats   Stats
}
