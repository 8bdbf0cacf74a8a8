package driver

import (
	"context"
	"errors"
	"maps"
	"runtime"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/internal/callers"
	"github.com/everpool/everpool/internal/command"
	"github.com/everpool/everpool/internal/gather"
	"github.com/everpool/everpool/internal/handle"
	"github.com/everpool/everpool/pooler"
)

// GatherConfig says when commands of concurrent callers are gathered, see
// [Driver.Gather]. The zero value is a good configuration.
type GatherConfig struct {
	// From is how many calls of one client, or of one node of a cluster or ring, are
	// under way at least when a command is gathered, itself among them. While the batch of
	// a command has less than three quarters of that (or of Largest) on average, commands go
	// straight on. 0: 8.
	From int
	// Flights is how many batches of a client or node are under way at a time, apart
	// for commands that read, for those that write and may run twice, and for those that
	// must not. There are more when they take longer than milliseconds (others take the
	// place of those that stand still), and of batches that are full, and up to 64 to a
	// server that is far: more than 0.2 ms and 1.5 µs a command away. 0: 1.
	Flights int
	// Largest is how many commands a batch has at most: then it doesn't wait. One whose
	// replies are expected to be 256 KiB is full, too. 0: 192.
	Largest int
}

// withDefaults has the defaults in place of what is 0.
func (c GatherConfig) withDefaults() GatherConfig {
	for _, f := range []struct {
		field *int
		unset int
	}{{&c.From, 8}, {&c.Flights, 1}, {&c.Largest, 192}} {
		if *f.field == 0 {
			*f.field = f.unset
		}
	}
	return c
}

// validate complains of everything that is wrong.
func (c GatherConfig) validate() error {
	var wrong complaints
	for _, f := range []struct {
		name      string
		value     int
		low, high int
	}{{"From", c.From, 2, 1 << 19}, {"Flights", c.Flights, 1, 64}, {"Largest", c.Largest, 2, 10000}} {
		if f.value != 0 && (f.value < f.low || f.value > f.high) {
			wrong.add("Gather.%s is %d; allowed are %d to %d, and 0 (the default)", f.name, f.value, f.low, f.high)
		}
	}
	return errors.Join(wrong...)
}

// GatherStats are counts of what [Driver.Gather] has done, over all clients, since the
// driver was made.
type GatherStats struct {
	Calls    int64 // commands of the clients, gathered or not
	Gathered int64 // commands that ran in batches
	Batches  int64 // Gathered/Batches is their mean size

	// Direct is how many commands went straight on though there were callers enough,
	// by the reason: "command" (blocking, slow, or not known to be quick), "result" (of a
	// type that isn't its command's usual one), "argument" (of a type that runs code when
	// it is written, or memory that a caller could use again who leaves), "large" (what
	// it sends, or what came last time for this key) and "thin" (batches were small of
	// late: callers do much else between their calls). All other
	// calls that weren't gathered, Calls less the rest, met few callers or no batch.
	Direct map[string]int64

	// Off is how many clients, and nodes of clusters and rings, go without, by the
	// reason: "client-side caching", "limiter" and "unknown go-redis".
	Off map[string]int64
}

// Gather has the client run single commands of concurrent callers together, as
// pipelines, without a change to the callers: many of them take go-redis's way to a
// connection once. Client is one that this driver [Driver.Owns] (or of redis.NewFailoverClient): a *redis.Client, a
// *redis.ClusterClient, a *redis.Ring or a [DB]; of a cluster or a ring the commands of
// each node are gathered, and a cluster's client is bound, see [Driver.Bind]. Call it after all hooks have been added, and before the
// client's first command: hooks that come later turn it off for the client, and a
// cluster's nodes that are known already go without. Hooks see single commands, as
// ever. Conn, Tx, pipelines and clones of WithTimeout are left as they are.
//
// What is gathered are the quick commands on keys (GET, SET, INCR, HGET, MGET, ZADD and
// the like) with small arguments, while Config.Gather.From calls are under way; the rest
// goes straight on, and so does a key's command whose last reply was large. Errors,
// redis.Nil and what is tried again are as without, command by command; a command that
// must not run twice is never in a batch with others that may, so it makes none of them
// unknown.
//
// A caller whose context ends while its command is in a batch returns at once: with the
// context's error if the command was not sent or only reads, otherwise with an error
// that is [pooler.ErrUnknownOutcome] as well. A batch ends by the client's ReadTimeout
// and WriteTimeout. A call that goes straight on sees a cancellation as without Gather, once
// it is sent: when the reply is there. go-redis's own measurements (its otel package) show pipelines.
//
// Clients with client-side caching or a Limiter go without, see [GatherStats]. detach
// has all commands go straight on again, returns when no batch is under way, and may
// be called again. Gather fails if the client isn't this
// driver's. It dials nothing, and is safe for concurrent use.
func (d *Driver) Gather(client redis.UniversalClient) (detach func(), err error) {
	if err := d.unmade(); err != nil {
		return nil, err
	}
	if !d.Owns(client) && !ofSentinels(client) {
		return nil, complaint("Gather was given a client that doesn't stand on this driver")
	}
	cfg, retry := d.cfg.Gather.withDefaults(), handle.Retry(d.cfg.Retry)
	g := &gathering{off: make(map[string]int64), Gatherer: gather.New(gather.Config{
		From: cfg.From, Flights: cfg.Flights, Largest: cfg.Largest, Worth: min(cfg.From, cfg.Largest) * 3 / 4,
		Alike:   func(a, b command.Effect) bool { return retry.MayRepeat(a) == retry.MayRepeat(b) },
		Unknown: func(reason error) error { return &leftError{reason} },
	})}
	if err := g.attach(d, client); err != nil {
		return nil, err
	}
	d.gathers.add(g)
	return func() { g.Off(); d.gathers.remove(g) }, nil
}

