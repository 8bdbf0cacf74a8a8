package driver

import (
	"context"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/everpool/everpool/internal/handle"
	"github.com/everpool/everpool/internal/session"
	"github.com/everpool/everpool/pooler"
)

const (
	// askTime is how long a member has to say what it knows.
	askTime = time.Second

	// hedgeAfter is how long one member is waited for before another is asked too.
	hedgeAfter = 50 * time.Millisecond

	// Between two looks passes a share of the illness, within these bounds. Who is
	// ill for long is asked about less: a thousand clients may be asking.
	minPause   = 60 * time.Millisecond
	maxPause   = time.Second
	pauseShare = 20

	// restartTime is for how long a node that has gone is waited for by requests without
	// a key, which may be for this node alone, as DBSIZE for each. It is as long as
	// go-redis dials it by itself.
	restartTime = 500 * time.Millisecond

	// wantedFor is for how long after the last request for an ill node it is asked
	// about.
	wantedFor = time.Minute
)

// topology is what the nodes of a client are to each other: who serves what, by the
// newest view that one of its members has given. Members are asked as soon as a node
// is ill, and until no ill one owns anything: a node must not be judged by itself.
//
// Its invariant: a request is sent elsewhere only by a view that was asked for after
// the node was last known to be well. An older one would have it sent to and fro.
//
// Lock order: Pool.mu, then topology.mu, under which a pool is asked nothing that takes
// its lock.
type topology struct {
	driver *Driver
	name   string // for NodeStatus
	oracle oracle
	moves  bool // its clients follow MOVED
	reads  bool // its clients read from replicas
	view   atomic.Pointer[view]
	wanted atomic.Int64 // when a request last asked, as UnixNano

	mu      sync.Mutex
	nodes   map[*node]bool // that have, or had, handles; true: of clients
	handles int            // of its clients, those to come included, and managers' clients
	left    time.Time      // when the last of them has gone
	linger  *time.Timer    // retires it when there are none
	bound   []func()       // have clients look at the topology themselves
	looking bool           // a goroutine asks
	stirs   int            // reasons to ask that have come while it does
	since   time.Time      // a view asked for before that isn't enough
	stirred chan struct{}  // capacity 1: something has happened to a node

	saidAway map[string]time.Time // since when a client is told that a replica is away
}

// oracle asks members of a topology for a view.
type oracle interface {
	// ask returns a view, or nil. It blocks until ctx ends at most.
	ask(ctx context.Context, about inquiry) *view
}

// inquiry is what is known as the members are asked.
type inquiry struct {
	known     *view
	ill, well []string // addresses that clients have dialed
}

func newTopology(d *Driver, name string, o oracle) *topology {
	return &topology{
		driver: d, name: name, oracle: o, nodes: make(map[*node]bool), stirred: make(chan struct{}, 1),
		saidAway: make(map[string]time.Time),
	}
}

// Here reports whether a request may wait at the address. See [pooler.Places].
func (t *topology) Here(addr string, slot int, ill pooler.Illness) bool {
	t.wanted.Store(time.Now().UnixNano())
	v := t.view.Load()
	fresh := v.isFresh(ill)
	if fresh && !v.owns(addr) && v.owner(slot) != "" {
		// What is for no slot may be for this very node: a replica that is only silent may
		// be slow. A primary that was deposed has an heir.
		return t.moves && slot < 0 && ill.Silent && v.heirs[addr] == ""
	}
	t.look()
	switch {
	case slot < 0 && (v == nil || v.master == ""):
		// Another member may do. One that is only silent may be slow, and one that has
		// just gone be restarted, unless the others have done with it.
		gone := fresh && !v.owns(addr)
		return !gone && (ill.Silent || slot != handle.AnyMember && time.Since(ill.Since) < restartTime)
	case !fresh:
		return true
	}
	owner := v.owner(slot)
	return owner == "" || owner == addr
}

// attach counts a handle of a client of the topology.
func (t *topology) attach() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.handles++
	if t.linger != nil {
		t.linger.Stop()
	}
}

// detach counts one less. A topology that is left without is retired: its clients are
// closed, or come again.
func (t *topology) detach() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.handles--; t.handles > 0 {
		return
	}
	t.left = time.Now()
	t.lingerLocked()
}

