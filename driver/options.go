package driver

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/everpool/everpool/pooler"
)

const (
	// handles is how many handles a client may have when it doesn't say. A
	// handle without a request costs memory only, and fewer handles than
	// callers would queue them in go-redis's own pool, behind its semaphore.
	handles = 4096

	// handleBuffer is the size of go-redis's buffers, two for each handle, when
	// the client doesn't say. The physical connection has the large one; a
	// request that doesn't fit is gathered by the handle.
	handleBuffer = 4096
)

// binding is what one call of Options has fixed for its client.
type binding struct {
	pool  pooler.Config
	retry Retry
	tls   *tls.Config
	dial  func(ctx context.Context, network, addr string) (net.Conn, error)
	*client
	err error // the options are wrong

	dialWait time.Duration // how long a handle's dial waits for its node, besides FailFastAfter; 0: no limit
	tracks   bool          // client-side caching looks at connections through SyscallConn
}

// Options returns a copy of o with which [redis.NewClient] makes a client on
// this driver. What o sets is left alone. What it leaves unset, and what suits
// handles better than sockets, is chosen here:
//
//   - Dialer: makes handles. A Dialer in o opens the physical connections
//     instead, unless Config.Dial does.
//   - PoolSize: 4096 handles, since callers shall wait for connections, in
//     order, and not for handles. With client-side caching, streaming
//     credentials or maintenance notifications each handle keeps a connection
//     for itself: then it is half of MaxOpenConns, so that handles don't wait
//     for each other.
//   - ReadBufferSize, WriteBufferSize, PipelineReadBufferSize and
//     PipelineWriteBufferSize: 4 KiB, since each physical connection has a buffer
//     of 32 KiB of its own, and a handle gathers what is written to it.
//   - ContextTimeoutEnabled: on, since a deadline costs no connection here; that it
//     does is go-redis's reason for leaving it off. Config.LeaveContextTimeout
//     leaves it as the client has it. (With it on, go-redis's AutoPipeline sends
//     whole pipelines by its pools and not by its full-duplex engine.)
//   - CredentialsProviderContext: gives go-redis a token in place of the password. A
//     CredentialsProvider or CredentialsProviderContext in o is asked when a physical
//     connection is made, not for each handle, and its context is not the caller's.
//   - ConnMaxIdleTime: off, since a handle doesn't go stale.
//   - DialerRetries: 1, since making a handle doesn't fail.
//   - MaintNotificationsConfig: disabled, since a handle doesn't move.
//
// Settings about sockets that o does set also apply to the node's pool where
// Config.Pool leaves them 0. If the options can't work (a network that isn't
// tcp or unix, TLS on a unix socket, negative sizes) every command of the client
// fails with an error that names each of them; it wraps [pooler.ErrConfig].
func (d *Driver) Options(o *redis.Options) *redis.Options {
	if o == nil {
		o = &redis.Options{}
	}
	c := *o
	b := d.bind(&c)
	if c.MaintNotificationsConfig == nil {
		c.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	} else {
		mn := *c.MaintNotificationsConfig
		c.MaintNotificationsConfig = &mn
	}
	if c.PoolSize == 0 {
		c.PoolSize = handles
		if pinsHandles(&c) {
			c.PoolSize = max(1, b.maxOpen()/2)
		}
	}
	if c.ReadBufferSize == 0 {
		c.ReadBufferSize = handleBuffer
	}
	if c.WriteBufferSize == 0 {
		c.WriteBufferSize = handleBuffer
	}
	if c.PipelineReadBufferSize == 0 {
		c.PipelineReadBufferSize = handleBuffer
	}
	if c.PipelineWriteBufferSize == 0 {
		c.PipelineWriteBufferSize = handleBuffer
	}
	if c.ConnMaxIdleTime == 0 {
		c.ConnMaxIdleTime = -1
	}
	if !d.cfg.LeaveContextTimeout {
		c.ContextTimeoutEnabled = true
	}
	if c.DialerRetries == 0 {
		c.DialerRetries = 1
	}
	if b.err != nil {
		// What is wrong must not reach go-redis, which panics at some of it.
		c.PoolSize, c.MinIdleConns, c.MaxIdleConns, c.MaxActiveConns = max(c.PoolSize, 1), 0, 0, 0
	}
	c.Dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
		return d.connect(ctx, b, network, addr)
	}
	return &c
}

