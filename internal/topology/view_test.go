package topology

import (
	"context"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/internal/handle"
	"github.com/everpool/everpool/pooler"
)

// slotsOf is a reply to CLUSTER SLOTS: ranges in order, each with its nodes.
func slotsOf(nodes ...[]string) []redis.ClusterSlot {
	var all []redis.ClusterSlot
	each := 16384 / len(nodes)
	for i, addrs := range nodes {
		s := redis.ClusterSlot{Start: i * each, End: (i+1)*each - 1}
		for _, addr := range addrs {
			s.Nodes = append(s.Nodes, redis.ClusterNode{Addr: addr})
		}
		all = append(all, s)
	}
	return all
}

func TestAViewKnowsOwners(t *testing.T) {
	v := ViewOf(slotsOf([]string{"a:1", "b:1"}, []string{"c:1", "d:1"}), "a:1", time.Now())
	for slot, want := range map[int]string{-1: "", 0: "a:1", 8191: "a:1", 8192: "c:1", 16383: "c:1", 16384: ""} {
		if got := v.owner(slot); got != want {
			t.Errorf("slot %d: %q, want %q", slot, got, want)
		}
	}
	if n := v.owners(); n != 2 {
		t.Errorf("%d owners, want 2", n)
	}
	if got := v.replicasOf("a:1"); !slices.Equal(got, []string{"b:1"}) {
		t.Errorf("replicas of a: %v", got)
	}
	for addr, want := range map[string]string{"a:1": "master", "d:1": "replica", "e:1": ""} {
		if got, _ := v.Role(addr); got != want {
			t.Errorf("%s is a %q, want %q", addr, got, want)
		}
	}
}

// Slots are ranges, which are one where they touch: their replicas may differ.
func TestAViewKnowsWhichSlotsANodeOwns(t *testing.T) {
	at := func(first, last int, addrs ...string) redis.ClusterSlot {
		s := redis.ClusterSlot{Start: first, End: last}
		for _, addr := range addrs {
			s.Nodes = append(s.Nodes, redis.ClusterNode{Addr: addr})
		}
		return s
	}
	v := ViewOf([]redis.ClusterSlot{
		at(300, 300, "a:1"), at(0, 99, "a:1", "b:1"), at(100, 200, "a:1"), at(201, 299, "c:1", "a:1"), at(500, 400, "a:1"),
	}, "a:1", time.Now())
	for addr, want := range map[string]pooler.Slots{"a:1": {{0, 200}, {300, 300}}, "b:1": nil, "c:1": {{201, 299}}} {
		if _, got := v.Role(addr); !cmp.Equal(got, want) {
			t.Errorf("%s owns %v, want %v", addr, got, want)
		}
	}
}

// A peer may claim any slots. Nothing is counted, nor gone through, beyond those that
// there are.
func TestAViewHasNoSlotsButThoseThatThereAre(t *testing.T) {
	for _, r := range [][2]int{{0, math.MaxInt}, {math.MinInt, math.MaxInt}, {-5, 16383}, {0, 16384}} {
		claimed := func(addr string) *View {
			return ViewOf([]redis.ClusterSlot{{Start: r[0], End: r[1], Nodes: []redis.ClusterNode{{Addr: addr}}}}, addr, time.Now())
		}
		v := claimed("a:1")
		if role, n := v.Role("a:1"); role != "master" || n.Count() != Slots {
			t.Fatalf("%v: a %q of %d slots, want a master of %d", r, role, n.Count(), Slots)
		}
		after := claimed("b:1")
		after.inherit(v) // slot by slot
		if heir := after.heirs["a:1"]; heir != "b:1" {
			t.Errorf("%v: the heir is %q, want b:1", r, heir)
		}
	}
}

