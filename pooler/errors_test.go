package pooler_test

import (
	"context"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/everpool/everpool/pooler"
)

func tcp(port int) net.Addr { return &net.TCPAddr{IP: net.IPv4(10, 0, 0, 9), Port: port} }

// Monitoring groups errors by their texts.
func TestErrorsOfOneKindHaveOneText(t *testing.T) {
	to := tcp(6379)
	for want, of := range map[string]func(i int) error{
		": 10.0.0.1:6379": func(i int) error { return nil },
		": 10.0.0.1:6379: read tcp 10.0.0.9:6379: connection reset by peer": func(i int) error {
			return &net.OpError{Op: "read", Net: "tcp", Source: tcp(40000 + i), Addr: to, Err: syscall.ECONNRESET}
		},
		": 10.0.0.1:6379: lookup host: read udp 10.0.0.9:6379: i/o timeout": func(i int) error {
			return &net.DNSError{Err: (&net.OpError{Op: "read", Net: "udp", Source: tcp(40000 + i), Addr: to, Err: errors.New("i/o timeout")}).Error(), Name: "host"}
		},
		": 10.0.0.1:6379: x509: certificate has expired or is not yet valid": func(i int) error {
			now := time.Unix(int64(i), 0).UTC().Format(time.RFC3339)
			return x509.CertificateInvalidError{Reason: x509.Expired, Detail: "current time " + now + " is after 2020-01-01T00:00:00Z"}
		},
	} {
		for i := range 3 {
			e := &pooler.Error{
				Err: pooler.ErrNodeDown, Node: addr, Cause: of(i), Since: time.Now(), Attempts: int64(i), Waited: time.Duration(i) * 1001 * time.Millisecond,
				Open: i, Max: 10 * i, Leased: i, Waiting: i, Holders: strings.Repeat("1 GET ", i),
			}
			if got := e.Error(); got != pooler.ErrNodeDown.Error()+want {
				t.Errorf("%q, want %q", got, pooler.ErrNodeDown.Error()+want)
			}
		}
	}
}

func TestANodeThatHasNeverAnsweredIsSaidToBeSo(t *testing.T) {
	bubble(t, pooler.Config{FailFastAfter: time.Second}, func(pt *tester) {
		for _, c := range []struct {
			never bool
			text  string
		}{{true, ": never answered: "}, {false, addr + ": dial tcp"}} {
			pt.fake.DownRefused()
			pt.sleep(2 * time.Second)
			_, err := pt.pool.Get(context.Background(), pooler.Request{Session: pt.plain, Name: "GET"})
			e, ok := errors.AsType[*pooler.Error](err)
			if !ok || !errors.Is(err, pooler.ErrNodeDown) || e.NeverAnswered != c.never || !strings.Contains(e.Error(), c.text) {
				t.Errorf("%v, want %q in it", err, c.text)
			}
			pt.fake.Up()
			pt.sleep(2 * time.Second)
			conn := pt.get(pt.plain)
			pt.do(conn, "PING")
			conn.Fail(pooler.CloseState, io.EOF)
			pt.put(conn)
		}
	})
}
