package driver

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/internal/wiring"
	"github.com/everpool/everpool/pooler"
)

// DB is a go-redis client together with the driver that it stands on.
type DB struct {
	redis.UniversalClient

	// Driver is the client's own: Nodes says how its connections are. A client of a
	// [Manager] has the manager's, with the nodes of all its clients.
	Driver *Driver

	source  source
	binding *binding
	shared  bool           // the driver is a manager's, and outlives the client
	ends    []func() error // of what was started for the client
	detach  func()         // ends its gathering; nil: there is none
}

// Close closes the client, then the driver, unless that is a [Manager]'s. Like
// go-redis's own it fails with [redis.ErrClosed] when called again.
func (db *DB) Close() error {
	err := errors.Join(db.end(), db.UniversalClient.Close())
	if db.detach != nil {
		db.detach() // which waits for batches, and those now wait for no reply
	}
	if db.shared {
		return err
	}
	return errors.Join(err, db.Driver.Close())
}

// end ends what was started for the client.
func (db *DB) end() error {
	var errs []error
	for _, end := range db.ends {
		errs = append(errs, end())
	}
	return errors.Join(errs...)
}

// String returns the URL, without what may be secret.
func (db *DB) String() string { return db.source.safe }

// Unwrap returns the client itself, for those who have to know its type.
func (db *DB) Unwrap() redis.UniversalClient { return db.UniversalClient }

// Option changes what [Open] does: one of this package's, or otelhooks.Option,
// promhooks.Option and hotkey.Option, which have the client and its pools watched.
type Option interface{ Wire(*wiring.Client) error }

// applier is an option of this package.
type applier interface{ apply(*opening) }

// opening is what Open works with.
type opening struct {
	wrong    complaints
	cfg      Config
	single   []func(*redis.Options)
	cluster  []func(*redis.ClusterOptions)
	failover []func(*redis.FailoverOptions)
	common   []func(*redis.Options) // of what clients of all kinds have
	hooks    []redis.Hook
	watching []Option // of other packages, after the hooks
	gathers  bool     // after these
	replicas replicaReads

	defaults  map[string]int // changes that may be for URLs of other kinds
	ownConfig bool           // of the client, not the manager's
	isCluster bool           // the URL says cluster=true

	notes []note // for the log
}

type optionFunc func(*opening)

func (f optionFunc) apply(o *opening) { f(o) }

// Wire refuses.
func (optionFunc) Wire(*wiring.Client) error { return errOnlyForOpen }

// WithConfig sets the driver's configuration. By default it is the zero Config, in
// [Manager.Add] the manager's; there a client that is given one shares nodes with others
// unless a Dial or a MapAddr is in either. Parameters of the URL override its fields.
func WithConfig(cfg Config) Option {
	return optionFunc(func(o *opening) { o.cfg, o.ownConfig = cfg, true })
}

// WithClientOptions lets f change the options of a client of one node after the URL has
// been parsed and before the driver completes them. By default they are what the URL
// says. Given several times, the functions are called in order. nil is an error, and so
// is the URL of a cluster or of sentinels: see [WithClusterOptions] and
// [WithFailoverOptions].
func WithClientOptions(f func(*redis.Options)) Option {
	return optionFunc(func(o *opening) { addChange(o, &o.single, f, "WithClientOptions") })
}

// WithClusterOptions is what [WithClientOptions] is, for the URL of a cluster. For any
// other URL it is an error.
func WithClusterOptions(f func(*redis.ClusterOptions)) Option {
	return optionFunc(func(o *opening) { addChange(o, &o.cluster, f, "WithClusterOptions") })
}

// WithFailoverOptions is what [WithClientOptions] is, for a URL with master_name. For
// any other URL it is an error.
func WithFailoverOptions(f func(*redis.FailoverOptions)) Option {
	return optionFunc(func(o *opening) { addChange(o, &o.failover, f, "WithFailoverOptions") })
}

func addChange[T any](o *opening, to *[]func(*T), f func(*T), name string) {
	if f == nil {
		o.wrong.add("%s was given nil; it needs a function", name)
		return
	}
	*to = append(*to, f)
}