func (t *topology) lingerLocked() { t.linger = rearm(t.linger, retireAfter, t.retire) }

// retireAfter is later than a node is deserted, which is a reason to ask once more.
const retireAfter = 2 * lingerFor

// used reports whether clients have handles, or have lost them lately while a node was
// ill, and may come again.
func (t *topology) used() bool {
	t.mu.Lock()
	used, nodes := t.handles > 0, slices.Collect(maps.Keys(t.nodes))
	expected := t.expectedLocked()
	t.mu.Unlock()
	return used || expected && slices.ContainsFunc(nodes, func(n *node) bool { return n.Pool.Illness().Ill() })
}

func (t *topology) expectedLocked() bool { return t.handles > 0 || time.Since(t.left) < expectedFor }

// needs reports whether a client of the topology may ask for the address, whose node is
// ill or isn't.
func (t *topology) needs(addr string, ill bool) bool {
	t.mu.Lock()
	clients := t.handles > 0 || ill && t.expectedLocked()
	t.mu.Unlock()
	v := t.view.Load()
	return clients && v != nil && v.knows(addr)
}

// retire has nodes tell the topology nothing any more, until a client comes again. Until
// then nobody wants to know of them; they are kept while they may be away only for now.
func (t *topology) retire() {
	used := t.used()
	t.mu.Lock()
	if t.handles > 0 {
		t.mu.Unlock()
		return
	}
	t.wanted.Store(0)
	if used {
		t.lingerLocked()
		t.mu.Unlock()
		return
	}
	nodes := t.nodes
	t.nodes = make(map[*node]bool)
	t.mu.Unlock()
	for n := range nodes {
		n.part(t)
	}
	t.mu.Lock()
	back := slices.Collect(maps.Keys(t.nodes))
	t.mu.Unlock()
	for _, n := range back { // they have come again meanwhile
		n.join(t)
	}
}

// review has a view asked for that is newer than what maxPause allows, while requests
// depend on it.
func (t *topology) review() {
	v := t.view.Load()
	if v == nil || time.Since(v.asked) < maxPause {
		return
	}
	t.mu.Lock()
	t.since = time.Now()
	t.mu.Unlock()
	t.wanted.Store(time.Now().UnixNano())
	t.look()
}

// join has the topology know of a node that has a handle.
func (t *topology) join(n *node) {
	t.mu.Lock()
	_, known := t.nodes[n]
	t.nodes[n] = true
	t.mu.Unlock()
	if known {
		return
	}
	n.join(t)
	if t.view.Load() == nil {
		t.wanted.Store(time.Now().UnixNano())
		t.look()
	}
}

// leave has the topology forget a node.
func (t *topology) leave(n *node) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.nodes, n)
}

// changed is told of what has happened to a node.
func (t *topology) changed(ev pooler.Event) {
	switch ev.Kind {
	case pooler.EventRetire:
		t.mu.Lock()
		t.since = ev.Time
		t.mu.Unlock()
	case pooler.EventState, pooler.EventSilent:
	default:
		return
	}
	select {
	case t.stirred <- struct{}{}:
	default:
	}
	t.look()
}

// deserted is told that the last handle of a node is gone that the topology knows. The
// topology's own questions are no reason to ask again.
func (t *topology) deserted(n *node) {
	t.mu.Lock()
	left := t.nodes[n]
	if left {
		t.nodes[n], t.since = false, time.Now()
	}
	t.mu.Unlock()
	if !left {
		return
	}
	t.wanted.Store(time.Now().UnixNano())
	t.look()
}

// look has the members asked.
func (t *topology) look() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.looking {
		t.stirs++
		return
	}
	t.looking = t.driver.start(t.run)
}

