package driver_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"testing"
	"testing/synctest"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/internal/testkit"
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

// behindTLS is a Dial of a server with TLS in front of the lab's. peers is told the
// certificate of each connection's client.
func (l *lab) behindTLS(server *tls.Config, peers chan<- string) func(context.Context, string, string) (net.Conn, error) {
	server.ClientAuth = tls.RequireAnyClientCert
	server.VerifyConnection = func(s tls.ConnectionState) error {
		peers <- s.PeerCertificates[0].DNSNames[0]
		return nil
	}
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		plain, err := l.f.Dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		client, front := testkit.Pair(testkit.DefaultMemBuffer, plain.LocalAddr(), plain.RemoteAddr())
		inClear := tls.Server(front, server)
		for from, to := range map[net.Conn]net.Conn{plain: inClear, inClear: plain} {
			go func() {
				_, _ = io.Copy(to, from)
				_ = to.Close()
			}()
		}
		return client, nil
	}
}

// A ticket is for the certificate that was shown when it was issued, and what the user
// checks of the server's isn't called with it.
func TestEachConnectionShowsAndChecksItsCertificatesAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &lab{T: t, f: testkit.NewFake()}
		defer l.f.Close()
		node, first, second := selfSigned(t, "node.example"), selfSigned(t, "first"), selfSigned(t, "second")
		shown, checks := &first, 0
		peers := make(chan string, 10)
		d := newDriver(t, driver.Config{Dial: l.behindTLS(&tls.Config{Certificates: []tls.Certificate{node}, MinVersion: tls.VersionTLS13}, peers)})
		rdb := redis.NewClient(d.Options(&redis.Options{Addr: labAddr, TLSConfig: &tls.Config{
			RootCAs: poolOf(node.Leaf), ServerName: "node.example", MinVersion: tls.VersionTLS13,
			GetClientCertificate:  func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return shown, nil },
			VerifyPeerCertificate: func([][]byte, [][]*x509.Certificate) error { checks++; return nil },
		}}))
		defer rdb.Close()
		for i, want := range []string{"first", "second"} {
			if err := rdb.Ping(t.Context()).Err(); err != nil {
				t.Fatal(err)
			}
			if got := <-peers; got != want || checks != i+1 {
				t.Errorf("connection %d: the server was shown the certificate %q, want %q; its own was checked %d times", i+1, got, want, checks)
			}
			shown = &second
			l.f.ResetAll()
			synctest.Wait()
		}
	})
}
