package topology

import (
	"cmp"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/pooler"
)

// View is what a member of a topology has said of who serves what. It doesn't
// change. Addresses are as go-redis writes them.
type View struct {
	asked  time.Time // the question was sent after that
	master string    // of everything, in a topology without slots
	others []string  // its replicas, if they were asked for
	up     []string  // those of them that go-redis dials for who wants a replica
	parts  []part    // by their slots, where there are any
	spread int       // over how many primaries these are, see Topology.Spread
	// heirs are who has taken over all slots of an address that has none any more.
	heirs map[string]string
}

// part is a range of slots and who serves it.
type part struct {
	first, last int
	nodes       []string // the owner, then its replicas
}

// isFresh reports whether there is a view that was asked for since the node is ill.
func (v *View) isFresh(ill pooler.Illness) bool { return v != nil && !v.asked.Before(ill.Since) }

// owners is how many primaries serve the slots.
func (v *View) owners() int {
	all := make(map[string]struct{})
	for _, p := range v.parts {
		if len(p.nodes) > 0 {
			all[p.nodes[0]] = struct{}{}
		}
	}
	return len(all)
}

// owner returns who serves the slot, or "".
func (v *View) owner(slot int) string {
	if v.master != "" || slot < 0 {
		return v.master
	}
	if nodes := v.nodesOf(slot); len(nodes) > 0 {
		return nodes[0]
	}
	return ""
}

// standBy returns the replicas of the slot's owner.
func (v *View) standBy(slot int) []string {
	if v.master != "" {
		return v.others
	}
	if nodes := v.nodesOf(slot); len(nodes) > 0 {
		return nodes[1:]
	}
	return nil
}

// primaryOf returns whose replica the address is, or "".
func (v *View) primaryOf(addr string) string {
	if slices.Contains(v.others, addr) {
		return v.master
	}
	for _, p := range v.parts {
		if slices.Index(p.nodes, addr) > 0 {
			return p.nodes[0]
		}
	}
	return ""
}

// nodesOf returns the owner of the slot and its replicas, or none.
func (v *View) nodesOf(slot int) []string {
	i, found := slices.BinarySearchFunc(v.parts, slot, func(p part, slot int) int {
		switch {
		case p.last < slot:
			return -1
		case p.first > slot:
			return 1
		}
		return 0
	})
	if !found {
		return nil
	}
	return v.parts[i].nodes
}

// owns reports whether the address serves any slot, not as a replica.
func (v *View) owns(addr string) bool {
	return v.master == addr || slices.ContainsFunc(v.parts, func(p part) bool { return len(p.nodes) > 0 && p.nodes[0] == addr })
}

// knows reports whether the address is in the view.
func (v *View) knows(addr string) bool {
	return v.master == addr || slices.ContainsFunc(v.parts, func(p part) bool { return slices.Contains(p.nodes, addr) })
}

// Role is what the view calls the address, and which slots it owns.
func (v *View) Role(addr string) (role string, slots pooler.Slots) {
	if v.master == addr {
		return "master", nil
	}
	for _, p := range v.parts {
		switch slices.Index(p.nodes, addr) {
		case -1:
		case 0:
			role = "master"
			if n := len(slots); n > 0 && slots[n-1][1]+1 == p.first { // their replicas differ
				slots[n-1][1] = p.last
			} else if p.first <= p.last {
				slots = append(slots, [2]int{p.first, p.last})
			}
		default:
			role = cmp.Or(role, "replica")
		}
	}
	return role, slots
}

// agrees reports whether another view says the same of who serves what.
func (v *View) agrees(with *View) bool {
	return v.master == with.master && slices.EqualFunc(v.parts, with.parts, func(a, b part) bool {
		return a.first == b.first && a.last == b.last && len(a.nodes) == len(b.nodes) &&
			(len(a.nodes) == 0 || a.nodes[0] == b.nodes[0] && slices.Equal(slices.Sorted(slices.Values(a.nodes)), slices.Sorted(slices.Values(b.nodes))))
	})
}

// replicasOf returns who stands by for any part that the address serves.
func (v *View) replicasOf(addr string) []string {
	var all []string
	for _, p := range v.parts {
		if len(p.nodes) > 0 && p.nodes[0] == addr {
			all = append(all, p.nodes[1:]...)
		}
	}
	return all
}

// addrs returns all addresses of the view.
func (v *View) addrs() []string {
	var all []string
	for _, p := range v.parts {
		all = append(all, p.nodes...)
	}
	if v.master != "" {
		all = append(all, v.master)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// inherit finds the heirs, given the view before: an owner of then that owns nothing now
// has one if a single node has all that it had, and those who are still none's owners
// keep theirs, or have their heir's heir.
func (v *View) inherit(before *View) {
	if before == nil {
		return
	}
	v.heirs = make(map[string]string)
	if before.master != "" && before.master != v.master {
		v.heirs[before.master] = v.master
	}
	for _, p := range before.parts {
		if len(p.nodes) == 0 || v.owns(p.nodes[0]) || v.heirs[p.nodes[0]] != "" {
			continue
		}
		if heir := v.heirOf(before, p.nodes[0]); heir != "" {
			v.heirs[p.nodes[0]] = heir
		}
	}
	for addr, heir := range before.heirs {
		if !v.owns(heir) {
			heir = v.heirs[heir] // which has died as well
		}
		if heir != "" && !v.owns(addr) {
			v.heirs[addr] = heir
		}
	}
}

// heirOf returns the one node that owns all slots now that the address had then.
func (v *View) heirOf(before *View, addr string) (heir string) {
	for _, p := range before.parts {
		if len(p.nodes) == 0 || p.nodes[0] != addr {
			continue
		}
		for slot := p.first; slot <= p.last; slot++ {
			owner := v.owner(slot)
			if owner == "" || heir != "" && owner != heir {
				return ""
			}
			heir = owner
		}
	}
	return heir
}

// ViewOf makes a view of what the node at origin has said, with addresses as go-redis
// makes them of it: what a node calls itself on its own machine, or without a port, is
// of no use elsewhere. Ranges are cut to the slots that there are: who has said them may
// be anything, and they are gone through slot by slot.
func ViewOf(slots []redis.ClusterSlot, origin string, asked time.Time) *View {
	host, port, _ := net.SplitHostPort(origin)
	v := &View{asked: asked}
	for _, s := range slots {
		p := part{first: max(s.Start, 0), last: min(s.End, Slots-1)}
		for _, n := range s.Nodes {
			p.nodes = append(p.nodes, seenFrom(n.Addr, host, port))
		}
		v.parts = append(v.parts, p)
	}
	slices.SortFunc(v.parts, func(a, b part) int { return cmp.Compare(a.first, b.first) })
	return v
}

// seenFrom is the address that a node at host:port has given, as it is to be dialed
// by those who have dialed that node.
func seenFrom(addr, host, port string) string {
	h, p, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	if ip := net.ParseIP(h); ip != nil && ip.IsLoopback() && !isLoopback(host) {
		h = host
	}
	if p == "0" && port != "" {
		p = port
	}
	return net.JoinHostPort(h, p)
}

// isLoopback reports whether go-redis takes the host for its own machine.
func isLoopback(host string) bool {
	if ip := net.ParseIP(host); ip != nil {
		return ip.IsLoopback()
	}
	host = strings.ToLower(host)
	return host == "localhost" || strings.HasSuffix(host, ".docker.internal")
}
