package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/internal/testkit"
)

// cluster is three primaries with a replica each.
type cluster struct {
	nodes []*testkit.Server // at first the primaries, then their replicas
	turn  int               // whose turn it is to be killed or succeeded
}

const (
	primaries = 3
	slots     = 16384
)

func startCluster(ctx context.Context, kind testkit.Kind) (servers, error) {
	c := &cluster{}
	for range 2 * primaries {
		s, err := testkit.StartServer(ctx, kind, safe, testkit.WithCluster(), testkit.WithConfig(
			"cluster-announce-ip 127.0.0.1", "cluster-require-full-coverage no", "repl-ping-replica-period 1"))
		if err != nil {
			c.close()
			return nil, err
		}
		c.nodes = append(c.nodes, s)
	}
	if err := errors.Join(c.join(ctx), c.settle(ctx)); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

// join gives the primaries the slots, and makes one cluster of all.
func (c *cluster) join(ctx context.Context) error {
	for i, n := range c.nodes {
		if i < primaries {
			first, last := strconv.Itoa(i*slots/primaries), strconv.Itoa((i+1)*slots/primaries-1)
			if err := order(ctx, n, "CLUSTER", "ADDSLOTSRANGE", first, last); err != nil {
				return err
			}
		}
		if err := order(ctx, n, "CLUSTER", "SET-CONFIG-EPOCH", strconv.Itoa(i+1)); err != nil {
			return err
		}
	}
	bus, err := busPort(ctx, c.nodes[0])
	if err != nil {
		return err
	}
	for _, n := range c.nodes[1:] {
		if err := order(ctx, n, "CLUSTER", "MEET", "127.0.0.1", strconv.Itoa(c.nodes[0].Port), bus); err != nil {
			return err
		}
	}
	for i, n := range c.nodes[primaries:] {
		id, err := c.nodes[i].Call(ctx, "CLUSTER", "MYID")
		if err != nil {
			return err
		}
		// Until it knows its primary it refuses.
		if err := await(ctx, n.Addr+" is a replica", func() bool { return order(ctx, n, "CLUSTER", "REPLICATE", id) == nil }); err != nil {
			return err
		}
	}
	return nil
}

// settle returns when all nodes know all slots, and all replicas have all data.
func (c *cluster) settle(ctx context.Context) error {
	for _, n := range c.nodes {
		err := await(ctx, n.Addr+" knows the cluster", func() bool {
			info, _ := n.Call(ctx, "CLUSTER", "INFO") // "" until it answers
			nodes, _ := n.Call(ctx, "CLUSTER", "NODES")
			return strings.Contains(info, "cluster_state:ok") &&
				strings.Count(nodes, "master ") == primaries && strings.Count(nodes, "slave ") == primaries
		})
		if err != nil {
			return err
		}
	}
	return await(ctx, "replicas have their data", func() bool {
		return len(replicasInSync(ctx, c.nodes)) == primaries
	})
}

// replicasInSync are the replicas that have what their primaries have.
func replicasInSync(ctx context.Context, nodes []*testkit.Server) (replicas []*testkit.Server) {
	for _, n := range nodes {
		info, _ := n.Call(ctx, "INFO", "replication") // "" of one that is away
		if strings.Contains(info, "role:slave") && strings.Contains(info, "master_link_status:up") {
			replicas = append(replicas, n)
		}
	}
	return replicas
}

// primaryOf is the address of a replica's primary.
func primaryOf(ctx context.Context, replica *testkit.Server) string {
	info, _ := replica.Call(ctx, "INFO", "replication")
	return net.JoinHostPort(field(info, "master_host"), field(info, "master_port"))
}

// field is a field of an INFO.
func field(info, name string) string {
	_, rest, _ := strings.Cut(info, name+":")
	value, _, _ := strings.Cut(rest, "\r\n")
	return value
}

// order sends a command that is answered with OK.
func order(ctx context.Context, s *testkit.Server, args ...string) error {
	reply, err := s.Call(ctx, args...)
	if err == nil && reply != "OK" {
		err = errors.New(reply)
	}
	if err != nil {
		return fmt.Errorf("%s to %s: %w", strings.Join(args, " "), s.Addr, err)
	}
	return nil
}

// busPort is the port at which a node talks to the others.
func busPort(ctx context.Context, s *testkit.Server) (string, error) {
	nodes, err := s.Call(ctx, "CLUSTER", "NODES")
	if err != nil {
		return "", err
	}
	_, rest, _ := strings.Cut(nodes, "@")
	end := strings.IndexAny(rest, " ,")
	if end < 0 {
		return "", fmt.Errorf("%s tells no bus port: %s", s.Addr, nodes)
	}
	return rest[:end], nil
}

// await asks until cond holds, ctx is done, or half a minute has passed.
func await(ctx context.Context, what string, cond func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for !cond() {
		if ctx.Err() != nil {
			return fmt.Errorf("it never came about that %s: %w", what, ctx.Err())
		}
		pause(ctx, 20*time.Millisecond)
	}
	return nil
}

func (c *cluster) about() string {
	return fmt.Sprintf("a cluster of %d %s-servers and their replicas", primaries, c.nodes[0].Kind)
}
func (c *cluster) addrs() []string { return addrsOf(c.nodes) }
func (c *cluster) options() *redis.UniversalOptions {
	return &redis.UniversalOptions{Addrs: c.addrs(), IsClusterMode: true}
}

func (c *cluster) admin(context.Context) (redis.UniversalClient, error) {
	return redis.NewUniversalClient(c.options()), nil
}
func (c *cluster) can(faultKind) bool { return true }
func (c *cluster) close()             { closeAll(c.nodes) }

func addrsOf(nodes []*testkit.Server) (addrs []string) {
	for _, n := range nodes {
		addrs = append(addrs, n.Addr)
	}
	return addrs
}

func closeAll(nodes []*testkit.Server) {
	for _, n := range nodes {
		n.Close()
	}
}

// next is a replica that could succeed its primary without losing anything, another one
// each time.
func (c *cluster) next(ctx context.Context) (replica *testkit.Server, err error) {
	replicas := replicasInSync(ctx, c.nodes)
	if len(replicas) == 0 {
		return nil, errNoHeir
	}
	c.turn++
	return replicas[c.turn%len(replicas)], nil
}

var errNoHeir = errors.New("the replicas haven't settled yet, so acknowledged writes would be lost; try again later")

// kill kills a primary whose replica has all data. Whether the replica is elected before
// it is back depends on how long that is.
func (c *cluster) kill(ctx context.Context, cut func(string, bool)) (string, func(context.Context) error, error) {
	replica, err := c.next(ctx)
	if err != nil {
		return "", nil, err
	}
	addr := primaryOf(ctx, replica)
	i := slices.IndexFunc(c.nodes, func(n *testkit.Server) bool { return n.Addr == addr })
	if i < 0 {
		return "", nil, fmt.Errorf("%s has an unknown primary, %s", replica.Addr, addr)
	}
	if err := leave(ctx, c.nodes[i], 1, cut); err != nil {
		return "", nil, err
	}
	c.nodes[i].Kill()
	return addr, c.nodes[i].RestartContext, nil
}

// leave keeps all clients from a primary, and returns when its replicas, at least so many,
// have all that the clients were told is written. A replica whose link is up may not be
// sent that yet: after a full synchronization its primary begins with it up to a second
// later. If that doesn't come about, clients get to the primary again.
func leave(ctx context.Context, primary *testkit.Server, replicas int, cut func(addr string, on bool)) error {
	cut(primary.Addr, true)
	err := await(ctx, "replicas have what was written last", func() bool {
		info, err := primary.Call(ctx, "INFO", "replication")
		offset := field(info, "master_repl_offset")
		n, _ := strconv.Atoi(field(info, "connected_slaves"))
		return err == nil && n >= replicas && strings.Count(info, ",offset="+offset+",") == n
	})
	if err != nil {
		cut(primary.Addr, false)
	}
	return err
}

// failover has a replica take over. The primary waits until the replica has everything.
func (c *cluster) failover(ctx context.Context, _ func(string, bool)) error {
	replica, err := c.next(ctx)
	if err != nil {
		return err
	}
	if err := order(ctx, replica, "CLUSTER", "FAILOVER"); err != nil {
		return err
	}
	return await(ctx, replica.Addr+" is the primary", func() bool {
		info, _ := replica.Call(ctx, "INFO", "replication") // "" while it doesn't answer
		return strings.Contains(info, "role:master")
	})
}
