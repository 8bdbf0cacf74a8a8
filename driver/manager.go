package driver

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/internal/safeaddr"
	"github.com/everpool/everpool/internal/topology"
	"github.com/everpool/everpool/pooler"
)

// Manager keeps the clients of many nodes, clusters and sentinel groups on one driver.
// Health checks and the closing of idle connections are on from the start, as
// Config.Pool has them (HealthCheckInterval, ConnMaxIdleTime; -1: off). All methods are
// safe for concurrent use.
//
// A client is known by a name, since a URL may hold a password. What is healthy: one
// node, if it is up, or accepts no new connection and still answers on those that it has;
// what sentinels watch, if its master is; a cluster, if every slot has a master that isn't
// down. A node that owes replies is up: it may be slow. All that is known at once, from
// the state of the pools: no PING is sent for it. Nodes without traffic are sent a PING
// every HealthCheckInterval, so that their end is known after two of them at most. That
// keeps a connection to each. What is known of a client is known until it is removed,
// however long an outage lasts and whether it is called or not.
type Manager struct {
	driver *Driver
	opts   []Option

	mu      sync.Mutex
	closed  bool
	entries map[string]*entry
	done    chan struct{} // closed when Close has finished
}

// entry is a client under its name. Manager.mu guards it.
type entry struct {
	name    string
	url     string
	client  *managed
	adding  int           // calls of Add that wait for it to answer
	serves  bool          // it has answered to one
	removed bool          // it isn't in the manager any more
	users   int           // calls of With that are under way
	idle    chan struct{} // closed when there are none any more; nil: nobody waits for that
}

// managed is a client, and how many names it has.
type managed struct {
	db    *DB
	plain bool // it was added without options, so that the URL says all of it

	// Manager.mu guards these.
	names   int
	release func() // of what it stands on, once it has answered
}

const (
	// Between two questions to a client that doesn't answer passes so much at first,
	// and never more.
	firstAddPause = 10 * time.Millisecond
	maxAddPause   = 500 * time.Millisecond

	forgetTries = 10 // to forget a removed client's nodes
)

// NewManager returns a manager without clients. The options are those of every client,
// of which each goes with the URLs that it is for; a [WithConfig] among them is for each
// client in the place of cfg. NewManager fails if the configuration or an option is
// wrong, with all that is in one error, which wraps [pooler.ErrConfig]. It opens no
// connection.
func NewManager(cfg Config, opts ...Option) (*Manager, error) {
	var o opening
	o.take(opts)
	d, err := New(cfg)
	if err = errors.Join(errors.Join(o.wrong...), err); err != nil {
		return nil, err
	}
	m := &Manager{driver: d, opts: slices.Clone(opts), entries: make(map[string]*entry), done: make(chan struct{})}
	if every := cfg.Pool.Limits().HealthCheckInterval; every > 0 {
		d.start(func(ctx context.Context) { m.heed(ctx, every) })
	}
	return m, nil
}

// unmade complains of a manager that NewManager hasn't made.
func (m *Manager) unmade() error {
	if m == nil || m.driver == nil {
		return errUnmadeManager
	}
	return nil
}

var errUnmadeManager = complaint("the Manager is nil or its zero value; NewManager makes one that works")

// heed looks after nodes that nobody asks for, each time that so long has passed.
func (m *Manager) heed(ctx context.Context, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			m.driver.heedServices(m.driver.services())
		case <-ctx.Done():
			return
		}
	}
}

// Add makes the client for a URL, as [Open] does, under a name, and returns it as soon as
// it is healthy and answers. Until then it blocks; when ctx ends first it fails with
// [ErrNoHealthyNode], and with ctx's error, and the client isn't kept. A server that
// refuses the client (a wrong password) fails it at once, with the server's error, and so
// does what [Open] would fail with. If the client is removed meanwhile, or the manager
// closed, it fails with [pooler.ErrClosed].
//
// The same name and URL again: the same client, of which later options change nothing.
// The same URL under another name is the same client too if no options come with either.
// The same name with another URL is an error: [Manager.Remove] it before. So is a name that
// is a URL, since names are shown.
//
// The client is the manager's to close, which Remove and Close do.
func (m *Manager) Add(ctx context.Context, name, url string, opts ...Option) (redis.UniversalClient, error) {
	e, err := m.enter(name, url, opts)
	if err != nil {
		return nil, err
	}
	err = e.client.db.serves(ctx)
	if gone := m.settle(ctx, e, err == nil); gone && (err == nil || errors.Is(err, redis.ErrClosed)) {
		err = m.whyGone()
	}
	if e := (*NoHealthyNodeError)(nil); errors.As(err, &e) {
		e.Name = name
	} else if err != nil {
		err = fmt.Errorf("everpool: client %q: %w", name, err)
	}
	if err != nil {
		return nil, err
	}
	return e.client.db, nil
}