// Addresses are those that go-redis makes of the same reply.
func TestAddressesAreSeenFromWhereTheNodeWasDialed(t *testing.T) {
	for _, c := range []struct{ addr, origin, want string }{
		{"10.0.0.1:7000", "10.0.0.9:7001", "10.0.0.1:7000"},
		{"127.0.0.1:7000", "10.0.0.9:7001", "10.0.0.9:7000"},
		{"127.0.0.1:7000", "127.0.0.1:7001", "127.0.0.1:7000"},
		{"127.0.0.1:7000", "localhost:7001", "127.0.0.1:7000"},
		{"127.0.0.1:7000", "redis.example:7001", "redis.example:7000"},
		{"node.example:7000", "10.0.0.9:7001", "node.example:7000"},
		{"10.0.0.1:0", "10.0.0.9:7001", "10.0.0.1:7001"},
	} {
		if got := ViewOf(slotsOf([]string{c.addr}), c.origin, time.Time{}).owner(0); got != c.want {
			t.Errorf("%s by %s is %s, want %s", c.addr, c.origin, got, c.want)
		}
	}
}

func TestAnHeirHasAllThatTheDeadHad(t *testing.T) {
	viewed := func(before *View, nodes ...[]string) *View {
		v := ViewOf(slotsOf(nodes...), "", time.Time{})
		v.inherit(before)
		return v
	}
	first := viewed(nil, []string{"a:1"}, []string{"a:1"}, []string{"c:1"}, []string{"d:1"})
	one := viewed(first, []string{"b:1"}, []string{"b:1"}, []string{"c:1"}, []string{"d:1"})
	if diff := cmp.Diff(map[string]string{"a:1": "b:1"}, one.heirs); diff != "" {
		t.Errorf("one has taken over all: %s", diff)
	}
	if later := viewed(one, []string{"b:1"}, []string{"b:1"}, []string{"b:1"}, []string{"d:1"}); later.heirs["a:1"] != "b:1" || later.heirs["c:1"] != "b:1" {
		t.Errorf("heirs are kept, and others come: %v", later.heirs)
	}
	second := viewed(one, []string{"e:1"}, []string{"e:1"}, []string{"c:1"}, []string{"d:1"})
	if diff := cmp.Diff(map[string]string{"a:1": "e:1", "b:1": "e:1"}, second.heirs); diff != "" {
		t.Errorf("the heir has died as well: %s", diff)
	}
	sentinels := &View{master: "b:1", heirs: map[string]string{"a:1": "b:1"}}
	third := &View{master: "c:1"}
	third.inherit(sentinels)
	if diff := cmp.Diff(map[string]string{"a:1": "c:1", "b:1": "c:1"}, third.heirs); diff != "" {
		t.Errorf("the heir of a primary has died as well: %s", diff)
	}
	for what, v := range map[string]*View{
		"the heir's heirs share": viewed(one, []string{"c:1"}, []string{"d:1"}, []string{"c:1"}, []string{"d:1"}),
		"two share what it had":  viewed(first, []string{"b:1"}, []string{"c:1"}, []string{"c:1"}, []string{"d:1"}),
		"it has something left":  viewed(first, []string{"b:1"}, []string{"a:1"}, []string{"c:1"}, []string{"d:1"}),
		"it is an owner again":   viewed(one, []string{"a:1"}, []string{"b:1"}, []string{"c:1"}, []string{"d:1"}),
	} {
		if heir := v.heirs["a:1"]; heir != "" {
			t.Errorf("%s, and %s is its heir", what, heir)
		}
	}
}

// silentOracle says what it is told to, and counts.
type silentOracle struct {
	view  atomic.Pointer[View]
	asked atomic.Int64
}

func (o *silentOracle) Ask(context.Context, Inquiry) *View {
	o.asked.Add(1)
	if v := o.view.Load(); v != nil {
		fresh := *v
		fresh.asked = time.Now()
		return &fresh
	}
	return nil
}

// member is a node that its driver needs.
type member struct{ handle.Node }

