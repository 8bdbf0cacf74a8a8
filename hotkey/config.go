package hotkey

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/everpool/everpool/internal/guard"
	"github.com/everpool/everpool/internal/safeaddr"
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
// [redis.UniversalClient] is one. A flush makes one pipeline and executes it once.
// Its commands should honour the context they get; those that don't, and hang,
// delay the next flush.
type Sink interface {
	Pipeline() redis.Pipeliner
	ZRevRangeWithScores(ctx context.Context, key string, start, stop int64) *redis.ZSliceCmd
}

// Config is what a [Tracker] is told. The zero Config tracks nothing. In every
// field 0 means the default.
type Config struct {
	// Client names what is tracked, on the page and in the JSON of the Handler. It must
	// not be a URL, which may have a password in it. "": without a name.
	Client string

	// ReadSampleRate is the share of the commands whose keys are counted as read,
	// from 1e-9 to 1. 0: reads aren't tracked. The rate is lower while that would
	// give more than MaxSamplesPerSecond. Of a command with very many keys the first
	// 1,024 are counted. ReadsKey and WritesKey themselves aren't counted as keys.
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
	// for user:123; "" leaves it out, as nothing else does, the empty key neither. It
	// is called for sampled keys only, on the
	// goroutine of the command, concurrently, and must not block. nil: the key.
	Normalize func(key string) string
	// MaxKeyLen is how many bytes of a name are kept, 16 to 65,536; a longer one is
	// cut and ends in "…" and eight hexadecimal digits of a hash of the whole, which are
	// among them, so that long names that begin alike are counted apart. 0: 96.
	MaxKeyLen int

	// OnHot is called when a key was used at least HotRate times per second over a
	// window by the lower bound of its count ([Count].Lower), so that an estimate
	// that is too high makes no key hot. It is called for that key again only after the
	// key was used less than half as often for the time of six windows, so that one that
	// is hot now and then is told of once. How often it was used counts there by the
	// samples that are surely its own, without regard to chance. It is called on a
	// goroutine of the tracker: while it blocks, no window ends. It must not call Close. nil: not called.
	OnHot func(Hot)
	// HotRate must be above 0 with OnHot, and 0 without.
	HotRate float64

	// Sink is where the counts go. It may be a client that is tracked: the
	// tracker's own commands aren't. nil: nowhere, they stay in the process.
	Sink Sink
	// ReadsKey and WritesKey name the sorted sets; they have to be different. Beside
	// a set called S there are {S}:waiting, a sorted set as well, and {S}:halved, in
	// the same slot of a cluster; S without the braces if it has a hash tag of its
	// own. "": DefaultReadsKey and DefaultWritesKey.
	ReadsKey, WritesKey string
	// MaxMembers bounds a set, 1 to 100,000. Keys that a full one has no room for
	// wait, and what all programs count of them adds up, until that is more than the
	// lowest score, which then makes room: in S:waiting, which is bounded likewise,
	// and what is too little for that in the process. 0: 10*TopN. -1: no bound.
	MaxMembers int
	// HalfLife is the time after which all scores are halved, by the first flush
	// that comes then, so that keys of today can pass those of last week; scores
	// below a half are removed, and S:waiting begins anew. 1 s to 87,600 h. 0: 1 h.
	// -1: scores are sums for ever. Programs that share sets should agree about it.
	HalfLife time.Duration
	// TTL is how long a set lives after the last flush to it, 1 s to 87,600 h,
	// which is ten years. 0: 24 h.
	TTL time.Duration
	// FlushInterval is the time between flushes, 100 ms to 24 h; each is up to a
	// fifth shorter or longer, so that programs that started together don't flush
	// together. A flush without new counts sends nothing. 0: 5 s.
	FlushInterval time.Duration
	// FlushTimeout is the deadline of a flush, and of Global, 1 ms to 24 h. Global ends
	// with it in any case. A flush does if the sink obeys its context, go-redis only
	// with ContextTimeoutEnabled; it has ReadTimeout and WriteTimeout otherwise. 0: 2 s.
	FlushTimeout time.Duration
	// FlushSamples adds to the sets how often a key was sampled, instead of how
	// often it was used by that measure. Programs that share sets must agree.
	FlushSamples bool
}

// WithBaseplateNames returns cfg for sets that are shared with programs that use
// Baseplate's hot-key tracker: with its names, in samples, as it counts, and without
// what it doesn't do: no member is removed, and no score halved.
func (cfg Config) WithBaseplateNames() Config {
	cfg.ReadsKey, cfg.WritesKey, cfg.FlushSamples = BaseplateReadsKey, BaseplateWritesKey, true
	cfg.MaxMembers, cfg.HalfLife = off, off
	return cfg
}

