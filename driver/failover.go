package driver

import (
	"context"
	"math"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/internal/callers"
	"github.com/everpool/everpool/internal/session"
	"github.com/everpool/everpool/pooler"
)

// FailoverOptions returns a copy of o with which [redis.NewFailoverClient] and
// [redis.NewFailoverClusterClient] make a client on this driver. o isn't changed. Its
// fields do what those of the same name do in [Driver.Options], for each node.
//
// Callers wait for a primary that is away in the dial, until it is back or the sentinels
// name another one, which they are asked about at once; the client's connections are made
// to that one then. Nothing waits for a sentinel that has gone, or, for more than a quarter
// of a second, for one that is silent or can't be reached while another may answer: go-redis
// asks all of them, and one that doesn't answer would hold up every dial. Where all are
// silent callers wait, for ReadTimeout at most; go-redis asks again then, DialerRetries
// times (5, as on the stock pool). A client made with NewFailoverClusterClient is sent to
// the new primary by MOVED, and reads from replicas as one of ClusterOptions does.
//
// If the options can't work every command fails with an error that names each mistake,
// as with Options. A sentinel among several that can't be dialed is only logged.
func (d *Driver) FailoverOptions(o *redis.FailoverOptions) *redis.FailoverOptions {
	d = d.orUnmade()
	if o == nil {
		o = &redis.FailoverOptions{}
	}
	c := *o
	c.SentinelAddrs = slices.Clone(c.SentinelAddrs)
	flat := flatten(&c)
	b := d.complete(flat, c.SentinelAddrs...)
	if b == nil {
		return &c
	}
	transfer(&c, flat)
	c.DialerRetries = o.DialerRetries // go-redis asks the sentinels in the dial, which may fail
	if b.Courses != nil && c.PushNotificationProcessor == nil {
		// go-redis would have one of its own for each connection's OnConnect, see [handle.Courses.OnConnect].
		c.PushNotificationProcessor = redis.NewPushNotificationProcessor()
	}
	b.late = func() *redis.Options { return flatten(&c) }
	newGroup(b, &c)
	return &c
}

// group is a group of sentinels and the nodes that they watch. go-redis dials both with
// one Dialer, which is the data nodes' binding.
type group struct {
	nodes     *binding // of a client that follows no MOVED
	clustered *binding // of one that does
	sentinels *binding
	oracle    *sentinelOracle
}

func newGroup(b *binding, o *redis.FailoverOptions) {
	s, many := *b, *b
	asks := &sentinelOracle{driver: b.driver, master: o.MasterName, reads: o.ReplicaOnly || o.RouteByLatency || o.RouteRandomly, addrs: slices.Clone(o.SentinelAddrs)}
	// Sentinels have users of their own.
	s.Identity, s.Places, s.WaitsInDial, s.late, s.Courses = &session.Identity{}, sentinels{asks}, false, nil, nil
	options := b.asking()
	options.Dialer, options.DB = s.connect, 0
	options.Username, options.Password = o.SentinelUsername, o.SentinelPassword
	options.CredentialsProvider, options.CredentialsProviderContext, options.StreamingCredentialsProvider = nil, nil, nil
	asks.options = options

	b.belong(newTopology(b.driver, "sentinel", asks))
	t := newTopology(b.driver, "sentinel", clusterNames{asks})
	t.moves, t.reads = true, asks.reads
	many.belong(t)
	many.WaitsInDial, many.late = false, nil
	b.group = &group{nodes: b, clustered: &many, sentinels: &s, oracle: asks}
}

// sentinelWait is how long a request waits for a connection to a sentinel while another one
// may answer: a dial may hang for long before it fails. The dial goes on, and a client that
// dials tries again. One that doesn't, as a cluster client on sentinels, would be told that
// none can be reached where all of them are slow: so none is left for others that are waited
// for as well.
const sentinelWait = 250 * time.Millisecond

// bindingOf returns the binding that dials the address.
func (g *group) bindingOf(addr string) *binding {
	switch {
	case g.oracle.isSentinel(addr):
		return g.sentinels
	case callers.Include(callers.MasterDialer):
		return g.nodes
	}
	return g.clustered
}

// hasty are places where nothing waits for a node that is ill: there are others.
type hasty struct{}

// Here is false.
func (hasty) Here(string, int, pooler.Illness) bool { return false }

// sentinels are places of which go-redis asks all and, under a lock, waits for all. So
// nothing waits for one that has gone, and nothing for one that is silent, be it sent,
// while another is well. Where all are silent, this process or the network is slow.
type sentinels struct{ *sentinelOracle }

// Here reports whether the sentinel is silent as all others are.
func (s sentinels) Here(addr string, _ int, ill pooler.Illness) bool {
	return ill.Silent && !s.anyOther(addr, s.driver.ailing.isWell)
}

// By is when a request's wait for a connection to the sentinel ends, if another one may
// answer, or zero. See [handle.Alternatives].
func (s sentinels) By(addr string) time.Time {
	if !s.anyOther(addr, s.driver.ailing.isWell) {
		return time.Time{}
	}
	return time.Now().Add(sentinelWait)
}

// Await takes note that a request waits for a connection to the sentinel, until Awaited.
func (s sentinels) Await(addr string) { s.driver.ailing.await(addr) }

// Awaited takes note that it waits no more.
func (s sentinels) Awaited(addr string) { s.driver.ailing.awaited(addr) }

// GivesUp reports whether a request that has waited for a connection to the sentinel in vain
// is to go to another one. The sentinel counts as ill for a while then.
func (s sentinels) GivesUp(addr string, waited time.Duration, late bool) bool {
	switch {
	case waited < sentinelWait: // it wasn't the sentinel's
		return true
	case !late && !s.anyOther(addr, s.driver.ailing.mayAnswer):
		return false
	}
	s.driver.ailing.note(addr, time.Now().Add(askTime))
	return true
}