func (m *member) Base() *handle.Node { return &m.Node }
func (m *member) Join(*Topology)     {}
func (m *member) Part(*Topology)     {}
func (m *member) Deserted() bool     { return false }

// home is a topology of a driver that is closed with the test.
func home(t *testing.T, o Oracle, w Ways) *Topology {
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	t.Cleanup(func() { stop(); wg.Wait() })
	start := func(f func(context.Context)) bool {
		wg.Go(func() { f(ctx) })
		return true
	}
	return New(Home{Start: start, Forget: func(Node) {}}, "cluster", o, w)
}

// Where a request may wait depends on what is known, and since when.
func TestWhoMayWaitForAnIllNode(t *testing.T) {
	began := time.Now()
	known := func(asked time.Time, nodes ...[]string) *View { return ViewOf(slotsOf(nodes...), "", asked) }
	before, after := began.Add(-time.Second), began.Add(time.Second)
	a, b, both := []string{"a:1"}, []string{"b:1"}, []string{"a:1", "b:1"}
	ill, silent := pooler.Illness{Since: began}, pooler.Illness{Since: began, Silent: true}
	primary, primaryHere := &View{asked: after, master: "b:1"}, &View{asked: after, master: "a:1"}
	for _, c := range []struct {
		what string
		view *View
		slot int
		ill  pooler.Illness
		want bool
	}{
		{"nothing is known", nil, 7, ill, true},
		{"what is known is older than the illness", known(before, b), 7, ill, true},
		{"it is the owner still", known(after, both), 7, ill, true},
		{"another is the owner", known(after, b), 7, ill, false},
		{"another is the owner of a silent node's slots", known(after, b), 7, silent, false},
		{"another has another part", known(after, a, b), 7, ill, true},
		{"another has this part", known(after, a, b), 16000, ill, false},
		{"nobody has the slot", known(after, []string{}), 7, ill, true},
		{"no slot, and the node has just gone", known(before, a), -1, ill, true},
		{"no slot, the node has just gone, and nothing is known", nil, -1, ill, true},
		{"no slot, and it is the owner still", known(after, both), -1, ill, true},
		{"no slot, and another has all that it had", known(after, b), -1, ill, false},
		{"no slot, and the node is away", known(before, a), -1, pooler.Illness{Since: began.Add(-time.Minute)}, false},
		{"for any member, and the node has just gone", known(before, a), handle.AnyMember, ill, false},
		{"for any member, and nothing is known", nil, handle.AnyMember, ill, false},
		{"for any member, and the node is silent", known(after, a, b), handle.AnyMember, silent, true},
		{"about commands, and it is the owner still", known(after, both), handle.Unawaited, ill, false},
		{"about commands, and the sentinels name this one", primaryHere, handle.Unawaited, ill, false},
		{"about commands, and nothing is known of the silent node", nil, handle.Unawaited, silent, false},
		{"no slot, and the node is silent", known(after, a, b), -1, silent, true},
		{"no slot, and the others have done with the silent node", known(after, b), -1, silent, false},
		{"the sentinels name another", primary, -1, ill, false},
		{"the sentinels name this one", primaryHere, -1, ill, true},
		{"the sentinels named another before", &View{asked: before, master: "b:1"}, -1, ill, true},
	} {
		top := home(t, &silentOracle{}, Ways{})
		if c.view != nil {
			top.view.Store(c.view)
		}
		if got := top.Here("a:1", c.slot, c.ill); got != c.want {
			t.Errorf("%s: %v, want %v", c.what, got, c.want)
		}
	}
}

