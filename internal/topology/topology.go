// Package topology knows what the nodes of a client are to each other: it asks the members of
// a cluster, or sentinels, as soon as a node is ill, and says of a request whether it may
// wait there.
//
// A driver gives a [Topology] its [Home], an [Oracle] that asks, and each [Node] that has
// handles. Handles see of it what [handle.Topology] has; pools see [pooler.Places].
package topology

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
	// AskTime is how long a member has to say what it knows.
	AskTime = time.Second

	// hedgeAfter is how long one member is waited for before another is asked too.
	hedgeAfter = 50 * time.Millisecond

	// Between two looks passes a twentieth of the illness, no more than callers shall wait
	// for an heir that is there while an election may be going on: that lasts as long as
	// the members' timeout for a node, half a minute by default where sentinels hold it. Who
	// is ill for longer is asked about less: a thousand clients may be asking.
	minPause      = 60 * time.Millisecond
	electionPause = 150 * time.Millisecond
	maxPause      = time.Second
	pauseShare    = 20
	longShare     = 400

	// restartTime is for how long a node that has gone is waited for by requests without
	// a key, which may be for this node alone, as DBSIZE for each. It is as long as
	// go-redis dials it by itself.
	restartTime = 500 * time.Millisecond

	// wantedFor is for how long after the last request for an ill node it is asked
	// about.
	wantedFor = time.Minute
)

// Topology is what the nodes of a client are to each other: who serves what, by the
// newest view that one of its members has given. Members are asked as soon as a node
// is ill, and until no ill one owns anything: a node must not be judged by itself.
//
// Its invariant: a request is sent elsewhere only by a view that was asked for after
// the node was last known to be well. An older one would have it sent to and fro.
//
// Lock order: Pool.mu, then Topology.mu, under which a pool is asked nothing that takes
// its lock.
type Topology struct {
	home   Home
	name   string
	oracle Oracle
	ways   Ways
	view   atomic.Pointer[View]
	wanted atomic.Int64 // when a request last asked, as UnixNano

	mu      sync.Mutex
	nodes   map[Node]bool // that have, or had, handles; true: of clients
	handles int           // of its clients, those to come included, and managers' clients
	left    time.Time     // when the last of them has gone
	linger  *time.Timer   // retires it when there are none
	bound   []func()      // have clients look at the topology themselves
	looking bool          // a goroutine asks
	stirs   int           // reasons to ask that have come while it does
	since   time.Time     // a view asked for before that isn't enough
	stirred chan struct{} // capacity 1: something has happened to a node

	saidAway map[string]time.Time // since when a client is told that a replica is away
}

// Oracle asks members of a topology for a view.
type Oracle interface {
	// Ask returns a view, or nil. It blocks until ctx ends at most.
	Ask(ctx context.Context, about Inquiry) *View
}

// Inquiry is what is known as the members are asked.
type Inquiry struct {
	known     *View
	ill, well []string // addresses that clients have dialed
	seeds     []string
}

// Node is a node as its topologies see it.
type Node interface {
	// Base is what its handles have in common.
	Base() *handle.Node
	// Join has the topology told of what happens to the node, and Part no more.
	Join(t *Topology)
	Part(t *Topology)
	// Deserted reports whether the node has been without handles for so long that none
	// is expected.
	Deserted() bool
}

// Home is the driver that a topology is of.
type Home struct {
	// Start runs f on a goroutine, with a context that ends when the driver is closed. It
	// reports false if it is closed already.
	Start func(f func(context.Context)) bool
	// Forget takes a node out of the driver, unless a client needs it.
	Forget func(Node)
}

// Ways are how clients go about with the nodes.
type Ways struct {
	Seeds   []string // where they find a cluster
	Moves   bool     // they follow MOVED
	Reads   bool     // they read from replicas
	Deposes bool     // a primary isn't told in time that another one is
	Alone   bool     // they are of replicas alone, and on the primary only where no replica is up
}

const (
	// Linger is how long what nobody uses any more is kept: go-redis may be without a
	// handle for a moment between two requests.
	Linger = time.Second

	// Expected is for how long after its last handle what is away is kept. go-redis drops
	// its handles in an outage, and a client that was closed can't be told from one whose
	// next call is to come.
	Expected = 5 * time.Minute
)