// whyGone is the error of a call of Add whose client was taken out meanwhile.
func (m *Manager) whyGone() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return &pooler.Error{Err: pooler.ErrClosed}
	}
	return errRemoved
}

// removedError is an ErrClosed of which the manager isn't closed.
type removedError struct{}

var errRemoved error = removedError{}

func (removedError) Error() string { return "it was removed while it was added" }

// Is knows it as what was closed.
func (removedError) Is(target error) bool { return target == pooler.ErrClosed }

// enter finds or makes the entry for a call of Add.
func (m *Manager) enter(name, url string, opts []Option) (*entry, error) {
	if err := m.unmade(); err != nil {
		return nil, err
	}
	if strings.Contains(name, "://") {
		return nil, complaint("the client's name is a URL, of %q; a name shows in errors and on pages, and may be anything else", safeaddr.Of(name))
	}
	if e, err := m.find(name, url, opts, nil); e != nil || err != nil {
		return e, err
	}
	o, s, err := prepare(m.driver.cfg, url, m.opts, opts)
	if err != nil {
		return nil, fmt.Errorf("everpool: client %q: %w", name, err)
	}
	db, err := o.client(m.driver.with(o.cfg, o.ownConfig), s)
	if err != nil {
		return nil, fmt.Errorf("everpool: client %q: %w", name, err)
	}
	db.shared = true
	made := &managed{db: db, plain: len(opts) == 0}
	e, err := m.find(name, url, opts, made)
	if err != nil || e.client != made { // another call was faster
		_ = m.end(context.Background(), made)
	}
	return e, err
}

// find returns the entry for a call of Add: one that there is, or a new one with another
// name's client, or with the one that was made. It returns neither an entry nor an error
// if a client has to be made.
func (m *Manager) find(name, url string, opts []Option, made *managed) (*entry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e := m.entries[name]
	switch {
	case m.closed:
		return nil, &pooler.Error{Err: pooler.ErrClosed}
	case name == "":
		return nil, complaint("the client's name is empty")
	case e != nil && e.url != url:
		return nil, complaint("there is a client %q of another URL already; remove it before", name)
	case e == nil:
		c := made
		for _, other := range m.entries {
			if other.url == url && other.client.plain && len(opts) == 0 {
				c = other.client
			}
		}
		if c == nil {
			return nil, nil
		}
		e = &entry{name: name, url: url, client: c}
		c.names++
		m.entries[name] = e
	}
	e.adding++
	return e, nil
}

// settle ends a call of Add. An entry that has never served isn't kept when the last call
// that waited for it has given up. It reports whether the entry is gone.
func (m *Manager) settle(ctx context.Context, e *entry, serves bool) (gone bool) {
	m.mu.Lock()
	e.adding--
	e.serves = e.serves || serves
	if c := e.client; e.serves && !e.removed && c.release == nil {
		c.release = c.db.hold()
	}
	drop := e.adding == 0 && !e.serves && !e.removed
	if drop {
		m.takeOutLocked(e)
	}
	gone = e.removed
	m.mu.Unlock()
	if drop {
		_ = m.finish(ctx, e)
	}
	return gone
}

// serves returns when the client answers and is healthy; or why it doesn't, when ctx ends
// or a server refuses it.
func (db *DB) serves(ctx context.Context) error {
	var said error // by the last try that ctx hasn't cut short
	for pause := firstAddPause; ; pause = min(2*pause, maxAddPause) {
		err := db.ask(ctx)
		if errors.Is(err, redis.Nil) { // a PING is never answered so, but a sentinel
			err = errNoMaster
		}
		if !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled) {
			said = err
		}
		if err == nil && db.viewed() && db.health().Healthy {
			return nil
		}
		if isRefusal(err) || errors.Is(err, pooler.ErrConfig) || errors.Is(err, pooler.ErrClosed) || errors.Is(err, redis.ErrClosed) {
			return err
		}
		db.heed()
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return &NoHealthyNodeError{Nodes: statuses(db.nodes()), Cause: endedBy(ctx, cmp.Or(said, err))}
		}
	}
}

