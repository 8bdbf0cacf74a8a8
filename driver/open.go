package driver

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/pooler"
)

// DB is a go-redis client together with the driver that it stands on.
type DB struct {
	redis.UniversalClient

	// Driver is the client's own: Nodes says how its connections are.
	Driver *Driver
}

// Close closes the client, then the driver. Like go-redis's own it fails with
// [redis.ErrClosed] when called again.
func (db *DB) Close() error {
	return errors.Join(db.UniversalClient.Close(), db.Driver.Close())
}

// Unwrap returns the client itself, for those who have to know its type.
func (db *DB) Unwrap() redis.UniversalClient { return db.UniversalClient }

// Option changes what [Open] does.
type Option interface{ apply(*opening) }

// opening is what Open works with.
type opening struct {
	wrong   complaints
	cfg     Config
	options []func(*redis.Options)
	hooks   []redis.Hook
}

type optionFunc func(*opening)

func (f optionFunc) apply(o *opening) { f(o) }

// WithConfig sets the driver's configuration. By default it is the zero Config.
// Parameters of the URL override its fields.
func WithConfig(cfg Config) Option {
	return optionFunc(func(o *opening) { o.cfg = cfg })
}

// WithClientOptions lets f change the client's options after the URL has been
// parsed and before the driver completes them. By default they are what the URL
// says. Given several times, the functions are called in order. nil is an error.
func WithClientOptions(f func(*redis.Options)) Option {
	return optionFunc(func(o *opening) {
		if f == nil {
			o.wrong.add("WithClientOptions was given nil; it needs a function")
			return
		}
		o.options = append(o.options, f)
	})
}

// WithHooks adds hooks to the client: the first is the outermost. One that has an
// Attach method, as [github.com/everpool/everpool/hooks.Hook] has, is attached by
// it, and so learns the server's address. nil is an error.
func WithHooks(hooks ...redis.Hook) Option {
	return optionFunc(func(o *opening) { o.hooks = append(o.hooks, hooks...) })
}

// Open makes a client of one node from a URL: redis://, rediss:// or unix:// as
// [redis.ParseURL] has them, with this library's settings as further parameters:
//
//	max_open_conns, shared_conns, max_waiters       numbers
//	wait_timeout, health_check_interval,            durations, as go-redis's: 5s,
//	health_check_timeout, silence_after,            or a number of seconds; 0 or
//	fail_fast_after, backoff_min, backoff_max       less is off
//	retry                                           safe, all or none
//
// go-redis's own parameters about connections (min_idle_conns, max_idle_conns,
// conn_max_idle_time, conn_max_lifetime, dial_timeout, pool_timeout, ...) apply
// to the node's pool too, see [Driver.Options]. An unknown scheme or parameter
// is an error, and so is anything else that is wrong; it wraps
// [pooler.ErrConfig], names what is wrong and never shows the URL, which may
// hold a password. So is an Option that is nil. Open doesn't connect.
func Open(rawURL string, opts ...Option) (*DB, error) {
	var o opening
	for i, opt := range opts {
		if opt == nil {
			o.wrong.add("option %d is nil", i)
			continue
		}
		opt.apply(&o)
	}
	options, err := o.parse(rawURL)
	d, wrong := New(o.cfg)
	if err = errors.Join(errors.Join(o.wrong...), err, wrong); err != nil {
		return nil, err
	}
	for _, f := range o.options {
		f(options)
	}
	if b := d.bind(options, options.Addr); b.err != nil {
		return nil, b.err
	}
	db := &DB{UniversalClient: redis.NewClient(d.Options(options)), Driver: d}
	if err := db.addHooks(o.hooks); err != nil {
		return nil, errors.Join(err, db.Close())
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
func (o *opening) parse(rawURL string) (*redis.Options, error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		// url's own error shows the URL.
		return nil, fmt.Errorf("%w: the URL can't be parsed; is everything special in its password percent-encoded?", pooler.ErrConfig)
	}
	if !slices.Contains([]string{"redis", "rediss", "unix"}, u.Scheme) {
		return nil, fmt.Errorf("%w: the URL's scheme is %q; allowed are redis, rediss and unix", pooler.ErrConfig, u.Scheme)
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return nil, fmt.Errorf("%w: the URL's parameters can't be parsed", pooler.ErrConfig)
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
				errs = append(errs, fmt.Errorf("%w: %s is %q; %w", pooler.ErrConfig, name, v, err))
			}
		}
	}
	u.RawQuery = query.Encode()
	options, err := redis.ParseURL(u.String())
	if err != nil {
		errs = append(errs, fmt.Errorf("%w: %s", pooler.ErrConfig, strings.TrimPrefix(err.Error(), "redis: ")))
	}
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return options, errors.Join(errs...)
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
			d, err := time.ParseDuration(v)
			if seconds, numeric := strconv.Atoi(v); numeric == nil {
				d, err = time.Duration(seconds)*time.Second, nil
			}
			if err != nil {
				return errors.New("allowed are durations such as 5s, or a number of seconds")
			}
			if *to = d; d <= 0 {
				*to = -1
			}
			return nil
		}
	}
	return map[string]func(string) error{
		"max_open_conns":        number(&p.MaxOpenConns),
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