// pinsHandles reports whether the client's handshake leaves state that keeps a
// connection to each handle.
func pinsHandles(o *redis.Options) bool {
	return o.ClientSideCache != nil || o.ClientSideCacheConfig != nil || o.StreamingCredentialsProvider != nil ||
		o.MaintNotificationsConfig.Mode != maintnotifications.ModeDisabled
}

// bind takes from the options what the driver has to know.
func (d *Driver) bind(o *redis.Options) *binding {
	b := &binding{
		client: &client{login: newLogin(o)},
		pool:   d.cfg.Pool, retry: d.cfg.Retry, tls: o.TLSConfig,
		// What the client gives to PoolTimeout is about a full pool: go-redis
		// waits for a server that is away beyond it.
		dialWait: d.cfg.Pool.Limits().WaitTimeout,
		tracks:   o.ClientSideCache != nil || o.ClientSideCacheConfig != nil,
	}
	if d.cfg.Dial == nil && o.Dialer != nil {
		b.dial, b.tls = o.Dialer, nil
	}
	if b.err = checkOptions(o); b.err == nil {
		b.adopt(o)
		b.err = b.pool.Validate()
	}
	return b
}

// checkOptions returns everything that is wrong with the options.
func checkOptions(o *redis.Options) error {
	var errs []error
	complain := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("%w: "+format, append([]any{pooler.ErrConfig}, args...)...))
	}
	switch o.Network {
	case "", "tcp", "tcp4", "tcp6":
	case "unix":
		if o.TLSConfig != nil {
			complain("Network is unix and TLSConfig is set; TLS needs tcp")
		}
	default:
		complain("Network is %q; allowed are tcp, tcp4, tcp6 and unix", o.Network)
	}
	for _, f := range []struct {
		name  string
		value int
	}{
		{"PoolSize", o.PoolSize},
		{"MinIdleConns", o.MinIdleConns},
		{"MaxIdleConns", o.MaxIdleConns},
		{"MaxActiveConns", o.MaxActiveConns},
		{"ReadBufferSize", o.ReadBufferSize},
		{"WriteBufferSize", o.WriteBufferSize},
	} {
		if f.value < 0 {
			complain("%s is %d; allowed are 0 and more", f.name, f.value)
		}
	}
	return errors.Join(errs...)
}

// adopt fills what the driver's configuration leaves to the client's options.
func (b *binding) adopt(o *redis.Options) {
	p := &b.pool
	own := *p
	if p.MaxOpenConns == 0 && (o.MaxActiveConns > 0 || o.PoolSize > 0) {
		p.MaxOpenConns = cmp.Or(o.MaxActiveConns, o.PoolSize)
		// go-redis has its connections for pipelines on top.
		if o.PipelinePoolSize >= 0 {
			p.MaxOpenConns += cmp.Or(o.PipelinePoolSize, redis.DefaultPipelinePoolSize)
		}
	}
	if p.MaxIdleConns == 0 {
		p.MaxIdleConns = o.MaxIdleConns
	}
	if p.MinIdleConns == 0 {
		p.MinIdleConns = o.MinIdleConns
	}
	adoptTime(&p.ConnMaxIdleTime, o.ConnMaxIdleTime, true)
	adoptTime(&p.ConnMaxLifetime, o.ConnMaxLifetime, true)
	if o.ConnMaxLifetimeJitter > 0 && own.ConnMaxLifetime == 0 && own.ConnMaxLifetimeJitter == 0 {
		p.ConnMaxLifetimeJitter = min(o.ConnMaxLifetimeJitter, max(p.ConnMaxLifetime, 0))
	}
	adoptTime(&p.DialTimeout, o.DialTimeout, false)
	adoptTime(&p.WaitTimeout, o.PoolTimeout, true)
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

// maxOpen is the bound on the node's connections, for choosing PoolSize.
func (b *binding) maxOpen() int {
	return b.pool.Limits().MaxOpenConns
}