// errNoMaster is what go-redis tells as redis.Nil.
var errNoMaster = errors.New("the sentinels know no such master; is master_name right?")

// ask asks all masters of the client with a PING each.
func (db *DB) ask(ctx context.Context) error {
	ping := func(ctx context.Context, c *redis.Client) error { return c.Ping(ctx).Err() }
	var err error
	switch c := db.UniversalClient.(type) {
	case *redis.ClusterClient:
		err = c.ForEachMaster(ctx, ping)
	default:
		err = c.Ping(ctx).Err()
	}
	if err != nil && strings.HasPrefix(err.Error(), "NOPERM") { // it may do other things
		return nil
	}
	return err
}

// Client returns the client of that name, or an error that says which names there are. It
// doesn't block, and doesn't say whether the client is healthy.
func (m *Manager) Client(name string) (redis.UniversalClient, error) {
	if err := m.unmade(); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	e, err := m.entryLocked(name)
	if err != nil {
		return nil, err
	}
	return e.client.db, nil
}

func (m *Manager) entryLocked(name string) (*entry, error) {
	if m.closed {
		return nil, &pooler.Error{Err: pooler.ErrClosed}
	}
	if e := m.entries[name]; e != nil {
		return e, nil
	}
	names := slices.Sorted(maps.Keys(m.entries))
	for i, n := range names {
		names[i] = fmt.Sprintf("%q", n)
	}
	return nil, fmt.Errorf("everpool: no client %q; there are: %s", name, cmp.Or(strings.Join(names, ", "), "none"))
}

// With calls f with the client of that name and returns what f does. If no node of the
// client is healthy it fails at once with [ErrNoHealthyNode] and doesn't call f; of a
// cluster one slot that is served is enough. A node that was lost a moment ago isn't up:
// where a request on the client would wait for it to come back, With fails.
//
// [Manager.Remove] and [Manager.Close] wait for f, so f must not call them for this
// client. A panic in f, or runtime.Goexit, ends it too, and goes on. With doesn't look at
// ctx but to fail when it has ended already; it is f's.
func (m *Manager) With(ctx context.Context, name string, f func(context.Context, redis.UniversalClient) error) error {
	if err := m.unmade(); err != nil {
		return err
	}
	if f == nil {
		return complaint("%s was given nil; it needs a function", "With")
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	m.mu.Lock()
	e, err := m.entryLocked(name)
	if err == nil {
		e.users++
	}
	m.mu.Unlock()
	if err != nil {
		return err
	}
	defer m.release(e)
	db := e.client.db
	if h := db.health(); !h.Healthy && !h.Partly {
		db.heed()
		return &NoHealthyNodeError{Name: name, Nodes: statuses(db.nodes())}
	}
	return f(ctx, db)
}

// release ends a call of With.
func (m *Manager) release(e *entry) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e.users--; e.users == 0 && e.idle != nil {
		close(e.idle)
		e.idle = nil
	}
}

// Remove takes the client out of the manager at once, waits for the calls of With that
// have it until ctx ends, closes it unless it has another name, and forgets the nodes that
// only it has used. It fails with ctx's error if that ended before the calls of With; the
// client is closed all the same, and calls of With on it get errors. For requests under way of
// others it waits for HealthCheckTimeout at most, and no longer than until ctx ends. A name that
// isn't there is an error.
func (m *Manager) Remove(ctx context.Context, name string) error {
	if err := m.unmade(); err != nil {
		return err
	}
	m.mu.Lock()
	e, err := m.entryLocked(name)
	if err == nil {
		m.takeOutLocked(e)
	}
	m.mu.Unlock()
	if err != nil {
		return err
	}
	return m.finish(ctx, e)
}

func (m *Manager) takeOutLocked(e *entry) {
	e.removed = true
	delete(m.entries, e.name)
	if e.users > 0 {
		e.idle = make(chan struct{})
	}
}