// WithHooks adds hooks to the client: the first is the outermost. One that has an
// Attach method, as [github.com/everpool/everpool/hooks.Hook] has, is attached by
// it, and so learns the server's address. nil is an error.
func WithHooks(hooks ...redis.Hook) Option {
	return optionFunc(func(o *opening) { o.hooks = append(o.hooks, hooks...) })
}

// Open makes a client from a URL. What the URL says decides of what kind:
//
//	redis://user:password@host:6379/2            one node, as redis.ParseURL has it;
//	                                             rediss:// with TLS, unix:// for sockets
//	redis://host1:6379?addr=host2:6379           a cluster, by any number of its nodes,
//	redis://host1:6379?cluster=true              as redis.ParseClusterURL has it
//	redis://host1:26379?master_name=main         what sentinels watch, by any number of them,
//	                                             as redis.ParseFailoverURL has it. The user
//	                                             before the @ is the sentinels'; username and
//	                                             password are the nodes'
//
// One node of a cluster looks like any node; cluster=true says that it is one. With
// master_name and route_randomly, route_by_latency or cluster=true the client is made by
// [redis.NewFailoverClusterClient], which reads from replicas where the former two say
// so; else it is a [redis.NewFailoverClient].
//
// These are parameters of this library:
//
//	max_open_conns, max_open_conns_total,           numbers
//	shared_conns, max_waiters
//	wait_timeout, health_check_interval,            durations, as go-redis's: 5s,
//	health_check_timeout, silence_after,            or a number of seconds; 0 or
//	fail_fast_after, backoff_min, backoff_max       less is off
//	retry                                           safe, all or none
//	cluster                                         true or false
//	read_from_replicas                              true or false (the default): reads go
//	                                                to any node of the slot, as route_randomly;
//	                                                an error for one node
//
// go-redis's own parameters about connections (min_idle_conns, max_idle_conns,
// conn_max_idle_time, conn_max_lifetime, dial_timeout, pool_timeout, ...) apply
// to each node's pool too, see [Driver.Options], [Driver.ClusterOptions] and
// [Driver.FailoverOptions]. Of a parameter that is given several times the last one
// counts, but for addr, and an empty one is none. An unknown scheme or parameter is an
// error, and so is anything else that is wrong; it wraps [pooler.ErrConfig], names all
// that is wrong and never shows the URL, which may hold a password. So is an Option that
// is nil. Open doesn't connect.
func Open(rawURL string, opts ...Option) (*DB, error) {
	o, s, err := prepare(Config{}, rawURL, nil, opts)
	if err != nil {
		return nil, err
	}
	d, err := New(o.cfg)
	if err != nil {
		return nil, err
	}
	db, err := o.client(d, s)
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return db, nil
}

// prepare reads the URL and the options, of which the defaults may be for URLs of other
// kinds. Its error is all that is wrong with them.
func prepare(cfg Config, rawURL string, defaults, opts []Option) (*opening, source, error) {
	o := &opening{cfg: cfg}
	o.take(defaults)
	o.defaults, o.ownConfig = o.changes(), false
	o.take(opts)
	s, err := o.parse(rawURL)
	if err == nil {
		err = o.misplaced(s)
	}
	return o, s, errors.Join(errors.Join(o.wrong...), err, o.cfg.validate())
}

func (o *opening) take(opts []Option) {
	for i, opt := range opts {
		switch opt := opt.(type) {
		case nil:
			o.wrong.add("option %d is nil", i)
		case applier:
			opt.apply(o)
		default:
			o.watching = append(o.watching, opt)
		}
	}
}

// client makes the client of what the URL has said. On an error nothing is left of it.
func (o *opening) client(d *Driver, s source) (*DB, error) {
	o.change(&s)
	c, b := s.client(d)
	if err := cmp.Or(d.wrongWith(b), s.badAddrs(d)); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	db := &DB{UniversalClient: c, Driver: d, source: s, binding: b}
	db.ends = append(db.ends, func() error { b.end(); return nil })
	err := db.addHooks(o.hooks)
	if err == nil {
		err = db.watch(o.watching)
	}
	if err == nil && o.gathers {
		err = db.gather()
	}
	if err != nil {
		return nil, errors.Join(err, db.end(), c.Close())
	}
	if c, ok := c.(*redis.ClusterClient); ok && !o.gathers {
		d.Bind(c)
	}
	for _, n := range o.notes {
		d.cfg.Logger.LogAttrs(context.Background(), slog.LevelWarn, n.text, n.attrs...)
	}
	return db, nil
}

