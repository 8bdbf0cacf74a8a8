package conformance

import (
	"context"
	"errors"
	"fmt"
	"net"
	"reflect"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/internal/testkit"
)

// Topology is what a client under test is a client of.
type Topology string

// The topologies, and the client of each.
const (
	Node            Topology = ""                 // redis.NewClient
	Cluster         Topology = "cluster"          // redis.NewClusterClient
	Failover        Topology = "failover"         // redis.NewFailoverClient
	FailoverCluster Topology = "failover cluster" // redis.NewFailoverClusterClient
	Ring            Topology = "ring"             // redis.NewRing
)

// Way is one of the ways to run the suite over a topology.
type Way struct {
	Topology Topology
	Kind     testkit.Kind
	Protocol int
}

// String names a subtest.
func (way Way) String() string {
	return fmt.Sprintf("%s %s RESP%d", way.Topology, way.Kind, way.Protocol)
}

// Ways are those that suffice: each topology, and each server and protocol twice. All
// combinations of the latter are run over single nodes, and `make soak` runs [AllWays].
var Ways = []Way{
	{Cluster, testkit.Redis, 3},
	{FailoverCluster, testkit.Valkey, 2},
	{Failover, testkit.Redis, 2},
	{Ring, testkit.Valkey, 3},
}

// AllWays are those of Ways and all others, for `make soak`.
func AllWays() (ways []Way) {
	for _, topology := range []Topology{Cluster, FailoverCluster, Failover, Ring} {
		for _, kind := range testkit.Kinds {
			for _, protocol := range []int{2, 3} {
				ways = append(ways, Way{topology, kind, protocol})
			}
		}
	}
	return ways
}

// Target starts the servers of the topology for one test and returns them as a target;
// layer makes the connection layer of a client with these options.
func (way Way) Target(tb testing.TB, layer func(tb testing.TB, o *redis.Options) Layer) Target {
	tb.Helper()
	seeds := way.Topology.Start(tb, way.Kind)
	return Target{
		Server:   string(way.Kind),
		Topology: way.Topology,
		Options:  func() *redis.Options { return &redis.Options{Protocol: way.Protocol} },
		NewClient: func(tb testing.TB, o *redis.Options) redis.UniversalClient {
			tb.Helper()
			return way.Topology.Client(tb, layer(tb, o), seeds, o)
		},
	}
}

// Layer is the connection layer of a topology's clients: it returns options with
// itself in them.
type Layer interface {
	ClusterOptions(o *redis.ClusterOptions) *redis.ClusterOptions
	FailoverOptions(o *redis.FailoverOptions) *redis.FailoverOptions
	RingOptions(o *redis.RingOptions) *redis.RingOptions
}

// Stock is the layer of go-redis itself: it leaves the options as they are.
type Stock struct{}

// ClusterOptions implements [Layer].
func (Stock) ClusterOptions(o *redis.ClusterOptions) *redis.ClusterOptions { return o }

// FailoverOptions implements [Layer].
func (Stock) FailoverOptions(o *redis.FailoverOptions) *redis.FailoverOptions { return o }

// RingOptions implements [Layer].
func (Stock) RingOptions(o *redis.RingOptions) *redis.RingOptions { return o }

// Seeds are the addresses at which the clients of a topology find it.
type Seeds struct {
	Addrs  []string          // of a cluster's nodes or of sentinels
	Master string            // the name that the sentinels know it by
	Shards map[string]string // of a ring
}

// patience is how long the servers of a topology have to be silent until others take
// them for dead. The suite kills none, and a busy machine is to change none.
const patience = time.Minute

// Start starts the servers of a topology for one test, as [testkit.Start] does.
func (topology Topology) Start(tb testing.TB, kind testkit.Kind) Seeds {
	tb.Helper()
	switch topology {
	case Cluster:
		return Seeds{Addrs: testkit.StartCluster(tb, kind, testkit.ClusterConfig{NodeTimeout: patience}).Addrs()}
	case Failover, FailoverCluster:
		s := testkit.StartSentinels(tb, kind, testkit.SentinelConfig{DownAfter: patience})
		return Seeds{Addrs: s.Addrs(), Master: s.Name}
	case Ring:
		return Seeds{Shards: testkit.StartRing(tb, kind, 3).Addrs()}
	case Node:
	}
	tb.Fatalf("topology %q needs no seeds", topology)
	return Seeds{}
}

// Client makes a client of the topology, with those options of a node's client that
// the topology's client has too. An address in the options is the only seed. The test
// fails if the options say what the topology's options can't: then the guarantee has
// to be in skips.go.
func (topology Topology) Client(tb testing.TB, layer Layer, seeds Seeds, o *redis.Options) redis.UniversalClient {
	tb.Helper()
	if o.Addr != "" {
		seeds.Addrs, seeds.Shards = []string{o.Addr}, map[string]string{"only": o.Addr}
	}
	switch topology {
	case Cluster:
		to := &redis.ClusterOptions{Addrs: seeds.Addrs}
		transfer(tb, to, o)
		c := redis.NewClusterClient(layer.ClusterOptions(to))
		if d, ours := layer.(interface{ Bind(*redis.ClusterClient) }); ours {
			d.Bind(c)
		}
		return c
	case Failover, FailoverCluster:
		to := &redis.FailoverOptions{MasterName: seeds.Master, SentinelAddrs: seeds.Addrs}
		transfer(tb, to, o)
		if topology == FailoverCluster {
			if _, stock := layer.(Stock); stock && to.Dialer == nil {
				to.Dialer = dialUntilTheEnd(tb) // everpool's ends with its driver
			}
			return redis.NewFailoverClusterClient(layer.FailoverOptions(to))
		}
		return redis.NewFailoverClient(layer.FailoverOptions(to))
	case Ring:
		to := &redis.RingOptions{Addrs: seeds.Shards}
		transfer(tb, to, o)
		to.NewClient = func(shard *redis.Options) *redis.Client {
			shard.MaintNotificationsConfig = o.MaintNotificationsConfig // what a ring's options can't say
			return redis.NewClient(shard)
		}
		return redis.NewRing(layer.RingOptions(to))
	case Node:
	}
	tb.Fatalf("no seeds make a client of topology %q", topology)
	return nil
}

