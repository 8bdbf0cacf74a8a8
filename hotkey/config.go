package hotkey

import (
	"context"
	"errors"
	"fmt"
	"math"
	"reflect"
	"time"

	"github.com/redis/go-redis/v9"
)

// ErrConfig is in every error about a configuration.
var ErrConfig = errors.New("hotkey: bad configuration")

// Names of the sorted sets.
const (
	DefaultReadsKey  = "everpool-hot-key-tracker-reads"
	DefaultWritesKey = "everpool-hot-key-tracker-writes"

	BaseplateReadsKey  = "baseplate-hot-key-tracker-reads"
	BaseplateWritesKey = "baseplate-hot-key-tracker-writes"
)

// Sink is what the counts are flushed to, and read from by [Tracker.Global]. Every
// [redis.UniversalClient] is one. Its commands must honour the context they get,
// or end by timeouts of their own, as go-redis's do.
type Sink interface {
	Pipelined(ctx context.Context, fn func(redis.Pipeliner) error) ([]redis.Cmder, error)
	ZRevRangeWithScores(ctx context.Context, key string, start, stop int64) *redis.ZSliceCmd
}

// Config is what a [Tracker] is told. The zero Config tracks nothing. In every
// field 0 means the default.
type Config struct {
	// ReadSampleRate is the share of the commands whose keys are counted as read,
	// from 0 to 1. 0: reads aren't tracked. The rate is lower while that would
	// give more than MaxSamplesPerSecond.
	ReadSampleRate float64
	// WriteSampleRate is the same for keys that are written.
	WriteSampleRate float64
	// MaxSamplesPerSecond bounds the keys that are counted of each class: when
	// they get more, the rate is lowered, and raised again when they get fewer.
	// 0: 10,000. -1: no bound.
	MaxSamplesPerSecond int

	// TopN is how many keys of each class are found and flushed, 1 to 1,000.
	// Memory grows with it. 0: 32.
	TopN int
	// Window is the time over which keys are counted, 100 ms to 1 h. It ends
	// early when a sudden burst would give far too many samples. 0: 10 s.
	Window time.Duration

	// Normalize gives the name under which a key is counted, for example user:*
	// for user:123; "" leaves it out. It is called for sampled keys only, on the
	// goroutine of the command, concurrently, and must not block. nil: the key.
	Normalize func(key string) string
	// MaxKeyLen is how many bytes of a name are kept, 16 to 65,536; a longer one
	// is cut and ends in "…", which is among them. 0: 96.
	MaxKeyLen int

	// OnHot is called when a key is used at least HotRate times per second over a
	// window, and for that key again only after it was used less than half as
	// often over one. It is called on a goroutine of the tracker: while it
	// blocks, no window ends. It must not call Close. nil: not called.
	OnHot func(Hot)
	// HotRate must be above 0 with OnHot, and 0 without.
	HotRate float64

	// Sink is where the counts go. It may be a client that is tracked: the
	// tracker's own commands aren't. nil: nowhere, they stay in the process.
	Sink Sink
	// ReadsKey and WritesKey name the sorted sets; they have to be different.
	// Each has at most 10*TopN members. "": DefaultReadsKey and DefaultWritesKey.
	ReadsKey, WritesKey string
	// TTL is how long a set lives after the last flush to it, at least 1 s.
	// 0: 24 h.
	TTL time.Duration
	// FlushInterval is the time between flushes, at least 100 ms; each is up to a
	// fifth shorter or longer, so that programs that started together don't flush
	// together. A flush without new counts sends nothing. 0: 5 s.
	FlushInterval time.Duration
	// FlushTimeout is the deadline of a flush, and of Global, at least 1 ms.
	// go-redis obeys it only with ContextTimeoutEnabled and has ReadTimeout and
	// WriteTimeout otherwise. 0: 2 s.
	FlushTimeout time.Duration
	// FlushSamples adds to the sets how often a key was sampled, instead of how
	// often it was used by that measure. Programs that share sets must agree.
	FlushSamples bool
}

