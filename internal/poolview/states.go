package poolview

import "github.com/everpool/everpool/pooler"

// States are the connections of a pool by what they are doing. Each is in one of
// them, so that together they are all that are open.
type States struct {
	Idle     int
	Used     int // by one request, or checked, or opened for one
	Pinned   int // by a caller beyond its request
	Shared   int
	Draining int // waits for the late replies of abandoned requests
}

// StatesOf tells the states apart.
func StatesOf(s *pooler.Stats) States {
	left := s.InUse
	take := func(n int) int {
		n = max(0, min(n, left))
		left -= n
		return n
	}
	of := States{Idle: s.Idle, Shared: take(s.Lanes), Draining: take(s.Draining), Pinned: take(s.Pinned)}
	of.Used = left
	return of
}

// Each calls f with the name and the number of every state.
func (s States) Each(f func(state string, n int)) {
	f("idle", s.Idle)
	f("used", s.Used)
	f("pinned", s.Pinned)
	f("shared", s.Shared)
	f("draining", s.Draining)
}

// Dialed is how many dials have succeeded.
func Dialed(s *pooler.Stats) int64 {
	return max(0, s.Dials-s.DialErrors-int64(s.Dialing))
}

// Source tells pools apart whose counters are read.
type Source struct {
	Of      any // what they were read from
	Network string
	Addr    string
	TLS     bool
	Nth     int // of those that are the same in all of this
}

// Sources returns what tells the pools of nodes apart, in their order.
func Sources(of any, nodes []pooler.NodeStatus) []Source {
	seen := make(map[Source]int)
	all := make([]Source, 0, len(nodes))
	for i := range nodes {
		s := Source{Of: of, Network: nodes[i].Network, Addr: nodes[i].Addr, TLS: nodes[i].TLS}
		nth := seen[s]
		seen[s]++
		s.Nth = nth
		all = append(all, s)
	}
	return all
}
