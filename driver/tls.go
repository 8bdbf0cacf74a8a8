package driver

import (
	"bytes"
	"crypto"
	"crypto/tls"
	"reflect"
	"slices"
)

// sameTLS reports whether the connections of both bindings are made with the same
// TLS configuration. It isn't sure about those that differ at most in what can't be
// compared. The same pointer is the same configuration; otherwise what counts is
// what was in it when Options was called.
func sameTLS(a, b *binding) (same, sure bool) {
	if a.returned.TLSConfig == b.returned.TLSConfig {
		return true, true
	}
	x, y := a.tls.Clone(), b.tls.Clone()
	equal := x.RootCAs.Equal(y.RootCAs) && x.ClientCAs.Equal(y.ClientCAs) &&
		slices.EqualFunc(x.Certificates, y.Certificates, sameCertificate)
	opaque := strip(x)
	opaque = strip(y) || opaque
	equal = equal && reflect.DeepEqual(x, y)
	return equal && !opaque, !equal || !opaque
}

// strip empties the fields that can't be compared, and reports whether it has found
// any that was set; and those that were compared otherwise.
func strip(c *tls.Config) (opaque bool) {
	c.RootCAs, c.ClientCAs, c.Certificates = nil, nil, nil
	for _, f := range reflect.ValueOf(c).Elem().Fields() {
		switch f.Kind() {
		case reflect.Func, reflect.Interface, reflect.Map:
			if f.CanSet() && !f.IsZero() {
				opaque = true
				f.SetZero()
			}
		}
	}
	return opaque
}

// sameCertificate reports whether the certificates are surely the same.
func sameCertificate(a, b tls.Certificate) bool {
	key, ok := a.PrivateKey.(interface{ Equal(crypto.PrivateKey) bool })
	return ok && key.Equal(b.PrivateKey) &&
		slices.EqualFunc(a.Certificate, b.Certificate, bytes.Equal) &&
		slices.Equal(a.SupportedSignatureAlgorithms, b.SupportedSignatureAlgorithms) &&
		bytes.Equal(a.OCSPStaple, b.OCSPStaple) &&
		slices.EqualFunc(a.SignedCertificateTimestamps, b.SignedCertificateTimestamps, bytes.Equal)
}