// WithBaseplateNames returns cfg for sets that are shared with programs that use
// Baseplate's hot-key tracker: with its names, and in samples, as it counts.
func (cfg Config) WithBaseplateNames() Config {
	cfg.ReadsKey, cfg.WritesKey, cfg.FlushSamples = BaseplateReadsKey, BaseplateWritesKey, true
	return cfg
}

const (
	defaultMaxSamples    = 10_000
	defaultTopN          = 32
	defaultWindow        = 10 * time.Second
	defaultMaxKeyLen     = 96
	defaultTTL           = 24 * time.Hour
	defaultFlushInterval = 5 * time.Second
	defaultFlushTimeout  = 2 * time.Second
)

// off is for numbers of which -1 means that there is no bound.
const off = -1

// withDefaults returns cfg with all fields set.
func (cfg Config) withDefaults() Config {
	orDefault(&cfg.MaxSamplesPerSecond, defaultMaxSamples)
	orDefault(&cfg.TopN, defaultTopN)
	orDefault(&cfg.Window, defaultWindow)
	orDefault(&cfg.MaxKeyLen, defaultMaxKeyLen)
	orDefault(&cfg.ReadsKey, DefaultReadsKey)
	orDefault(&cfg.WritesKey, DefaultWritesKey)
	orDefault(&cfg.TTL, defaultTTL)
	orDefault(&cfg.FlushInterval, defaultFlushInterval)
	orDefault(&cfg.FlushTimeout, defaultFlushTimeout)
	return cfg
}

func orDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Validate returns all that is wrong, in errors that wrap [ErrConfig].
func (cfg Config) Validate() error {
	c := cfg.withDefaults()
	var errs []error
	check := func(ok bool, field string, value any, allowed string) {
		if !ok {
			errs = append(errs, fmt.Errorf("%w: %s is %v; %s", ErrConfig, field, value, allowed))
		}
	}
	const rates = "allowed is 0 to 1"
	check(isShare(c.ReadSampleRate), "ReadSampleRate", c.ReadSampleRate, rates)
	check(isShare(c.WriteSampleRate), "WriteSampleRate", c.WriteSampleRate, rates)
	check(c.MaxSamplesPerSecond >= off, "MaxSamplesPerSecond", c.MaxSamplesPerSecond, "allowed are 1 and more, 0 for the default and -1 for no bound")
	check(1 <= c.TopN && c.TopN <= 1000, "TopN", c.TopN, "allowed is 1 to 1000, and 0 for the default")
	check(100*time.Millisecond <= c.Window && c.Window <= time.Hour, "Window", c.Window, "allowed is 100ms to 1h, and 0 for the default")
	check(16 <= c.MaxKeyLen && c.MaxKeyLen <= 1<<16, "MaxKeyLen", c.MaxKeyLen, "allowed is 16 to 65536, and 0 for the default")
	check(c.TTL >= time.Second, "TTL", c.TTL, "allowed is 1s and more, and 0 for the default")
	check(c.FlushInterval >= 100*time.Millisecond, "FlushInterval", c.FlushInterval, "allowed is 100ms and more, and 0 for the default")
	check(c.FlushTimeout >= time.Millisecond, "FlushTimeout", c.FlushTimeout, "allowed is 1ms and more, and 0 for the default")
	check(c.ReadsKey != c.WritesKey, "WritesKey", c.WritesKey, "allowed is anything but ReadsKey")
	if c.OnHot == nil {
		check(c.HotRate == 0, "HotRate", c.HotRate, "allowed without OnHot is 0")
	} else {
		check(c.HotRate > 0 && !math.IsInf(c.HotRate, 0), "HotRate", c.HotRate, "allowed with OnHot is more than 0")
	}
	check(!isNilPointer(c.Sink), "Sink", fmt.Sprintf("a nil %T", c.Sink), "allowed are a client, and nil itself for none")
	return errors.Join(errs...)
}

func isShare(rate float64) bool { return 0 <= rate && rate <= 1 } // not so for NaN

// isNilPointer finds the nil *redis.Client that isn't nil any more as a Sink.
func isNilPointer(s Sink) bool {
	v := reflect.ValueOf(s)
	return v.IsValid() && v.Kind() == reflect.Pointer && v.IsNil()
}
