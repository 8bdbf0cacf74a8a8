package driver

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"github.com/everpool/everpool/pooler"
)

// unackedFor is how long sent data may stay unacknowledged before the kernel
// gives the connection up (TCP_USER_TIMEOUT). A frozen server still
// acknowledges, so this is about the network only.
const unackedFor = 10 * time.Second

// dialSocket opens TCP connections and unix sockets. The name is looked up at
// every dial, and all of its addresses are tried. TCP_NODELAY is what Go does by
// itself.
func dialSocket(ctx context.Context, network, addr string) (net.Conn, error) {
	d := net.Dialer{
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 30 * time.Second, Interval: 5 * time.Second, Count: 3},
		Control:         setUserTimeout,
		Resolver:        ownLookups(),
	}
	return d.DialContext(ctx, network, addr)
}

// ownLookups is the system's resolver without the lookups that others wait for: a resolver
// has all that ask for a name at a time share one, so one that is lost holds up the next
// dials too, for as long as they follow each other closely enough.
func ownLookups() *net.Resolver {
	if r := net.DefaultResolver; r != nil {
		return &net.Resolver{PreferGo: r.PreferGo, StrictErrors: r.StrictErrors, Dial: r.Dial}
	}
	return new(net.Resolver)
}

// reach dials where the address is said to be.
func (d *Driver) reach(dial dialFunc) dialFunc {
	where := d.cfg.MapAddr
	if where == nil {
		return dial
	}
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		return dial(ctx, network, where(addr))
	}
}

// withTLS puts TLS on what dial opens. The tickets of earlier connections of the
// same configuration are used again where nothing is lost by it, and the server's name is
// the node's unless the configuration says otherwise.
func withTLS(dial dialFunc, user *tls.Config) dialFunc {
	base := user.Clone()
	if base.ClientSessionCache == nil && !needsFullHandshakes(base) {
		base.ClientSessionCache = tls.NewLRUClientSessionCache(0)
	}
	var known atomic.Bool // that the server speaks TLS
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		nc, err := dial(ctx, network, addr)
		if err != nil || nc == nil {
			return nc, err
		}
		if _, ok := nc.(*tls.Conn); ok {
			return nc, nil
		}
		tc := tls.Client(nc, named(base, addr))
		ctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		if !known.Load() {
			defer time.AfterFunc(silentFor, func() {
				if speaksInClear(ctx, dial, network, addr) {
					cancel(&pooler.SetupError{Err: errors.New("no answer to the TLS handshake, and one to a PING without"), Hint: inClear})
				}
			}).Stop()
		}
		if err := tc.HandshakeContext(ctx); err != nil {
			_ = nc.Close()
			return nil, fmt.Errorf("everpool: TLS handshake with %s: %w", addr, cmp.Or(context.Cause(ctx), err))
		}
		known.Store(true)
		return tc, nil
	}
}

// needsFullHandshakes reports whether a connection with a ticket would be another one than
// the user has asked for: a ticket is for the client's certificate that was shown when it
// was issued, where GetClientCertificate may say another one by now, and
// VerifyPeerCertificate isn't called with it.
func needsFullHandshakes(c *tls.Config) bool {
	return c.GetClientCertificate != nil || c.VerifyPeerCertificate != nil
}

// named is the configuration with the server's name, which the address says unless
// the user has.
func named(base *tls.Config, addr string) *tls.Config {
	if base.ServerName != "" {
		return base
	}
	cfg := base.Clone()
	cfg.ServerName = addr
	if host, _, err := net.SplitHostPort(addr); err == nil {
		cfg.ServerName = host
	}
	return cfg
}
