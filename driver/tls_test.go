package driver_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
)

func poolOf(certs ...*x509.Certificate) *x509.CertPool {
	pool := x509.NewCertPool()
	for _, c := range certs {
		pool.AddCert(c)
	}
	return pool
}

// asTLS is a Dial whose connections pass for ones with TLS.
func asTLS(context.Context, string, string) (net.Conn, error) {
	nc, _ := net.Pipe()
	return tls.Client(nc, &tls.Config{}), nil //nolint:gosec // no handshake is made
}

// Many programs make a tls.Config for each client.
func TestClientsWithEqualTLSConfigurationsShareANode(t *testing.T) {
	cert, other := selfSigned(t, "node.example"), selfSigned(t, "node.example")
	roots := cert.Leaf
	base := func() *tls.Config {
		return &tls.Config{ServerName: "node.example", RootCAs: poolOf(roots), Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	}
	verify := func(tls.ConnectionState) error { return nil }
	for name, c := range map[string]struct {
		change func(*tls.Config)
		nodes  int
		logged int
	}{
		"equal":                 {func(*tls.Config) {}, 1, 0},
		"another name":          {func(c *tls.Config) { c.ServerName = "other.example" }, 2, 0},
		"other roots":           {func(c *tls.Config) { c.RootCAs = poolOf(other.Leaf) }, 2, 0},
		"another certificate":   {func(c *tls.Config) { c.Certificates = []tls.Certificate{other} }, 2, 0},
		"no verification":       {func(c *tls.Config) { c.InsecureSkipVerify = true }, 2, 0},
		"a function":            {func(c *tls.Config) { c.VerifyConnection = verify }, 2, 1},
		"a cache":               {func(c *tls.Config) { c.ClientSessionCache = tls.NewLRUClientSessionCache(1) }, 2, 1},
		"a function and a name": {func(c *tls.Config) { c.VerifyConnection, c.ServerName = verify, "other.example" }, 2, 0},
	} {
		t.Run(name, func(t *testing.T) {
			log := new(lines)
			inLab(t, driver.Config{Logger: log.logger(), Dial: asTLS}, func(t *lab) {
				first, second := base(), base()
				c.change(second)
				for _, cfg := range []*tls.Config{first, second, second} {
					nc, err := t.d.Options(&redis.Options{Addr: labAddr, TLSConfig: cfg}).Dialer(t.Context(), "tcp", labAddr)
					if err != nil {
						t.Fatal(err)
					}
					defer nc.Close()
				}
				if n := len(t.d.Nodes()); n != c.nodes {
					t.Errorf("%d nodes, want %d", n, c.nodes)
				}
				if all := log.with("two TLS configurations"); len(all) != c.logged {
					t.Errorf("logged %q, want %d lines", all, c.logged)
				}
			})
		})
	}
}

// What was changed after Options was called is another configuration.
func TestAChangedTLSConfigurationIsNotTakenForTheOneBefore(t *testing.T) {
	inLab(t, driver.Config{Dial: asTLS}, func(t *lab) {
		first := &tls.Config{ServerName: "one.example", MinVersion: tls.VersionTLS12}
		a := t.d.Options(&redis.Options{Addr: labAddr, TLSConfig: first})
		b := t.d.Options(&redis.Options{Addr: labAddr, TLSConfig: &tls.Config{ServerName: "two.example", MinVersion: tls.VersionTLS12}})
		first.ServerName = "two.example"
		for _, o := range []*redis.Options{a, b} {
			nc, err := o.Dialer(t.Context(), "tcp", labAddr)
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
		}
		if n := len(t.d.Nodes()); n != 2 {
			t.Errorf("%d nodes: connections with one name serve clients with another", n)
		}
	})
}