const (
	defaultMaxSamples    = 10_000
	defaultTopN          = 32
	defaultWindow        = 10 * time.Second
	defaultMaxKeyLen     = 96
	membersPerTop        = 10 // MaxMembers, for each of the top N
	defaultHalfLife      = time.Hour
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
	orDefault(&cfg.MaxMembers, membersPerTop*cfg.TopN)
	orDefault(&cfg.HalfLife, defaultHalfLife)
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
	check(!safeaddr.MaybeURL(c.Client), "Client", "like a URL", "allowed is a name")
	check(isRate(c.ReadSampleRate), "ReadSampleRate", c.ReadSampleRate, allowedRates)
	check(isRate(c.WriteSampleRate), "WriteSampleRate", c.WriteSampleRate, allowedRates)
	check(c.MaxSamplesPerSecond >= off, "MaxSamplesPerSecond", c.MaxSamplesPerSecond, "allowed are 1 and more, 0 for the default and -1 for no bound")
	check(1 <= c.TopN && c.TopN <= 1000, "TopN", c.TopN, "allowed is 1 to 1000, and 0 for the default")
	check(100*time.Millisecond <= c.Window && c.Window <= time.Hour, "Window", c.Window, "allowed is 100ms to 1h, and 0 for the default")
	check(16 <= c.MaxKeyLen && c.MaxKeyLen <= 1<<16, "MaxKeyLen", c.MaxKeyLen, "allowed is 16 to 65536, and 0 for the default")
	check(c.MaxMembers == off || 1 <= c.MaxMembers && c.MaxMembers <= maxMembers, "MaxMembers", c.MaxMembers, "allowed are 1 to 100000, 0 for the default and -1 for no bound")
	check(c.HalfLife == off || time.Second <= c.HalfLife && c.HalfLife <= maxTTL, "HalfLife", c.HalfLife, "allowed are 1s to 87600h, 0 for the default and -1 for none")
	check(time.Second <= c.TTL && c.TTL <= maxTTL, "TTL", c.TTL, "allowed is 1s to 87600h, and 0 for the default")
	check(100*time.Millisecond <= c.FlushInterval && c.FlushInterval <= maxFlush, "FlushInterval", c.FlushInterval, "allowed is 100ms to 24h, and 0 for the default")
	check(time.Millisecond <= c.FlushTimeout && c.FlushTimeout <= maxFlush, "FlushTimeout", c.FlushTimeout, "allowed is 1ms to 24h, and 0 for the default")
	check(hasHashTag(c.ReadsKey) || !strings.Contains(c.ReadsKey, "}"), "ReadsKey", c.ReadsKey, allowedBraces)
	check(hasHashTag(c.WritesKey) || !strings.Contains(c.WritesKey, "}"), "WritesKey", c.WritesKey, allowedBraces)
	reads, writes := keysOf(c.ReadsKey), keysOf(c.WritesKey)
	shared := slices.ContainsFunc(reads[:], func(key string) bool { return slices.Contains(writes[:], key) })
	check(!shared, "WritesKey", c.WritesKey, "allowed is anything but ReadsKey and the keys beside it")
	if c.OnHot == nil {
		check(c.HotRate == 0, "HotRate", c.HotRate, "allowed without OnHot is 0")
	} else {
		check(c.HotRate > 0 && !math.IsInf(c.HotRate, 0), "HotRate", c.HotRate, "allowed with OnHot is more than 0")
	}
	check(c.Sink == nil || !guard.IsNil(c.Sink), "Sink", fmt.Sprintf("a nil %T", c.Sink), "allowed are a client, and nil itself for none")
	return errors.Join(errs...)
}

// Bounds that keep sums of durations, and timers, far from an overflow.
const (
	maxTTL     = 10 * 365 * 24 * time.Hour
	maxFlush   = 24 * time.Hour
	maxMembers = 100_000
)

// minRate is the lowest rate of sampling. What a sample stands for is far from an
// overflow with it, and the random bits that decide suffice.
const minRate = 1e-9

const allowedBraces = "allowed is a name with a hash tag, or without a closing brace"

const allowedRates = "allowed are 0, and 1e-9 to 1"

func isRate(rate float64) bool { return rate == 0 || minRate <= rate && rate <= 1 } // not so for NaN
