package promhooks

import (
	"errors"
	"fmt"
	"math"
	"unicode/utf8"

	"github.com/everpool/everpool/internal/safeaddr"
)

// Setting changes what [Option], [NewMetrics], [NewPool] and [NewStockPool] make. One list
// may be given to all of them: each takes what concerns its metrics.
type Setting interface{ apply(*config) }

type setting func(*config)

func (f setting) apply(c *config) { f(c) }

// config is what the settings say.
type config struct {
	buckets      []float64
	factor       float64
	exemplars    bool
	baseplate    bool
	redisType    string
	redisManager bool
}

// defaultBuckets suit a server that is near: 50 µs to 5 s.
var defaultBuckets = []float64{
	.00005, .0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5,
}

const (
	// defaultFactor is the growth of native buckets: an error of 5 % at most.
	defaultFactor = 1.1
	nativeOff     = -1
)

// WithBuckets sets the upper bounds of the classic buckets of all metrics whose
// name ends in _duration_seconds, and of redis_connection_latency_seconds, in seconds,
// rising. By default there are 16, from 50 µs to 5 s. An empty list leaves all
// histograms, those of other names too, only the native buckets.
func WithBuckets(seconds []float64) Setting {
	seconds = append([]float64{}, seconds...)
	return setting(func(c *config) { c.buckets = seconds })
}

// WithNativeHistograms sets by which factor at most a native bucket is wider than
// the one before, more than 1; there are at most 160 of them in a series, and when
// they don't suffice they get wider. By default, and for 0, it is 1.1. -1 leaves
// only the classic buckets.
func WithNativeHistograms(factor float64) Setting {
	return setting(func(c *config) { c.factor = factor })
}

// WithExemplars adds the trace_id and the span_id of a sampled span to what the
// histograms of commands and batches have observed last in each bucket. By default
// there are none. The observer that makes the spans has to come before the
// [Metrics] in hooks.New. Exemplars are seen by scrapes in the OpenMetrics format:
// promhttp.HandlerOpts.EnableOpenMetrics.
func WithExemplars(on bool) Setting {
	return setting(func(c *config) { c.exemplars = on })
}

// WithBaseplateNames has metrics of the names that Baseplate uses, in addition to
// the package's own, so that a dashboard made for it keeps working:
//
//	redis_client_latency_seconds{redis_command,redis_database,redis_success}   histogram
//	redis_client_requests_total{redis_command,redis_database,redis_success}    counter
//	redis_client_active_requests{redis_command,redis_database}                 gauge
//	redis_client_pool_max_size, _idle_connections, _active_connections         gauges
//
// The first three are of [NewMetrics], with redis_client_name (the client's name) and
// redis_type, see [WithRedisType]; those of the pool are of [NewPool] and
// [NewStockPool], with redis_pool (the client's name again), all nodes added up.
// redis_command of a batch is "pipeline"; redis_database is the number, "" if the
// hook wasn't attached by hooks.Hook.Attach; redis_success is true for a miss too;
// active connections are those in use. WithBuckets doesn't change these buckets:
// they are Baseplate's.
func WithBaseplateNames() Setting {
	return setting(func(c *config) { c.baseplate = true })
}

// WithRedisType sets the value of the label redis_type of [WithBaseplateNames]:
// standalone, cluster or sentinel. By default it is standalone.
func WithRedisType(redisType string) Setting {
	return setting(func(c *config) { c.redisType = redisType })
}

// WithRedisManagerNames has metrics of the names that redis-manager uses, in
// addition to the package's own, so that a dashboard made for it keeps working:
//
//	redis_pool_size, _active, _idle          gauges, connections
//	redis_pool_healthy, _unhealthy           gauges, 1 or 0: of a node that isn't down
//	redis_connections_created_total          counter, dials that have succeeded
//	redis_failed_connections_total           counter, dials that haven't
//	redis_idle_cleanup_events_total          counter, connections closed for being idle
//	redis_connection_latency_seconds         histogram, of dials
//
// They are of [NewPool], the first three of [NewStockPool] too. The counters are
// there called as Prometheus has always seen them: redis-manager's Python client
// adds _total to what the program says. The label node_redis_url is kept for the
// dashboards' sake; its value is the node's host:port and never a URL, which would
// show the password.
func WithRedisManagerNames() Setting {
	return setting(func(c *config) { c.redisManager = true })
}

// newConfig returns the settings with the defaults, or all that is wrong with them
// and with the client's name.
func newConfig(client string, settings []Setting) (config, error) {
	c := config{buckets: defaultBuckets, redisType: "standalone"}
	var errs []error
	for i, s := range settings {
		if s == nil {
			errs = append(errs, fmt.Errorf("promhooks: setting %d is nil", i))
			continue
		}
		s.apply(&c)
	}
	if c.factor == 0 {
		c.factor = defaultFactor
	}
	errs = append(errs, checkClient(client), c.validate())
	return c, errors.Join(errs...)
}

func (c *config) validate() error {
	var errs []error
	for i, b := range c.buckets {
		switch {
		case math.IsNaN(b) || math.IsInf(b, 0) || b <= 0:
			errs = append(errs, fmt.Errorf("promhooks: WithBuckets: bound %d is %v; allowed are finite numbers above 0", i, b))
		case i > 0 && b <= c.buckets[i-1]:
			errs = append(errs, fmt.Errorf("promhooks: WithBuckets: bound %d is %v after %v; the bounds have to rise", i, b, c.buckets[i-1]))
		}
	}
	if f := c.factor; f != nativeOff && !(f > 1 && !math.IsInf(f, 0)) {
		errs = append(errs, fmt.Errorf("promhooks: WithNativeHistograms: factor is %v; allowed are numbers above 1, 0 (1.1) and -1 (off)", f))
	}
	if c.factor == nativeOff && len(c.buckets) == 0 {
		errs = append(errs, errors.New("promhooks: WithBuckets is empty and WithNativeHistograms is -1; a histogram needs classic or native buckets"))
	}
	switch c.redisType {
	case "standalone", "cluster", "sentinel":
	default:
		errs = append(errs, fmt.Errorf("promhooks: WithRedisType: type is %q; allowed are standalone, cluster and sentinel", c.redisType))
	}
	return errors.Join(errs...)
}

// checkClient refuses what would make a bad label. What may be a URL isn't shown:
// it may hold a password.
func checkClient(client string) error {
	switch {
	case client == "":
		return errors.New(`promhooks: client is ""; a name is required`)
	case safeaddr.MaybeURL(client):
		return errors.New("promhooks: client has :// or @ in it, as URLs have; a name is required, since a URL may hold a password")
	case !utf8.ValidString(client):
		return fmt.Errorf("promhooks: client is %q; it has to be valid UTF-8", client)
	}
	return nil
}