// finish waits for those who use an entry that was taken out, and closes its client if
// that has no other name.
func (m *Manager) finish(ctx context.Context, e *entry) error {
	m.mu.Lock()
	idle := e.idle
	m.mu.Unlock()
	var err error
	if idle != nil {
		select {
		case <-idle:
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
	}
	m.mu.Lock()
	e.client.names--
	last := e.client.names == 0
	m.mu.Unlock()
	if !last {
		return err
	}
	return errors.Join(err, m.end(ctx, e.client))
}

// end closes a client and forgets the nodes that are left without one, whose requests under way
// it waits for until ctx ends.
func (m *Manager) end(ctx context.Context, c *managed) error {
	m.mu.Lock()
	release := c.release
	m.mu.Unlock()
	if release != nil {
		release()
	}
	err := c.db.Close()
	if errors.Is(err, redis.ErrClosed) { // by the caller of Add
		err = nil
	}
	c.db.forget(ctx)
	m.driver.start(func(ctx context.Context) {
		// What go-redis closes later, and what is being asked meanwhile, which makes its
		// node anew. A node that another client uses stays.
		for range forgetTries {
			select {
			case <-time.After(answerTime + topology.Linger):
			case <-ctx.Done():
				return
			}
			if c.db.forget(ctx) {
				return
			}
		}
	})
	return err
}

// ClientStatus is what a [Manager] knows of a client.
type ClientStatus struct {
	Name    string
	Kind    string // "standalone", "cluster" or "sentinel"
	URL     string // without what may be secret
	Healthy bool   // see Manager
	// Degraded says of a cluster that isn't healthy that some of its slots are served.
	Degraded bool
	Nodes    []NodeStatus // that connections were asked of, sentinels among them
}

// Status returns the state of all clients, ordered by name, those among them that a call
// of Add waits for. It doesn't block.
func (m *Manager) Status() []ClientStatus {
	if m.unmade() != nil {
		return nil
	}
	m.mu.Lock()
	entries := slices.Collect(maps.Values(m.entries))
	m.mu.Unlock()
	return statusOf(entries)
}

// statusOf is what is known of the clients, ordered by name.
func statusOf(entries []*entry) []ClientStatus {
	slices.SortFunc(entries, func(a, b *entry) int { return cmp.Compare(a.name, b.name) })
	all := make([]ClientStatus, 0, len(entries))
	for _, e := range entries {
		all = append(all, e.client.db.status(e.name))
	}
	return all
}

// Handler tells readiness probes how the clients are. The answer is 200 if
// all of them are healthy, or the one that the request names by ?name=, else 503, in
// either case with JSON of what [Manager.Status] knows, without credentials:
//
//	{"healthy": false, "clients": [{"name": "orders", "kind": "cluster", "url": "redis://10.0.0.1:6379?cluster=true",
//	  "healthy": false, "degraded": true, "nodes": [{"addr": "10.0.0.1:6379", "state": "down", "role": "master",
//	  "slots": 5461, "since": "2006-01-02T15:04:05Z", "error": "dial tcp 10.0.0.1:6379: connect: connection refused"}]}]}
//
// It asks no node and doesn't block. Its answer isn't protected: serve it where names and
// addresses may be seen.
func (m *Manager) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { respond(w, m.report(r.URL.Query().Get("name"))) })
}

// report is about the client of that name, or about all for "".
func (m *Manager) report(name string) report {
	err := m.unmade()
	if err != nil {
		return report{Error: err.Error()}
	}
	m.mu.Lock()
	entries := slices.Collect(maps.Values(m.entries))
	if name != "" || m.closed {
		var e *entry
		e, err = m.entryLocked(name)
		entries = []*entry{e}
	}
	m.mu.Unlock()
	if err != nil {
		return report{Error: err.Error()}
	}
	r := report{Healthy: true}
	for _, c := range statusOf(entries) {
		r.Healthy = r.Healthy && c.Healthy
		r.Clients = append(r.Clients, clientReport{c.Name, c.Kind, c.URL, c.Healthy, c.Degraded, nodeReports(c.Nodes)})
	}
	return r
}

// Close takes all clients out, waits for the calls of With that have one, however long
// those take, and closes the clients and the driver. From then on all calls fail with
// [pooler.ErrClosed]. It returns when everything has stopped, and may be called again.
func (m *Manager) Close() error {
	if err := m.unmade(); err != nil {
		return err
	}
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		<-m.done
		return nil
	}
	m.closed = true
	entries := slices.Collect(maps.Values(m.entries))
	for _, e := range entries {
		m.takeOutLocked(e)
	}
	m.mu.Unlock()
	defer close(m.done)
	errs := make([]error, len(entries))
	var wg sync.WaitGroup
	for i, e := range entries {
		wg.Go(func() { errs[i] = m.finish(context.Background(), e) })
	}
	wg.Wait()
	return errors.Join(append(errs, m.driver.Close())...)
}