// Whom nobody can be asked for is awaited: a seed that wasn't dialed may be well.
func TestAClusterIsForlornWhenEachMemberIsIll(t *testing.T) {
	for _, c := range []struct {
		what      string
		seeds     []string
		view      *View
		ill, well []string
		want      bool
	}{
		{"all seeds are ill", []string{"a:1", "b:1"}, nil, []string{"a:1", "b:1"}, nil, true},
		{"one wasn't dialed", []string{"a:1", "b:1"}, nil, []string{"a:1"}, nil, false},
		{"one is well", []string{"a:1", "b:1"}, nil, []string{"a:1"}, []string{"b:1"}, false},
		{"one that the seeds know wasn't dialed", []string{"a:1"}, ViewOf(slotsOf([]string{"a:1"}, []string{"b:1"}), "", time.Now()), []string{"a:1"}, nil, false},
		{"those that the seeds know are ill too", []string{"a:1"}, ViewOf(slotsOf([]string{"a:1"}, []string{"b:1"}), "", time.Now()), []string{"a:1", "b:1"}, nil, true},
		{"sentinels are asked, and no seeds", nil, nil, []string{"a:1"}, nil, false},
	} {
		top := home(t, &silentOracle{}, Ways{Seeds: c.seeds})
		if c.view != nil {
			top.view.Store(c.view)
		}
		for _, addr := range c.ill {
			p := &illPool{}
			p.ill.Store(&pooler.Illness{Since: time.Now()})
			top.nodes[&member{Node: handle.Node{Addr: addr, Pool: p}}] = true
		}
		for _, addr := range c.well {
			top.nodes[&member{Node: handle.Node{Addr: addr, Pool: &illPool{}}}] = true
		}
		if got := top.Forlorn(); got != c.want {
			t.Errorf("%s: %v", c.what, got)
		}
	}
}

// A cluster client on sentinels sends what has no key to a node of its choice, a replica
// among them, and what is for each node to each. Who is told that it belongs elsewhere
// comes to the same node again, until its tries are used up.
func TestWhatHasNoKeyWaitsAtASilentReplica(t *testing.T) {
	began := time.Now()
	top := home(t, &silentOracle{}, Ways{Moves: true})
	top.view.Store(&View{asked: began.Add(time.Second), master: "b:1", heirs: map[string]string{"deposed:1": "b:1"}})
	for _, c := range []struct {
		addr   string
		slot   int
		silent bool
		want   bool
	}{
		{"replica:1", -1, true, true},
		{"replica:1", 7, true, false},
		{"replica:1", -1, false, false},
		{"deposed:1", -1, true, false},
		{"b:1", -1, true, true},
	} {
		if got := top.Here(c.addr, c.slot, pooler.Illness{Since: began, Silent: c.silent}); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

// illPool is a pool of a node that is ill.
type illPool struct {
	pooler.Pooler
	ill      atomic.Pointer[pooler.Illness]
	released atomic.Int64
}

func (p *illPool) Illness() pooler.Illness {
	if i := p.ill.Load(); i != nil {
		return *i
	}
	return pooler.Illness{}
}

func (p *illPool) Answers() bool { return p.Illness().Answers }

func (p *illPool) Well() bool { return !p.Illness().Ill() }

func (p *illPool) Release(pooler.Places) { p.released.Add(1) }

// Whenever an election is over, be it after a minute, those who wait know of it soon, also
// where another node has been ill for long; and few questions are asked until then.
func TestAnHeirIsKnownSoon(t *testing.T) {
	for _, lasts := range []time.Duration{time.Second, 4300 * time.Millisecond, 18 * time.Second, 31 * time.Second, 50 * time.Second} {
		for _, others := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				o := &silentOracle{}
				top := home(t, o, Ways{Moves: true})
				began := time.Now()
				falls := func(addr string, since time.Time) {
					p := &illPool{}
					p.ill.Store(&pooler.Illness{Since: since})
					top.nodes[&member{Node: handle.Node{Addr: addr, Pool: p}}] = true
				}
				falls("a:1", began)
				if others {
					falls("gone:1", began.Add(-time.Hour))
				}
				o.view.Store(ViewOf(slotsOf([]string{"a:1", "b:1"}), "", began))
				time.AfterFunc(lasts, func() { o.view.Store(ViewOf(slotsOf([]string{"b:1"}), "", began)) })
				for time.Since(began) < lasts {
					top.Here("a:1", 7, pooler.Illness{Since: began})
					time.Sleep(lasts / 10)
				}
				asked := o.asked.Load()
				for top.Owner(7) != "b:1" {
					time.Sleep(time.Millisecond)
				}
				if late := time.Since(began) - lasts; late > 150*time.Millisecond {
					t.Errorf("after %v, beside an older illness %v: %v later", lasts, others, late)
				}
				if lasts < 5*time.Second && asked > 60 {
					t.Errorf("%d questions in %v", asked, lasts)
				}
			})
		}
	}
}

