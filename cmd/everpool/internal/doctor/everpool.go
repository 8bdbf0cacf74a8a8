package doctor

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/pooler"
)

// pools are the configurations with which the driver makes its pools.
type pools struct {
	mu   sync.Mutex
	made map[string]pooler.Config // by the node's address

	shareBudget bool // there is a bound for all nodes together
}

// make is a [driver.Config.NewPooler] that remembers what it was given.
func (p *pools) make(node pooler.Node, cfg pooler.Config) (pooler.Pooler, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.made[node.Addr], p.shareBudget = cfg, node.Budget != nil
	return pooler.New(node, cfg)
}

// of is the configuration of the node at that address, or of any.
func (p *pools) of(addr string) (cfg pooler.Config, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if cfg, ok = p.made[addr]; ok {
		return cfg, true
	}
	for _, cfg = range p.made {
		return cfg, true
	}
	return cfg, false
}

func (p *pools) budgeted() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.shareBudget
}

// checkEverpool has a PING go the way that a program's requests go, and says what the
// pool of the node does.
func checkEverpool(ctx context.Context, k *known) []Finding {
	p := &pools{made: map[string]pooler.Config{}}
	db, err := open(k.rawURL, driver.Config{NewPooler: p.make})
	if err != nil {
		return k.mistakes(err)
	}
	defer func() { _ = db.Close() }() // what it has found is what counts
	all := []Finding{k.pingThrough(ctx, db)}
	cfg, ok := p.of(k.node.addr)
	if !ok {
		return all
	}
	all = append(all, sharing(cfg.Limits()), k.sockets(cfg.Limits()))
	if p.budgeted() {
		all = append(all, found(OK, "the sockets to all nodes together are bounded too, by max_open_conns_total"))
	}
	return append(all, k.waits(cfg, db.Unwrap()))
}

func (k *known) pingThrough(ctx context.Context, db *driver.DB) Finding {
	ctx, cancel := k.bounded(ctx)
	defer cancel()
	began := time.Now()
	err := db.Ping(ctx).Err()
	switch took := inMilliseconds(time.Since(began)); {
	case err == nil:
		return found(OK, "a PING through everpool is answered, in %s with connecting and login", took)
	case isUnpermitted(err):
		return found(OK, "everpool connects and logs in, in %s; the user may not PING", took)
	default:
		return found(Failed, "a PING through everpool fails: %s", k.say(err)).advise("docs/operations.md has what each error asks for")
	}
}

func sharing(cfg pooler.Config) Finding {
	if cfg.SharedConns <= 0 {
		return found(OK, "no shared connections, since shared_conns is -1: each request has a connection of its own")
	}
	return found(OK, "requests share up to %d connections to a node; what blocks, is large or keeps state has one of its own", cfg.SharedConns)
}

// unbounded is the largest int32, as [pooler.Config.Limits] has it.
const unbounded = 1<<31 - 1

func (k *known) sockets(cfg pooler.Config) Finding {
	if cfg.MaxOpenConns >= unbounded {
		return found(Warning, "no bound on the sockets to a node, since max_open_conns is -1").advise("give a bound: the server's maxclients is for all programs together")
	}
	f := found(OK, "at most %d sockets to a node from each program, subscriptions apart (max_open_conns changes it)", cfg.MaxOpenConns)
	limit, limited := k.number("maxclients")
	connected, known := k.number("connected_clients")
	if free := limit - connected; limited && known && free < cfg.MaxOpenConns {
		f.Status = Warning
		return f.advise(fmt.Sprintf("the server has room for %d more clients: lower max_open_conns, or raise maxclients", free))
	}
	return f
}

// waits are the timeouts in force.
func (k *known) waits(cfg pooler.Config, client redis.UniversalClient) Finding {
	read, write := replyTimeouts(client)
	wait := cfg.WaitTimeout
	if cfg = cfg.Limits(); wait == 0 { // each client's own holds then
		wait = cmp.Or(k.target.poolTimeout(), cfg.WaitTimeout)
	}
	return found(OK, "timeouts: dial %s, reply %s, send %s, wait for a connection %s; a node that is away fails calls after %s; idle connections close after %s, and are looked at every %s",
		cfg.DialTimeout, orOff(read), orOff(write), orOff(wait), orNever(cfg.FailFastAfter), orOff(cfg.ConnMaxIdleTime), orOff(cfg.HealthCheckInterval))
}

// replyTimeouts are those of go-redis.
func replyTimeouts(client redis.UniversalClient) (read, write time.Duration) {
	switch c := client.(type) {
	case *redis.Client:
		return c.Options().ReadTimeout, c.Options().WriteTimeout
	case *redis.ClusterClient:
		return c.Options().ReadTimeout, c.Options().WriteTimeout
	}
	return 0, 0
}

func orOff(d time.Duration) string {
	if d <= 0 {
		return "off"
	}
	return orNever(d)
}

// orNever is for durations that are centuries when they are off.
func orNever(d time.Duration) string {
	if d > 100*365*24*time.Hour {
		return "never"
	}
	return d.String()
}

// poolTimeout is how long the URL has requests wait for a connection, 0 if it doesn't say.
func (t target) poolTimeout() time.Duration {
	switch {
	case t.cluster != nil:
		return t.cluster.PoolTimeout
	case t.failover != nil:
		return t.failover.PoolTimeout
	}
	return t.single.PoolTimeout
}

// idleTime is after how long the pool closes an idle connection, 0 if never.
func (t target) idleTime() time.Duration {
	var set time.Duration
	switch {
	case t.cluster != nil:
		set = t.cluster.ConnMaxIdleTime
	case t.failover != nil:
		set = t.failover.ConnMaxIdleTime
	default:
		set = t.single.ConnMaxIdleTime
	}
	if set < 0 {
		return 0
	}
	return cmp.Or(set, pooler.Config{}.Limits().ConnMaxIdleTime)
}
