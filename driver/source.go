package driver

import (
	"cmp"
	"errors"
	"log/slog"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/internal/safeaddr"
)

// source is what a URL is the address of, with go-redis's options for it: one of the
// three pointers is set.
type source struct {
	safe      string // the URL without what may be secret
	clustered bool   // the client of what sentinels watch reads from replicas

	single   *redis.Options
	cluster  *redis.ClusterOptions
	failover *redis.FailoverOptions
}

// Kinds of what a client is made for, as [ClientStatus] has them.
const (
	kindSingle   = "standalone"
	kindCluster  = "cluster"
	kindSentinel = "sentinel"
)

func (s *source) kind() string {
	switch {
	case s.cluster != nil:
		return kindCluster
	case s.failover != nil:
		return kindSentinel
	}
	return kindSingle
}

// source has go-redis parse the URL, whose query is without this library's parameters. It
// returns all that is wrong.
func (o *opening) source(u *url.URL, query url.Values) (s source, wrong []error) {
	s.safe = safeURL(u, query, o.isCluster)
	var parse func(rawURL string) error
	base := make(url.Values)
	switch names := query["master_name"]; {
	case len(names) > 0 && names[len(names)-1] != "":
		s.clustered = o.isCluster
		base["master_name"] = names
		parse = func(rawURL string) (err error) { s.failover, err = redis.ParseFailoverURL(rawURL); return err }
	case o.isCluster, query.Has("addr"):
		if path := strings.Trim(u.Path, "/"); u.Scheme != "unix" && path != "" && path != "0" {
			return s, []error{complaint("the URL's path is %q; a cluster has database 0 alone", u.Path)}
		}
		parse = func(rawURL string) (err error) { s.cluster, err = redis.ParseClusterURL(rawURL); return err }
	default:
		parse = func(rawURL string) (err error) { s.single, err = redis.ParseURL(rawURL); return err }
	}
	rest := *u
	if errs := parseAll(parse, &rest, base, query); len(errs) > 0 {
		return s, hideLogin(errs, u, query)
	}
	rest.RawQuery = query.Encode()
	if err := parse(rest.String()); err != nil {
		return s, hideLogin([]error{err}, u, query)
	}
	return s, nil
}

// parseAll has each parameter parsed by itself, with those that say what the URL is the
// address of: go-redis names the first only that is wrong.
func parseAll(parse func(rawURL string) error, u *url.URL, base, query url.Values) (wrong []error) {
	try := func(q url.Values) error {
		u.RawQuery = q.Encode()
		return parse(u.String())
	}
	if err := try(base); err != nil {
		return []error{err}
	}
	for _, name := range slices.Sorted(maps.Keys(query)) {
		one := maps.Clone(base)
		one[name] = query[name]
		if err := try(one); err != nil {
			wrong = append(wrong, err)
		}
	}
	return wrong
}

// hideLogin makes complaints of go-redis's errors, unless a login may be in what they
// show.
func hideLogin(errs []error, u *url.URL, query url.Values) []error {
	at := u.User == nil && strings.Contains(u.RawQuery, "@")
	for _, values := range query {
		at = at || slices.ContainsFunc(values, func(v string) bool { return strings.Contains(v, "@") })
	}
	if at {
		return []error{errStrayAt}
	}
	wrong := make([]error, len(errs))
	for i, err := range errs {
		wrong[i] = complaint("%s", strings.TrimPrefix(err.Error(), "redis: "))
	}
	return wrong
}

// shown is a value that is wrong, without what may be a login in it.
func shown(v string) string {
	if safeaddr.MaybeURL(v) {
		return safeaddr.Of(v)
	}
	return v
}

// safeURL is the URL with nothing in it that may be secret, to tell sources apart.
func safeURL(u *url.URL, query url.Values, isCluster bool) string {
	safe := url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}
	shown := make(url.Values)
	for _, name := range []string{"addr", "master_name", "db"} {
		if v := query[name]; len(v) > 0 {
			shown[name] = v
		}
	}
	if isCluster {
		shown.Set("cluster", "true")
	}
	safe.RawQuery = shown.Encode()
	return safe.String()
}

var errStrayAt = complaint("the URL has an @ behind its host; is everything special in its password percent-encoded?")

// hasStrayAt reports whether there is an @ where none belongs: a password with a /, ?
// or # in it has ended the host too early then, and is in what errors would show.
func hasStrayAt(u *url.URL, query url.Values) bool {
	for name := range query {
		if strings.Contains(name, "@") {
			return true
		}
	}
	return u.Scheme != "unix" && strings.Contains(u.Path, "@") || strings.Contains(u.Fragment, "@")
}

