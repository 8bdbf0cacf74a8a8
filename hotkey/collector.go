package hotkey

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/everpool/everpool/internal/safeaddr"
)

// CollectorConfig says what of the hot keys a [Collector] exports. Keys as labels
// have no bound over time, and may tell about people, so nothing is exported that
// isn't asked for here.
type CollectorConfig struct {
	// Client is the value of the label client, as in package promhooks. It is
	// needed, and no URL.
	Client string
	// TopN is how many keys of each class are exported at a time, 1 to 100.
	// 0: 10.
	TopN int
	// Allow says which names of keys may be exported as they are, after
	// Config.Normalize. It is called at a scrape. nil: none.
	Allow func(key string) bool
	// Salt has all others exported as a hash, the first 16 hexadecimal digits of
	// HMAC-SHA-256 with this salt: the same in all programs that have the same
	// salt, and not to be guessed from without it. At least 8 bytes. "": all others
	// are left out.
	Salt string
}

// Collector exports the rates of the most used keys of the last window for
// Prometheus:
//
//	redis_client_hot_key_rate{client,class,key}   gauge, uses per second: class is reads or writes
//
// Make one with [Tracker.Collector], and register it. It is safe for concurrent
// use, and may be used after the tracker's Close.
type Collector struct {
	tracker *Tracker
	cfg     CollectorConfig
	desc    *prometheus.Desc
}

var _ prometheus.Collector = (*Collector)(nil)

// Collector returns a collector of the tracker's hot keys, or all that is wrong
// with its configuration.
func (t *Tracker) Collector(cfg CollectorConfig) (*Collector, error) {
	if cfg.TopN == 0 {
		cfg.TopN = 10
	}
	var errs []error
	check := func(ok bool, field string, value any, allowed string) {
		if !ok {
			errs = append(errs, fmt.Errorf("%w: CollectorConfig.%s is %v; %s", ErrConfig, field, value, allowed))
		}
	}
	check(cfg.Client != "", "Client", "empty", "allowed is a name")
	check(!safeaddr.MaybeURL(cfg.Client), "Client", "like a URL", "allowed is a name")
	check(utf8.ValidString(cfg.Client), "Client", "not UTF-8", "allowed is a name")
	check(1 <= cfg.TopN && cfg.TopN <= 100, "TopN", cfg.TopN, "allowed is 1 to 100, and 0 for the default")
	check(cfg.Salt == "" || len(cfg.Salt) >= 8, "Salt", fmt.Sprintf("%d bytes long", len(cfg.Salt)), "allowed are 8 and more, and none")
	check(cfg.Salt != "" || cfg.Allow != nil, "Salt", "empty, and Allow nil", "needed is one of them")
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return &Collector{tracker: t, cfg: cfg, desc: prometheus.NewDesc("redis_client_hot_key_rate",
		"Uses per second of the most used keys over the last window, as sampled.", []string{"class", "key"},
		prometheus.Labels{"client": cfg.Client})}, nil
}

// Describe is for Prometheus.
func (c *Collector) Describe(ch chan<- *prometheus.Desc) { ch <- c.desc }

// Collect is for Prometheus. Keys that can't be told apart by their labels, since
// their names aren't UTF-8, say, are added up. A panic of Allow is an error of the
// scrape.
func (c *Collector) Collect(ch chan<- prometheus.Metric) {
	defer func() {
		if v := recover(); v != nil {
			ch <- prometheus.NewInvalidMetric(c.desc, fmt.Errorf("hotkey: CollectorConfig.Allow has panicked with a %T", v))
		}
	}()
	for _, class := range []Class{Reads, Writes} {
		rates := make(map[string]float64)
		for _, key := range c.tracker.Top(class, c.cfg.TopN) {
			if label, ok := c.label(key.Key); ok {
				rates[label] += key.Rate
			}
		}
		for label, rate := range rates {
			ch <- prometheus.MustNewConstMetric(c.desc, prometheus.GaugeValue, rate, class.String(), label)
		}
	}
}

// label is what is exported of a key.
func (c *Collector) label(key string) (string, bool) {
	switch {
	case c.cfg.Allow != nil && c.cfg.Allow(key):
		if key == "" {
			return `""`, true // a label that is empty is one that isn't there
		}
		return strings.ToValidUTF8(key, "\uFFFD"), true
	case c.cfg.Salt == "":
		return "", false
	}
	mac := hmac.New(sha256.New, []byte(c.cfg.Salt))
	mac.Write([]byte(key))
	return hex.EncodeToString(mac.Sum(nil)[:8]), true
}
