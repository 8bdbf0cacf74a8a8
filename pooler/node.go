package pooler

import (
	"fmt"
	"log/slog"
	"strings"
	"time"
)

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
	// Settings are those in force, by the names of the fields of [Config] and of
	// driver.Config, what isn't set with its default. No credentials are among them, and
	// of functions only whether there is one.
	Settings []slog.Attr

	// Of a node among several, by what these have said last.

	Topology string // "cluster", "sentinel", "ring", or "" for a node by itself
	Role     string // "master", "replica", "sentinel", "shard", or ""
	Slots    Slots  // that it owns
}

// Slots are slots of a cluster: ranges, each with its first and its last one, in order.
type Slots [][2]int

// Count is how many slots there are.
func (s Slots) Count() (n int) {
	for _, r := range s {
		n += r[1] - r[0] + 1
	}
	return n
}

// mostRanges is how many ranges are printed: a cluster that was resharded slot by slot may
// have thousands.
const mostRanges = 16

// String has the ranges, as in "0-5460, 10923", the first sixteen of them, and then how
// many more there are.
func (s Slots) String() string {
	var b strings.Builder
	for i, r := range s {
		switch {
		case i == mostRanges:
			fmt.Fprintf(&b, " and %d more ranges", len(s)-i)
			return b.String()
		case i > 0:
			b.WriteString(", ")
		}
		if fmt.Fprint(&b, r[0]); r[1] > r[0] {
			fmt.Fprintf(&b, "-%d", r[1])
		}
	}
	return b.String()
}

// Happening is something that has happened to a node, once or several times. What has
// happened in the same state of the node and is alike is one: the Event is the last of
// them.
type Happening struct {
	Event
	First time.Time
	Times int
}