func (db *DB) addHooks(hooks []redis.Hook) error {
	for i, h := range hooks {
		switch h := h.(type) {
		case nil:
			return fmt.Errorf("%w: hook %d is nil", pooler.ErrConfig, i)
		case interface {
			Attach(redis.UniversalClient) (func(), error)
		}:
			if _, err := h.Attach(db.UniversalClient); err != nil {
				return err
			}
		default:
			db.AddHook(h)
		}
	}
	return nil
}

// parse takes this library's parameters out of the URL, and leaves the rest to
// go-redis.
func (o *opening) parse(rawURL string) (source, error) {
	u, err := url.Parse(rawURL)
	switch {
	case strings.TrimSpace(rawURL) != rawURL:
		return source{}, complaint("the URL has white space around it; is there a line feed at its end?")
	case rawURL != "" && !strings.Contains(rawURL, "://"):
		return source{}, complaint("the URL begins with none of redis://, rediss:// and unix://")
	case err != nil:
		// url's own error shows the URL.
		return source{}, complaint("the URL can't be parsed; is everything special in its password percent-encoded, and does each host but the first have an addr parameter?")
	}
	if !slices.Contains([]string{"redis", "rediss", "unix"}, u.Scheme) {
		return source{}, complaint("the URL's scheme is %q; allowed are redis, rediss and unix", u.Scheme)
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return source{}, complaint("the URL's parameters can't be parsed")
	}
	if hasStrayAt(u, query) {
		return source{}, errStrayAt
	}
	var errs []error
	for name, set := range o.parameters() {
		values, ok := query[name]
		if !ok {
			continue
		}
		query.Del(name)
		if v := values[len(values)-1]; v != "" {
			if err := set(v); err != nil {
				errs = append(errs, complaint("%s is %q; %w", name, shown(v), err))
			}
		}
	}
	s, wrong := o.source(u, query)
	errs = append(errs, wrong...)
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return s, errors.Join(errs...)
}

// parameters are the settings that a URL may give, by their names.
func (o *opening) parameters() map[string]func(string) error {
	p := &o.cfg.Pool
	number := func(to *int) func(string) error {
		return func(v string) (err error) {
			if *to, err = strconv.Atoi(v); err != nil {
				return errors.New("allowed are whole numbers")
			}
			return nil
		}
	}
	duration := func(to *time.Duration) func(string) error {
		return func(v string) error {
			if _, err := strconv.Atoi(v); err == nil {
				v += "s"
			}
			d, err := time.ParseDuration(v)
			if err != nil {
				return errors.New("allowed are durations such as 5s, or a number of seconds")
			}
			if *to = d; d <= 0 {
				*to = -1
			}
			return nil
		}
	}
	boolean := func(to *bool) func(string) error {
		return func(v string) (err error) {
			*to, err = parseBool(v)
			return err
		}
	}
	return map[string]func(string) error{
		"max_open_conns":        number(&p.MaxOpenConns),
		"max_open_conns_total":  number(&o.cfg.MaxOpenConnsTotal),
		"shared_conns":          number(&p.SharedConns),
		"max_waiters":           number(&p.MaxWaiters),
		"wait_timeout":          duration(&p.WaitTimeout),
		"health_check_interval": duration(&p.HealthCheckInterval),
		"health_check_timeout":  duration(&p.HealthCheckTimeout),
		"silence_after":         duration(&p.SilenceAfter),
		"fail_fast_after":       duration(&p.FailFastAfter),
		"backoff_min":           duration(&p.BackoffMin),
		"backoff_max":           duration(&p.BackoffMax),
		"retry":                 o.setRetry,
		"cluster":               boolean(&o.isCluster),
		"read_from_replicas":    o.setReplicas,
	}
}

func (o *opening) setRetry(v string) error {
	for _, r := range []Retry{RetrySafe, RetryAll, RetryNone} {
		if v == r.String() {
			o.cfg.Retry = r
			return nil
		}
	}
	return errors.New("allowed are safe, all and none")
}
