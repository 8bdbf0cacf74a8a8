package doctor

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"strings"
	"time"
)

// expiresSoon is from when on a certificate's end is a warning.
const expiresSoon = 30 * 24 * time.Hour

// checkTLS shakes hands with each, and verifies the certificate by itself, so as to tell
// all that is wrong with it.
func checkTLS(ctx context.Context, k *known) []Finding {
	cfg := k.target.tls()
	if cfg == nil && k.target.network() == "unix" {
		return nil
	}
	if cfg == nil {
		return []Finding{found(OK, "not asked for: the connection isn't encrypted (rediss:// is)")}
	}
	return k.each(func(addr string) []Finding {
		hands, err := k.shakeHands(ctx, cfg, addr)
		if err != nil {
			return []Finding{k.noTLS(ctx, addr, err)}
		}
		all := []Finding{found(OK, "%s speaks %s", k.clean(addr), tls.VersionName(hands.state.Version))}
		if hands.asked {
			all = append(all, found(Note, "the server asks for a client's certificate, and a URL has none").
				advise("if the login fails, it demands one (tls-auth-clients): set TLSConfig.Certificates in the program"))
		}
		return append(all, k.certificate(cfg, hands.state, hands.name)...)
	})
}

// handshake is how one went.
type handshake struct {
	state tls.ConnectionState
	name  string // that the certificate has to have
	asked bool   // for a client's certificate
}

func (k *known) shakeHands(ctx context.Context, cfg *tls.Config, addr string) (hands handshake, err error) {
	nc, err := k.dial(ctx, addr)
	if err != nil {
		return hands, err
	}
	defer nc.Close()
	cfg = cfg.Clone()
	if cfg.ServerName == "" {
		cfg.ServerName, _, _ = net.SplitHostPort(addr) // which has a port: it was dialed
	}
	hands.name, cfg.InsecureSkipVerify = cfg.ServerName, true
	cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		hands.asked = true
		return new(tls.Certificate), nil
	}
	ctx, cancel := k.bounded(ctx)
	defer cancel()
	tc := tls.Client(nc, cfg)
	if err := tc.HandshakeContext(ctx); err != nil {
		return hands, err
	}
	hands.state = tc.ConnectionState()
	return hands, nil
}

// noTLS says why there was no handshake.
func (k *known) noTLS(ctx context.Context, addr string, err error) Finding {
	f := found(Failed, "%s doesn't speak TLS with us: %s", k.clean(addr), k.say(err))
	switch op, isOp := errors.AsType[*net.OpError](err); {
	case isOp && op.Op == "remote error":
		return f.advise("the server refuses the handshake: does it want a client's certificate (tls-auth-clients)? A URL can't have one, TLSConfig.Certificates can")
	case k.speaksInClear(ctx, addr):
		return f.advise("this is a port without TLS: write redis:// in place of rediss://, or use the server's tls-port")
	}
	return f.advise("is this the server's tls-port?")
}

// speaksInClear reports whether a PING is answered without TLS.
func (k *known) speaksInClear(ctx context.Context, addr string) bool {
	word := k.wordOf(ctx, addr)
	return strings.HasPrefix(word, "+") || strings.HasPrefix(word, "-")
}

// wordOf is the line that the server has for a PING without TLS and without a login, or
// for anybody who connects; "" if it has none.
func (k *known) wordOf(ctx context.Context, addr string) string {
	nc, err := k.dial(ctx, addr)
	if err != nil {
		return ""
	}
	defer nc.Close()
	ctx, cancel := k.bounded(ctx)
	defer cancel()
	defer context.AfterFunc(ctx, func() { _ = nc.Close() })()
	_, _ = nc.Write([]byte("PING\r\n")) // a server that hangs up may have said why
	line, err := bufio.NewReaderSize(io.LimitReader(nc, 512), 512).ReadString('\n')
	if err != nil {
		return ""
	}
	return strings.TrimSpace(line)
}

// speaksTLS reports whether a TLS handshake is answered, be it to refuse it.
func (k *known) speaksTLS(ctx context.Context, addr string) bool {
	_, err := k.shakeHands(ctx, new(tls.Config), addr)
	op, isOp := errors.AsType[*net.OpError](err)
	return err == nil || isOp && op.Op == "remote error"
}

// certificate finds what is wrong with the server's. With skip_verify nobody looks at it.
func (k *known) certificate(cfg *tls.Config, state tls.ConnectionState, name string) []Finding {
	leaf, now := state.PeerCertificates[0], time.Now()
	all := []Finding{k.expiry(leaf, now)}
	if err := leaf.VerifyHostname(name); err != nil {
		all = append(all, found(Failed, "the certificate isn't for %s: %s", k.clean(name), k.say(err)).
			advise("use a name that is in it in the URL, or set TLSConfig.ServerName, or have a certificate issued for this name"))
	}
	intermediates := x509.NewCertPool()
	for _, c := range state.PeerCertificates[1:] {
		intermediates.AddCert(c)
	}
	if now.After(leaf.NotAfter) || now.Before(leaf.NotBefore) {
		now = leaf.NotAfter // which is told already
	}
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: cfg.RootCAs, Intermediates: intermediates, CurrentTime: now}); err != nil {
		all = append(all, found(Failed, "the certificate isn't trusted: %s", k.say(err)).
			advise("a private authority's certificate goes into TLSConfig.RootCAs, or into the file that SSL_CERT_FILE names (on Linux)"))
	}
	if cfg.InsecureSkipVerify {
		soften(all)
		all = append(all, found(Warning, "skip_verify is set: anybody on the way can pose as the server").
			advise("give the authority's certificate instead (TLSConfig.RootCAs, SSL_CERT_FILE)"))
	}
	return all
}

func (k *known) expiry(leaf *x509.Certificate, now time.Time) Finding {
	date, left := leaf.NotAfter.Format(time.DateOnly), leaf.NotAfter.Sub(now)
	switch days := int(left.Hours() / 24); {
	case left <= 0:
		return found(Failed, "the certificate has expired on %s", date).advise("renew it")
	case now.Before(leaf.NotBefore):
		return found(Failed, "the certificate is valid from %s on", leaf.NotBefore.Format(time.RFC3339)).advise("is this machine's clock right?")
	case left < expiresSoon:
		return found(Warning, "the certificate expires on %s, in %d days", date, days).advise("renew it, and have that done automatically")
	default:
		return found(OK, "the certificate is valid until %s, for %d days", date, days)
	}
}
