package acceptance_test

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/internal/testkit/drivertest"
	"github.com/everpool/everpool/pooler"
)

// troubled dials connections of which some have small buffers, so that writes go out in
// parts, and some break off, block or go on in pieces after so many bytes.
func troubled(ctx context.Context, network, addr string) (net.Conn, error) {
	c, err := new(net.Dialer).DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	if tcp, ok := c.(*net.TCPConn); ok && rand.IntN(3) == 0 {
		_ = tcp.SetWriteBuffer(4 << 10)
	}
	if rand.IntN(4) > 0 {
		return c, nil
	}
	return testkit.ByteFault{
		Kind: testkit.FaultKind(rand.IntN(int(testkit.FaultSlice) + 1)), Dir: testkit.Direction(rand.IntN(2)),
		At: 200 + rand.Int64N(1<<(14+rand.IntN(10))), N: 1 + rand.IntN(3000), ShortWrite: rand.IntN(2) == 0,
	}.Wrap(c), nil
}

// troubledConfig has what is acknowledged have run once: nothing is sent again that may have
// run, also where that would do no harm.
func troubledConfig(w way) driver.Config {
	return driver.Config{
		Dial: troubled, Retry: driver.RetryNone, Gather: gathering, Logger: slog.New(slog.DiscardHandler),
		Pool: pooler.Config{SharedConns: w.shared, MaxOpenConns: 2 * sockets, HealthCheckTimeout: 200 * time.Millisecond},
	}
}

// work has so many writers on each of the clients until stop.
func (a *audit) work(stop <-chan struct{}, n int, clients ...redis.UniversalClient) *sync.WaitGroup {
	writers := make([]*writer, n*len(clients))
	for i := range writers {
		writers[i] = &writer{audit: a, rdb: clients[i%len(clients)], id: a.writes.Add(1)}
	}
	return repeat(a.T, stop, len(writers), func(id, _ int) { writers[id].call() })
}

// closeMidway closes a client while callers use it.
func (a *audit) closeMidway(rdb redis.UniversalClient) {
	stop := make(chan struct{})
	work := a.work(stop, 4, rdb)
	pause(a.slow * time.Duration(20+rand.IntN(100)) * time.Millisecond)
	_ = rdb.Close()
	close(stop)
	work.Wait()
}

// fullDuplex is an AutoPipeline that writes and reads its connection at the same time.
func (a *audit) fullDuplex(rdb redis.UniversalClient) redis.UniversalClient {
	p, err := rdb.AsyncAutoPipelineWithOptions(&redis.AutoPipelineOptions{FullDuplex: true})
	if err != nil {
		a.Fatal(err)
	}
	a.Cleanup(func() { _ = p.Close() })
	return p
}

// stored sees that all is whole that the servers have and rdb reads, also what was written by
// callers who weren't told.
func (a *audit) stored(rdb redis.UniversalClient, servers ...string) {
	defer rdb.Close()
	n := 0
	for _, addr := range servers {
		one := redis.NewClient(&redis.Options{Addr: addr})
		defer one.Close()
		for keys := one.Scan(a.Context(), 0, "*", 1000).Iterator(); keys.Next(a.Context()); n++ {
			if got, err := rdb.Get(a.Context(), keys.Val()).Result(); err == nil {
				a.got(notWhole(keys.Val(), got))
			} else if !errors.Is(err, redis.Nil) {
				a.Errorf("%q: %v", keys.Val(), err)
			}
		}
	}
	if n == 0 {
		a.Error("nothing is stored")
	}
	a.Logf("slowness %d: %d replies, %d calls failed, %d keys%s", a.slow, a.reads.Load(), a.failedReads.Load(), n, a.failures())
}

// settledAndStored looks at what the pool and the server have in the end.
func (a *audit) settledAndStored(s side, addr string) {
	st := s.settled(a)
	a.Logf("%d shared, %d leased, %d resent, %d moved, %d unknown, %d abandoned, %d dials, closes %v", st.Shared, st.Leased, st.Resent, st.Moved, st.Unknown, st.Abandoned, st.Dials, st.Closes)
	if n := st.Closes[pooler.CloseProtocol] + st.Closes[pooler.CloseUnasked]; n > 0 {
		a.Errorf("%d connections have brought what is no reply to a request of theirs", n)
	}
	a.stored(redis.NewClient(&redis.Options{Addr: addr}), addr)
}

