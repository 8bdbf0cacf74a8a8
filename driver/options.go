package driver

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/everpool/everpool/internal/handle"
	"github.com/everpool/everpool/internal/session"
	"github.com/everpool/everpool/internal/topology"
	"github.com/everpool/everpool/pooler"
)

const (
	// handles is how many handles a client may have. A handle without a request
	// costs memory only, and fewer handles than callers would queue them in
	// go-redis's own pool, behind its semaphore.
	handles = 4096

	// idleHandles is how many of those go-redis keeps that nobody uses, so that a burst
	// of callers doesn't leave their memory behind: 4 to 7 KB each with go-redis's own
	// buffers. A steady crowd of any size has fewer at a time. To make one more takes no
	// connection, and about 20 µs.
	idleHandles = 1280

	// handleBuffer is the size of go-redis's buffers, two for each handle, when
	// the client doesn't say. The physical connection has the large one; a
	// request that doesn't fit is gathered by the handle.
	handleBuffer = 1024

	// pipelineHandles is how many handles go-redis keeps for pipelines, when the client
	// doesn't say. Pipelines beyond those take the others, and go in pieces of their size.
	pipelineHandles = 64

	// pipelineRead and pipelineWrite are the sizes of the buffers of the handles for
	// pipelines: a pipeline is then written and read in a few pieces, and replies, which
	// are more in most, can be read where they are wanted.
	pipelineRead  = 64 << 10
	pipelineWrite = 32 << 10
)

// binding is what one call of Options has fixed for its client.
type binding struct {
	driver *Driver
	pool   pooler.Config // of a node that this client is the first to use
	tls    *tls.Config   // to be put on sockets; a copy, nil: none
	dial   func(ctx context.Context, network, addr string) (net.Conn, error)
	err    error // the options are wrong
	capped *note // for the log, once; nil if MinIdleConns is in force as asked. Driver.mu guards it

	// returned is what Options has returned. late returns what the user may have made
	// of it since; it is asked when the first handle is dialed, and nil afterwards.
	returned redis.Options
	late     func() *redis.Options

	ended context.Context // when the client is closed, as far as the driver is told: by end
	end   context.CancelFunc

	group *group // of sentinels and their nodes, whose bindings differ

	handle.Client // what its handles go by
}

// belong has the client's nodes be those of the topology.
func (b *binding) belong(t *topology.Topology) { b.Topology, b.Places = t, t }

// topology is that of the client's nodes, or nil: each is on its own.
func (b *binding) topology() *topology.Topology {
	t, _ := b.Topology.(*topology.Topology)
	return t
}

