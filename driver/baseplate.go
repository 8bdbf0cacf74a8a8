package driver

import (
	"cmp"
	"errors"
	"log/slog"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/internal/tracking"
	"github.com/everpool/everpool/internal/wiring"
)

// ConfigFromMap reads the configuration of a client as programs on Baseplate have it:
// keys that begin with prefix, which must end in a dot, as rediscluster.url. It returns
// what to give to [Open], or to [Manager.Add]:
//
//	url                          required; see Open. A single node of a cluster must say so there: ?cluster=true
//	max_connections              1 and more; 50. It bounds the sockets of all nodes together
//	                             (see Config.MaxOpenConnsTotal)
//	max_connections_per_node     true or false (the default); true: it bounds those of each node
//	timeout                      how long a request waits for a connection, and the two below where they aren't given
//	socket_connect_timeout       of a dial
//	socket_timeout               of a reply, and of sending
//	read_from_replicas           true (the default) or false: reads go to any node of their slot, the master or
//	                             a replica, at random. One node has none, which is ignored; with
//	                             master_name only if it is given
//	track_key_reads_sample_rate  0 (the default), and 1e-9 to 1: the share of the reads whose keys are counted,
//	track_key_writes_sample_rate in Baseplate's sorted sets. The program has to import package hotkey
//
// skip_full_coverage_check, nodemanager_follow_cluster and decode_responses are accepted,
// have no effect, and are logged when the client is made. Times are timespans such as
// "200 milliseconds", "3 seconds" or "1 minute", up to days, or Go's, such as 200ms; the
// least is 1ms. White space around a value doesn't count, and an empty one is none. Keys
// with another prefix are others' and are left alone.
//
// What the URL says goes before what the map says; a [WithConfig] has to be given before
// the options that are returned. The error names all that is wrong and what is allowed,
// wraps [pooler.ErrConfig], and doesn't show the URL, which Open looks at.
func ConfigFromMap(prefix string, m map[string]string) (url string, opts []Option, err error) {
	if !strings.HasSuffix(prefix, ".") {
		return "", nil, complaint("the prefix is %q; it must end in a dot", shown(prefix))
	}
	c := mapped{prefix: prefix, replicas: replicaReads{wanted: true}}
	keys := c.keys(&url)
	var wrong complaints
	for _, key := range slices.Sorted(maps.Keys(m)) {
		name, ours := strings.CutPrefix(key, prefix)
		set, known := keys[name]
		value := strings.TrimSpace(m[key])
		switch {
		case !ours:
		case !known:
			wrong.add("%s is unknown; allowed are, after %s, %s", prefix+shown(name), prefix, strings.Join(slices.Sorted(maps.Keys(keys)), ", "))
		case value != "":
			if err := set(value); err != nil {
				wrong.add("%s is %q; %w", key, shown(value), err)
			}
		}
	}
	if url == "" {
		wrong.add("%surl is missing; it is the URL of a node, a cluster or sentinels", prefix)
	}
	if c.reads+c.writes > 0 && tracking.Option == nil {
		wrong.add("%strack_key_reads_sample_rate or %[1]strack_key_writes_sample_rate is above 0, and hot keys aren't tracked in this program; import github.com/everpool/everpool/hotkey, if only as _", prefix)
	}
	if len(wrong) > 0 {
		return "", nil, errors.Join(wrong...)
	}
	return url, []Option{&c}, nil
}

// mapped is what a map has said but for the URL: options may be printed.
type mapped struct {
	prefix   string
	max      int
	perNode  bool
	timeout  time.Duration
	dial     time.Duration
	socket   time.Duration
	replicas replicaReads
	reads    float64
	writes   float64
	ignored  []string
}

const defaultMaxConnections = 50 // Baseplate's

