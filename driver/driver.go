package driver

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"maps"
	"net"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/everpool/everpool/internal/handle"
	"github.com/everpool/everpool/internal/session"
	"github.com/everpool/everpool/internal/topology"
	"github.com/everpool/everpool/pooler"
)

// Driver gives go-redis clients their connections. Make one with [New], and any
// number of clients with its Options; clients of the same node share its pool.
// All methods are safe for concurrent use. A Driver that New hasn't made, nil among
// them, has no nodes, its knobs turn nothing, and the clients that it gives options to
// have an error for every command.
type Driver struct {
	cfg    Config
	budget *pooler.Budget // of the nodes that are first asked for with these settings; nil: none
	apart  bool           // it reaches nodes in a way of its own, and shares none with others of its core
	*core
}

// core is what drivers have in common whose clients differ in their settings, as those
// of a [Manager].
type core struct {
	mu     sync.Mutex
	closed bool
	nodes  map[nodeKey]*node
	knobs  map[string]func(pooler.Pooler) // what the knobs were turned to, by their name
	done   chan struct{}                  // closed when Close has finished

	watchers watchers

	asking atomic.Bool     // quiet nodes are being asked for their health
	ailing topology.Ailing // sentinels
	tasks
	gathers gathers
}

// nodeKey is what makes two nodes one. A connection is never shared beyond it.
type nodeKey struct {
	network, addr string
	tls           *tls.Config       // of the binding that came first
	own           *session.Identity // for clients that bring a dialer of their own
	apart         *Driver           // for drivers that do
}

// New returns a driver. It fails if the configuration is wrong, with everything
// that is wrong joined in one error. It opens no connection.
func New(cfg Config) (*Driver, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	return &Driver{cfg, cfg.budget(), false, &core{nodes: make(map[nodeKey]*node), done: make(chan struct{})}}, nil
}

// with returns a driver of other settings for the same nodes. The settings are valid. In
// a configuration of its own the same address may be of another server, if that is reached
// by functions, which can't be compared.
func (d *Driver) with(cfg Config, own bool) *Driver {
	cfg.Logger = cmp.Or(cfg.Logger, d.cfg.Logger)
	budget := d.budget
	if cfg.MaxOpenConnsTotal != d.cfg.MaxOpenConnsTotal {
		budget = cfg.budget()
	}
	return &Driver{cfg, budget, own && (d.cfg.reaches() || cfg.reaches()), d.core}
}

// reaches reports whether functions of the user's say where addresses lead.
func (c *Config) reaches() bool { return c.Dial != nil || c.MapAddr != nil }

// is reports whether both drivers have the same nodes.
func (d *Driver) is(other *Driver) bool { return d == other || d.core != nil && d.core == other.core }

// NodeStatus is what a driver knows of one node.
type NodeStatus = pooler.NodeStatus

// Nodes returns the state of every node that a client has asked for, ordered by
// address. A node with TLS, or with a client's own Dialer, is forgotten a second
// after its last client has gone, or five minutes if it is away, one of a ring, a
// cluster or a sentinel group when that has it no more; others stay.
func (d *Driver) Nodes() []NodeStatus {
	if d.unmade() != nil {
		return []NodeStatus{}
	}
	d.mu.Lock()
	nodes := slices.Collect(maps.Values(d.nodes))
	d.mu.Unlock()
	return statuses(nodes)
}

// Close ends the driver: new requests fail with [pooler.ErrClosed], those in
// progress have a little time (HealthCheckTimeout), then all connections are
// closed. Close the clients first; that alone closes handles, and leaves connections
// open (MinIdleConns). Close returns when everything has stopped, and may be called
// again. It fails if New hasn't made the driver.
func (d *Driver) Close() error {
	if err := d.unmade(); err != nil {
		return err
	}
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		<-d.done
		return nil
	}
	d.closed = true
	nodes := slices.Collect(maps.Values(d.nodes))
	d.mu.Unlock()
	defer close(d.done)
	d.end()

	errs := make([]error, len(nodes))
	var wg sync.WaitGroup
	for i, n := range nodes {
		wg.Go(func() { errs[i] = n.close() })
	}
	wg.Wait()
	d.ended() // what they wait for is closed now
	return errors.Join(errs...)
}

// node finds or makes the node, counts a handle on it, and logs what its client
// should know.
func (d *Driver) node(b *binding, network, addr string) (*node, error) {
	n, notes, err := d.attach(b, network, addr)
	for _, note := range notes {
		d.cfg.Logger.LogAttrs(context.Background(), slog.LevelWarn, note.text, note.attrs...)
	}
	if n != nil {
		if !n.announced.Swap(true) {
			d.announce(n)
		}
		d.resize(n)
	}
	return n, err
}

// wrongWith returns what is wrong with the binding, for which idle handles may be made
// already (MinIdleConns).
func (d *Driver) wrongWith(b *binding) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return b.err
}

