package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// servers is a cluster of the program's own: three primaries, then their replicas.
type servers struct {
	nodes []*server
	dir   string
}

type server struct {
	addr string
	bus  string // the port at which the servers talk to each other
	id   string
	cmd  *exec.Cmd
	rdb  *redis.Client // asks this server, whatever the cluster says
}

// options are those that both clients are made with.
func (c *servers) options() *redis.ClusterOptions {
	o := &redis.ClusterOptions{}
	for _, n := range c.nodes {
		o.Addrs = append(o.Addrs, n.addr)
	}
	return o
}

// startCluster starts six servers and makes them a cluster.
func startCluster(ctx context.Context, timeout time.Duration) (_ *servers, err error) {
	program, err := exec.LookPath("redis-server")
	if err != nil {
		program, err = exec.LookPath("valkey-server")
	}
	if err != nil {
		return nil, errors.New("neither redis-server nor valkey-server is installed; this example needs one")
	}
	c := &servers{}
	defer func() {
		if err != nil {
			c.stop()
		}
	}()
	if c.dir, err = os.MkdirTemp("", "everpool-cluster-"); err != nil {
		return nil, err
	}
	for i := range 6 {
		if err = c.start(ctx, program, i, timeout); err != nil {
			return nil, err
		}
	}
	if err = c.meet(ctx); err != nil {
		return nil, err
	}
	if err = c.settle(ctx); err != nil {
		return nil, err
	}
	return c, nil
}

// start starts a server on free ports.
func (c *servers) start(ctx context.Context, program string, i int, timeout time.Duration) error {
	port, err := freePort()
	if err != nil {
		return err
	}
	bus, err := freePort()
	if err != nil {
		return err
	}
	dir := fmt.Sprintf("%s/%d", c.dir, i)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	n := &server{addr: "127.0.0.1:" + port, bus: bus}
	n.cmd = exec.Command(program, "--port", port, "--cluster-port", bus, "--bind", "127.0.0.1", "--dir", dir, "--save", "",
		"--cluster-enabled", "yes", "--cluster-node-timeout", strconv.FormatInt(timeout.Milliseconds(), 10),
		"--cluster-require-full-coverage", "no", "--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1")
	if err := n.cmd.Start(); err != nil {
		return err
	}
	n.rdb = redis.NewClient(&redis.Options{Addr: n.addr, MaxRetries: -1})
	c.nodes = append(c.nodes, n)
	return await(ctx, n.addr+" answers", func() bool {
		n.id, err = n.rdb.ClusterMyID(ctx).Result()
		return err == nil
	})
}

// meet gives the first three the slots, and each of the others a primary.
func (c *servers) meet(ctx context.Context) error {
	for i, n := range c.nodes {
		if i < 3 {
			if err := n.rdb.ClusterAddSlotsRange(ctx, i*16384/3, (i+1)*16384/3-1).Err(); err != nil {
				return err
			}
		}
		host, port, _ := net.SplitHostPort(c.nodes[0].addr)
		if err := n.rdb.Do(ctx, "CLUSTER", "MEET", host, port, c.nodes[0].bus).Err(); err != nil {
			return err
		}
	}
	for i, n := range c.nodes[3:] {
		err := await(ctx, n.addr+" knows its primary", func() bool { return n.rdb.ClusterReplicate(ctx, c.nodes[i].id).Err() == nil })
		if err != nil {
			return err
		}
	}
	return nil
}

// settle waits until all agree that the cluster works, and know all replicas.
func (c *servers) settle(ctx context.Context) error {
	for _, n := range c.nodes {
		err := await(ctx, n.addr+" knows the cluster", func() bool {
			info := n.rdb.ClusterInfo(ctx).Val()
			slots := n.rdb.ClusterSlots(ctx).Val() //nolint:staticcheck // what cluster clients ask
			replicas := 0
			for _, s := range slots {
				replicas += len(s.Nodes) - 1
			}
			return strings.Contains(info, "cluster_state:ok") && len(slots) == 3 && replicas == 3
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// awaitHeir waits until a server names another owner of the first slots.
func (c *servers) awaitHeir(ctx context.Context, dead string) (heir string, err error) {
	err = await(ctx, "an heir is elected", func() bool {
		for _, n := range c.nodes[1:] {
			for _, s := range n.rdb.ClusterSlots(ctx).Val() { //nolint:staticcheck // what cluster clients ask
				if s.Start == 0 && s.Nodes[0].Addr != dead {
					heir = s.Nodes[0].Addr
					return true
				}
			}
		}
		return false
	})
	return heir, err
}

// kill ends the server without a word to anybody.
func (n *server) kill() {
	_ = n.cmd.Process.Kill()
	_ = n.cmd.Wait()
}

// stop ends all servers, and removes what they have left.
func (c *servers) stop() {
	for _, n := range c.nodes {
		_ = n.rdb.Close()
		n.kill()
	}
	if c.dir != "" {
		_ = os.RemoveAll(c.dir)
	}
}

// await asks until cond holds.
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

// freePort returns a port that nothing listens on just now.
func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	return port, err
}
