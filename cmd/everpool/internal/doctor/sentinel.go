package doctor

import (
	"context"
	"errors"
	"net"

	"github.com/redis/go-redis/v9"
)

// checkSentinels asks each sentinel for the master, which is looked at then.
func checkSentinels(ctx context.Context, k *known) []Finding {
	if k.target.failover == nil {
		return nil
	}
	named := make(map[string][]string) // sentinels, by the master that they name
	type answer struct {
		master  string
		finding Finding
	}
	answers := inOrder(k.addrs, func(addr string) answer {
		master, f := k.askSentinel(ctx, addr)
		return answer{master, f}
	})
	var all []Finding
	var master string
	for i, a := range answers {
		all = append(all, a.finding)
		if a.master == "" {
			continue
		}
		named[a.master] = append(named[a.master], k.addrs[i])
		if len(named[a.master]) > len(named[master]) {
			master = a.master
		}
	}
	if master == "" {
		return all
	}
	soften(all)
	if len(named) > 1 {
		all = append(all, found(Warning, "the sentinels name %d masters", len(named)).
			advise("a failover may be under way: try again; else some have lost touch, see SENTINEL MASTER on each"))
	}
	k.addrs = []string{master}
	return all
}

func (k *known) askSentinel(ctx context.Context, addr string) (master string, f Finding) {
	if f := k.resolve(ctx, addr); f.Status == Failed {
		return "", f
	}
	if f := k.connect(ctx, addr); f.Status == Failed {
		return "", f
	}
	o := k.target.sentinel(addr)
	n := newNode(o, k.timeout)
	defer n.close()
	ctx, cancel := k.bounded(ctx)
	defer cancel()
	name := k.target.failover.MasterName
	cmd := redis.NewStringSliceCmd(ctx, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", name)
	err := n.rdb.Process(ctx, cmd)
	switch at := cmd.Val(); {
	case err == nil && len(at) == 2:
		master = net.JoinHostPort(at[0], at[1])
		return master, found(OK, "%s names the master %s", k.clean(addr), k.clean(master))
	case errors.Is(err, redis.Nil), err == nil:
		return "", found(Failed, "%s knows no master %q", k.clean(addr), k.clean(name)).
			advise("is master_name right? SENTINEL MASTERS on it has all names")
	case isUnknown(err):
		return "", found(Failed, "%s is no sentinel: %s", k.clean(addr), k.say(err)).
			advise("with master_name the URL's hosts are sentinels, mostly at port 26379; for a server itself leave master_name out")
	}
	f = k.refused(ctx, addr, o, err)
	f.Advice += " (a sentinel's login is the one before the @; that of the nodes is in the parameters username and password)"
	return "", f
}
