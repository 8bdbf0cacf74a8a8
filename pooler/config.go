package pooler

import (
	"errors"
	"fmt"
	"math"
	"runtime"
	"time"
)

// Config is what a [Pool] may be told. The zero value is a good
// configuration. In every field 0 means the default and, where the comment
// says so, -1 means off; any other negative value is an error. A duration of
// less than a millisecond is an error too: it is a number without its unit.
type Config struct {
	// MaxOpenConns bounds the sockets of a node, those being dialed included.
	// Subscriptions, MONITOR and the like come on top, as they do in go-redis:
	// such a socket is its caller's own and never comes back. 0: 10 per
	// GOMAXPROCS. -1: no bound.
	MaxOpenConns int

	// SharedConns bounds the shared connections of a session: requests that may
	// share ride those together instead of leasing one each. As long as callers
	// are few each gets an idle one; many callers share a quarter of them, but two at
	// least. They are among MaxOpenConns, opened when requests find them busy,
	// and given back when nobody uses them. Growth leaves one of MaxOpenConns to
	// requests that can't share. At most MaxOpenConns. 0: 8, or MaxOpenConns if
	// that is less. -1: every request leases a connection.
	SharedConns int

	// MinIdleConns is how many connections are kept open and idle from the time
	// on that the pool is first asked for anything, with requests or without: in
	// the session that was worked in last, and without one until there is one. The
	// node is probed for them while it is away. At most MaxOpenConns and
	// MaxIdleConns. 0 or -1: none.
	MinIdleConns int

	// MaxIdleConns is how many connections may be idle; one that is returned
	// beyond that is closed. 0: as many as MaxOpenConns. -1: none is kept.
	MaxIdleConns int

	// MaxConcurrentDials bounds the dials under way at a time, those apart by
	// which a silent connection is looked into. 0 or -1: only by what the pool
	// does by itself, which is to begin with one and double with each success.
	MaxConcurrentDials int

	// ConnMaxIdleTime closes a connection that was idle for so long, in the
	// background. Keep it under the server's own timeout. 0: 5 minutes.
	// -1: off.
	ConnMaxIdleTime time.Duration

	// ConnMaxLifetime closes a connection that is older, when it is idle or
	// comes back; it is never cut. 0 or -1: off.
	ConnMaxLifetime time.Duration

	// ConnMaxLifetimeJitter spreads ConnMaxLifetime by up to so much in either
	// direction, so that connections that were opened together don't close
	// together. At most ConnMaxLifetime. 0: a tenth of ConnMaxLifetime.
	// -1: off.
	ConnMaxLifetimeJitter time.Duration

	// DialTimeout bounds a dial, TLS and the replay of the session included.
	// After a quarter of it another dial is made beside one that requests wait for.
	// Where no connection is left FailFastAfter bounds a dial, too, but for the
	// prober's; 200 milliseconds are the least. 0: 5 seconds. It can't be switched off.
	DialTimeout time.Duration

	// WaitTimeout bounds how long a request waits for a connection, besides
	// its own deadline, whatever it waits for, unless Request.WaitTimeout says
	// otherwise. 0: 5 seconds.
	// -1: only the request's own deadline.
	WaitTimeout time.Duration

	// MaxWaiters bounds how many requests wait at a time; one more fails at
	// once with [ErrPoolExhausted]. 0 or -1: no bound.
	MaxWaiters int

	// HealthCheckInterval is the time between two looks at the idle
	// connections: all are looked at for a peer that has closed them, and the
	// one that was quiet for longest is sent a PING. 0: 5 seconds. -1: off.
	HealthCheckInterval time.Duration

	// HealthCheckTimeout is how long a PING may take, and how long the late
	// replies of an abandoned request are waited for before its connection is
	// given up. 0: 2 seconds. It can't be switched off.
	HealthCheckTimeout time.Duration

	// SilenceAfter is the time without a byte after which a shared connection
	// that owes replies is doubted: if the server answers on a new connection,
	// and still nothing comes on the silent one, that one is given up. A server
	// that answers neither is waited for, and so is one that can't be asked: in a
	// pool with MaxOpenConns connections, none of them idle in another session,
	// there is no room for a new one. Reads that wait behind a write there, which a
	// server may hold back (CLIENT PAUSE), have it asked after 25 milliseconds, and
	// leave if it answers; more seldom where that costs dials in vain. 0: 200
	// milliseconds. -1: off, for both.
	SilenceAfter time.Duration

	// FailFastAfter is how long requests wait for a node that can't be
	// reached before they fail at once with [ErrNodeDown]. A node that has never
	// answered, and whose dials fail with a [SetupError], isn't waited for. 0: 5
	// seconds. The least, 1 millisecond: they fail as soon as the node is known to
	// be down. -1: they always wait.
	FailFastAfter time.Duration

	// BackoffMin is the shortest time between two dials of a node that can't
	// be reached. 0: 10 milliseconds.
	BackoffMin time.Duration

	// BackoffMax is the longest time between two such dials. At least
	// BackoffMin. 0: 1 second.
	BackoffMax time.Duration

	// OnEvent is told what happens to the node and its connections. It is
	// called under no lock, on the goroutine that caused the event, so events of several
	// may come in another order than that of their Time, and it
	// should return soon; it may call the pool, all but Close, which waits for
	// that goroutine. nil: nobody is told.
	OnEvent func(Event)

	// OnWait is told of each wait for a connection when it is over, with its
	// duration, as Stats.WaitDuration counts it, and, if it was in vain, the error. It is called by the goroutine
	// of the request, which it holds up, under no lock, concurrently. It must not
	// panic. nil: nobody is told.
	OnWait func(node string, d time.Duration, err error)
}