// A read that a primary sends to its replica isn't sent back: whatever is known of either,
// one of the two keeps it.
func TestNoTwoNodesSendAReadToEachOther(t *testing.T) {
	began := time.Now()
	states := map[string]pooler.Illness{
		"well": {Answers: true}, "ill": {Since: began}, "silent": {Since: began, Silent: true},
		"all held": {Since: began, Serves: true}, "refuses more": {Since: began, Serves: true, Answers: true},
	}
	for a, ofPrimary := range states {
		for b, ofReplica := range states {
			top := home(t, &silentOracle{}, Ways{Moves: true, Reads: true})
			top.view.Store(ViewOf(slotsOf([]string{"a:1", "b:1"}), "", began.Add(time.Second)))
			keeps := func(addr string, ill pooler.Illness) bool {
				return !ill.Ill() || top.Reading().Here(addr, 7, ill)
			}
			for addr, ill := range map[string]pooler.Illness{"a:1": ofPrimary, "b:1": ofReplica} {
				p := &illPool{}
				p.ill.Store(&ill)
				top.Join(&member{Node: handle.Node{Addr: addr, Pool: p}})
			}
			primary, replica := keeps("a:1", ofPrimary), keeps("b:1", ofReplica)
			if !primary && !replica {
				t.Errorf("a primary that is %s and a replica that is %s send reads to each other", a, b)
			}
			if !ofPrimary.Ill() && ofReplica.Ill() && replica {
				t.Errorf("a replica that is %s keeps reads, though its primary is well", b)
			}
			if ofPrimary.Ill() && primary == ofReplica.Answers {
				t.Errorf("a primary that is %s keeps reads: %t, where its replica is %s", a, primary, b)
			}
		}
	}
}

// Members are asked as soon as a node is ill, again and again but ever less, and no more
// once the node owns nothing.
func TestMembersAreAskedWhileAnIllNodeOwnsSomething(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &silentOracle{}
		o.view.Store(ViewOf(slotsOf([]string{"a:1", "b:1"}), "", time.Time{}))
		top := home(t, o, Ways{})
		p := &illPool{}
		top.Join(&member{Node: handle.Node{Addr: "a:1", Pool: p}})
		time.Sleep(time.Minute)
		if got := o.asked.Load(); got != 1 {
			t.Errorf("asked %d times while all is well, want once", got)
		}
		p.ill.Store(&pooler.Illness{Since: time.Now()})
		top.Here("a:1", 7, *p.ill.Load())
		time.Sleep(5 * time.Second)
		during := o.asked.Load() - 1
		if during < 20 || during > 60 {
			t.Errorf("asked %d times in 5 s of an illness, want 20 to 60", during)
		}
		o.view.Store(ViewOf(slotsOf([]string{"b:1"}), "", time.Time{}))
		time.Sleep(time.Second)
		told := o.asked.Load()
		if p.released.Load() == 0 || top.Here("a:1", 7, *p.ill.Load()) {
			t.Error("who waits was not told of the heir")
		}
		time.Sleep(time.Minute)
		if got := o.asked.Load(); got != told {
			t.Errorf("asked %d times more, with nothing to be known", got-told)
		}
	})
}
