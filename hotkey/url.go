package hotkey

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// urlPrefix begins the names of all parameters.
const urlPrefix = "track_key_"

// ConfigFromURL takes the parameters of hot-key tracking out of the URL of a
// client, puts them into cfg, and returns that with the rest of the URL, as it
// was, for [redis.ParseURL] or driver.Open:
//
//	track_key_reads_sample_rate, track_key_writes_sample_rate      0, and 1e-9 to 1
//	track_key_max_samples_per_second, track_key_top_n, track_key_max_key_len, track_key_max_members
//	                                                               numbers
//	track_key_window, track_key_flush_interval, track_key_flush_timeout, track_key_ttl, track_key_half_life
//	                              durations such as 10s, or a number of seconds; -1 as in the field
//	track_key_reads_name, track_key_writes_name                    text
//
// They mean what the fields of [Config] do. Of a parameter that is given several
// times the last counts, and an empty one is left out. It fails, with all that is
// wrong in errors that wrap [ErrConfig], for other parameters that begin with
// track_key_, for values that can't be read, and if [Config.Validate] does for the
// result. No error shows the URL, which may hold a password.
func ConfigFromURL(rawURL string, cfg Config) (Config, string, error) {
	if _, err := url.Parse(rawURL); err != nil {
		// url's own error shows the URL.
		return cfg, "", fmt.Errorf("%w: the URL can't be parsed; is everything special in its password percent-encoded?", ErrConfig)
	}
	rest, fragment, _ := strings.Cut(rawURL, "#")
	rest, query, _ := strings.Cut(rest, "?")
	values, query, errs := splitQuery(query)
	set := cfg.parameters()
	for _, name := range slices.Sorted(maps.Keys(values)) {
		value := values[name]
		switch set, known := set[name]; {
		case !known:
			errs = append(errs, fmt.Errorf("%w: %s is unknown", ErrConfig, name))
		case value != "":
			if err := set(value); err != nil {
				errs = append(errs, fmt.Errorf("%w: %s is %q; %w", ErrConfig, name, value, err))
			}
		}
	}
	if err := cfg.Validate(); err != nil {
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return cfg, "", err
	}
	if query != "" {
		rest += "?" + query
	}
	if fragment != "" {
		rest += "#" + fragment
	}
	return cfg, rest, nil
}

// splitQuery takes the parameters of this package out of a query. The others stay
// as they were written.
func splitQuery(query string) (values map[string]string, rest string, errs []error) {
	values = make(map[string]string)
	var others []string
	for part := range strings.SplitSeq(query, "&") {
		rawName, rawValue, _ := strings.Cut(part, "=")
		name, err := url.QueryUnescape(rawName)
		if err != nil || !strings.HasPrefix(name, urlPrefix) {
			others = append(others, part)
			continue
		}
		value, err := url.QueryUnescape(rawValue)
		if err != nil {
			errs = append(errs, fmt.Errorf("%w: %s isn't percent-encoded rightly", ErrConfig, name))
			continue
		}
		values[name] = value
	}
	return values, strings.Join(others, "&"), errs
}

// parameters are the settings that a URL may give, by their names.
func (cfg *Config) parameters() map[string]func(string) error {
	rate := func(to *float64) func(string) error {
		return func(v string) (err error) {
			n, err := strconv.ParseFloat(v, 64)
			if err != nil || !isRate(n) {
				return errors.New(allowedRates)
			}
			*to = n
			return nil
		}
	}
	number := func(to *int) func(string) error {
		return func(v string) error {
			n, err := strconv.Atoi(v)
			if err != nil {
				return errors.New("allowed are whole numbers")
			}
			*to = n
			return nil
		}
	}
	duration := func(to *time.Duration) func(string) error {
		return func(v string) error {
			d, err := time.ParseDuration(v)
			if seconds, numeric := strconv.ParseInt(v, 10, 32); numeric == nil {
				d, err = time.Duration(seconds)*time.Second, nil
			}
			if v == "-1" {
				d = off
			}
			if err != nil {
				return errors.New("allowed are durations such as 10s, or a number of seconds")
			}
			*to = d
			return nil
		}
	}
	text := func(to *string) func(string) error {
		return func(v string) error {
			*to = v
			return nil
		}
	}
	return map[string]func(string) error{
		urlPrefix + "reads_sample_rate":      rate(&cfg.ReadSampleRate),
		urlPrefix + "writes_sample_rate":     rate(&cfg.WriteSampleRate),
		urlPrefix + "max_samples_per_second": number(&cfg.MaxSamplesPerSecond),
		urlPrefix + "top_n":                  number(&cfg.TopN),
		urlPrefix + "max_key_len":            number(&cfg.MaxKeyLen),
		urlPrefix + "window":                 duration(&cfg.Window),
		urlPrefix + "flush_interval":         duration(&cfg.FlushInterval),
		urlPrefix + "flush_timeout":          duration(&cfg.FlushTimeout),
		urlPrefix + "max_members":            number(&cfg.MaxMembers),
		urlPrefix + "half_life":              duration(&cfg.HalfLife),
		urlPrefix + "ttl":                    duration(&cfg.TTL),
		urlPrefix + "reads_name":             text(&cfg.ReadsKey),
		urlPrefix + "writes_name":            text(&cfg.WritesKey),
	}
}