// New returns a topology of that name, without nodes, that nobody has asked yet.
func New(h Home, name string, o Oracle, w Ways) *Topology {
	return &Topology{
		home: h, name: name, oracle: o, ways: w, nodes: make(map[Node]bool), stirred: make(chan struct{}, 1),
		saidAway: make(map[string]time.Time),
	}
}

// Name says what kind of topology it is, for people.
func (t *Topology) Name() string { return t.name }

// View returns what is known, or nil.
func (t *Topology) View() *View { return t.view.Load() }

// Nodes are those that have, or had, handles.
func (t *Topology) Nodes() []Node {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Collect(maps.Keys(t.nodes))
}

// Bind has reload called when a view differs from the one before.
func (t *Topology) Bind(reload func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.bound = append(t.bound, reload)
}

// Bound is how many clients look at the topology when it changes.
func (t *Topology) Bound() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.bound)
}

// Rest has nobody asked any more, until a request asks.
func (t *Topology) Rest() { t.wanted.Store(0) }

// Here reports whether a request may wait at the address. See [pooler.Places].
func (t *Topology) Here(addr string, slot int, ill pooler.Illness) bool {
	t.wanted.Store(time.Now().UnixNano())
	v := t.view.Load()
	fresh := v.isFresh(ill)
	if fresh && !t.ways.Alone && !v.owns(addr) && v.owner(slot) != "" {
		// What is for no slot may be for this very node: a replica that is only silent may
		// be slow. A primary that was deposed has an heir.
		return t.ways.Moves && slot < 0 && ill.Silent && v.heirs[addr] == ""
	}
	t.look()
	switch {
	case slot == handle.Unawaited:
		return false
	case slot < 0 && (v == nil || v.master == ""):
		// Another member may do. One that is only silent may be slow, and one that has
		// just gone be restarted, unless the others have done with it.
		gone := fresh && !v.owns(addr)
		return !gone && (ill.Silent || slot != handle.AnyMember && time.Since(ill.Since) < restartTime)
	case !fresh:
		return true
	case t.ways.Alone:
		return !t.hasOther(v, addr)
	}
	owner := v.owner(slot)
	return owner == "" || owner == addr
}

// Forlorn reports whether each member of a cluster that could be asked is known to be ill.
func (t *Topology) Forlorn() bool {
	others := slices.Clone(t.ways.Seeds)
	if v := t.view.Load(); v != nil {
		others = append(others, v.addrs()...)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for n := range t.nodes {
		if n.Base().Pool.Well() {
			return false
		}
		others = slices.DeleteFunc(others, func(addr string) bool { return addr == n.Base().Addr })
	}
	return len(t.ways.Seeds) > 0 && len(others) == 0
}

// Attach counts a handle of a client of the topology.
func (t *Topology) Attach() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.handles++
	if t.linger != nil {
		t.linger.Stop()
	}
}

// Detach counts one less. A topology that is left without is retired: its clients are
// closed, or come again.
func (t *Topology) Detach() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.handles--; t.handles > 0 {
		return
	}
	t.left = time.Now()
	t.lingerLocked()
}

func (t *Topology) lingerLocked() { t.linger = Rearm(t.linger, retireAfter, t.retire) }

// retireAfter is later than a node is deserted, which is a reason to ask once more.
const retireAfter = 2 * Linger

// Used reports whether clients have handles, or have lost them lately while a node was
// ill, and may come again.
func (t *Topology) Used() bool {
	t.mu.Lock()
	used, nodes := t.handles > 0, slices.Collect(maps.Keys(t.nodes))
	expected := t.expectedLocked()
	t.mu.Unlock()
	return used || expected && slices.ContainsFunc(nodes, func(n Node) bool { return n.Base().Pool.Illness().Ill() })
}

func (t *Topology) expectedLocked() bool { return t.handles > 0 || time.Since(t.left) < Expected }

