package testkit

import "net"

type fakeOptions struct {
	noHello   bool
	noSetInfo bool
	buffer    int
	wrap      func(net.Conn) net.Conn
}

// FakeOption changes what [NewFake] makes.
type FakeOption func(*fakeOptions)

// WithoutHello makes HELLO an unknown command, as on Redis 5.
func WithoutHello() FakeOption { return func(o *fakeOptions) { o.noHello = true } }

// WithoutSetInfo makes CLIENT SETINFO an unknown subcommand, as before Redis 7.2.
func WithoutSetInfo() FakeOption { return func(o *fakeOptions) { o.noSetInfo = true } }

// WithBuffer sets how many bytes each direction of a connection holds before
// a Write blocks. By default [DefaultMemBuffer].
func WithBuffer(n int) FakeOption { return func(o *fakeOptions) { o.buffer = n } }

// WithConnWrapper makes Dial return wrap(conn), to put a [ByteFault] or a
// byte count on the client's end.
func WithConnWrapper(wrap func(net.Conn) net.Conn) FakeOption {
	return func(o *fakeOptions) { o.wrap = wrap }
}