// keys are the settings by their names.
func (c *mapped) keys(url *string) map[string]func(string) error {
	ignored := func(name string) func(string) error {
		return func(v string) error {
			c.ignored = append(c.ignored, name)
			_, err := parseBool(v)
			return err
		}
	}
	return map[string]func(string) error{
		"url":                          func(v string) error { *url = v; return nil },
		"max_connections":              c.setMax,
		"max_connections_per_node":     func(v string) (err error) { c.perNode, err = parseBool(v); return err },
		"timeout":                      timespan(&c.timeout),
		"socket_connect_timeout":       timespan(&c.dial),
		"socket_timeout":               timespan(&c.socket),
		"read_from_replicas":           c.setReplicas,
		"track_key_reads_sample_rate":  sampleRate(&c.reads),
		"track_key_writes_sample_rate": sampleRate(&c.writes),
		"skip_full_coverage_check":     ignored("skip_full_coverage_check"),
		"nodemanager_follow_cluster":   ignored("nodemanager_follow_cluster"),
		"decode_responses":             ignored("decode_responses"),
	}
}

func (c *mapped) setMax(v string) (err error) {
	if c.max, err = strconv.Atoi(v); err != nil || c.max < 1 {
		return errors.New("allowed are whole numbers from 1")
	}
	return nil
}

func (c *mapped) setReplicas(v string) (err error) {
	c.replicas.by = c.prefix + "read_from_replicas"
	c.replicas.wanted, err = parseBool(v)
	return err
}

// Wire refuses.
func (*mapped) Wire(*wiring.Client) error { return errOnlyForOpen }

// apply makes it options of Open.
func (c *mapped) apply(o *opening) {
	p := &o.cfg.Pool
	if p.MaxOpenConns = cmp.Or(c.max, p.MaxOpenConns, defaultMaxConnections); !c.perNode {
		o.cfg.MaxOpenConnsTotal = cmp.Or(c.max, o.cfg.MaxOpenConnsTotal, p.MaxOpenConns)
	}
	p.WaitTimeout = cmp.Or(c.timeout, p.WaitTimeout)
	p.DialTimeout = cmp.Or(c.dial, p.DialTimeout, c.timeout)
	o.common = append(o.common, func(options *redis.Options) {
		socket := cmp.Or(c.socket, c.timeout)
		options.ReadTimeout = cmp.Or(options.ReadTimeout, socket)
		options.WriteTimeout = cmp.Or(options.WriteTimeout, socket)
	})
	o.replicas = c.replicas
	if c.reads+c.writes > 0 {
		o.watching = append(o.watching, tracking.Option(c.reads, c.writes))
	}
	for _, name := range c.ignored {
		o.notes = append(o.notes, note{"everpool: a setting is accepted and has no effect", []slog.Attr{slog.String("key", c.prefix+name)}})
	}
}

// units of a timespan.
var units = map[string]time.Duration{
	"millisecond": time.Millisecond, "second": time.Second, "minute": time.Minute, "hour": time.Hour, "day": 24 * time.Hour,
}

// timespan reads a length of time, as Baseplate or Go writes it.
func timespan(to *time.Duration) func(string) error {
	return func(v string) (err error) {
		if words := strings.Fields(v); len(words) == 2 {
			n, bad := strconv.Atoi(words[0])
			scale := units[strings.TrimSuffix(words[1], "s")]
			if bad != nil || scale == 0 || n < 1 || n > int(math.MaxInt64/scale) {
				return errTimespan
			}
			*to = time.Duration(n) * scale
		} else {
			*to, err = time.ParseDuration(v)
		}
		if err != nil || *to < minDuration {
			return errTimespan
		}
		return nil
	}
}

var errTimespan = errors.New("allowed are timespans of 1ms and more, such as 200 milliseconds, 3 seconds, 1 minute, 2 hours, 1 day or 200ms")

// sampleRate reads a share of commands.
func sampleRate(to *float64) func(string) error {
	return func(v string) (err error) {
		n, err := strconv.ParseFloat(v, 64)
		if err != nil || n != 0 && !(n >= 1e-9 && n <= 1) {
			return errors.New("allowed are 0, and 1e-9 to 1")
		}
		*to = n
		return nil
	}
}
