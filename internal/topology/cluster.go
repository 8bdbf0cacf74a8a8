package topology

import (
	"context"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"
)

// Cluster asks nodes of a cluster for the slots.
type Cluster struct {
	Home    Home
	Options redis.Options // of a client that asks
}

// Ask asks one node, and another when that one takes long. Those who stand by for an
// ill node come first every other time: they know first that they have taken over.
func (o *Cluster) Ask(ctx context.Context, about Inquiry) *View {
	members := o.members(about)
	answers := make(chan *View, len(members))
	for left := len(members); left > 0; {
		if len(members) > 0 {
			addr := members[0]
			members = members[1:]
			o.Home.Start(func(context.Context) { answers <- o.slots(ctx, addr) })
		}
		hedge := time.NewTimer(hedgeAfter)
		select {
		case v := <-answers:
			if left--; v != nil {
				hedge.Stop()
				return v
			}
		case <-hedge.C:
		case <-ctx.Done():
			return nil
		}
		hedge.Stop()
	}
	return nil
}

// members are the nodes to be asked, in their order, and none that is ill. Those that
// clients have dialed are asked as long as there is no view, as when the only seed has
// gone at once: later they may be of the cluster no more.
func (o *Cluster) members(about Inquiry) []string {
	all := slices.Clone(about.seeds)
	var standBy []string
	if known := about.known; known != nil {
		all = append(all, known.addrs()...)
		for _, addr := range about.ill {
			standBy = append(standBy, known.replicasOf(addr)...)
		}
	} else {
		all = append(all, about.well...)
	}
	for _, addrs := range [][]string{all, standBy} {
		rand.Shuffle(len(addrs), func(i, j int) { addrs[i], addrs[j] = addrs[j], addrs[i] })
	}
	if rand.IntN(2) == 0 {
		all = append(standBy, all...)
	}
	var members []string
	for _, addr := range all {
		if !slices.Contains(members, addr) && !slices.Contains(about.ill, addr) {
			members = append(members, addr)
		}
	}
	return members
}

// slots asks one node. It returns nil if that doesn't know.
func (o *Cluster) slots(ctx context.Context, addr string) *View {
	options := o.Options
	options.Addr = addr
	c := redis.NewClient(&options)
	defer func() { _ = c.Close() }()
	asked := time.Now()
	slots, err := c.ClusterSlots(ctx).Result() //nolint:staticcheck // as go-redis does itself, whose addresses these have to be
	if err != nil || len(slots) == 0 {
		return nil
	}
	return ViewOf(slots, addr, asked)
}
