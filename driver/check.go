package driver

import (
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/pooler"
)

// complaints collects all that is wrong.
type complaints []error

func (c *complaints) add(format string, args ...any) { *c = append(*c, complaint(format, args...)) }

// complaint is an error that wraps [pooler.ErrConfig].
func complaint(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{pooler.ErrConfig}, args...)...)
}

// badAddrs returns what is wrong with the addresses of a client's nodes, in their order.
func (d *Driver) badAddrs(o *redis.Options, addrs []string) (bad []error) {
	custom := d.cfg.Dial != nil || o.Dialer != nil // a dialer of the user's own opens the sockets
	for _, addr := range addrs {
		if err := checkAddr(o.Network, addr, custom); err != nil {
			bad = append(bad, err)
		}
	}
	return bad
}

// checkOptions returns everything that is wrong with the client's options, and with the
// addresses of its nodes, which are wrong already.
func checkOptions(o *redis.Options, bad []error) error {
	var wrong complaints
	wrong.network(o)
	wrong = append(wrong, bad...)
	wrong.sizes(o)
	wrong.times(o)
	if bindingOf(o.Dialer) != nil {
		wrong.add("Dialer is of another everpool driver, or TLSConfig was changed since; give Options what was given to that")
	}
	return errors.Join(wrong...)
}

func (c *complaints) network(o *redis.Options) {
	switch o.Network {
	case "", "tcp", "tcp4", "tcp6":
	case "unix":
		if o.TLSConfig != nil {
			c.add("Network is unix and TLSConfig is set; TLS needs tcp")
		}
	default:
		c.add("Network is %q; allowed are tcp, tcp4, tcp6 and unix", o.Network)
	}
}

func (c *complaints) sizes(o *redis.Options) {
	for _, f := range []struct {
		name  string
		value int
	}{
		{"PoolSize", o.PoolSize},
		{"MinIdleConns", o.MinIdleConns},
		{"MaxIdleConns", o.MaxIdleConns},
		{"MaxActiveConns", o.MaxActiveConns},
		{"ReadBufferSize", o.ReadBufferSize},
		{"WriteBufferSize", o.WriteBufferSize},
	} {
		if f.value < 0 {
			c.add("%s is %d; allowed are 0 and more", f.name, f.value)
		}
	}
}

// minDuration is the least that a duration may be, as in [pooler.Config].
const minDuration = time.Millisecond

// times refuses numbers that were given where durations belong.
func (c *complaints) times(o *redis.Options) {
	for _, f := range []struct {
		name  string
		value time.Duration
	}{
		{"DialTimeout", o.DialTimeout},
		{"ReadTimeout", o.ReadTimeout},
		{"WriteTimeout", o.WriteTimeout},
		{"PoolTimeout", o.PoolTimeout},
		{"ConnMaxIdleTime", o.ConnMaxIdleTime},
		{"ConnMaxLifetime", o.ConnMaxLifetime},
		{"ConnMaxLifetimeJitter", o.ConnMaxLifetimeJitter},
	} {
		if f.value > 0 && f.value < minDuration {
			c.add("%s is %s; allowed are 0, less, and %s or more; is its unit missing?", f.name, f.value, minDuration)
		}
	}
}