// Options returns a copy of o with which [redis.NewClient] makes a client on
// this driver. o isn't changed. What each of its fields does then:
//
// These are about sockets, as they always were. They go to the node's pool, each
// where Config.Pool leaves the same thing 0; the first client of a node decides, but
// for the bound, which is what its clients bring together.
// go-redis itself is given what suits handles: they don't expire, with PoolSize
// 4096 callers wait for connections, in order, and not for handles, and of those that
// nobody uses it keeps 1280 (MaxIdleConns).
//
//	PoolSize               the bound on sockets, 10 per CPU (GOMAXPROCS) if it is left unset; the pipelines' come on top, see PipelinePoolSize
//	MaxActiveConns         the same. If both are set the smaller one bounds, as in go-redis
//	MinIdleConns           sockets that are kept open; go-redis makes one handle at once, so that they are opened at once. More than the other fields allow is capped, as in go-redis, and logged once
//	MaxIdleConns           sockets that may be idle
//	MaxConcurrentDials     dials at a time
//	ConnMaxIdleTime        closes idle sockets, in the background
//	ConnMaxLifetime        closes old sockets, when they are idle
//	ConnMaxLifetimeJitter  spreads that
//
// These remain with go-redis, and the driver goes by them too:
//
//	Network, Addr                 the node: host:port, or the path of a unix socket
//	TLSConfig                     TLS, put on what Config.Dial or the driver opens. Clients share a node if theirs are equal
//	DialTimeout                   bounds the dial of a socket, TLS and login included; 0 or less: 5 seconds. The first client of a node decides
//	PoolTimeout                   how long this client's requests wait for a connection of a full pool, unless Config.Pool.WaitTimeout bounds all waits; 0: 5 seconds
//	CredentialsProvider           asked when a socket is opened, not for each handle; go-redis has a token in place of the password
//	CredentialsProviderContext    the same
//	StreamingCredentialsProvider  each handle keeps a socket for itself; new ones take the newest credentials
//	ClientSideCache               the same
//	ClientSideCacheConfig         the same
//	MaintNotificationsConfig      the same, if it is switched on; left nil it is off, since a handle doesn't move
//	ReadTimeout, WriteTimeout     bound the reply; the wait for a connection and the sending. A reply that stands behind those of others on a shared connection has PoolTimeout more for each try, while those come
//
// Of these the default is another one, or the value is always set:
//
//	Dialer                   makes handles. The one in o opens the sockets instead, TLS and all, unless Config.Dial does
//	ContextTimeoutEnabled    on: a deadline costs no connection here, which is go-redis's reason for leaving it off. Config.LeaveContextTimeout leaves it. (With it on, AutoPipeline sends whole pipelines by go-redis's pools and not by its full-duplex engine.)
//	ReadBufferSize           1 KiB: a socket has a buffer of 32 KiB of its own, and a handle gathers what is written to it
//	WriteBufferSize          1 KiB
//	PipelinePoolSize         64 handles that go-redis keeps for pipelines; others take those of commands. What is set is that number, and so many more sockets on top of PoolSize: 10 if it is left unset, -1: none
//	PipelineReadBufferSize   64 KiB, for the handles that go-redis keeps for pipelines
//	PipelineWriteBufferSize  32 KiB
//	DialerRetries            1: making a handle doesn't fail
//
// These have no effect, since go-redis doesn't dial sockets: one prober dials for
// everybody when a node is away.
//
//	DialerRetryTimeout, DialerRetryBackoff, PoolFIFO
//
// These are go-redis's alone, and mean what they mean there. OnConnect is called
// for each handle, of which there are as many as callers at a time.
//
//	NodeAddress, ClientName, OnConnect, Protocol, Username, Password, DB
//	MaxRetries, MinRetryBackoff, MaxRetryBackoff, Limiter, AutoPipelineOptions
//	DisableIndentity, DisableIdentity, IdentitySuffix, UnstableResp3
//	PushNotificationProcessor, FailingTimeoutSeconds
//	ClientSideCacheStrategy, ClientSideCacheRefreshOnInvalidate
//	ClientSideCacheCoalesceMisses, ClientSideCacheInvalidationBatchWindow
//
// Where each handle keeps a socket for itself, handles are few: PoolSize, or half
// of the sockets, and always fewer than those, so that handles don't wait for each
// other. Pipelines have no handles of their own then (PipelinePoolSize is -1 with
// go-redis), and idle and old handles are closed by go-redis, as its sockets are.
//
// A field that is set on what Options returns is go-redis's: PoolSize there bounds
// the handles. TLSConfig and what gives each handle a socket must be set before, and
// OnConnect should be: through it the driver learns of contexts that are canceled while
// their calls wait for a connection.
// Given options that it has made itself, those of a client among them, Options
// returns a copy of them as they are.
//
// If the options can't work (an address without a port, a network that isn't tcp
// or unix, TLS on a unix socket, negative sizes, a bare number where a duration
// belongs, options that another driver has made) every command of the client fails with
// an error that names each of them; it wraps [pooler.ErrConfig].
func (d *Driver) Options(o *redis.Options) *redis.Options {
	d = d.orUnmade()
	if o == nil {
		o = &redis.Options{}
	}
	c := *o
	b := d.complete(&c, c.Addr)
	if b != nil {
		b.late = func() *redis.Options { return &c }
	}
	return &c
}

// complete makes of c, which is a copy, options of a client on this driver, which finds
// its nodes by those addresses. It returns the binding, or nil if c is complete already.
// One of several addresses that can't be dialed is only logged: the others do.
func (d *Driver) complete(c *redis.Options, addrs ...string) *binding {
	bad := d.badAddrs(c, addrs)
	if len(bad) == len(addrs) {
		return d.completeBy(c, bad)
	}
	b := d.completeBy(c, nil)
	if b == nil || b.err != nil {
		return b
	}
	for _, err := range bad {
		d.cfg.Logger.LogAttrs(context.Background(), slog.LevelWarn,
			"everpool: one of several addresses can't be dialed; the others are used", slog.String("error", err.Error()))
	}
	return b
}