const off = -1

// minDuration is the least that a duration may be. Nothing here is done in less,
// and a number that was meant to be of seconds or milliseconds is below it.
const minDuration = time.Millisecond

// Validate returns everything that is wrong with the configuration, joined in
// one error; each part names the field, its value and what is allowed.
func (c Config) Validate() error {
	var errs []error
	count := func(name string, v int) {
		if v < off {
			errs = append(errs, fmt.Errorf("%w: %s is %d; allowed are -1 and more", ErrConfig, name, v))
		}
	}
	duration := func(name string, v time.Duration, allowed string) {
		if 0 < v && v < minDuration {
			allowed += "; is its unit missing?"
		}
		if v != 0 && v < minDuration {
			errs = append(errs, fmt.Errorf("%w: %s is %s; allowed are %s", ErrConfig, name, v, allowed))
		}
	}
	span := func(name string, v time.Duration) {
		if v != off {
			duration(name, v, fmt.Sprintf("-1, 0 and %s or more", minDuration))
		}
	}
	positive := func(name string, v time.Duration) {
		duration(name, v, fmt.Sprintf("0 and %s or more, it can't be switched off", minDuration))
	}
	count("MaxOpenConns", c.MaxOpenConns)
	count("MinIdleConns", c.MinIdleConns)
	count("MaxIdleConns", c.MaxIdleConns)
	count("MaxConcurrentDials", c.MaxConcurrentDials)
	count("MaxWaiters", c.MaxWaiters)
	count("SharedConns", c.SharedConns)
	span("SilenceAfter", c.SilenceAfter)
	span("ConnMaxIdleTime", c.ConnMaxIdleTime)
	span("ConnMaxLifetime", c.ConnMaxLifetime)
	span("ConnMaxLifetimeJitter", c.ConnMaxLifetimeJitter)
	span("WaitTimeout", c.WaitTimeout)
	span("HealthCheckInterval", c.HealthCheckInterval)
	span("FailFastAfter", c.FailFastAfter)
	positive("DialTimeout", c.DialTimeout)
	positive("HealthCheckTimeout", c.HealthCheckTimeout)
	positive("BackoffMin", c.BackoffMin)
	positive("BackoffMax", c.BackoffMax)
	errs = append(errs, c.withDefaults().validateRelations()...)
	return errors.Join(errs...)
}

// validateRelations compares fields with each other, defaults filled in: a
// default can be what makes a pair impossible. A bound that is negative is a
// complaint of its own.
func (c Config) validateRelations() []error {
	var errs []error
	if c.MaxOpenConns >= 0 && c.MinIdleConns > c.MaxOpenConns {
		errs = append(errs, fmt.Errorf("%w: MinIdleConns is %d; allowed is at most MaxOpenConns, %d", ErrConfig, c.MinIdleConns, c.MaxOpenConns))
	}
	if c.MaxIdleConns >= 0 && c.MinIdleConns > c.MaxIdleConns {
		errs = append(errs, fmt.Errorf("%w: MinIdleConns is %d; allowed is at most MaxIdleConns, %d", ErrConfig, c.MinIdleConns, c.MaxIdleConns))
	}
	if c.MaxOpenConns >= 0 && c.SharedConns > c.MaxOpenConns {
		errs = append(errs, fmt.Errorf("%w: SharedConns is %d; allowed is at most MaxOpenConns, %d", ErrConfig, c.SharedConns, c.MaxOpenConns))
	}
	if c.BackoffMax > 0 && c.BackoffMin > c.BackoffMax {
		errs = append(errs, fmt.Errorf("%w: BackoffMin is %s; allowed is at most BackoffMax, %s", ErrConfig, c.BackoffMin, c.BackoffMax))
	}
	if c.ConnMaxLifetime >= 0 && c.ConnMaxLifetimeJitter > c.ConnMaxLifetime {
		errs = append(errs, fmt.Errorf("%w: ConnMaxLifetimeJitter is %s; allowed is at most ConnMaxLifetime, %s", ErrConfig, c.ConnMaxLifetimeJitter, c.ConnMaxLifetime))
	}
	return errs
}

