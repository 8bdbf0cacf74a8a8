package driver_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/internal/testkit"
	"github.com/everpool/everpool/pooler"
)

// dialErrors are errors of dials, by what they say. Those with a hint come again until
// somebody mends something.
var dialErrors = map[string]struct {
	err  error
	hint string
}{
	"no such host":      {&net.OpError{Op: "dial", Err: &net.DNSError{Err: "no such host", Name: "nohost", IsNotFound: true}}, "host's name"},
	"no name service":   {&net.OpError{Op: "dial", Err: &net.DNSError{Err: "server misbehaving", Name: "host", IsTemporary: true}}, ""},
	"not found for now": {&net.DNSError{Err: "try again", Name: "host", IsNotFound: true, IsTemporary: true}, ""},
	"slow name service": {&net.DNSError{Err: "i/o timeout", Name: "host", IsTimeout: true, IsTemporary: true}, ""},
	"refused":           {&net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}, ""},
	"unreachable":       {&net.OpError{Op: "dial", Err: syscall.EHOSTUNREACH}, ""},
	"no port":           {&net.OpError{Op: "dial", Err: &net.AddrError{Err: "missing port in address", Addr: "host"}}, "address"},
	"unknown authority": {fmt.Errorf("TLS: %w", &tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}), "RootCAs"},
	"another name":      {&tls.CertificateVerificationError{Err: x509.HostnameError{Certificate: &x509.Certificate{}, Host: "h"}}, "ServerName"},
	"expired":           {&tls.CertificateVerificationError{Err: x509.CertificateInvalidError{Reason: x509.Expired}}, "certificate is refused"},
	"no TLS there":      {tls.RecordHeaderError{Msg: "first record does not look like a TLS handshake"}, "without TLS"},
	"an alert":          {&net.OpError{Op: "remote error", Err: errors.New("tls: certificate required")}, "TLSConfig.Certificates"},
	"closed":            {errors.New("EOF"), ""},
}

func TestAMistakeIsToldAtOnceAndAPassingFailureIsWaitedFor(t *testing.T) {
	for name, c := range dialErrors {
		t.Run(name, func(t *testing.T) {
			f := testkit.NewFake()
			defer f.Close()
			var mended atomic.Bool
			cfg := driver.Config{Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
				if !mended.Load() {
					return nil, c.err
				}
				return f.Dial(ctx, network, addr)
			}}
			inEveryCall(t, cfg, func(t *lab, call func() error) {
				mended.Store(false)
				for range 3 {
					began := time.Now()
					if c.hint == "" {
						time.AfterFunc(3*time.Second, func() { mended.Store(true) })
					}
					err := call()
					took := time.Since(began)
					switch {
					case c.hint == "" && err != nil:
						t.Errorf("%v after %v; want it to wait", err, took)
					case c.hint != "" && (took > 50*time.Millisecond || !errors.Is(err, pooler.ErrNodeDown) || !strings.Contains(err.Error(), c.hint)):
						t.Errorf("%v after %v; want ErrNodeDown at once, with a hint at %q", err, took, c.hint)
					}
				}
				mended.Store(true)
				time.Sleep(2 * time.Second)
				if err := call(); err != nil {
					t.Errorf("when it is mended: %v", err)
				}
			})
		})
	}
}

// inEveryCall runs the test for each kind of call of a client that doesn't retry.
func inEveryCall(t *testing.T, cfg driver.Config, run func(t *lab, call func() error)) {
	for name, call := range calls {
		t.Run(name, func(t *testing.T) {
			inLab(t, cfg, func(t *lab) {
				rdb := t.client()
				run(t, func() error { return call(t.Context(), rdb) })
			})
		})
	}
}

// A client of several nodes finds them by addresses that may be mistaken, too. go-redis
// asks sentinels again and again, with pauses that grow, unless it is told not to.
func TestAMistakenAddressOfATopologyIsToldAtOnce(t *testing.T) {
	makers := map[string]func(d *driver.Driver, addrs ...string) redis.UniversalClient{
		"cluster": func(d *driver.Driver, addrs ...string) redis.UniversalClient {
			return redis.NewClusterClient(d.ClusterOptions(&redis.ClusterOptions{Addrs: addrs}))
		},
		"sentinels": func(d *driver.Driver, addrs ...string) redis.UniversalClient {
			return redis.NewFailoverClient(d.FailoverOptions(&redis.FailoverOptions{MasterName: "main", SentinelAddrs: addrs}))
		},
		"ring": func(d *driver.Driver, addrs ...string) redis.UniversalClient {
			return redis.NewRing(d.RingOptions(&redis.RingOptions{Addrs: map[string]string{"a": addrs[0]}}))
		},
	}
	for name, made := range makers {
		t.Run(name, func(t *testing.T) {
			inServers(t, 2, func(m *managed) {
				m.asCluster(0, 1)
				m.asSentinel(2, 1)
				var mended atomic.Bool // the name of a sentinel leads there now
				d := newDriver(m.T, driver.Config{Logger: slog.New(slog.DiscardHandler), Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
					switch host, _, _ := net.SplitHostPort(addr); {
					case host != "wrong" && host != "other":
						return m.dial(ctx, network, addr)
					case mended.Load():
						return m.dial(ctx, network, "10.0.0.2:6379")
					}
					return nil, &net.OpError{Op: "dial", Err: &net.DNSError{Err: "no such host", Name: "wrong", IsNotFound: true}}
				}})
				c := made(d, "wrong:6379", "other:6379")
				for range 3 {
					began := time.Now()
					err := c.Set(m.Context(), "k", 1, 0).Err()
					if took := time.Since(began); err == nil || took > time.Second || !strings.Contains(err.Error(), "host's name") { // go-redis's pauses between dials
						t.Errorf("%v after %s; want a hint at once", err, took)
					}
				}
				if name == "sentinels" {
					mended.Store(true)
					time.Sleep(2 * time.Second)
					if err := c.Set(m.Context(), "k", 1, 0).Err(); err != nil {
						t.Errorf("when it is mended: %v", err)
					}
				}
				_ = c.Close()
				time.Sleep(time.Minute)
			})
		})
	}
}
