package doctor

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"

	"github.com/redis/go-redis/v9"
)

// allSlots is how many a cluster has.
const allSlots = 16384

// checkCluster finds out whether the cluster is whole, and whether the addresses that it
// announces are any good here.
func checkCluster(ctx context.Context, k *known) []Finding {
	if k.target.cluster == nil {
		return nil
	}
	all := []Finding{k.clusterState(ctx)}
	ctxSlots, cancel := k.bounded(ctx)
	defer cancel()
	slots, err := k.node.rdb.ClusterSlots(ctxSlots).Result() //nolint:staticcheck // it is what go-redis itself asks a cluster
	if err != nil {
		return append(all, found(Failed, "the cluster's slots can't be asked for: %s", k.say(err)).
			advise("the client needs CLUSTER SLOTS: is this a node of a cluster, and may the user ask (+cluster|slots)?"))
	}
	all = append(all, coverage(slots))
	return append(all, k.announced(ctx, slots)...)
}

func (k *known) clusterState(ctx context.Context) Finding {
	text, err := k.ask(ctx, "CLUSTER", "INFO").Text()
	if err != nil {
		return found(Note, "the cluster's state isn't known: %s", k.say(err)).advise("for more, run this as a user with +cluster|info")
	}
	info := fields(text)
	f := found(OK, "state %s, %s nodes known, %s masters with slots", k.clean(info["cluster_state"]), k.clean(info["cluster_known_nodes"]), k.clean(info["cluster_size"]))
	if info["cluster_state"] != "ok" {
		f.Status = Failed
		return f.advise("see CLUSTER NODES on it: are masters down, or slots without one (cluster-require-full-coverage)?")
	}
	return f
}

func coverage(slots []redis.ClusterSlot) Finding {
	covered := 0
	for _, s := range slots {
		if len(s.Nodes) > 0 {
			covered += s.End - s.Start + 1
		}
	}
	if covered < allSlots {
		return found(Failed, "%d of %d slots have a master", covered, allSlots).advise("keys in the others can't be used: redis-cli --cluster check, then fix")
	}
	return found(OK, "all %d slots have a master", allSlots)
}

// announced dials each node where it says that it is.
func (k *known) announced(ctx context.Context, slots []redis.ClusterSlot) []Finding {
	host, _, _ := net.SplitHostPort(k.node.addr) // which was dialed
	masters := map[string]bool{}
	for _, s := range slots {
		for i, n := range s.Nodes {
			addr := whole(n.Addr, host)
			masters[addr] = masters[addr] || i == 0
		}
	}
	addrs := slices.Sorted(maps.Keys(masters))
	return inOrder(addrs, func(addr string) Finding {
		role := "replica"
		if masters[addr] {
			role = "master"
		}
		f := k.connect(ctx, addr)
		f.Text = fmt.Sprintf("announced %s: %s", role, f.Text)
		if f.Status == Failed {
			f = f.advise(announcedAdvice)
			if role == "replica" {
				f.Status = Warning
			}
		}
		return f
	})
}

// whole is an announced address with the host that was asked where it has none, which
// means just that.
func whole(addr, host string) string {
	h, port, err := net.SplitHostPort(addr)
	if _, bad := strconv.Atoi(port); err != nil || bad != nil {
		return addr
	}
	return net.JoinHostPort(cmp.Or(h, host), port)
}
