package acceptance_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/internal/hashslot"
	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/internal/testkit/drivertest"
)

// many nodes come and go at a time, and few may be left: that a node has gone is asked of
// another one, which then may be the next to go, and is forgotten at the next change.
const many, few = 100, 4

// guests are nodes that come in rounds of [many], each round with addresses of its own,
// and go.
type guests interface {
	// comeAndGo has nodes at all of the addresses used, and gone again.
	comeAndGo(t *testing.T, addrs []string)
	// left is how many nodes the driver knows.
	left() int
	// allowed is how many kilobytes may be left of a node for a while.
	allowed() uint64
}

// managed are clients of a manager.
type managed struct{ m *driver.Manager }

// left counts those that the manager tells of; of others sockets, goroutines and memory tell.
func (g managed) left() (n int) {
	for _, status := range g.m.Status() {
		n += len(status.Nodes)
	}
	return n
}

func (g managed) allowed() uint64 { return 2 }

func (g managed) comeAndGo(t *testing.T, addrs []string) {
	ctx := t.Context()
	for _, addr := range addrs {
		c, err := g.m.Add(ctx, addr, "redis://"+addr)
		if err == nil {
			err = c.Set(ctx, "key", addr, 0).Err()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, addr := range addrs {
		if err := g.m.Remove(ctx, addr); err != nil {
			t.Error(err)
		}
	}
}

// members are nodes of a cluster, of which one stays, and of which clients come and go.
type members struct {
	d       *driver.Driver
	options *redis.ClusterOptions
	fake    *testkit.Fake
	addrs   atomic.Pointer[[]string] // what the cluster tells
}

func (g *members) left() int { return len(g.d.Nodes()) }

// allowed is what go-redis has of a client of a node: a cluster client, closed or not,
// keeps those that have gone for a minute. What other tests have left in the process comes
// and goes beside it; of a node that is kept there are at least the 64 of a shared connection.
func (g *members) allowed() uint64 { return 32 }

func (g *members) comeAndGo(t *testing.T, addrs []string) {
	staying := g.addrs.Load()
	all := append(slices.Clone(*staying), addrs...)
	g.addrs.Store(&all)
	c := redis.NewClusterClient(g.options)
	var seen atomic.Int64
	if err := c.ForEachMaster(t.Context(), func(ctx context.Context, node *redis.Client) error {
		seen.Add(1)
		return node.Ping(ctx).Err()
	}); err != nil || int(seen.Load()) != len(all) {
		t.Fatalf("%d nodes of %d, error %v", seen.Load(), len(all), err)
	}
	g.addrs.Store(staying)
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	g.fake.ResetLog()
}

// slots is what the cluster says to CLUSTER SLOTS.
func (g *members) slots(*testkit.FakeConn, []string) []byte {
	addrs := *g.addrs.Load()
	var b bytes.Buffer
	fmt.Fprintf(&b, "*%d\r\n", len(addrs))
	for i, addr := range addrs {
		host, port, _ := strings.Cut(addr, ":")
		first, last := hashslot.Count*i/len(addrs), hashslot.Count*(i+1)/len(addrs)-1
		fmt.Fprintf(&b, "*3\r\n:%d\r\n:%d\r\n*3\r\n$%d\r\n%s\r\n:%s\r\n$0\r\n\r\n", first, last, len(host), host, port)
	}
	return b.Bytes()
}

// What a driver has of nodes that have gone is nothing: no entry, no goroutine, no socket
// and no memory, however many there were.
func TestNodesThatComeAndGoLeaveNothing(t *testing.T) {
	testkit.Waits(t)
	testkit.LongOnly(t)
	const alone = "EVERPOOL_TEST_ALONE"
	if os.Getenv(alone) == "" {
		// In a process of its own: what other tests have left would be counted.
		test := exec.CommandContext(t.Context(), os.Args[0], "-test.v", "-test.run=^"+t.Name()+"$")
		test.Env = append(os.Environ(), alone+"=1")
		out, err := test.CombinedOutput()
		if t.Logf("%s", out); err != nil {
			t.Error(err)
		}
		return
	}
	for name, prepare := range map[string]func(t *testing.T, census *testkit.Census) guests{
		"clients of a manager": func(t *testing.T, census *testkit.Census) guests {
			server := testkit.Start(t, testkit.Redis)
			m, err := driver.NewManager(driver.Config{
				// All addresses lead to the only server.
				Dial: census.Through(func(ctx context.Context, _, _ string) (net.Conn, error) {
					return new(net.Dialer).DialContext(ctx, server.Network, server.Addr)
				}),
			})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = m.Close() })
			return managed{m}
		},
		"nodes of a cluster": func(t *testing.T, census *testkit.Census) guests {
			fake := testkit.NewFake()
			t.Cleanup(fake.Close)
			g := &members{fake: fake, d: drivertest.New(t, driver.Config{Dial: census.Through(fake.Dial)})}
			g.addrs.Store(&[]string{"10.255.0.1:6379"})
			fake.Handle("CLUSTER", g.slots)
			g.options = g.d.ClusterOptions(&redis.ClusterOptions{Addrs: *g.addrs.Load()})
			// One client stays, and with it the view of the cluster.
			stays := redis.NewClusterClient(g.options)
			t.Cleanup(func() { _ = stays.Close() })
			if err := stays.Ping(t.Context()).Err(); err != nil {
				t.Fatal(err)
			}
			return g
		},
	} {
		t.Run(name, func(t *testing.T) {
			census := new(testkit.Census)
			g := prepare(t, census)
			round := func(n int) {
				addrs := make([]string, many)
				for i := range addrs {
					addrs[i] = fmt.Sprintf("10.%d.0.%d:6379", n, i+1)
				}
				g.comeAndGo(t, addrs)
			}
			round(0) // what is made once is made here
			testkit.Await(t, "the first nodes are forgotten", func() bool { return g.left() <= few && census.Open() <= few })
			first := settledSample()
			for n := range 2 {
				round(n + 1)
			}
			testkit.Await(t, "all others are forgotten, too", func() bool { return g.left() <= few && census.Open() <= few })
			testkit.Await(t, fmt.Sprintf("there are %d goroutines again", first.goroutines), func() bool { return runtime.NumGoroutine() <= first.goroutines+few })
			last := settledSample()
			t.Logf("%d nodes, %d sockets, %d then %d goroutines, %d then %d KiB; most sockets at a time %d",
				g.left(), census.Open(), first.goroutines, last.goroutines, first.heap>>10, last.heap>>10, census.Peak())
			if census.Peak() < many {
				t.Errorf("there were %d sockets at a time, want one for each of %d nodes", census.Peak(), many)
			}
			if most := first.heap + 2*many*g.allowed()<<10; last.heap > most {
				t.Errorf("%d KiB more after %d more nodes", (last.heap-first.heap)>>10, 2*many)
			}
		})
	}
}

// settledSample is what the process holds when what has ended has been collected, with
// what it was finalized for.
func settledSample() sample {
	takeSample()
	takeSample()
	return takeSample()
}