// defaultShared is how many shared connections a session has when it isn't
// configured. See docs/benchmarks.md.
const defaultShared = 8

// unlimited stands for "no bound" once the defaults are filled in.
const unlimited = math.MaxInt32

// withDefaults returns the configuration as the pool works by it: no field is
// 0 by default or -1 any more; what is off is 0 (durations) or [unlimited]
// (bounds).
func (c Config) withDefaults() Config {
	c.MaxOpenConns = orDefault(c.MaxOpenConns, 10*runtime.GOMAXPROCS(0), unlimited)
	c.SharedConns = orDefault(c.SharedConns, min(defaultShared, c.MaxOpenConns), 0)
	c.MinIdleConns = orDefault(c.MinIdleConns, 0, 0)
	c.MaxIdleConns = orDefault(c.MaxIdleConns, c.MaxOpenConns, 0)
	c.MaxConcurrentDials = orDefault(c.MaxConcurrentDials, unlimited, unlimited)
	c.MaxWaiters = orDefault(c.MaxWaiters, unlimited, unlimited)
	c.ConnMaxIdleTime = orDefault(c.ConnMaxIdleTime, 5*time.Minute, 0)
	c.ConnMaxLifetime = orDefault(c.ConnMaxLifetime, 0, 0)
	c.ConnMaxLifetimeJitter = orDefault(c.ConnMaxLifetimeJitter, c.ConnMaxLifetime/10, 0)
	c.DialTimeout = orDefault(c.DialTimeout, 5*time.Second, 0)
	c.WaitTimeout = orDefault(c.WaitTimeout, 5*time.Second, 0)
	c.HealthCheckInterval = orDefault(c.HealthCheckInterval, 5*time.Second, 0)
	c.HealthCheckTimeout = orDefault(c.HealthCheckTimeout, 2*time.Second, 0)
	c.SilenceAfter = orDefault(c.SilenceAfter, 200*time.Millisecond, 0)
	c.FailFastAfter = orDefault(c.FailFastAfter, 5*time.Second, math.MaxInt64)
	c.BackoffMin = orDefault(c.BackoffMin, 10*time.Millisecond, 0)
	c.BackoffMax = orDefault(c.BackoffMax, max(time.Second, c.BackoffMin), 0)
	for _, d := range []*time.Duration{
		&c.ConnMaxIdleTime, &c.ConnMaxLifetime, &c.ConnMaxLifetimeJitter, &c.DialTimeout, &c.WaitTimeout,
		&c.HealthCheckInterval, &c.HealthCheckTimeout, &c.SilenceAfter, &c.BackoffMin, &c.BackoffMax,
	} {
		*d = min(*d, century)
	}
	return c
}

// inForce returns the configuration that withDefaults has made this one of, or would: what
// is off is -1 again, and nothing is left to a default.
func (c Config) inForce() Config {
	for _, n := range []*int{&c.MaxOpenConns, &c.MaxConcurrentDials, &c.MaxWaiters} {
		*n = orOff(*n, unlimited)
	}
	for _, n := range []*int{&c.SharedConns, &c.MinIdleConns, &c.MaxIdleConns} {
		*n = orOff(*n, 0)
	}
	for _, d := range []*time.Duration{
		&c.ConnMaxIdleTime, &c.ConnMaxLifetime, &c.ConnMaxLifetimeJitter, &c.WaitTimeout, &c.HealthCheckInterval, &c.SilenceAfter,
	} {
		*d = orOff(*d, 0)
	}
	c.FailFastAfter = orOff(c.FailFastAfter, math.MaxInt64)
	c.OnEvent, c.OnWait = nil, nil
	return c
}

// century bounds all durations, so that none overflows when a time is added.
const century = 100 * 365 * 24 * time.Hour

func orDefault[T int | time.Duration](v, byDefault, whenOff T) T {
	switch v {
	case 0:
		return byDefault
	case off:
		return whenOff
	}
	return v
}

// orOff is what orDefault has made v of.
func orOff[T int | time.Duration](v, whenOff T) T {
	if v == whenOff {
		return off
	}
	return v
}

// Limits returns the configuration with every default filled in: what is off is
// 0 for a duration and the largest int32 for a bound.
func (c Config) Limits() Config { return c.withDefaults() }
