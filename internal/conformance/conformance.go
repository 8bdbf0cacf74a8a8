// Package conformance holds what a go-redis client promises its user, as one
// suite that runs over any way of making the client.
//
// The stock client defines the promises: the package's own test runs the suite
// over it, on each server and protocol. An alternative connection layer runs
// the same suite and must be green without an exception of its own.
//
//	conformance.Run(t, conformance.Target{
//		Server:    "redis",
//		Options:   func() *redis.Options { return &redis.Options{Addr: addr, Protocol: 3} },
//		NewClient: func(t testing.TB, o *redis.Options) redis.UniversalClient { return redis.NewClient(o) },
//	})
//
// It runs over clients of clusters, of sentinels and of rings as well: a [Target]
// says which [Topology] it is of.
//
// A guarantee is skipped only where the list in skips.go says that the server
// or the topology can't do it, and why.
package conformance

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/everpool/everpool/internal/testkit"
)

// caseTimeout bounds a guarantee, so that a lost reply is a failure with a name
// and not the whole test binary's timeout.
const caseTimeout = 45 * time.Second

// Target is a server and a way to make clients of it.
type Target struct {
	// Server is "redis", "valkey" or "miniredis". It selects the skips.
	Server string

	// Options returns fresh options with all that is needed to reach the
	// server (address, protocol, password, TLS, ...). The suite changes what
	// it gets, so nothing in it may be shared. The user needs all permissions.
	Options func() *redis.Options

	// Topology is what NewClient makes clients of. It selects the skips, too.
	Topology Topology

	// NewClient makes the client under test. The suite closes it.
	NewClient func(t testing.TB, o *redis.Options) redis.UniversalClient
}

// guarantee is one promise and the code that checks it.
type guarantee struct {
	name string

	// serial guarantees change what every client of the server sees. They run
	// before the others and one after the other.
	serial bool

	// works are guarantees that keep a processor busy; the others wait more than that.
	works bool

	// of are the topologies that the guarantee is about; nil: any.
	of []Topology

	check func(w *world)
}

// guarantees returns the suite, in the order in which it is listed.
func guarantees() []guarantee {
	return slices.Concat(
		stringGuarantees,
		collectionGuarantees,
		streamGuarantees,
		errorGuarantees,
		valueGuarantees,
		pipelineGuarantees,
		txGuarantees,
		blockingGuarantees,
		pubsubGuarantees,
		sessionGuarantees,
		timeoutGuarantees,
		authGuarantees,
		scriptGuarantees,
		scanGuarantees,
		rawGuarantees,
		protocolGuarantees,
		cacheGuarantees,
		clientGuarantees,
		concurrencyGuarantees,
		topologyGuarantees,
	)
}

// Run checks every guarantee as a subtest of t, named by the guarantee.
//
// Most of them run beside others, by testkit.Waits and testkit.Works: they start when the
// caller's test function has returned, so what they need is to be released by t.Cleanup,
// not defer.
func Run(t *testing.T, target Target) {
	all := guarantees()
	checkSkips(t, all)
	for _, g := range all {
		t.Run(g.name, func(t *testing.T) {
			w := newWorld(t, target)
			if g.of != nil && !slices.Contains(g.of, target.Topology) {
				t.Skipf("it is about %v", g.of)
			}
			if reason, ok := skipReason(target, w.protocol, g.name); ok {
				t.Skip(reason)
			}
			switch {
			case g.serial:
			case g.works:
				testkit.Works(t)
			default:
				testkit.Waits(t)
			}
			w.open()
			g.check(w)
		})
	}
}

// world is what one guarantee sees: a client of its own and names that no
// other guarantee uses.
type world struct {
	*testing.T

	ctx      context.Context
	rdb      redis.UniversalClient
	target   Target
	protocol int
	id       string
}

// worlds numbers the worlds of this process, so that names are unique among
// targets that share a server, too.
var worlds atomic.Int64

func newWorld(t *testing.T, target Target) *world {
	w := &world{T: t, target: target, protocol: 3}
	if p := target.Options().Protocol; p != 0 {
		w.protocol = p
	}
	w.id = fmt.Sprintf("conf%d", worlds.Add(1))
	return w
}

// open starts the guarantee's clock and makes its client; a parallel test that
// waits for its turn must not have spent its time before it begins.
func (w *world) open() {
	ctx, cancel := context.WithTimeout(context.Background(), caseTimeout)
	w.Cleanup(cancel)
	w.ctx = ctx
	w.rdb = w.client()
}

// key returns a key, channel or client name that belongs to this guarantee. All
// of a guarantee's keys are in one slot of a cluster and on one shard of a ring, so
// that a command may have several; another guarantee's keys are elsewhere.
func (w *world) key(name string) string { return "{" + w.id + "}:" + name }

// client makes another client of the target; change edits its options.
func (w *world) client(change ...func(*redis.Options)) redis.UniversalClient {
	w.Helper()
	o := w.target.Options()
	// The stock client would ask each server whether it knows maintenance
	// notifications; the one guarantee that is about them sets them again.
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	for _, f := range change {
		f(o)
	}
	c := w.target.NewClient(w.T, o)
	w.Cleanup(func() {
		if err := c.Close(); err != nil && !errors.Is(err, redis.ErrClosed) {
			w.Errorf("closing a client: %v", err)
		}
	})
	return c
}

// named makes a client whose connections the server lists under the given
// name, so that clients can be watched without touching another guarantee's.
func (w *world) named(name string, change ...func(*redis.Options)) redis.UniversalClient {
	w.Helper()
	return w.client(append(change, func(o *redis.Options) { o.ClientName = w.key(name) })...)
}

// serverConn is a connection as CLIENT LIST shows it.
type serverConn struct {
	node   *redis.Client // whose list it is in: only there its id is its own
	fields map[string]string
}

// kill has the node close the connection.
func (c serverConn) kill(w *world) {
	w.Helper()
	ok(w, c.node.ClientKillByFilter(w.ctx, "ID", c.fields["id"]).Err())
}

// conns returns the CLIENT LIST entries, of all nodes, for connections of a named
// client.
func (w *world) conns(name string) []serverConn {
	w.Helper()
	var conns []serverConn
	for _, node := range w.nodes(w.rdb) {
		list, err := node.ClientList(w.ctx).Result()
		if err != nil {
			w.Fatalf("CLIENT LIST: %v", err)
		}
		for line := range strings.Lines(list) {
			fields := map[string]string{}
			for field := range strings.FieldsSeq(line) {
				k, v, _ := strings.Cut(field, "=")
				fields[k] = v
			}
			if fields["name"] == w.key(name) {
				conns = append(conns, serverConn{node, fields})
			}
		}
	}
	return conns
}

// awaitBlocked returns when n connections of the named client are blocked in
// the server. miniredis has no CLIENT LIST: there it returns at once, and the
// guarantee has to hold for both orders of events.
func (w *world) awaitBlocked(name string, n int) {
	w.Helper()
	if w.target.Server == "miniredis" {
		return
	}
	w.eventually(fmt.Sprintf("%d blocked connections of %s", n, name), func() bool {
		blocked := 0
		for _, c := range w.conns(name) {
			if strings.Contains(c.fields["flags"], "b") {
				blocked++
			}
		}
		return blocked == n
	})
}