// Needs reports whether a client of the topology may ask for the address, whose node is
// ill or isn't.
func (t *Topology) Needs(addr string, ill bool) bool {
	t.mu.Lock()
	clients := t.handles > 0 || ill && t.expectedLocked()
	t.mu.Unlock()
	v := t.view.Load()
	return clients && v != nil && v.knows(addr)
}

// retire has nodes tell the topology nothing any more, until a client comes again. Until
// then nobody wants to know of them; they are kept while they may be away only for now.
func (t *Topology) retire() {
	used := t.Used()
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
	t.nodes = make(map[Node]bool)
	t.mu.Unlock()
	for n := range nodes {
		n.Part(t)
	}
	t.mu.Lock()
	back := slices.Collect(maps.Keys(t.nodes))
	t.mu.Unlock()
	for _, n := range back { // they have come again meanwhile
		n.Join(t)
	}
}

// Review has a view asked for that is newer than what maxPause allows, while requests
// depend on it.
func (t *Topology) Review() {
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

// Join has the topology know of a node that has a handle.
func (t *Topology) Join(n Node) {
	t.mu.Lock()
	_, known := t.nodes[n]
	t.nodes[n] = true
	t.mu.Unlock()
	if known {
		return
	}
	n.Join(t)
	if t.view.Load() == nil {
		t.wanted.Store(time.Now().UnixNano())
		t.look()
	}
}

// Leave has the topology forget a node.
func (t *Topology) Leave(n Node) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.nodes, n)
}