// replicaReads says whether reads go to replicas too.
type replicaReads struct {
	wanted bool
	asked  bool   // by the URL, which knows what it is the address of
	by     string // the key of the map by which it was asked for, if it was
}

// insisted reports whether they are wanted not only by a default.
func (r replicaReads) insisted() bool { return r.wanted && (r.asked || r.by != "") }

func (o *opening) setReplicas(v string) error {
	wanted, err := parseBool(v)
	o.replicas = replicaReads{wanted: wanted, asked: true}
	return err
}

// changes counts what changes options of one kind, by the option's name.
func (o *opening) changes() map[string]int {
	return map[string]int{
		"WithClientOptions": len(o.single), "WithClusterOptions": len(o.cluster), "WithFailoverOptions": len(o.failover),
	}
}

// misplaced returns what was asked for that clients of this kind don't have.
func (o *opening) misplaced(s source) error {
	var wrong complaints
	given := o.changes()
	for _, f := range []struct{ name, kind string }{
		{"WithClientOptions", kindSingle}, {"WithClusterOptions", kindCluster}, {"WithFailoverOptions", kindSentinel},
	} {
		if given[f.name] > o.defaults[f.name] && f.kind != s.kind() {
			wrong.add("%s was given for a URL of the kind %s; it is for the kind %s", f.name, s.kind(), f.kind)
		}
	}
	if o.replicas.wanted && o.replicas.asked && s.single != nil {
		wrong.add("read_from_replicas is true for the URL of one node; that of a cluster has cluster=true or an addr, that of sentinels a master_name")
	}
	return errors.Join(wrong...)
}

// change changes the options of the URL by those of the caller.
func (o *opening) change(s *source) {
	switch {
	case s.cluster != nil:
		s.cluster.RouteRandomly = s.cluster.RouteRandomly || o.replicas.wanted && !s.cluster.RouteByLatency
		changeAll(s.cluster, o.common, o.cluster)
	case s.failover != nil:
		s.failover.RouteRandomly = s.failover.RouteRandomly || o.replicas.insisted() && !s.failover.RouteByLatency
		changeAll(s.failover, o.common, o.failover)
	default:
		if o.replicas.insisted() {
			o.notes = append(o.notes, note{
				"everpool: there are no replicas to read from at the URL of one node; that of a cluster has cluster=true or an addr",
				[]slog.Attr{slog.String("key", o.replicas.by)},
			})
		}
		changeAll(s.single, o.common, o.single)
	}
}

// changeAll applies what holds for clients of all kinds, then what is for this one.
func changeAll[T any](options *T, common []func(*redis.Options), own []func(*T)) {
	for _, f := range common {
		flat := flatten(options)
		f(flat)
		transfer(options, flat)
	}
	for _, f := range own {
		f(options)
	}
}

// client makes the client on the driver, and returns it with its binding, in which is
// what is wrong.
func (s *source) client(d *Driver) (redis.UniversalClient, *binding) {
	switch {
	case s.cluster != nil:
		o := d.ClusterOptions(s.cluster)
		return redis.NewClusterClient(o), bindingOf(o.Dialer)
	case s.failover != nil && s.reads():
		o := d.FailoverOptions(s.failover)
		return redis.NewFailoverClusterClient(o), bindingOf(o.Dialer)
	case s.failover != nil:
		o := d.FailoverOptions(s.failover)
		return redis.NewFailoverClient(o), bindingOf(o.Dialer)
	}
	o := d.Options(s.single)
	return redis.NewClient(o), bindingOf(o.Dialer)
}

// reads reports whether the client of what sentinels watch reads from replicas.
func (s *source) reads() bool {
	return s.clustered || s.failover.RouteRandomly || s.failover.RouteByLatency
}

// badAddrs returns what is wrong with the addresses of several nodes: what is written for
// this library needn't be taken as go-redis takes it.
func (s *source) badAddrs(d *Driver) error {
	switch {
	case s.cluster != nil:
		return errors.Join(d.badAddrs(flatten(s.cluster), s.cluster.Addrs)...)
	case s.failover != nil:
		return errors.Join(d.badAddrs(flatten(s.failover), s.failover.SentinelAddrs)...)
	}
	return nil
}

// network is that of one node, as go-redis has it.
func (s *source) network() string { return cmp.Or(s.single.Network, "tcp") }

// parseBool reads true or false, in any case.
func parseBool(v string) (bool, error) {
	switch strings.ToLower(v) {
	case "true":
		return true, nil
	case "false":
		return false, nil
	}
	return false, errors.New("allowed are true and false")
}
