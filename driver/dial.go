package driver

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"time"
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
	}
	return d.DialContext(ctx, network, addr)
}

// withTLS puts TLS on what dial opens. The tickets of earlier connections of the
// same configuration are used again, and the server's name is the node's unless
// the configuration says otherwise.
func withTLS(dial func(ctx context.Context, network, addr string) (net.Conn, error), user *tls.Config) func(ctx context.Context, network, addr string) (net.Conn, error) {
	base := user.Clone()
	if base.ClientSessionCache == nil {
		base.ClientSessionCache = tls.NewLRUClientSessionCache(0)
	}
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		nc, err := dial(ctx, network, addr)
		if err != nil || nc == nil {
			return nc, err
		}
		if _, ok := nc.(*tls.Conn); ok {
			return nc, nil
		}
		cfg := base
		if cfg.ServerName == "" {
			host, _, err := net.SplitHostPort(addr)
			if err != nil {
				host = addr
			}
			cfg = base.Clone()
			cfg.ServerName = host
		}
		tc := tls.Client(nc, cfg)
		if err := tc.HandshakeContext(ctx); err != nil {
			_ = nc.Close()
			return nil, fmt.Errorf("everpool: TLS handshake with %s: %w", addr, err)
		}
		return tc, nil
	}
}
