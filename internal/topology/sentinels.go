package topology

import (
	"context"
	"math"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/pooler"
)

// sentinelWait is how long a request waits for a connection to a sentinel while another one
// may answer: a dial may hang for long before it fails. The dial goes on, and a client that
// dials tries again. One that doesn't, as a cluster client on sentinels, would be told that
// none can be reached where all of them are slow: so none is left for others that are waited
// for as well.
const sentinelWait = 250 * time.Millisecond

// Hasty are places where nothing waits for a node that is ill: there are others.
type Hasty struct{}

// Here is false.
func (Hasty) Here(string, int, pooler.Illness) bool { return false }

// AtSentinels are places of which go-redis asks all and, under a lock, waits for all. So
// nothing waits for one that has gone, and nothing for one that is silent, be it sent,
// while another is well. Where all are silent, this process or the network is slow.
type AtSentinels struct{ *Sentinels }

// Here reports whether the sentinel is silent as all others are.
func (s AtSentinels) Here(addr string, _ int, ill pooler.Illness) bool {
	return ill.Silent && !s.anyOther(addr, s.ailing.isWell)
}

// By is when a request's wait for a connection to the sentinel ends, if another one may
// answer, or zero. See [handle.Alternatives].
func (s AtSentinels) By(addr string) time.Time {
	if !s.anyOther(addr, s.ailing.isWell) {
		return time.Time{}
	}
	return time.Now().Add(sentinelWait)
}

// Await takes note that a request waits for a connection to the sentinel, until Awaited.
func (s AtSentinels) Await(addr string) { s.ailing.await(addr) }

// Awaited takes note that it waits no more.
func (s AtSentinels) Awaited(addr string) { s.ailing.awaited(addr) }

// GivesUp reports whether a request that has waited for a connection to the sentinel in vain
// is to go to another one. The sentinel counts as ill for a while then.
func (s AtSentinels) GivesUp(addr string, waited time.Duration, late bool) bool {
	switch {
	case waited < sentinelWait: // it wasn't the sentinel's
		return true
	case !late && !s.anyOther(addr, s.ailing.mayAnswer):
		return false
	}
	s.ailing.note(addr, time.Now().Add(AskTime))
	return true
}

// Heed takes note of what happens to the sentinel n.
func (s AtSentinels) Heed(n Node, ev pooler.Event, silentFor time.Duration) {
	switch {
	case ev.Kind == pooler.EventSilent:
		s.ailing.note(ev.Node, ev.Time.Add(silentFor))
		n.Base().Pool.Release(s)
	case ev.Kind == pooler.EventState && ev.State == pooler.StateUp:
		s.ailing.forget(ev.Node)
	case ev.Kind == pooler.EventState:
		s.ailing.note(ev.Node, ev.Time.Add(math.MaxInt64))
	}
}

// Ailing are the addresses of sentinels that weren't well when something was last heard
// of them, and until when they count as such; and those for whose connections requests
// wait. Its lock is taken under all others.
type Ailing struct {
	mu      sync.Mutex
	until   map[string]time.Time
	waiting map[string]int // requests
}

func (a *Ailing) note(addr string, until time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.until == nil {
		a.until = make(map[string]time.Time)
	}
	if until.After(a.until[addr]) {
		a.until[addr] = until
	}
}

func (a *Ailing) forget(addr string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.until, addr)
}

func (a *Ailing) isWell(addr string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.isWellLocked(addr)
}

func (a *Ailing) isWellLocked(addr string) bool { return !time.Now().Before(a.until[addr]) }

// await takes note that a request waits for a connection to the sentinel, until awaited.
func (a *Ailing) await(addr string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.waiting == nil {
		a.waiting = make(map[string]int)
	}
	a.waiting[addr]++
}

func (a *Ailing) awaited(addr string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.waiting[addr]--; a.waiting[addr] == 0 {
		delete(a.waiting, addr)
	}
}

// mayAnswer reports whether the sentinel is well, and nothing waits for a connection to it.
func (a *Ailing) mayAnswer(addr string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.isWellLocked(addr) && a.waiting[addr] == 0
}

// Sentinels asks sentinels for the primary.
type Sentinels struct {
	// To be set before it asks.
	Options      redis.Options // of a client that asks
	Disconnected bool          // go-redis dials replicas that sentinels are disconnected from, if there are no others

	home   Home
	ailing *Ailing
	master string
	reads  bool // replicas are asked for, too

	mu    sync.Mutex
	addrs []string
}

// NewSentinels returns those of the addresses, and whom they name, that know the primary of
// that name. reads says that replicas are asked for, too.
func NewSentinels(h Home, a *Ailing, master string, reads bool, addrs []string) *Sentinels {
	return &Sentinels{home: h, ailing: a, master: master, reads: reads, addrs: slices.Clone(addrs)}
}

// anyOther reports whether another sentinel is like that.
func (o *Sentinels) anyOther(addr string, like func(addr string) bool) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.ContainsFunc(o.addrs, func(other string) bool { return other != addr && like(other) })
}

// Has reports whether a sentinel has that address.
func (o *Sentinels) Has(addr string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Contains(o.addrs, addr)
}

// testimony is what a sentinel says.
type testimony struct {
	view  *View
	epoch int // of the configuration: the highest is the newest
}

// Ask asks all sentinels, and believes the one that knows the newest configuration of
// those who answer soon.
func (o *Sentinels) Ask(ctx context.Context, _ Inquiry) *View {
	o.mu.Lock()
	addrs := slices.Clone(o.addrs)
	o.mu.Unlock()
	answers := make(chan testimony, len(addrs))
	for _, addr := range addrs {
		o.home.Start(func(context.Context) { answers <- o.testify(ctx, addr) })
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

// ClusterNames names the primary as go-redis's cluster clients do, which leave out the
// host of one on this machine. Another name would be another node, with a pool of its own.
type ClusterNames struct{ *Sentinels }

// Ask is that of the sentinels, with the names.
func (o ClusterNames) Ask(ctx context.Context, about Inquiry) *View {
	v := o.Sentinels.Ask(ctx, about)
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
func (o *Sentinels) testify(ctx context.Context, addr string) testimony {
	options := o.Options
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
	v := &View{asked: asked, master: net.JoinHostPort(m["ip"], m["port"])}
	if o.reads {
		replicas, _ := c.Replicas(ctx, o.master).Result()
		v.others = addrsOf(replicas)
		v.up = addrsOf(o.dialed(replicas))
	}
	return testimony{v, epoch}
}

// dialed returns those of the replicas that a sentinel has listed of which go-redis dials one.
func (o *Sentinels) dialed(replicas []map[string]string) []map[string]string {
	replicas = slices.DeleteFunc(slices.Clone(replicas), func(r map[string]string) bool { return isAny(r, "s_down", "o_down") })
	connected := slices.DeleteFunc(slices.Clone(replicas), func(r map[string]string) bool { return isAny(r, "disconnected") })
	if len(connected) == 0 && o.Disconnected {
		return replicas
	}
	return connected
}

// isAny reports whether what is listed has one of the flags.
func isAny(listed map[string]string, flags ...string) bool {
	return slices.ContainsFunc(strings.Split(listed["flags"], ","), func(f string) bool { return slices.Contains(flags, f) })
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
func (o *Sentinels) learn(others []map[string]string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, addr := range addrsOf(others) {
		if !slices.Contains(o.addrs, addr) {
			o.addrs = append(o.addrs, addr)
		}
	}
}