// completeBy is complete, of options with whose addresses that is wrong.
func (d *Driver) completeBy(c *redis.Options, bad []error) *binding {
	if mn := c.MaintNotificationsConfig; mn != nil {
		own := *mn
		c.MaintNotificationsConfig = &own
	}
	if d.hasMade(c) {
		return nil
	}
	b := d.bind(c, bad)
	if c.MaintNotificationsConfig == nil {
		c.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	}
	b.sizeHandles(c)
	c.ReadBufferSize = cmp.Or(c.ReadBufferSize, handleBuffer)
	c.WriteBufferSize = cmp.Or(c.WriteBufferSize, handleBuffer)
	c.PipelineReadBufferSize = cmp.Or(c.PipelineReadBufferSize, pipelineRead)
	c.PipelineWriteBufferSize = cmp.Or(c.PipelineWriteBufferSize, pipelineWrite)
	c.DialerRetries = cmp.Or(c.DialerRetries, 1)
	if !d.cfg.LeaveContextTimeout {
		c.ContextTimeoutEnabled = true
	}
	b.Identity, b.ContextTimeout = session.NewIdentity(c, func() context.Context { return b.driver.life() }), c.ContextTimeoutEnabled
	c.OnConnect = b.Courses.OnConnect(c.OnConnect)
	c.Dialer = b.connect
	b.returned = *c
	return b
}

// sizeHandles gives go-redis, whose connections are handles, what suits those in
// the place of what the client's options say of sockets.
func (b *binding) sizeHandles(c *redis.Options) {
	if pinsHandles(c) {
		sockets := b.pool.Limits().MaxOpenConns
		c.PoolSize = max(1, min(cmp.Or(c.PoolSize, sockets/2), sockets-1))
		c.PipelinePoolSize, c.MaxIdleConns = -1, 0
	} else {
		c.PoolSize, c.MaxIdleConns = handles, idleHandles
		c.PipelinePoolSize = cmp.Or(c.PipelinePoolSize, pipelineHandles)
		c.ConnMaxIdleTime, c.ConnMaxLifetime, c.ConnMaxLifetimeJitter = -1, 0, 0
	}
	c.MaxConcurrentDials, c.MaxActiveConns = 0, 0
	c.MinIdleConns = max(0, min(b.pool.MinIdleConns, 1)) // whose dial has the pool warm up
	if b.err != nil {
		// What is wrong must not reach go-redis, which panics at some of it.
		c.PoolSize, c.MaxIdleConns, c.MinIdleConns = handles, idleHandles, 0
	}
}

// pinsHandles reports whether the client's handshake leaves state that keeps a
// connection to each handle.
func pinsHandles(o *redis.Options) bool {
	return o.ClientSideCache != nil || o.ClientSideCacheConfig != nil || o.StreamingCredentialsProvider != nil ||
		o.MaintNotificationsConfig.Mode != maintnotifications.ModeDisabled
}

// retriesOf is how often go-redis tries again by these options, to which it hasn't given
// its defaults yet.
func retriesOf(o *redis.Options) int {
	if o.MaxRetries < 0 {
		return 0
	}
	return cmp.Or(o.MaxRetries, 3)
}

// bind takes from the options what the driver has to know.
func (d *Driver) bind(o *redis.Options, bad []error) *binding {
	b := &binding{
		driver: d, pool: d.cfg.Pool, tls: o.TLSConfig.Clone(),
		Client: handle.Client{
			Retry: handle.Retry(d.cfg.Retry), Retries: retriesOf(o), Limit: d.cfg.Pool.Limits().WaitTimeout,
			WaitsInDial: true, Courses: &handle.Courses{}, Tracks: o.ClientSideCache != nil || o.ClientSideCacheConfig != nil,
		},
	}
	b.ended, b.end = context.WithCancel(context.Background())
	if !handle.ReadsPushes(o.Protocol, o.PushNotificationProcessor) {
		b.Courses = nil
	}
	if d.cfg.Dial == nil && o.Dialer != nil {
		b.dial, b.tls = o.Dialer, nil
	}
	if b.err = errors.Join(d.unmade(), checkOptions(o, bad)); b.err == nil {
		b.adopt(o)
		b.err = inTermsOf(b.pool.Validate(), o)
	}
	return b
}

