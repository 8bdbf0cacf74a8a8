package main

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/internal/testkit"
)

// group is a master with two replicas, and three sentinels that watch them.
type group struct {
	nodes, sentinels []*testkit.Server
}

const (
	groupName = "testbench"
	followers = 2
	watchers  = 3
)

func startGroup(ctx context.Context, kind testkit.Kind) (_ servers, err error) {
	g := &group{}
	defer func() {
		if err != nil {
			g.close()
		}
	}()
	start := func(list *[]*testkit.Server, opts ...testkit.ServerOption) error {
		s, err := testkit.StartServer(ctx, kind, opts...)
		if err == nil {
			*list = append(*list, s)
		}
		return err
	}
	periodic := testkit.WithConfig("repl-ping-replica-period 1")
	if err := start(&g.nodes, safe, periodic); err != nil {
		return nil, err
	}
	for range followers {
		if err := start(&g.nodes, safe, periodic, testkit.WithReplicaOf(g.nodes[0])); err != nil {
			return nil, err
		}
	}
	// Sentinels look for replicas every 10 s, so there should be some when they begin.
	err = await(ctx, "replicas have their data", func() bool { return len(replicasInSync(ctx, g.nodes)) == followers })
	if err != nil {
		return nil, err
	}
	for range watchers {
		if err := start(&g.sentinels, testkit.WithSentinelOf(groupName, g.nodes[0], watchers/2+1)); err != nil {
			return nil, err
		}
	}
	return g, await(ctx, "sentinels know each other and the replicas", func() bool {
		for _, s := range g.sentinels {
			info, _ := s.Call(ctx, "INFO", "sentinel") // "" until it answers
			if !strings.Contains(info, fmt.Sprintf("slaves=%d,sentinels=%d", followers, watchers)) {
				return false
			}
		}
		return true
	})
}

func (g *group) about() string {
	return fmt.Sprintf("a %s-server with %d replicas, watched by %d sentinels", g.nodes[0].Kind, followers, watchers)
}
func (g *group) addrs() []string { return append(addrsOf(g.nodes), addrsOf(g.sentinels)...) }
func (g *group) options() *redis.UniversalOptions {
	return &redis.UniversalOptions{Addrs: addrsOf(g.sentinels), MasterName: groupName}
}
func (g *group) can(faultKind) bool { return true }
func (g *group) close()             { closeAll(append(slices.Clone(g.sentinels), g.nodes...)) }

// master is the one that most of the sentinels name, nil if there is none. A sentinel that
// has stood still for a moment may name another one for half a minute.
func (g *group) master(ctx context.Context) *testkit.Server {
	votes := make(map[string]int)
	for _, s := range g.sentinels {
		reply, _ := s.Call(ctx, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", groupName) // "" of one that is away
		host, port, _ := strings.Cut(reply, "\n")
		votes[net.JoinHostPort(host, port)]++
	}
	for _, n := range g.nodes {
		if votes[n.Addr] > watchers/2 {
			return n
		}
	}
	return nil
}

// settled is the master if all sentinels agree that it is well and have no failover under
// way, and all replicas have its data.
func (g *group) settled(ctx context.Context) (*testkit.Server, error) {
	master := g.master(ctx)
	if master == nil || len(replicasInSync(ctx, g.nodes)) < followers {
		return nil, errNoHeir
	}
	for _, s := range g.sentinels {
		reply, _ := s.Call(ctx, "SENTINEL", "MASTER", groupName)
		if !strings.Contains(reply, "\nport\n"+strconv.Itoa(master.Port)+"\n") || !strings.Contains(reply, "\nflags\nmaster\n") {
			return nil, errNoHeir
		}
	}
	return master, nil
}

// admin opens a client of the master itself: a sentinel may name another one for a while.
func (g *group) admin(ctx context.Context) (redis.UniversalClient, error) {
	var master *testkit.Server
	err := await(ctx, "the sentinels name a master", func() bool {
		master = g.master(ctx)
		return master != nil
	})
	if err != nil {
		return nil, err
	}
	return redis.NewClient(&redis.Options{Addr: master.Addr}), nil
}

// kill kills the master. It is started again as a replica of the one that the sentinels
// have elected: as a master it would take writes that are lost when they find it.
func (g *group) kill(ctx context.Context, cut func(string, bool)) (string, func(context.Context) error, error) {
	master, err := g.settled(ctx)
	if err != nil {
		return "", nil, err
	}
	if err := leave(ctx, master, followers, cut); err != nil {
		return "", nil, err
	}
	master.Kill()
	return master.Addr, func(ctx context.Context) error {
		heir, err := g.heir(ctx, master)
		if err != nil {
			return err
		}
		if err := master.RestartContext(ctx); err != nil {
			return err
		}
		return follow(ctx, master, heir)
	}, nil
}

// heir returns the next master when most sentinels name it.
func (g *group) heir(ctx context.Context, before *testkit.Server) (heir *testkit.Server, err error) {
	err = await(ctx, "the sentinels elect a master", func() bool {
		heir = g.master(ctx)
		return heir != nil && heir != before
	})
	return heir, err
}

// follow makes a server a replica of the master.
func follow(ctx context.Context, s, master *testkit.Server) error {
	host, port, err := net.SplitHostPort(master.Addr)
	if err != nil {
		return err
	}
	return order(ctx, s, "REPLICAOF", host, port)
}

// failover has the sentinels make a replica the master. No client gets to the old one
// meanwhile: what it takes after the replica was promoted is lost.
func (g *group) failover(ctx context.Context, cut func(addr string, on bool)) error {
	master, err := g.settled(ctx)
	if err != nil {
		return err
	}
	if err := leave(ctx, master, followers, cut); err != nil {
		return err
	}
	defer cut(master.Addr, false)
	if err := order(ctx, g.sentinels[0], "SENTINEL", "FAILOVER", groupName); err != nil {
		return err
	}
	heir, err := g.heir(ctx, master)
	if err != nil {
		return err
	}
	return follow(ctx, master, heir)
}
