package doctor

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/pooler"
)

// target is what the URL is the address of: one of the three is set.
type target struct {
	single   *redis.Options
	cluster  *redis.ClusterOptions
	failover *redis.FailoverOptions
}

// checkURL has the driver read the URL.
func checkURL(_ context.Context, k *known) []Finding {
	k.secrets.addMistaken(k.rawURL)
	db, err := open(k.rawURL, driver.Config{})
	if err != nil {
		return k.mistakes(err)
	}
	err = db.Close()
	if err == nil {
		k.target, err = read(k.rawURL)
	}
	if err != nil {
		return k.mistakes(err)
	}
	k.secrets = nil // the URL is good, and says which they are
	k.secrets.addAll(k.target)
	k.secrets.addStray(k.rawURL)
	k.addrs = k.target.addrs()
	all := []Finding{found(OK, "%s names %s", k.safeURL(), k.clean(k.target.String()))}
	if k.target.namesOnlyUser() {
		all = append(all, found(Warning, "the URL has a user and no password, so nobody logs in: what is before the @ without a colon is a user").
			advise("a password alone is written redis://:password@host"))
	}
	return all
}

// mistakes are findings of all that the driver says is wrong with the URL.
func (k *known) mistakes(err error) (all []Finding) {
	advice := "mend the URL; go doc github.com/everpool/everpool/driver.Open has all that it may say"
	if !strings.Contains(k.rawURL, "://") { // an address alone, most likely
		advice = "write redis://host:port, or rediss://host:port with TLS; go doc github.com/everpool/everpool/driver.Open has all that a URL may say"
	}
	for line := range strings.Lines(err.Error()) {
		text := strings.TrimPrefix(k.clean(strings.TrimSpace(line)), pooler.ErrConfig.Error()+": ")
		all = append(all, found(Failed, "%s", text).advise(advice))
	}
	return all
}

// open makes a client of the driver that logs nothing.
func open(rawURL string, cfg driver.Config, opts ...driver.Option) (*driver.DB, error) {
	cfg.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	return driver.Open(rawURL, append([]driver.Option{driver.WithConfig(cfg)}, opts...)...)
}

// read returns the options that the driver has read in the URL. It takes options of the
// URL's own kind alone.
func read(rawURL string) (t target, err error) {
	var errs []error
	for _, opt := range []driver.Option{
		driver.WithClientOptions(func(o *redis.Options) { t.single = o }),
		driver.WithClusterOptions(func(o *redis.ClusterOptions) { t.cluster = o }),
		driver.WithFailoverOptions(func(o *redis.FailoverOptions) { t.failover = o }),
	} {
		db, err := open(rawURL, driver.Config{}, opt)
		if err == nil {
			return t, db.Close()
		}
		errs = append(errs, err)
	}
	return t, errors.Join(errs...)
}

func (s *secrets) addAll(t target) {
	if t.failover != nil {
		s.add(t.failover.SentinelPassword)
	}
	s.add(t.node("").Password)
}

// addrs are those that the URL names.
func (t target) addrs() []string {
	switch {
	case t.cluster != nil:
		return t.cluster.Addrs
	case t.failover != nil:
		return t.failover.SentinelAddrs
	}
	return []string{t.single.Addr}
}

// String says what is named.
func (t target) String() string {
	addrs := strings.Join(t.addrs(), ", ")
	switch {
	case t.cluster != nil:
		return "a cluster, known by " + addrs
	case t.failover != nil:
		return fmt.Sprintf("the master %q of the sentinels %s", t.failover.MasterName, addrs)
	}
	return fmt.Sprintf("one server, %s, database %d", addrs, t.single.DB)
}

// network is how nodes are dialed.
func (t target) network() string {
	if t.single != nil {
		return cmp.Or(t.single.Network, "tcp")
	}
	return "tcp"
}

// tls is the configuration that the URL asks for, or nil.
func (t target) tls() *tls.Config {
	switch {
	case t.cluster != nil:
		return t.cluster.TLSConfig
	case t.failover != nil:
		return t.failover.TLSConfig
	}
	return t.single.TLSConfig
}

// node are the options with which a node is logged into.
func (t target) node(addr string) *redis.Options {
	o := &redis.Options{Network: t.network(), Addr: addr, TLSConfig: t.tls()}
	switch {
	case t.cluster != nil:
		c := t.cluster
		o.Username, o.Password, o.Protocol, o.ClientName = c.Username, c.Password, c.Protocol, c.ClientName
	case t.failover != nil:
		f := t.failover
		o.Username, o.Password, o.Protocol, o.ClientName, o.DB = f.Username, f.Password, f.Protocol, f.ClientName, f.DB
	default:
		s := t.single
		o.Username, o.Password, o.Protocol, o.ClientName, o.DB = s.Username, s.Password, s.Protocol, s.ClientName, s.DB
	}
	return o
}

// namesOnlyUser reports whether there is a user without a password.
func (t target) namesOnlyUser() bool {
	o := t.node("")
	return o.Username != "" && o.Password == ""
}

// sentinel are the options with which a sentinel is logged into.
func (t target) sentinel(addr string) *redis.Options {
	f := t.failover
	return &redis.Options{
		Addr: addr, TLSConfig: f.TLSConfig, Protocol: f.Protocol,
		Username: f.SentinelUsername, Password: f.SentinelPassword,
	}
}

// safeURL is the URL without its login and without what else may be secret. The driver
// has parsed it.
func (k *known) safeURL() string {
	u, err := url.Parse(k.rawURL)
	if err != nil {
		return "the URL"
	}
	query := u.Query()
	for name := range query {
		if strings.Contains(strings.ToLower(name), "password") {
			query.Set(name, "***")
		}
	}
	safe := url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path, RawQuery: strings.ReplaceAll(query.Encode(), "%2A%2A%2A", "***")}
	return k.clean(safe.String())
}