// attach finds or makes the node and counts a handle on it. The notes are for the
// log, which isn't written to under the lock.
func (d *Driver) attach(b *binding, network, addr string) (*node, []note, error) {
	if d.core == nil {
		return nil, nil, b.err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if b.late != nil {
		o := b.late()
		if o.MaxRetries < 0 {
			b.Retries = 0
		}
		b.err, b.late = errors.Join(b.err, changedSince(&b.returned, o)), nil
	}
	if b.err != nil {
		return nil, nil, b.err
	}
	if d.closed {
		return nil, nil, &pooler.Error{Err: pooler.ErrClosed, Node: addr}
	}
	key, notes := d.keyLocked(b, network, addr)
	n := d.nodes[key]
	if n == nil {
		err := b.checkDialed(network, addr)
		if err == nil {
			n, err = d.newNode(b, key)
		}
		if err != nil {
			return nil, nil, err
		}
		d.nodes[key] = n
	} else {
		notes = n.compareLocked(b, d.knobs)
	}
	if b.capped != nil {
		notes, b.capped = append(notes, *b.capped), nil
	}
	n.attach(b)
	if t := b.topology(); t != nil {
		t.Attach()
		t.Join(n)
	}
	return n, notes, nil
}

// keyLocked returns the key of the binding's node. The binding takes on the TLS
// configuration of a node that is there already, if they are equal.
func (d *Driver) keyLocked(b *binding, network, addr string) (nodeKey, []note) {
	key := nodeKey{network: network, addr: addr, tls: b.tls}
	if b.dial != nil {
		key.own = b.Identity
	}
	if d.apart {
		key.apart = d
	}
	if b.tls == nil || d.nodes[key] != nil {
		return key, nil
	}
	var notes []note
	for k, n := range d.nodes {
		if k.network != network || k.addr != addr || k.apart != key.apart || k.tls == nil {
			continue
		}
		switch same, sure := sameTLS(n.first, b); {
		case same:
			b.tls = k.tls
			return k, nil
		case !sure:
			notes = []note{{
				"everpool: two TLS configurations of one node can't be compared, since they have functions, caches or writers: their clients share no connections unless they have the same *tls.Config",
				[]slog.Attr{slog.String("node", addr)},
			}}
		}
	}
	return key, notes
}

// forget takes a node out of the driver, though it may be away only for now, and has it
// closed. It reports false if a client is known to need it, or the driver is being closed.
func (d *Driver) forget(n *node) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed || d.closed || n.neededLocked(false) {
		return false
	}
	n.closed = true
	delete(d.nodes, n.key)
	for _, t := range n.topologies {
		t.Leave(n)
	}
	d.start(func(context.Context) { _ = n.close() })
	return true
}

// home is the driver as its topologies see it.
func (d *Driver) home() topology.Home {
	return topology.Home{
		Start:  func(f func(context.Context)) bool { return d.start(f) },
		Forget: func(n topology.Node) { d.forget(n.(*node)) },
	}
}

// sentinels are those that aren't well, of all topologies.
func (d *Driver) sentinels() *topology.Ailing {
	if d.core == nil {
		return new(topology.Ailing) // nobody will ask
	}
	return &d.ailing
}

// newNode makes a node with its pool.
func (d *Driver) newNode(b *binding, key nodeKey) (*node, error) {
	n := &node{
		Node: handle.Node{Network: key.network, Addr: key.addr, Memory: session.NewMemory()},
		key:  key, first: b, firsts: d.newFirsts(), forget: d.forget,
	}
	n.Unknown, n.Left = func(name string) { n.firsts.unknownOutcome(key.addr, name) }, n.drop
	cfg := b.pool
	limits := cfg.Limits()
	tell := d.cfg.Pool.OnEvent
	cfg.OnEvent = func(ev pooler.Event) {
		n.chronicle.note(ev)
		if ev.Kind == pooler.EventState {
			n.stateChanged(d.cfg.Logger, ev)
		}
		if s, ok := b.Places.(topology.AtSentinels); ok {
			s.Heed(n, ev, limits.HealthCheckTimeout)
		}
		n.tell(ev)
		d.watchers.event(ev)
		if tell != nil {
			tell(ev)
		}
	}
	cfg.OnWait = n.firsts.waited(d.watchers.waited(cfg.OnWait))
	newPooler := d.cfg.NewPooler
	if newPooler == nil {
		newPooler = func(node pooler.Node, cfg pooler.Config) (pooler.Pooler, error) {
			return pooler.New(node, cfg)
		}
	}
	pool, err := newPooler(pooler.Node{
		Network: key.network, Addr: key.addr, Dial: d.dialer(b), Explain: b.explain(key.network, key.addr), Confirm: n.confirm, Budget: d.budget,
	}, cfg)
	if err == nil && pool == nil {
		err = complaint("NewPooler has returned neither a pool nor an error")
	}
	if err != nil {
		return nil, err
	}
	n.Pool = pool
	n.clients = clients{bound: limits.MaxOpenConns, first: limits.MaxOpenConns, fixed: d.cfg.Pool.MaxOpenConns != 0 || pool.Config().Limits().MaxOpenConns != limits.MaxOpenConns}
	n.Shares = limits.SharedConns > 0
	for _, turn := range d.knobs {
		turn(pool)
	}
	return n, nil
}

// dialer returns how physical connections are opened for the binding.
func (d *Driver) dialer(b *binding) dialFunc {
	dial := b.dial // the user's own go-redis dialer, TLS and all
	if dial == nil {
		dial = d.cfg.Dial
	}
	if dial == nil {
		dial = dialSocket
	}
	dial = d.reach(dial)
	if b.tls != nil {
		dial = withTLS(dial, b.tls)
	}
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		nc, err := dial(ctx, network, addr)
		return nc, mistake(err)
	}
}
