package driver

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"reflect"

	"github.com/redis/go-redis/v9"
)

// Owns reports whether c stands on this driver: whether its options have a Dialer
// that Options of d has made, and the TLSConfig that was given with it. It is the
// way to notice that a Dialer was replaced, or TLSConfig set, after Options, which
// go-redis takes without a word. Of a cluster or ring client it looks at the
// client's own options. Of a client of redis.NewFailoverClient, whose Dialer go-redis
// makes, it knows only if [Open] or a [Manager] has made it. It doesn't block and dials
// nothing. A client that is nil isn't owned.
func (d *Driver) Owns(c redis.UniversalClient) bool {
	if db, ok := c.(*DB); ok && db != nil && db.source.failover != nil {
		return db.binding.driver.is(d)
	}
	dial, cfg := dialerOf(c)
	b := bindingOf(dial)
	return d != nil && b != nil && b.driver.is(d) && cfg == b.returned.TLSConfig
}

// dialerOf returns the Dialer and the TLSConfig in the options of a client.
func dialerOf(c redis.UniversalClient) (dialFunc, *tls.Config) {
	if v := reflect.ValueOf(c); !v.IsValid() || v.Kind() == reflect.Pointer && v.IsNil() {
		return nil, nil
	}
	switch c := c.(type) {
	case *redis.Client:
		return c.Options().Dialer, c.Options().TLSConfig
	case *redis.ClusterClient:
		return c.Options().Dialer, c.Options().TLSConfig
	case *redis.Ring:
		return c.Options().Dialer, c.Options().TLSConfig
	case interface{ Unwrap() redis.UniversalClient }:
		return dialerOf(c.Unwrap())
	}
	return nil, nil
}

// dialFunc is the type of all dialers.
type dialFunc = func(ctx context.Context, network, addr string) (net.Conn, error)

// question is the context with which a Dialer of a binding says which one that is,
// and doesn't dial.
type question struct {
	context.Context
	answer *binding
}

var errQuestion = errors.New("everpool: the Dialer was asked, not told to dial")

// bindingOf returns the binding whose Dialer it is, or nil: one that is not a
// binding's is not called.
func bindingOf(dial dialFunc) *binding {
	if dial == nil || code(dial) != code((*binding)(nil).connect) {
		return nil
	}
	q := &question{Context: context.Background()}
	_, _ = dial(q, "", "")
	return q.answer
}

// code is where the function's code is.
func code(f dialFunc) uintptr { return reflect.ValueOf(f).Pointer() }

// hasMade reports whether Options of d has made o, and it hasn't been changed where it
// must not be.
func (d *Driver) hasMade(o *redis.Options) bool {
	b := bindingOf(o.Dialer)
	return b != nil && b.driver.is(d) && changedSince(&b.returned, o) == nil
}

// changedSince returns what was changed on the options that should have been known
// to Options.
func changedSince(before, now *redis.Options) error {
	var wrong complaints
	for _, f := range []struct {
		name    string
		changed bool
	}{
		{"TLSConfig", before.TLSConfig != now.TLSConfig},
		{"ClientSideCacheConfig", before.ClientSideCacheConfig != now.ClientSideCacheConfig},
		{"ClientSideCache", (before.ClientSideCache == nil) != (now.ClientSideCache == nil)},
		{"StreamingCredentialsProvider", (before.StreamingCredentialsProvider == nil) != (now.StreamingCredentialsProvider == nil)},
	} {
		if f.changed {
			wrong.add("%s was changed on what Options has returned; it is to be set on what Options is given", f.name)
		}
	}
	return errors.Join(wrong...)
}

// orUnmade is the driver, or one that New hasn't made, whose clients are told what is
// wrong.
func (d *Driver) orUnmade() *Driver {
	if d == nil {
		return &Driver{}
	}
	return d
}

// unmade complains of a driver that New hasn't made.
func (d *Driver) unmade() error {
	if d == nil || d.core == nil {
		return errUnmade
	}
	return nil
}

var errUnmade = complaint("the Driver is nil or its zero value; New makes one that works")