// clients have options with which go-redis and handles use other memory, or give up earlier.
func (a *audit) clients(d *driver.Driver, o redis.Options) (all []redis.UniversalClient) {
	small, hasty, long := o, o, o
	small.ReadBufferSize, small.WriteBufferSize = 700, 700
	hasty.ReadTimeout, hasty.WriteTimeout = 100*time.Millisecond, 50*time.Millisecond
	long.Username, long.Password = "long", longPassword
	for _, o := range []redis.Options{o, small, hasty, long} {
		rdb := redis.NewClient(d.Options(&o))
		a.Cleanup(func() { _ = rdb.Close() })
		all = append(all, rdb)
	}
	return append(all, a.fullDuplex(all[0]), a.fullDuplex(all[1]))
}

// longPassword has the login be larger than what an idle handle has memory for.
var longPassword = strings.Repeat("secret", 900)

// Whatever the sizes of requests and replies, and whatever happens to their connections,
// clients and contexts, each reply belongs to its request, and what is stored was written
// in one piece for its key: no memory is used by two.
func TestChaosGivesNobodyTheBytesOfAnother(t *testing.T) {
	testkit.Works(t) // its subtests run beside each other: they mostly wait
	for _, w := range []way{
		{kind: testkit.Redis, protocol: 3},
		{kind: testkit.Valkey, protocol: 2},
		{kind: testkit.Valkey, protocol: 3, shared: -1},
		{kind: testkit.Redis, protocol: 3, gathers: true},
	} {
		t.Run(w.String(), func(t *testing.T) {
			t.Parallel()
			server := testkit.Start(t, w.kind)
			server.Do(t, "ACL", "SETUSER", "long", "on", ">"+longPassword, "~*", "&*", "+@all")
			proxy := testkit.NewProxy(t, server.Addr)
			a := newAudit(t, server)
			o := redis.Options{Addr: proxy.Addr(), Protocol: w.protocol, ContextTimeoutEnabled: true, ReadTimeout: a.slow * 200 * time.Millisecond}
			s := ourSide(t, troubledConfig(w), o)
			if w.gathers {
				s.gather(t)
			}
			stop := make(chan struct{})
			work := a.work(stop, 6, append(a.clients(s.d, o), s.rdb)...)
			work.Go(func() { stir(t, stop, proxy, max(a.slow, 3)) }) // large values take a while
			closing := repeat(t, stop, 1, func(int, int) { a.closeMidway(redis.NewClient(s.d.Options(&o))) })
			pause(chaosFor(t))
			testkit.Await(t, "faults have hit requests in flight, in every way", func() bool {
				st := s.stats(t)
				return a.reads.Load() > 0 && server.Do(t, "DBSIZE") != "0" && st.Abandoned > 0 && st.Moved+st.Resent > 0 && st.Unknown > 0 && len(st.Closes) > 2
			})
			close(stop)
			work.Wait()
			closing.Wait()
			a.settledAndStored(s, server.Addr)
		})
	}
}

// The same in a cluster whose primaries and replicas change places.
func TestChaosInAClusterGivesNobodyTheBytesOfAnother(t *testing.T) {
	testkit.Waits(t)
	c := testkit.StartCluster(t, testkit.Redis, testkit.ClusterConfig{})
	a := &audit{T: t, slow: 3, moves: true}
	d := drivertest.New(t, troubledConfig(way{}))
	client := func() *redis.ClusterClient {
		rdb := redis.NewClusterClient(d.ClusterOptions(&redis.ClusterOptions{Addrs: c.Addrs(), ContextTimeoutEnabled: true, ReadTimeout: a.slow * 200 * time.Millisecond}))
		t.Cleanup(func() { _ = rdb.Close() })
		return rdb
	}
	gathered := client()
	if _, err := d.Gather(gathered); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	work := a.work(stop, 6, client(), gathered, a.fullDuplex(client()))
	closing := repeat(t, stop, 1, func(int, int) { a.closeMidway(client()) })
	changing := repeat(t, stop, 1, func(int, int) { a.change(c.Nodes()[rand.IntN(len(c.Nodes()))]) })
	pause(chaosFor(t))
	testkit.Await(t, "there are replies", func() bool { return a.reads.Load() > 0 })
	close(stop)
	work.Wait()
	closing.Wait()
	changing.Wait()
	a.stored(redis.NewClusterClient(&redis.ClusterOptions{Addrs: c.Addrs()}), c.Addrs()...)
}

// change freezes a node for a while, has it close its connections, or has it take its
// primary's place, if it is a replica.
func (a *audit) change(node *testkit.ClusterNode) {
	switch rand.IntN(3) {
	case 0:
		node.Freeze()
		pause(a.slow * time.Duration(20+rand.IntN(100)) * time.Millisecond)
		node.Thaw()
	case 1:
		_, _ = node.Call(a.Context(), "CLIENT", "KILL", "TYPE", "normal")
	case 2:
		_, _ = node.Call(a.Context(), "CLUSTER", "FAILOVER")
	}
	pause(a.slow * time.Duration(20+rand.IntN(100)) * time.Millisecond)
}
