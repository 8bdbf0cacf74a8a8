package driver_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

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