// run asks members until there is no need to.
func (t *topology) run(ctx context.Context) {
	for {
		about, since, due := t.due(ctx)
		if !due {
			return
		}
		asked := time.Now()
		asking, cancel := context.WithTimeout(ctx, askTime)
		if v := t.oracle.ask(asking, about); v != nil {
			t.take(v)
		}
		cancel()
		if _, _, due = t.due(ctx); !due {
			return
		}
		pause := min(max(time.Since(since)/pauseShare, minPause), maxPause)
		pause -= time.Duration(rand.Float64() * 0.15 * float64(pause))
		select {
		case <-time.After(time.Until(asked.Add(pause))):
			continue
		case <-t.stirred:
		case <-ctx.Done():
		}
		select {
		case <-time.After(time.Until(asked.Add(minPause))):
		case <-ctx.Done():
		}
	}
}

// due reports whether members are to be asked, and since when there is an ill one. If
// not, nobody looks any more.
func (t *topology) due(ctx context.Context) (about inquiry, since time.Time, due bool) {
	for {
		t.mu.Lock()
		stirs, notBefore := t.stirs, t.since
		nodes := slices.Collect(maps.Keys(t.nodes))
		t.mu.Unlock()
		v := t.view.Load()
		about = inquiry{known: v}
		since = time.Now()
		due = v == nil || v.asked.Before(notBefore)
		for _, n := range nodes {
			i := n.Pool.Illness()
			if !i.Ill() {
				about.well = append(about.well, n.key.addr)
				continue
			}
			about.ill = append(about.ill, n.key.addr)
			if i.Since.Before(since) {
				since = i.Since
			}
			due = due || v.asked.Before(i.Since) || v.owns(n.key.addr)
		}
		due = due && ctx.Err() == nil && time.Since(time.Unix(0, t.wanted.Load())) < wantedFor
		t.mu.Lock()
		if due || t.stirs == stirs {
			t.looking = due
			t.mu.Unlock()
			return about, since, due
		}
		t.mu.Unlock()
	}
}

// take takes on a newer view, and has those who wait at ill nodes ask again.
func (t *topology) take(v *view) {
	t.mu.Lock()
	before := t.view.Load()
	if before != nil && !before.asked.Before(v.asked) {
		t.mu.Unlock()
		return
	}
	v.inherit(before)
	t.view.Store(v)
	nodes := slices.Collect(maps.Keys(t.nodes))
	bound := slices.Clone(t.bound)
	t.mu.Unlock()
	for _, n := range nodes {
		if n.Pool.Illness().Ill() {
			n.Pool.Release(t)
		}
		if t.lost(n) && n.isDeserted() {
			t.driver.forget(n)
		}
	}
	if before != nil && !v.agrees(before) {
		for _, reload := range bound {
			reload()
		}
	}
}

// lost reports whether the node isn't of the topology any more.
func (t *topology) lost(n *node) bool {
	v := t.view.Load()
	return v != nil && !v.knows(n.key.addr)
}

// HeirOf returns who has taken over all that the address had, if its node is ill, or "".
func (t *topology) HeirOf(addr string) string {
	t.mu.Lock()
	var dialed *node
	for n := range t.nodes {
		if n.key.addr == addr {
			dialed = n
		}
	}
	t.mu.Unlock()
	if dialed == nil {
		return ""
	}
	return t.heir(dialed)
}

// Moves reports whether the clients follow MOVED.
func (t *topology) Moves() bool { return t.moves }

// Viewed reports whether a member has said who serves what.
func (t *topology) Viewed() bool { return t.view.Load() != nil }

// Owner returns the address of the slot's primary, or "".
func (t *topology) Owner(slot int) string {
	if v := t.view.Load(); v != nil {
		return v.owner(slot)
	}
	return ""
}

// Borrow returns what another node has answered to the command in the same state, and
// whether that doesn't know it; nil, if none has. See [handle.Topology].
func (t *topology) Borrow(to *session.Memory, key string, frame []byte, who *session.Identity) (reply []byte, refused bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for n := range t.nodes {
		if n.Memory == to {
			continue
		}
		if reply, refused = n.Memory.Lend(key, frame, who); reply != nil {
			return reply, refused
		}
	}
	return nil, false
}

// heir returns who has taken over all that an ill node had, or "".
func (t *topology) heir(n *node) string {
	ill := n.Pool.Illness()
	v := t.view.Load()
	if !ill.Ill() || !v.isFresh(ill) {
		return ""
	}
	return v.heirs[n.key.addr]
}