// Changed is told of what has happened to a node.
func (t *Topology) Changed(ev pooler.Event) {
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

// Deserted is told that the last handle of a node is gone that the topology knows. The
// topology's own questions are no reason to ask again.
func (t *Topology) Deserted(n Node) {
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
func (t *Topology) look() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.looking {
		t.stirs++
		return
	}
	t.looking = t.home.Start(t.run)
}

// run asks members until there is no need to.
func (t *Topology) run(ctx context.Context) {
	for {
		about, since, due := t.due(ctx)
		if !due {
			return
		}
		asked := time.Now()
		asking, cancel := context.WithTimeout(ctx, AskTime)
		if v := t.oracle.Ask(asking, about); v != nil {
			t.take(v)
		}
		cancel()
		if _, _, due = t.due(ctx); !due {
			return
		}
		pause := pauseAfter(time.Since(since))
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

// pauseAfter is how long nobody is asked after a look, in an illness of that length.
func pauseAfter(illness time.Duration) time.Duration {
	return min(max(min(illness/pauseShare, electionPause), illness/longShare, minPause), maxPause)
}

// due reports whether members are to be asked, and since when there is a reason: what has
// been ill for long must not hide what has just fallen ill. If not, nobody looks any more.
func (t *Topology) due(ctx context.Context) (about Inquiry, since time.Time, due bool) {
	for {
		t.mu.Lock()
		stirs, notBefore := t.stirs, t.since
		nodes := slices.Collect(maps.Keys(t.nodes))
		t.mu.Unlock()
		v := t.view.Load()
		about = Inquiry{known: v, seeds: t.ways.Seeds}
		since = time.Time{}
		due = v == nil || v.asked.Before(notBefore)
		for _, n := range nodes {
			i := n.Base().Pool.Illness()
			if !i.Ill() {
				about.well = append(about.well, n.Base().Addr)
				continue
			}
			about.ill = append(about.ill, n.Base().Addr)
			if v == nil || v.asked.Before(i.Since) || v.owns(n.Base().Addr) || t.ways.Alone {
				due = true
				if i.Since.After(since) {
					since = i.Since
				}
			}
		}
		if since.IsZero() {
			since = time.Now()
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

// confirmTime is how long a node that is back isn't used since nobody says who is the primary.
const confirmTime = 250 * time.Millisecond

// Confirm has a view asked for, and waits for it, before a node that was ill serves again. A
// primary that was away while sentinels have put another one in its place takes writes for
// seconds until they tell it, which are lost then: who waits for it had better go to the other.
func (t *Topology) Confirm(ctx context.Context) {
	if !t.ways.Deposes {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, confirmTime)
	defer cancel()
	if v := t.oracle.Ask(ctx, Inquiry{known: t.view.Load()}); v != nil {
		t.take(v)
	}
}

// take takes on a newer view, and has those who wait at ill nodes ask again.
func (t *Topology) take(v *View) {
	t.mu.Lock()
	before := t.view.Load()
	if before != nil && !before.asked.Before(v.asked) {
		t.mu.Unlock()
		return
	}
	v.inherit(before)
	v.spread = v.owners()
	t.view.Store(v)
	nodes := slices.Collect(maps.Keys(t.nodes))
	bound := slices.Clone(t.bound)
	t.mu.Unlock()
	for _, n := range nodes {
		if n.Base().Pool.Illness().Ill() {
			n.Base().Pool.Release(t)
		}
		if t.Lost(n) && n.Deserted() {
			t.home.Forget(n)
		}
	}
	if before != nil && !v.agrees(before) {
		for _, reload := range bound {
			reload()
		}
	}
}

// Lost reports whether the node isn't of the topology any more.
func (t *Topology) Lost(n Node) bool {
	v := t.view.Load()
	return v != nil && !v.knows(n.Base().Addr)
}

// HeirOf returns who has taken over all that the address had, if its node is ill, or "".
func (t *Topology) HeirOf(addr string) string {
	t.mu.Lock()
	var dialed Node
	for n := range t.nodes {
		if n.Base().Addr == addr {
			dialed = n
		}
	}
	t.mu.Unlock()
	if dialed == nil {
		return ""
	}
	return t.Heir(dialed)
}

// Moves reports whether the clients follow MOVED.
func (t *Topology) Moves() bool { return t.ways.Moves }

// Viewed reports whether a member has said who serves what.
func (t *Topology) Viewed() bool { return t.view.Load() != nil }

// Spread is over how many primaries requests are spread, as far as that is known: 1 at least.
func (t *Topology) Spread() int {
	if v := t.view.Load(); v != nil {
		return max(v.spread, 1)
	}
	return 1
}

// Owner returns the address of the slot's primary, or "".
func (t *Topology) Owner(slot int) string {
	if v := t.view.Load(); v != nil {
		return v.owner(slot)
	}
	return ""
}

// IsReplica reports whether the address is known to be a replica's. See [handle.Topology].
func (t *Topology) IsReplica(addr string) bool {
	v := t.view.Load()
	return v != nil && v.knows(addr) && !v.owns(addr)
}

// Borrow returns what another node has answered to the command in the same state, and
// whether that doesn't know it; nil, if none has. See [handle.Topology].
func (t *Topology) Borrow(to *session.Memory, key string, frame []byte, who *session.Identity) (reply []byte, refused bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for n := range t.nodes {
		if n.Base().Memory == to {
			continue
		}
		if reply, refused = n.Base().Memory.Lend(key, frame, who); reply != nil {
			return reply, refused
		}
	}
	return nil, false
}

// Heir returns who has taken over all that an ill node had, or "": also of one that is well, but
// was deposed a moment ago, as Confirm had it, where whoever has waited for it is on the way.
func (t *Topology) Heir(n Node) string {
	ill := n.Base().Pool.Illness()
	switch v := t.view.Load(); {
	case v == nil:
	case ill.Ill() && v.isFresh(ill), t.ways.Deposes && !t.ways.Alone && time.Since(v.asked) < confirmTime:
		return v.heirs[n.Base().Addr]
	}
	return ""
}

// UntilHeir are the places of what is for one node, or for who takes over all that it had: the
// dial of a subscription.
func (t *Topology) UntilHeir() pooler.Places { return untilHeir{t} }

type untilHeir struct{ *Topology }

// Here reports whether nobody has taken over from the ill node.
func (u untilHeir) Here(addr string, _ int, ill pooler.Illness) bool {
	u.wanted.Store(time.Now().UnixNano())
	u.look()
	v := u.view.Load()
	return !v.isFresh(ill) || v.heirs[addr] == ""
}

// Rearm has f called after that time, and not before, by the timer, which is made if there
// is none yet.
func Rearm(t *time.Timer, after time.Duration, f func()) *time.Timer {
	if t == nil {
		return time.AfterFunc(after, f)
	}
	t.Reset(after)
	return t
}