// ofSentinels reports whether the client is one of [redis.NewFailoverClient]: whose it is
// can't be seen.
func ofSentinels(client redis.UniversalClient) bool {
	dial, _ := dialerOf(client)
	return dial != nil && strings.Contains(runtime.FuncForPC(code(dial)).Name(), callers.MasterDialer)
}

// WithGathering has [Open] and [Manager.Add] gather commands of concurrent callers, see
// [Driver.Gather]. By default they aren't.
func WithGathering() Option { return optionFunc(func(o *opening) { o.gathers = true }) }

// gather gathers the commands of the client that was opened.
func (db *DB) gather() error {
	detach, err := db.Driver.Gather(db)
	if err == nil {
		db.detach = detach
	}
	return err
}

// GatherStats returns what gathering has done for the driver's clients.
func (d *Driver) GatherStats() GatherStats {
	if d.unmade() != nil {
		return GatherStats{}
	}
	return d.gathers.stats()
}

// gathering is what gathers for one client.
type gathering struct {
	*gather.Gatherer

	mu  sync.Mutex
	off map[string]int64
}

// attach gathers for the client of the driver, or for each of its nodes.
func (g *gathering) attach(d *Driver, client redis.UniversalClient) error {
	switch c := client.(type) {
	case *redis.Client:
		g.attachTo(c)
	case *redis.ClusterClient:
		d.Bind(c)
		c.OnNewNode(g.attachTo)
	case *redis.Ring:
		c.OnNewNode(g.attachTo)
		return c.ForEachShard(context.Background(), func(_ context.Context, shard *redis.Client) error {
			g.attachTo(shard)
			return nil
		})
	case interface{ Unwrap() redis.UniversalClient }:
		return g.attach(d, c.Unwrap())
	}
	return nil
}

// attachTo gathers for the client of one node, if that can be.
func (g *gathering) attachTo(c *redis.Client) {
	o := c.Options()
	switch {
	case o.ClientSideCacheConfig != nil || o.ClientSideCache != nil:
		g.without("client-side caching")
	case o.Limiter != nil:
		g.without("limiter")
	case !g.Attach(c):
		g.without("unknown go-redis")
	}
}

// without notes that a client goes without.
func (g *gathering) without(why string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.off[why]++
}

// gathers are all that gather for clients of a driver.
type gathers struct {
	mu   sync.Mutex
	all  map[*gathering]bool
	past GatherStats // of those that were detached
}

func (s *gathers) add(g *gathering) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all == nil {
		s.all = make(map[*gathering]bool)
	}
	s.all[g] = true
}

// remove forgets one that is off, but for its counts.
func (s *gathers) remove(g *gathering) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all[g] {
		delete(s.all, g)
		s.past = s.past.plus(g.stats())
	}
}

// stats adds up what all have counted.
func (s *gathers) stats() GatherStats {
	s.mu.Lock()
	defer s.mu.Unlock()
	sum := s.past.plus(GatherStats{})
	for g := range s.all {
		sum = sum.plus(g.stats())
	}
	return sum
}

// stats are the counts of one.
func (g *gathering) stats() GatherStats {
	n := g.Stats()
	g.mu.Lock()
	defer g.mu.Unlock()
	return GatherStats{n.Calls, n.Gathered, n.Batches, n.Direct, maps.Clone(g.off)}
}

// plus returns the sum of both, in maps of its own.
func (s GatherStats) plus(more GatherStats) GatherStats {
	return GatherStats{
		s.Calls + more.Calls, s.Gathered + more.Gathered, s.Batches + more.Batches,
		sum(s.Direct, more.Direct), sum(s.Off, more.Off),
	}
}

func sum(a, b map[string]int64) map[string]int64 {
	of := make(map[string]int64)
	for _, m := range []map[string]int64{a, b} {
		for k, n := range m {
			of[k] += n
		}
	}
	return of
}

// leftError: a command was in a batch that was sent, and its caller has left or can't be
// told what became of it.
type leftError struct{ reason error }

func (e *leftError) Error() string {
	return pooler.ErrUnknownOutcome.Error() + ": " + e.reason.Error()
}

// Unwrap returns what has ended the wait, and what that means.
func (e *leftError) Unwrap() []error { return []error{pooler.ErrUnknownOutcome, e.reason} }
