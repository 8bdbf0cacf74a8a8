package driver

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"time"

	"github.com/everpool/everpool/pooler"
)

// mistake makes of an error of the dial that will come again, until somebody mends
// something, a [pooler.SetupError] that says what that may be.
func mistake(err error) error {
	if hint := hintAt(err); hint != "" {
		return &pooler.SetupError{Err: err, Hint: hint}
	}
	return err
}

// hintAt returns what may be wrong, or nothing if the error may pass.
func hintAt(err error) string {
	if name, ok := errors.AsType[*net.DNSError](err); ok && name.IsNotFound && !name.IsTemporary && !name.IsTimeout {
		return "is the host's name right?"
	}
	if _, ok := errors.AsType[*net.AddrError](err); ok {
		return "is the address right?"
	}
	if cert, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return hintAtCertificate(cert.Err)
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return inClear
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "remote error" {
		return "the server refuses the TLS handshake: does it want a certificate, in TLSConfig.Certificates?"
	}
	return ""
}

func hintAtCertificate(err error) string {
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return "is the authority that has signed it in TLSConfig.RootCAs?"
	}
	if _, ok := errors.AsType[x509.HostnameError](err); ok {
		return "is TLSConfig.ServerName the name in it?"
	}
	return "the server's certificate is refused"
}

const (
	inClear   = "TLSConfig is set: is this a port without TLS?"
	encrypted = "this is a TLS port: set TLSConfig, or open rediss://"
)

// silentFor is after how long a server that says nothing to a TLS handshake is asked
// whether it speaks without: Redis waits for the end of what it takes for a command.
const silentFor = 250 * time.Millisecond

// speaksInClear reports whether the server answers without TLS. It is sent a PING.
func speaksInClear(ctx context.Context, dial dialFunc, network, addr string) bool {
	nc, err := dial(ctx, network, addr)
	if err != nil || nc == nil {
		return false
	}
	defer nc.Close()
	defer context.AfterFunc(ctx, func() { _ = nc.Close() })()
	reply := make([]byte, 1)
	if _, err = nc.Write([]byte("PING\r\n")); err == nil {
		_, err = nc.Read(reply)
	}
	return err == nil && (reply[0] == '+' || reply[0] == '-')
}

// speaksTLS reports whether the server answers a TLS handshake, be it to refuse it.
// Nothing is sent to it afterwards.
func speaksTLS(ctx context.Context, dial dialFunc, network, addr string) bool {
	nc, err := dial(ctx, network, addr)
	if err != nil || nc == nil {
		return false
	}
	defer nc.Close()
	err = tls.Client(nc, &tls.Config{InsecureSkipVerify: true}).HandshakeContext(ctx) //nolint:gosec // nothing is said to it
	op, ok := errors.AsType[*net.OpError](err)
	return err == nil || ok && op.Op == "remote error"
}

// explain says what it means that the node's first connection was lost without a
// word from the server.
func (b *binding) explain(network, addr string) func(context.Context, error) error {
	return func(ctx context.Context, err error) error {
		if !b.custom() && b.tls == nil && network != "unix" && speaksTLS(ctx, b.driver.reach(dialSocket), network, addr) {
			return &pooler.SetupError{Err: err, Hint: encrypted}
		}
		return mistake(err)
	}
}