// dialUntilTheEnd returns a dialer that fails after the test. A cluster client on sentinels
// leaves its subscription to them behind, which dials for ever, 10 times a second, unless it is
// told that its pool is closed; hundreds of them leave little of the machine to other tests.
func dialUntilTheEnd(tb testing.TB) func(ctx context.Context, network, addr string) (net.Conn, error) {
	var over atomic.Bool
	tb.Cleanup(func() { over.Store(true) })
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		if over.Load() {
			return nil, redis.ErrClosed
		}
		return new(net.Dialer).DialContext(ctx, network, addr)
	}
}

// transfer sets in a topology's options what is set in those of a node's client.
func transfer(tb testing.TB, to any, from *redis.Options) {
	tb.Helper()
	src, dst := reflect.ValueOf(from).Elem(), reflect.ValueOf(to).Elem()
	for i := range src.NumField() {
		field := src.Type().Field(i)
		if !field.IsExported() || src.Field(i).IsZero() {
			continue
		}
		switch into := dst.FieldByName(field.Name); {
		case into.IsValid():
			into.Set(src.Field(i))
		case field.Name == "Addr", field.Name == "Network": // among the seeds
		case field.Name == "MaintNotificationsConfig": // of a shard's client, or always off
		default:
			tb.Fatalf("%s has no %s: the guarantee can't be of this topology", dst.Type(), field.Name)
		}
	}
}

// inCluster says whether the servers pass messages on to each other, and refuse
// what isn't in their slots.
func (w *world) inCluster() bool { return w.target.Topology == Cluster }

// node returns the client of the node that has this guarantee's keys, for what only a
// node's client can do. In a goroutine it ends that goroutine if there is none.
func (w *world) node(c redis.UniversalClient) *redis.Client {
	w.Helper()
	var node *redis.Client
	var err error
	switch c := c.(type) {
	case *redis.Client:
		node = c
	case *redis.ClusterClient:
		node, err = c.MasterForKey(w.ctx, w.key(""))
	case *redis.Ring:
		node, err = c.GetShardClientForKey(w.key(""))
	default:
		err = fmt.Errorf("no nodes of a %T are known", c)
	}
	if err != nil {
		w.Fatalf("the node of this guarantee's keys: %v", err)
	}
	return node
}

// nodes returns the clients of all nodes that the client may use.
func (w *world) nodes(c redis.UniversalClient) []*redis.Client {
	w.Helper()
	nodes, err := nodesOf(w.ctx, c)
	if err != nil {
		w.Fatalf("the nodes: %v", err)
	}
	return nodes
}

func nodesOf(ctx context.Context, c redis.UniversalClient) (nodes []*redis.Client, err error) {
	var mu sync.Mutex
	add := func(_ context.Context, node *redis.Client) error {
		mu.Lock()
		defer mu.Unlock()
		nodes = append(nodes, node)
		return nil
	}
	switch c := c.(type) {
	case *redis.Client:
		return []*redis.Client{c}, nil
	case *redis.ClusterClient:
		err = c.ForEachShard(ctx, add)
	case *redis.Ring:
		err = c.ForEachShard(ctx, add)
	default:
		err = fmt.Errorf("no nodes of a %T are known", c)
	}
	return nodes, err
}

// everywhere sends a command to all nodes, each of which has users, connections and
// pauses of its own. It does so in cleanups, too.
func (w *world) everywhere(args ...any) error {
	ctx := context.WithoutCancel(w.ctx)
	nodes, err := nodesOf(ctx, w.rdb)
	errs := []error{err}
	for _, node := range nodes {
		errs = append(errs, node.Do(ctx, args...).Err())
	}
	return errors.Join(errs...)
}

// addHook adds a hook to the client and, where it has nodes' clients, to those: only
// they dial.
func addHook(c redis.UniversalClient, hook redis.Hook) {
	c.AddHook(hook)
	switch c := c.(type) {
	case *redis.ClusterClient:
		c.OnNewNode(func(node *redis.Client) { node.AddHook(hook) }) // it has none yet
	case *redis.Ring:
		for _, shard := range c.GetShardClients() {
			shard.AddHook(hook)
		}
	}
}

// publish sends a message that one subscriber awaits. The nodes of a cluster pass it
// on to each other, and the reply counts only the subscribers of the one asked.
func (w *world) publish(c redis.UniversalClient, channel, message string) error {
	n, err := c.Publish(w.ctx, channel, message).Result()
	if err != nil || n != 1 && !w.inCluster() {
		return wrongf("PUBLISH reached %d, error %v", n, err)
	}
	return nil
}