// heed takes note of what happens to the sentinel n.
func (s sentinels) heed(n *node, ev pooler.Event, silentFor time.Duration) {
	switch {
	case ev.Kind == pooler.EventSilent:
		s.driver.ailing.note(ev.Node, ev.Time.Add(silentFor))
		n.Pool.Release(s)
	case ev.Kind == pooler.EventState && ev.State == pooler.StateUp:
		s.driver.ailing.forget(ev.Node)
	case ev.Kind == pooler.EventState:
		s.driver.ailing.note(ev.Node, ev.Time.Add(math.MaxInt64))
	}
}

// ailing are the addresses of sentinels that weren't well when something was last heard
// of them, and until when they count as such; and those for whose connections requests
// wait. Its lock is taken under all others.
type ailing struct {
	mu      sync.Mutex
	until   map[string]time.Time
	waiting map[string]int // requests
}

func (a *ailing) note(addr string, until time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.until == nil {
		a.until = make(map[string]time.Time)
	}
	if until.After(a.until[addr]) {
		a.until[addr] = until
	}
}

func (a *ailing) forget(addr string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.until, addr)
}

func (a *ailing) isWell(addr string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.isWellLocked(addr)
}

func (a *ailing) isWellLocked(addr string) bool { return !time.Now().Before(a.until[addr]) }

// await takes note that a request waits for a connection to the sentinel, until awaited.
func (a *ailing) await(addr string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.waiting == nil {
		a.waiting = make(map[string]int)
	}
	a.waiting[addr]++
}

func (a *ailing) awaited(addr string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.waiting[addr]--; a.waiting[addr] == 0 {
		delete(a.waiting, addr)
	}
}

// mayAnswer reports whether the sentinel is well, and nothing waits for a connection to it.
func (a *ailing) mayAnswer(addr string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.isWellLocked(addr) && a.waiting[addr] == 0
}

// sentinelOracle asks sentinels for the primary.
type sentinelOracle struct {
	driver  *Driver
	options redis.Options // of a client that asks
	master  string
	reads   bool // replicas are asked for, too

	mu    sync.Mutex
	addrs []string
}

// anyOther reports whether another sentinel is like that.
func (o *sentinelOracle) anyOther(addr string, like func(addr string) bool) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.ContainsFunc(o.addrs, func(other string) bool { return other != addr && like(other) })
}

func (o *sentinelOracle) isSentinel(addr string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Contains(o.addrs, addr)
}

// testimony is what a sentinel says.
type testimony struct {
	view  *view
	epoch int // of the configuration: the highest is the newest
}

// ask asks all sentinels, and believes the one that knows the newest configuration of
// those who answer soon.
func (o *sentinelOracle) ask(ctx context.Context, _ inquiry) *view {
	o.mu.Lock()
	addrs := slices.Clone(o.addrs)
	o.mu.Unlock()
	answers := make(chan testimony, len(addrs))
	for _, addr := range addrs {
		o.driver.start(func(context.Context) { answers <- o.testify(ctx, addr) })
	}
	var best testimony
	soon := ctx.Done()
	for range addrs {
		select {
		case t := <-answers:
			if t.view == nil || best.view != nil && t.epoch <= best.epoch {
				continue
			}
			if best.view == nil {
				others, stop := context.WithTimeout(ctx, hedgeAfter)
				defer stop()
				soon = others.Done()
			}
			best = t
		case <-soon:
			return best.view
		}
	}
	return best.view
}

// clusterNames names the primary as go-redis's cluster clients do, which leave out the
// host of one on this machine. Another name would be another node, with a pool of its own.
type clusterNames struct{ *sentinelOracle }

func (o clusterNames) ask(ctx context.Context, about inquiry) *view {
	v := o.sentinelOracle.ask(ctx, about)
	if v == nil {
		return nil
	}
	named := *v
	named.master = seenFrom(v.master, "", "")
	named.others = make([]string, len(v.others))
	for i, addr := range v.others {
		named.others[i] = seenFrom(addr, "", "")
	}
	return &named
}

// testify asks a sentinel for the primary, and for the other sentinels.
func (o *sentinelOracle) testify(ctx context.Context, addr string) testimony {
	options := o.options
	options.Addr = addr
	c := redis.NewSentinelClient(&options)
	defer func() { _ = c.Close() }()
	asked := time.Now()
	m, err := c.Master(ctx, o.master).Result()
	if err != nil || m["ip"] == "" || m["port"] == "" {
		return testimony{}
	}
	epoch, _ := strconv.Atoi(m["config-epoch"])
	if others, err := c.Sentinels(ctx, o.master).Result(); err == nil {
		o.learn(others)
	}
	v := &view{asked: asked, master: net.JoinHostPort(m["ip"], m["port"])}
	if o.reads {
		replicas, _ := c.Replicas(ctx, o.master).Result()
		v.others = addrsOf(replicas)
	}
	return testimony{v, epoch}
}

// addrsOf are the addresses of what a sentinel has listed.
func addrsOf(listed []map[string]string) (addrs []string) {
	for _, l := range listed {
		if l["ip"] != "" && l["port"] != "" {
			addrs = append(addrs, net.JoinHostPort(l["ip"], l["port"]))
		}
	}
	return addrs
}

// learn notes sentinels that another one knows.
func (o *sentinelOracle) learn(others []map[string]string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, addr := range addrsOf(others) {
		if !slices.Contains(o.addrs, addr) {
			o.addrs = append(o.addrs, addr)
		}
	}
}