// custom reports whether a dialer of the user's own opens the sockets.
func (b *binding) custom() bool { return b.dial != nil || b.driver.cfg.Dial != nil }

// adopt fills what the driver's configuration leaves to the client's options.
func (b *binding) adopt(o *redis.Options) {
	p := &b.pool
	own := *p
	if p.MaxOpenConns == 0 {
		p.MaxOpenConns = socketsOf(o)
	}
	if p.MaxIdleConns == 0 {
		p.MaxIdleConns = o.MaxIdleConns
	}
	if p.MaxConcurrentDials == 0 {
		p.MaxConcurrentDials = max(o.MaxConcurrentDials, 0)
	}
	if p.MinIdleConns == 0 {
		p.MinIdleConns = o.MinIdleConns
		b.cap(o)
	}
	adoptTime(&p.ConnMaxIdleTime, o.ConnMaxIdleTime, true)
	adoptTime(&p.ConnMaxLifetime, o.ConnMaxLifetime, true)
	if o.ConnMaxLifetimeJitter > 0 && own.ConnMaxLifetime == 0 && own.ConnMaxLifetimeJitter == 0 {
		p.ConnMaxLifetimeJitter = min(o.ConnMaxLifetimeJitter, max(p.ConnMaxLifetime, 0))
	}
	adoptTime(&p.DialTimeout, o.DialTimeout, false)
	if p.WaitTimeout == 0 { // else the pool has it
		adoptTime(&b.Wait, o.PoolTimeout, true)
	}
}

// cap lowers MinIdleConns, where the client's options ask for more sockets than they
// allow: go-redis takes that, too, and opens what it may.
func (b *binding) cap(o *redis.Options) {
	limits := b.pool.Limits()
	most := limits.MaxOpenConns
	if b.pool.MaxIdleConns != 0 {
		most = min(most, limits.MaxIdleConns)
	}
	if b.pool.MinIdleConns <= most {
		return
	}
	b.pool.MinIdleConns = most
	if b.pool.MaxOpenConns != 0 || most < limits.MaxOpenConns { // else the machine's default decides
		b.capped = &note{
			"everpool: MinIdleConns is more than the other options allow; as many sockets are kept open as may be",
			[]slog.Attr{slog.String("node", o.Addr), slog.Int("asked", o.MinIdleConns), slog.Int("in_force", most), slog.String("options", sizesOf(o))},
		}
	}
}

// inTermsOf adds to what Config.Pool and the options make wrong together what the options
// say, since their fields have other names.
func inTermsOf(err error, o *redis.Options) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w (Config.Pool and redis.Options together; the options have %s)", err, sizesOf(o))
}

// sizesOf says what the options have for the sizes of the pool.
func sizesOf(o *redis.Options) string {
	return fmt.Sprintf("PoolSize %d, PipelinePoolSize %d, MaxActiveConns %d, MinIdleConns %d, MaxIdleConns %d",
		o.PoolSize, o.PipelinePoolSize, o.MaxActiveConns, o.MinIdleConns, o.MaxIdleConns)
}

// socketsOf is how many sockets go-redis would open by the options.
func socketsOf(o *redis.Options) int {
	n := cmp.Or(o.MaxActiveConns, o.PoolSize, 10*runtime.GOMAXPROCS(0))
	if o.PoolSize > 0 {
		n = min(n, o.PoolSize) // more callers don't come to a connection there
	}
	if o.PipelinePoolSize >= 0 {
		n += cmp.Or(o.PipelinePoolSize, redis.DefaultPipelinePoolSize)
	}
	return n
}

// adoptTime sets *to, if it is 0, to the client's value; what is off for
// go-redis is off here, where it can be.
func adoptTime(to *time.Duration, value time.Duration, canBeOff bool) {
	switch {
	case *to != 0 || value == 0:
	case value > 0:
		*to = value
	case canBeOff:
		*to = -1
	}
}
